"""Compare each metric with a plain implementation, scipy or scikit-learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from netgen.evaluation import distances, estimate, privacy, usefulness
from netgen.evaluation.feature_spaces import FixedEncoder, LogSpace
from netgen.evaluation.split import FlowSet, match_mixture, resample, shuffle_bins, split_by_capture

RNG = np.random.default_rng(0)


def random_series(rows: int, bins: int = 12, busy: float = 0.4, seed: int = 0) -> np.ndarray:
    """Make sparse series: most bins are idle."""
    rng = np.random.default_rng(seed)
    series = rng.integers(1, 1500, (rows, 4, bins)) * (rng.random((rows, 1, bins)) < busy)
    series[:, :, 0] = rng.integers(1, 1500, (rows, 4))
    return series


def points(series: np.ndarray) -> np.ndarray:
    """Scale series into the space that distances are computed in."""
    return LogSpace.of(random_series(50))(series)


# -- intervals -----------------------------------------------------------------------------------


@given(arrays(float, st.integers(2, 30), elements=st.integers(0, 5).map(float)), st.data())
def test_roc_auc_agrees_with_scikit_learn(negatives: np.ndarray, data: st.DataObject) -> None:
    positives = data.draw(arrays(float, st.integers(2, 30), elements=st.integers(0, 5).map(float)))
    auc = estimate.roc_auc(negatives, positives)
    truth = np.repeat([0, 1], [len(negatives), len(positives)])
    assert auc.value == pytest.approx(roc_auc_score(truth, np.concatenate([negatives, positives])))
    assert 0 <= auc.low <= auc.value <= auc.high <= 1


def test_95_percent_intervals_cover_the_true_value_about_that_often() -> None:
    rng = np.random.default_rng(1)
    for probability in (0.02, 0.5, 0.9):
        means = [estimate.wilson_mean(rng.random(80) < probability) for _ in range(300)]
        assert np.mean([mean.low <= probability <= mean.high for mean in means]) > 0.9
    areas = [estimate.roc_auc(rng.normal(0, 1, 60), rng.normal(1, 1, 60)) for _ in range(300)]
    assert np.mean([area.low <= 0.7602 <= area.high for area in areas]) > 0.9
    means = [estimate.jackknife(lambda a: float(a.mean()), rng.normal(5, 1, 50)) for _ in range(300)]
    assert np.mean([mean.low <= 5 <= mean.high for mean in means]) > 0.88


def test_an_empty_sample_and_few_rows_have_the_widest_interval() -> None:
    assert estimate.wilson_mean(np.zeros(0)).high == 1
    assert estimate.jackknife(lambda _: 1.0, np.zeros(2)).high == np.inf


# -- distances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [(40, 40), (30, 60), (60, 20)])
def test_the_earth_movers_distance_by_bin_agrees_with_scipy(rows: tuple[int, int]) -> None:
    a, b = points(random_series(rows[0], seed=1)), points(random_series(rows[1], seed=2, busy=0.6))
    expected = [np.mean([wasserstein_distance(a[:, c, t], b[:, c, t]) for t in range(12)]) for c in range(4)]
    assert distances.earth_mover(a, b) == pytest.approx(expected, rel=1e-5)


@given(arrays(bool, (5, 9)))
def test_run_lengths_agree_with_counting_bin_by_bin(busy: np.ndarray) -> None:
    bursts, idle = [], []
    for flow in busy:
        runs = [(value, len(list(group))) for value, group in itertools.groupby(flow.tolist())]
        bursts += [length for value, length in runs if value]
        inner = [index for index, (value, _) in enumerate(runs) if value]
        idle += [
            length for index, (value, length) in enumerate(runs) if not value and inner and inner[0] < index < inner[-1]
        ]
    lengths = distances.run_lengths(busy[:, None, :].astype(np.float32))
    assert [array.tolist() for array in lengths] == [bursts, idle]


def test_autocorrelation_of_a_flow_ends_at_its_last_packet() -> None:
    series = random_series(20, bins=16)
    series[3, :, 5:] = 0
    series[4, :, 1:] = 0  # one bin does not vary
    correlation = distances.autocorrelation(points(series))
    for channel, lag in ((0, 1), (2, 3)):
        expected = []
        for flow in points(series):
            end = 16 - (flow != 0).any(0)[::-1].argmax()
            x = flow[channel, :end].astype(float) - flow[channel, :end].mean()
            if end > lag and (x**2).sum() > 1e-6:
                expected.append((x[lag:] * x[:-lag]).sum() / (x**2).sum())
        assert correlation[channel, lag - 1] == pytest.approx(np.mean(expected), abs=1e-4)


def test_the_frechet_distance_agrees_with_the_matrix_square_root() -> None:
    a, b = RNG.normal(0, 1, (60, 5)), RNG.normal(0.5, 2, (80, 5))
    c1, c2 = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert distances.frechet(a, b) == pytest.approx(expected)
    assert distances.frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_precision_recall_density_and_coverage_follow_their_definitions() -> None:
    real, new = RNG.normal(0, 1, (50, 3)), RNG.normal(0.7, 1, (40, 3))
    k = 5
    real_radius = np.sort(cdist(real, real))[:, k]
    new_radius = np.sort(cdist(new, new))[:, k]
    distance = cdist(new, real)
    precision, recall, density, coverage = distances.coverage(real, new, neighbours=k)
    assert precision.tolist() == (distance <= real_radius).any(1).tolist()
    assert recall.tolist() == (distance <= new_radius[:, None]).any(0).tolist()
    assert density == pytest.approx((distance <= real_radius).sum(1) / k)
    assert coverage.tolist() == (distance.min(0) <= real_radius).tolist()


def test_the_fixed_encoder_is_deterministic_and_notices_reversed_time() -> None:
    series = random_series(60, bins=32)
    space = points(series)
    first, again = FixedEncoder(space), FixedEncoder(space)
    assert (first(space) == again(space)).all()
    assert np.abs(first(space).mean(0)).max() < 1e-6
    assert distances.frechet(first(space), first(space[..., ::-1])) > 1


# -- privacy -------------------------------------------------------------------------------------


def test_nearest_flows_agree_with_comparing_all_pairs_at_shifts_of_one_bin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "_BLOCK", 7)
    a, b = points(random_series(30, seed=1)), points(random_series(25, seed=2))
    pairs = np.stack([cdist(privacy.shifted(a, s).reshape(30, -1), b.reshape(25, -1)) for s in (-1, 0, 1)]).min(0)
    nearest = privacy.nearest(a, b)
    assert nearest.distance == pytest.approx(pairs.min(1), abs=1e-3)
    assert nearest.reverse_distance == pytest.approx(pairs.min(0), abs=1e-3)
    assert pairs[np.arange(30), nearest.index] == pytest.approx(pairs.min(1), abs=1e-3)


@pytest.mark.parametrize("shift", [0, 1, -1])
def test_a_copy_shifted_by_at_most_one_bin_has_distance_zero(shift: int) -> None:
    series = random_series(30, bins=16)
    series[..., :2] = series[..., -2:] = 0  # nothing is lost at the edges
    assert privacy.nearest(points(privacy.shifted(series, shift)), points(series)).distance.max() == 0


@pytest.mark.parametrize(("n_train", "n_held_out"), [(60, 60), (150, 40), (40, 150)])
def test_fresh_flows_have_a_closest_record_share_of_one_half_for_any_sizes(n_train: int, n_held_out: int) -> None:
    estimates = [
        privacy.closest_record_share(
            random_series(100, seed=s), random_series(n_train, seed=s + 50), random_series(n_held_out, seed=s + 99)
        )
        for s in range(20)
    ]
    assert np.mean([share.low <= 0.5 <= share.high for share in estimates]) > 0.85
    assert np.mean([share.value for share in estimates]) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("n_train", "n_held_out"), [(900, 100), (100, 900)])
def test_flows_in_both_sets_have_a_closest_record_share_of_one_half_for_any_sizes(
    n_train: int, n_held_out: int
) -> None:
    """Most flows of a capture repeat; such a flow is equally near to both sets, however large they are."""
    repeated = random_series(30, seed=1)
    train, held_out = (
        np.concatenate([random_series(number, seed=seed), repeated]) for number, seed in ((n_train, 2), (n_held_out, 3))
    )
    new = np.concatenate([random_series(60, seed=4), *[repeated] * 8])
    assert privacy.closest_record_share(new, train, held_out).value == pytest.approx(0.5, abs=0.08)


def test_copies_have_a_closest_record_share_of_one_and_equally_near_flows_of_one_half() -> None:
    train, held = random_series(60, seed=1), random_series(40, seed=2)
    assert privacy.closest_record_share(train, train, held).value == 1
    assert privacy.closest_record_share(held, train, held).value == 0
    assert privacy.closest_record_share(train, train, train).value == 0.5


@given(seed=st.integers(0, 99), shift=st.integers(-4, 4))
@settings(max_examples=30)
def test_copies_shifted_by_up_to_three_bins_are_detected(seed: int, shift: int) -> None:
    real = random_series(20, bins=16, busy=0.8, seed=seed)
    real[..., :4] = real[..., -4:] = 0
    busy = (real != 0).any(1).sum(1) >= privacy.MIN_ACTIVE_BINS
    moved = privacy.shifted(real, shift)
    assert privacy.exact_copies(real, moved).all() == (shift == 0)
    expected = busy if 1 <= abs(shift) <= privacy.MAX_COPY_SHIFT else np.zeros(20, bool)
    assert privacy.shifted_copies(real, moved)[busy].tolist() == expected[busy].tolist()


def test_one_in_a_hundred_held_out_flows_is_suspiciously_near() -> None:
    new, held_out = privacy.near_share(np.linspace(0, 1, 200), np.linspace(0, 1, 1000))
    assert held_out.value == pytest.approx(0.01, abs=0.002)
    assert new.value == pytest.approx(0.01, abs=0.01)


# -- classifiers ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=40))
def test_scores_agree_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = map(np.array, zip(*pairs, strict=True))
    names = np.unique(truth)
    assert usefulness.macro_f1(truth, predicted) == pytest.approx(
        f1_score(truth, predicted, average="macro", labels=names, zero_division=0)
    )
    accuracy = usefulness.scores(truth, predicted)["accuracy"]
    assert accuracy.value == pytest.approx(accuracy_score(truth, predicted))
    assert accuracy.low <= accuracy.value <= accuracy.high


@pytest.mark.parametrize("name", usefulness.CLASSIFIERS)
def test_classifiers_learn_separable_classes_and_repeat_their_predictions(name: str) -> None:
    series = random_series(90, bins=16)
    labels = np.repeat(["early", "late", "loud"], 30)
    series[:30, :, 8:] = 0
    series[30:60, :, 1:8] = 0
    series[60:] *= 5
    learn = usefulness.CLASSIFIERS[name]
    predicted = learn(series[::2], labels[::2], series[1::2], seed=1)
    assert (predicted == labels[1::2]).mean() > 0.9
    assert (learn(series[::2], labels[::2], series[1::2], seed=1) == predicted).all()


def test_many_classes_of_a_single_flow_raise_no_warning() -> None:
    series = random_series(30)
    labels = np.array([f"class {number}" for number in range(30)])
    assert set(usefulness.predict_forest(series, labels, series, n_trees=20).tolist()) <= set(labels.tolist())


# -- splits ----------------------------------------------------------------------------------------


@given(
    classes=st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    captures=st.lists(st.sampled_from("rstuvw"), min_size=60, max_size=60),
    seed=st.integers(0, 9),
)
def test_the_split_is_by_capture_unless_a_note_names_a_random_one(
    classes: list[str], captures: list[str], seed: int
) -> None:
    flows = FlowSet(np.zeros((len(classes), 4, 4), int), np.array(classes), np.array(captures[: len(classes)]))
    train, held_out, note = split_by_capture(flows, 0.5, seed)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(len(classes)))
    for name in set(classes):
        number = classes.count(name)
        if number > 1:  # both sides have every class
            assert (flows.labels[train] == name).any()
            assert (flows.labels[held_out] == name).any()
    if "at random" not in note:
        assert not set(flows.sources[train].tolist()) & set(flows.sources[held_out].tolist())


def test_the_baselines_keep_bin_values_real_flows_and_the_class_mixture() -> None:
    flows = FlowSet(random_series(40), np.repeat(["a", "b"], 20), np.full(40, "x"))
    rng = np.random.default_rng(0)
    shuffled = shuffle_bins(flows, rng)
    assert (np.sort(shuffled.series) == np.sort(flows.series)).all()
    assert (shuffled.series != flows.series).any()
    assert (shuffled.series != 0).sum((1, 2)).tolist() == (flows.series != 0).sum((1, 2)).tolist()
    copied = resample(flows, rng)
    assert privacy.exact_copies(flows.series, copied.series).all()
    assert (copied.labels == flows.labels).all()
    matched = match_mixture(flows, {"a": 0.75, "b": 0.25}, 20, rng)
    assert ((matched.labels == "a").sum(), (matched.labels == "b").sum()) == (15, 5)
