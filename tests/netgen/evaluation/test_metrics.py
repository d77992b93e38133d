"""Each measure by itself, against plain implementations and libraries of other hands."""

import itertools
from typing import Any

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

DRAW = np.random.default_rng(0)


def random_series(rows: Any, bins: Any = 12, busy: Any = 0.4, seed: Any = 0) -> Any:
    """Sparse series: most bins idle."""
    rng = np.random.default_rng(seed)
    series = rng.integers(1, 1500, (rows, 4, bins)) * (rng.random((rows, 1, bins)) < busy)
    series[:, :, 0] = rng.integers(1, 1500, (rows, 4))
    return series


def points(series: Any) -> Any:
    return LogSpace.of(random_series(50))(series)


# -- intervals -----------------------------------------------------------------------------------


@given(arrays(float, st.integers(2, 30), elements=st.integers(0, 5).map(float)), st.data())
def test_the_area_is_that_of_scikit_learn(no: Any, data: Any) -> None:
    yes = data.draw(arrays(float, st.integers(2, 30), elements=st.integers(0, 5).map(float)))
    found = estimate.roc_auc(no, yes)
    truth = np.repeat([0, 1], [len(no), len(yes)])
    assert found.value == pytest.approx(roc_auc_score(truth, np.concatenate([no, yes])))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    for share in (0.02, 0.5, 0.9):
        held = [estimate.wilson_mean(rng.random(80) < share) for _ in range(300)]
        assert np.mean([each.low <= share <= each.high for each in held]) > 0.9
    areas = [estimate.roc_auc(rng.normal(0, 1, 60), rng.normal(1, 1, 60)) for _ in range(300)]
    assert np.mean([each.low <= 0.7602 <= each.high for each in areas]) > 0.9
    means = [estimate.jackknife(lambda a: float(a.mean()), rng.normal(5, 1, 50)) for _ in range(300)]
    assert np.mean([each.low <= 5 <= each.high for each in means]) > 0.88


def test_nothing_is_no_share_and_few_rows_no_interval() -> None:
    assert estimate.wilson_mean(np.zeros(0)).high == 1
    assert estimate.jackknife(lambda _: 1.0, np.zeros(2)).high == np.inf


# -- distances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [(40, 40), (30, 60), (60, 20)])
def test_the_earth_movers_distance_is_scipys_bin_by_bin(rows: Any) -> None:
    a, b = points(random_series(rows[0], seed=1)), points(random_series(rows[1], seed=2, busy=0.6))
    expected = [np.mean([wasserstein_distance(a[:, c, t], b[:, c, t]) for t in range(12)]) for c in range(4)]
    assert distances.earth_mover(a, b) == pytest.approx(expected, rel=1e-5)


@given(arrays(bool, (5, 9)))
def test_runs_are_those_one_finds_by_going_through_the_bins(busy: Any) -> None:
    bursts, idle = [], []
    for flow in busy:
        runs = [(value, len(list(group))) for value, group in itertools.groupby(flow.tolist())]
        bursts += [length for value, length in runs if value]
        inner = [index for index, (value, _) in enumerate(runs) if value]
        idle += [
            length for index, (value, length) in enumerate(runs) if not value and inner and inner[0] < index < inner[-1]
        ]
    found = distances.run_lengths(busy[:, None, :].astype(np.float32))
    assert [each.tolist() for each in found] == [bursts, idle]


def test_autocorrelation_is_that_of_each_flow_up_to_its_last_packet() -> None:
    series = random_series(20, bins=16)
    series[3, :, 5:] = 0
    series[4, :, 1:] = 0  # one bin does not vary
    found = distances.autocorrelation(points(series))
    for channel, lag in ((0, 1), (2, 3)):
        expected = []
        for flow in points(series):
            end = 16 - (flow != 0).any(0)[::-1].argmax()
            x = flow[channel, :end].astype(float) - flow[channel, :end].mean()
            if end > lag and (x**2).sum() > 1e-6:
                expected.append((x[lag:] * x[:-lag]).sum() / (x**2).sum())
        assert found[channel, lag - 1] == pytest.approx(np.mean(expected), abs=1e-4)


def test_the_frechet_distance_is_that_of_the_matrix_root() -> None:
    a, b = DRAW.normal(0, 1, (60, 5)), DRAW.normal(0.5, 2, (80, 5))
    c1, c2 = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert distances.frechet(a, b) == pytest.approx(expected)
    assert distances.frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_precision_recall_density_and_coverage_are_those_of_their_definitions() -> None:
    real, new = DRAW.normal(0, 1, (50, 3)), DRAW.normal(0.7, 1, (40, 3))
    k = 5
    real_radius = np.sort(cdist(real, real))[:, k]
    new_radius = np.sort(cdist(new, new))[:, k]
    gap = cdist(new, real)
    precise, recalled, density, covered = distances.coverage(real, new, neighbours=k)
    assert precise.tolist() == (gap <= real_radius).any(1).tolist()
    assert recalled.tolist() == (gap <= new_radius[:, None]).any(0).tolist()
    assert density == pytest.approx((gap <= real_radius).sum(1) / k)
    assert covered.tolist() == (gap.min(0) <= real_radius).tolist()


def test_the_encoder_is_fixed_and_sees_what_happens_when() -> None:
    series = random_series(60, bins=32)
    space = points(series)
    first, again = FixedEncoder(space), FixedEncoder(space)
    assert (first(space) == again(space)).all()
    assert np.abs(first(space).mean(0)).max() < 1e-6
    assert distances.frechet(first(space), first(space[..., ::-1])) > 1


# -- privacy -------------------------------------------------------------------------------------


def test_nearest_flows_are_the_nearest_of_all_pairs_at_any_shift_by_a_bin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "_BLOCK", 7)
    a, b = points(random_series(30, seed=1)), points(random_series(25, seed=2))
    every = np.stack([cdist(privacy.shifted(a, s).reshape(30, -1), b.reshape(25, -1)) for s in (-1, 0, 1)]).min(0)
    found = privacy.nearest(a, b)
    assert found.distance == pytest.approx(every.min(1), abs=1e-3)
    assert found.reverse_distance == pytest.approx(every.min(0), abs=1e-3)
    assert every[np.arange(30), found.index] == pytest.approx(every.min(1), abs=1e-3)


@pytest.mark.parametrize("shift", [0, 1, -1])
def test_a_copy_is_no_distance_away_though_it_moved_by_a_bin(shift: int) -> None:
    series = random_series(30, bins=16)
    series[..., :2] = series[..., -2:] = 0  # nothing is lost at the edges
    assert privacy.nearest(points(privacy.shifted(series, shift)), points(series)).distance.max() == 0


@pytest.mark.parametrize(("train", "held"), [(60, 60), (150, 40), (40, 150)])
def test_fresh_flows_have_a_closest_share_of_a_half_whatever_the_sizes(train: int, held: int) -> None:
    found = [
        privacy.closest_record_share(
            random_series(100, seed=s), random_series(train, seed=s + 50), random_series(held, seed=s + 99)
        )
        for s in range(20)
    ]
    assert np.mean([each.low <= 0.5 <= each.high for each in found]) > 0.85
    assert np.mean([each.value for each in found]) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("train", "held"), [(900, 100), (100, 900)])
def test_flows_that_stand_on_both_sides_have_a_closest_share_of_a_half_whatever_the_sizes(
    train: int, held: int
) -> None:
    """In captures most flows repeat; of how many more there are on one side such a flow says nothing."""
    again = random_series(30, seed=1)
    train, other = (
        np.concatenate([random_series(number, seed=seed), again]) for number, seed in ((train, 2), (held, 3))
    )
    new = np.concatenate([random_series(60, seed=4), *[again] * 8])
    assert privacy.closest_record_share(new, train, other).value == pytest.approx(0.5, abs=0.08)


def test_copies_have_a_closest_share_of_one_and_flows_equally_near_to_both_of_a_half() -> None:
    train, held = random_series(60, seed=1), random_series(40, seed=2)
    assert privacy.closest_record_share(train, train, held).value == 1
    assert privacy.closest_record_share(held, train, held).value == 0
    assert privacy.closest_record_share(train, train, train).value == 0.5


@given(seed=st.integers(0, 99), shift=st.integers(-4, 4))
@settings(max_examples=30)
def test_shifted_copies_are_found_up_to_three_bins(seed: int, shift: Any) -> None:
    real = random_series(20, bins=16, busy=0.8, seed=seed)
    real[..., :4] = real[..., -4:] = 0
    busy = (real != 0).any(1).sum(1) >= privacy.MIN_ACTIVE_BINS
    moved = privacy.shifted(real, shift)
    assert privacy.exact_copies(real, moved).all() == (shift == 0)
    expected = busy if 1 <= abs(shift) <= privacy.MAX_COPY_SHIFT else np.zeros(20, bool)
    assert privacy.shifted_copies(real, moved)[busy].tolist() == expected[busy].tolist()


def test_unseen_real_flows_are_suspiciously_near_once_in_a_hundred() -> None:
    new, held = privacy.near_share(np.linspace(0, 1, 200), np.linspace(0, 1, 1000))
    assert held.value == pytest.approx(0.01, abs=0.002)
    assert new.value == pytest.approx(0.01, abs=0.01)


# -- classifiers ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=40))
def test_scores_are_those_of_scikit_learn(pairs: Any) -> None:
    truth, predicted = (np.array(each) for each in zip(*pairs, strict=True))
    names = np.unique(truth)
    assert usefulness.macro_f1(truth, predicted) == pytest.approx(
        f1_score(truth, predicted, average="macro", labels=names, zero_division=0)
    )
    found = usefulness.scores(truth, predicted)["accuracy"]
    assert found.value == pytest.approx(accuracy_score(truth, predicted))
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("name", usefulness.CLASSIFIERS)
def test_classifiers_learn_what_can_be_learnt_and_alike_each_time(name: Any) -> None:
    series = random_series(90, bins=16)
    labels = np.repeat(["early", "late", "loud"], 30)
    series[:30, :, 8:] = 0
    series[30:60, :, 1:8] = 0
    series[60:] *= 5
    learn = usefulness.CLASSIFIERS[name]
    predicted = learn(series[::2], labels[::2], series[1::2], seed=1)
    assert (predicted == labels[1::2]).mean() > 0.9
    assert (learn(series[::2], labels[::2], series[1::2], seed=1) == predicted).all()


def test_many_classes_of_one_flow_do_not_warn() -> None:
    series = random_series(30)
    labels = np.array([f"class {place}" for place in range(30)])
    assert set(usefulness.predict_forest(series, labels, series, n_trees=20).tolist()) <= set(labels.tolist())


# -- sets ----------------------------------------------------------------------------------------


@given(
    classes=st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    captures=st.lists(st.sampled_from("rstuvw"), min_size=60, max_size=60),
    seed=st.integers(0, 9),
)
def test_what_is_held_back_is_whole_captures_where_that_can_be(classes: Any, captures: Any, seed: int) -> None:
    flows = FlowSet(np.zeros((len(classes), 4, 4), int), np.array(classes), np.array(captures[: len(classes)]))
    kept, held, how = split_by_capture(flows, 0.5, seed)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(classes)))
    for name in set(classes):
        number = classes.count(name)
        if number > 1:  # each class stands on both sides
            assert (flows.labels[kept] == name).any()
            assert (flows.labels[held] == name).any()
    if "at random" not in how:
        assert not set(flows.sources[kept].tolist()) & set(flows.sources[held].tolist())


def test_shuffled_bins_keep_their_values_and_copies_are_real_flows() -> None:
    flows = FlowSet(random_series(40), np.repeat(["a", "b"], 20), np.full(40, "x"))
    rng = np.random.default_rng(0)
    mixed = shuffle_bins(flows, rng)
    assert (np.sort(mixed.series) == np.sort(flows.series)).all()
    assert (mixed.series != flows.series).any()
    told = (flows.series != 0).sum((1, 2)).tolist()
    assert (mixed.series != 0).sum((1, 2)).tolist() == told
    copied = resample(flows, rng)
    assert privacy.exact_copies(flows.series, copied.series).all()
    assert (copied.labels == flows.labels).all()
    part = match_mixture(flows, {"a": 0.75, "b": 0.25}, 20, rng)
    assert ((part.labels == "a").sum(), (part.labels == "b").sum()) == (15, 5)
