"""encoders: bins that real flows hold again and again are drawn as they are, as often; all others stay as drawn."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.decoder import Decoder
from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.repeats import FLOWS, MOST, Repeats

BINS = 16


@pytest.fixture
def rng() -> Any:
    return np.random.default_rng(0)


#: Smallest and largest packet of the one class.
LIMITS = np.array([[[20.0, 20.0]], [[1500.0, 1500.0]]])

#: Questions to a name server and their answers, bytes up and down.
QUESTIONS = ((61, 77), (67, 131), (74, 90))


def captured(generator: Any, flows: Any, *, odd: Any = 0.2, late: Any = 0.1) -> Any:
    """Flows of a capture: most are one bin that others hold too; some have bytes of their own, some late bins."""
    series = np.zeros((flows, 4, BINS), np.int64)
    for flow in series:
        up, down = QUESTIONS[generator.choice(3, p=[0.6, 0.3, 0.1])]
        if generator.random() < odd:
            up, down = generator.integers(200, 1400, 2)
        flow[:, 0] = up, down, 1, 1
        if generator.random() < late:
            flow[:, generator.integers(2, BINS)] = 104, 52, 2, 1
    return series


def learnt(generator: Any, *, spread: Any = 0.02, flows: Any = 300, **way_: Any) -> Any:
    """Real flows, their scale, what is repeated in them, and what a model draws, a little off."""
    real, then = captured(generator, flows, **way_), captured(generator, flows, **way_)
    scale = BinScaler.of(real)
    first, sampled = (
        scale.scale(item) + generator.normal(0, spread, item.shape)
        for item in (captured(generator, flows, **way_), then)
    )
    none = np.zeros(flows, int)
    return real, scale, Repeats.learn(first, none, real, none, scale, LIMITS), sampled, then


def decoder(scale: Any, repeats: Any, totals: Any = None) -> Any:
    return Decoder(scale, LIMITS, totals or Marginals.none(1), repeats)


def share(series: Any, question: Any) -> Any:
    return (series[:, :2, 0] == question).all(1).mean()


def test_repeated_bins_are_sampled_exactly_and_at_their_frequency(rng: Any) -> None:
    real, scale, repeats, sampled, then = learnt(rng)
    plain = decoder(scale, Repeats.none()).decode(sampled, np.zeros(len(sampled), int))
    after = decoder(scale, repeats).decode(sampled, np.zeros(len(sampled), int))
    for question in QUESTIONS:
        assert share(after, question) == pytest.approx(share(real, question), abs=0.07)
    own = (then[:, 0, 0] >= 200) & (then[:, 0, 0] < 1400)
    wrong, still = ((item[~own] != then[~own])[:, :2, 0].any(1).mean() for item in (plain, after))
    assert wrong > 0.1
    assert still < wrong / 2


def test_bins_of_single_flows_are_neither_kept_nor_sampled(rng: Any) -> None:
    """Bytes that one real flow alone has are not in the model, and bins drawn far from what is repeated stay."""
    real, _, repeats, sampled, then = learnt(rng)
    held = {tuple(item) for item in repeats.holds.tolist()}
    flows = {bins: len({flow for flow, at in zip(*np.nonzero(real[:, 2] > 0), strict=True)
                        if tuple(real[flow, :, at].tolist()) == bins}) for bins in held}  # fmt: skip
    assert min(flows.values()) >= FLOWS
    own = then[:, :2, 0].min(1) >= 200
    made = decoder(BinScaler.of(real), repeats).decode(sampled, np.zeros(len(sampled), int))
    again = np.array([tuple(item) in held for item in made[:, :, 0].tolist()])
    assert again[~own].mean() > 0.95
    assert again[own].mean() < 0.2


@pytest.mark.parametrize("wrong", [-0.6, -0.3, 0.05, 0.15])
def test_flows_are_as_busy_as_real_ones(rng: Any, wrong: float) -> None:
    """Though a model draws bins idle, or busy, too often."""
    real, scale, _, _, _ = learnt(rng, late=0.4)
    none = np.zeros(len(real), int)

    def draw() -> Any:
        out = scale.scale(captured(rng, len(real), late=0.4)) + rng.normal(0, 0.02, real.shape)
        late = rng.random((len(real), 1, BINS - 2)) < abs(wrong)
        out[:, :, 2:] = np.where(late, 0.25 if wrong < 0 else 0.5, out[:, :, 2:])
        return out

    repeats, sampled = Repeats.learn(draw(), none, real, none, scale, LIMITS), draw()
    number = [(item[:, 2:] > 0).any(1).sum(1) for item in (
        real, decoder(scale, Repeats.none()).decode(sampled, none), decoder(scale, repeats).decode(sampled, none)
    )]  # fmt: skip
    assert abs(number[2].mean() - number[0].mean()) < 0.06
    assert abs(number[2].mean() - number[0].mean()) <= abs(number[1].mean() - number[0].mean())
    assert abs((number[2] == 1).mean() - (number[0] == 1).mean()) < 0.06


@given(seed=st.integers(0, 2**64), first=st.integers(0, 50), cut=st.integers(1, 39))
def test_flow_i_is_flow_i_however_many_are_decoded(seed: int, first: Any, cut: Any) -> None:
    rng = np.random.default_rng(7)
    _, scale, repeats, sampled, _ = learnt(rng, flows=40, spread=0.06)
    way, none = decoder(scale, repeats), np.zeros(40, int)
    numbers = first + way.indices(none)
    complete = way.decode(sampled, none, numbers, seed=seed)
    np.testing.assert_array_equal(complete[:cut], way.decode(sampled[:cut], none[:cut], numbers[:cut], seed=seed))
    np.testing.assert_array_equal(complete[cut:], way.decode(sampled[cut:], none[cut:], numbers[cut:], seed=seed))


def test_another_seed_takes_other_bins_where_it_is_open_which(rng: Any) -> None:
    _, scale, repeats, sampled, _ = learnt(rng, spread=0.06)
    one, other = (decoder(scale, repeats).decode(sampled, np.zeros(len(sampled), int), seed=seed) for seed in (0, 1))
    assert 0 < (one != other).any((1, 2)).mean() < 0.9


@given(st.data())
def test_packets_can_carry_any_sample(data: Any) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    _, scale, repeats, sampled, _ = learnt(rng, flows=30)
    wild = sampled[:8] + rng.normal(0, data.draw(st.floats(0, 2)), sampled[:8].shape)
    series = decoder(scale, repeats).decode(wild, np.zeros(8, int))
    assert ((series[:, :2] > 0) == (series[:, 2:] > 0)).all()
    assert (series[:, :2] >= 20 * series[:, 2:]).all()
    assert (series[:, :2] <= 1500 * series[:, 2:]).all()
    assert series[:, 2:, 0].any(1).all()


def test_classes_of_few_flows_stay_as_sampled(rng: Any) -> None:
    real, scale, _, sampled, _ = learnt(rng)
    labels = np.zeros(len(real), int)
    labels[:2] = 1
    limits = np.tile(LIMITS, (1, 3, 1))
    repeats = Repeats.learn(sampled, labels, real, labels, scale, limits)
    assert set(repeats.group[:, 0]) == {0}
    assert np.isnan(repeats.real[1:]).all()
    way, plain = (Decoder(scale, limits, Marginals.none(3), item) for item in (repeats, Repeats.none()))
    for label in (1, 2):
        wanted = np.full(len(sampled), label)
        np.testing.assert_array_equal(way.decode(sampled, wanted), plain.decode(sampled, wanted))


def test_the_number_of_kept_bins_per_group_is_bounded(rng: Any) -> None:
    real = captured(rng, 600)
    real[:, 0, 0] = 100 + np.arange(600) // 2 % 300
    scale, none = BinScaler.of(real), np.zeros(600, int)
    repeats = Repeats.learn(scale.scale(real), none, real, none, scale, LIMITS)
    assert np.bincount(repeats.place).max() == MOST


def flows_of(*bins: Any, length: Any = BINS) -> Any:
    """Series of which each holds some bins, by number: bytes up and down; one packet where there are bytes."""
    series = np.zeros((len(bins), 4, length), np.int64)
    for flow, held in zip(series, bins, strict=True):
        for at, volume in held.items():
            flow[:2, at], flow[2:, at] = volume, np.array(volume) > 0
    return series


def of_real(real: Any, sampled: Any = None, limits: Any = LIMITS) -> Any:
    """Return what is repeated in real flows of one class, and their scale."""
    scale, labels = BinScaler.of(real), np.zeros(len(real), int)
    sampled = np.tile(scale.scale(real), (8, 1, 1)) if sampled is None else sampled
    return Repeats.learn(sampled, np.zeros(len(sampled), int), real, labels, scale, limits), scale


def test_a_bin_that_one_flow_alone_holds_however_often_is_not_kept() -> None:
    """It is of that flow, not of the class; nor can it be reckoned from what is kept of the others."""
    own = dict.fromkeys(range(8, 14), (333, 444))
    real = flows_of(*({0: (61, 77), 9: (52, 40)} for _ in range(9)), {0: (61, 77)} | own)
    repeats, scale = of_real(real)
    assert {tuple(item[:2]) for item in repeats.holds.tolist()} == {(61, 77), (52, 40)}
    late = repeats.other[repeats.group[:, 1] == 8, :4]
    np.testing.assert_allclose(late, scale.scale(flows_of({9: (52, 40)}))[:, :, 9], atol=1e-6)


def test_a_bin_repeats_only_in_the_section_of_the_flow_where_it_is_frequent() -> None:
    """Bin 0 of one flow and bin 9 of another are not alike; bins 9 and 12 of two flows are."""
    real = flows_of({0: (61, 77)}, {0: (99, 88), 9: (61, 77)}, {0: (70, 0), 9: (52, 0)}, {0: (80, 0), 12: (52, 0)})
    repeats, _ = of_real(real)
    assert repeats.group.tolist() == [[0, 8, 1]]
    assert repeats.holds.tolist() == [[52, 0, 1, 0]]


def test_a_repeat_that_the_model_samples_too_rarely_gets_its_real_frequency(rng: Any) -> None:
    """Of two that lie near each other, each in half of real flows, a model draws what looks like one in nine of ten."""
    one, other = {0: (100, 0)}, {0: (130, 0)}
    own = [{0: (int(size), 0)} for size in np.linspace(300, 1400, 20)]
    real = flows_of(*[one] * 100, *[other] * 100, *own)
    scale = BinScaler.of(real)
    points = scale.scale(flows_of(one, other))
    nearer = points[0] * 0.7 + points[1] * 0.3
    sampled = np.where(rng.random((400, 1, 1)) < 0.9, nearer, points[1])
    repeats, scale = of_real(real, sampled[:200])
    made = decoder(scale, repeats).decode(sampled[200:], np.zeros(200, int))
    assert share(made, (100, 0)) == pytest.approx(share(made, (130, 0)), abs=0.25)


def test_bins_beyond_the_packet_limits_are_not_kept() -> None:
    """Frames merged by a network card are larger than a packet may be."""
    repeats, _ = of_real(flows_of(*[{0: (2960, 61)}] * 5, *[{0: (52, 61)}] * 5))
    assert repeats.holds.tolist() == [[52, 61, 1, 1]]


@pytest.mark.parametrize("length", [4, 20, 128, 256])
def test_flows_of_any_length_are_put_right(rng: Any, length: int) -> None:
    """Of each class by itself, whatever is drawn beside it; full flows and none at all, too."""
    real = np.zeros((40, 4, length), np.int64)
    busy = rng.random((40, 2, length)) < np.linspace(0, 1, 40)[:, None, None]
    busy[:, 0, 0] = True
    real[:, 2:] = busy * rng.integers(1, 4, busy.shape)
    real[:, :2] = real[:, 2:] * rng.choice([52, 200, 1400], busy.shape)
    labels, scale, limits = np.arange(40) % 2, BinScaler.of(real), np.tile(LIMITS, (1, 2, 1))
    repeats = Repeats.learn(scale.scale(real), labels, real, labels, scale, limits)
    repeats.check(2, length)
    way = Decoder(scale, limits, Marginals.none(2), repeats)
    sampled = scale.scale(real) + rng.normal(0, 0.01, real.shape)
    both = way.decode(sampled, labels, seed=-3)
    for label in (0, 1):
        rows = labels == label
        np.testing.assert_array_equal(way.decode(sampled[rows], labels[rows], seed=-3), both[rows])
    assert abs((both[:, 2:] > 0).mean() - busy.mean()) < 0.03
    assert way.decode(sampled[:0], labels[:0]).shape == (0, 4, length)
