"""encoders: flows that recur are drawn number for number, as often as real ones are; all others are drawn as before."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.decoder import Decoder
from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.odds import balanced, picked
from netgen.encoders.decoding.recurring import MOST, Recurring
from netgen.encoders.decoding.repeats import Repeats
from netgen.encoders.decoding.shares import Shares

BINS = 16

#: Smallest and largest packet of each of three classes.
LIMITS = np.tile([[[20.0, 20.0]], [[1500.0, 1500.0]]], (1, 3, 1))

#: Flows of several bins: a greeting of three, a question and its answer, a poll: bytes up and down by bin.
GREETING = {0: (60, 60), 1: (52, 0), 5: (420, 1200)}
QUESTION = {0: (61, 77)}
POLL = {0: (104, 52), 8: (104, 52)}
KNOWN, OFTEN = (GREETING, QUESTION, POLL), (0.2, 0.5, 0.1)


@pytest.fixture
def rng() -> Any:
    return np.random.default_rng(0)


def flow_of(bins: Any) -> Any:
    """Return a series of one packet where there are bytes."""
    out = np.zeros((4, BINS), np.int64)
    for at, held in bins.items():
        out[:2, at] = held
    out[2:] = out[:2] > 0
    return out


def captured(generator: Any, flows: Any) -> Any:
    """Flows of a capture: four of five recur, others have bytes of their own."""
    own = ({at: tuple(generator.integers(200, 1400, 2)) for at in (0, *range(2, 7))} for _ in range(flows))
    which = generator.choice(4, p=[*OFTEN, 0.2], size=flows)
    return np.stack([flow_of([*KNOWN, other][number]) for number, other in zip(which, own, strict=True)])


def learnt(generator: Any, *, flows: Any = 400, spread: Any = 0.02) -> Any:
    """Real flows, what recurs of them, and a way to draw flows of a model that is a little off."""
    real = captured(generator, flows)
    scale, none = BinScaler.of(real), np.zeros(flows, int)

    def draw() -> Any:
        then = captured(generator, flows)
        return then, scale.scale(then) + generator.normal(0, spread, then.shape)

    return real, scale, Recurring.learn(draw()[1], none, real, none, scale, LIMITS), draw


def decoder(scale: Any, recurring: Any, totals: Any = None, repeats: Any = None) -> Any:
    return Decoder(scale, LIMITS, totals or Marginals.none(3), repeats or Repeats.none(), recurring)


def share(series: Any, bins: Any) -> Any:
    return (series == flow_of(bins)).all((1, 2)).mean()


def test_recurring_flows_are_sampled_exactly_and_at_their_frequency(rng: Any) -> None:
    real, scale, recurring, draw = learnt(rng, spread=0.04)
    then, sampled = draw()
    none = np.zeros(len(sampled), int)
    before, after = (decoder(scale, item).decode(sampled, none) for item in (Recurring.nothing(), recurring))
    for bins in KNOWN:
        assert share(after, bins) == pytest.approx(share(real, bins), abs=0.05)
    assert share(before, GREETING) < share(real, GREETING) / 2
    own = (then[:, 2:] > 0).any(1).sum(1) == 6
    still = own & (recurring(sampled, none, np.arange(len(sampled)), scale, seed=0) < 0)
    assert still.sum() > 0.9 * own.sum()
    np.testing.assert_array_equal(after[still], before[still])


def test_a_flow_that_the_model_samples_too_rarely_gets_its_real_frequency(rng: Any) -> None:
    """Of two that lie near each other, half of real flows each, nine of ten look like one: some of them are taken."""
    one, other = flow_of({0: (61, 77), 3: (104, 52)}), flow_of({0: (61, 77), 3: (110, 55)})
    real = np.stack([one, other] * 100)
    scale, none = BinScaler.of(real), np.zeros(200, int)
    points = scale.scale(real[:2])
    sampled = points[(rng.random(400) < 0.1).astype(int)] + rng.normal(0, 0.05, (400, 4, BINS))
    recurring = Recurring.learn(sampled[:200], none, real, none, scale, LIMITS)
    made = decoder(scale, recurring).decode(sampled[200:], none)
    assert (made == one).all((1, 2)).mean() == pytest.approx(0.5, abs=0.12)
    assert (made == other).all((1, 2)).mean() == pytest.approx(0.5, abs=0.12)


def test_a_flow_that_occurs_once_is_not_kept(rng: Any) -> None:
    real, _, recurring, _ = learnt(rng)
    kept = recurring.series(np.arange(len(recurring.label)), BINS)
    number = [(real == item).all((1, 2)).sum() for item in kept]
    assert sorted(number, reverse=True) == number
    assert len(number) == len(KNOWN)
    assert min(number) >= 2
    single = real[(real[:, 2:] > 0).any(1).sum(1) == 6]
    assert not set(single[:, 0, 0].tolist()) & set(recurring.holds[:, 0].tolist())


def test_flows_of_another_class_are_no_evidence(rng: Any) -> None:
    """A flow that one of each class is does not recur; of a class that nothing recurs in all stay as drawn."""
    real = np.concatenate([np.stack([flow_of(GREETING), flow_of(QUESTION)]), captured(rng, 50)])
    labels = np.repeat([0, 1], [2, 50])
    scale = BinScaler.of(real)
    sampled = scale.scale(real)
    recurring = Recurring.learn(sampled, labels, real, labels, scale, LIMITS)
    assert set(recurring.label.tolist()) == {1}
    for label in (0, 2):
        as_that = np.full(len(sampled), label)
        assert (recurring(sampled, as_that, np.arange(len(sampled)), scale, seed=0) < 0).all()
    np.testing.assert_array_equal(
        recurring.members(real, labels), (labels == 1) & ((real[:, 2:] > 0).any(1).sum(1) < 6)
    )


def test_a_flow_beyond_the_packet_limits_is_not_kept() -> None:
    """Frames merged by a network card are larger than a packet may be; no flow begins with an idle bin, or is none."""
    wrong = [flow_of(bins) for bins in ({0: (2960, 61)}, {1: (61, 77)}, {}) for _ in range(4)]
    real = np.stack(wrong[2:] + [flow_of(QUESTION)] * 3)
    scale, none = BinScaler.of(real), np.zeros(len(real), int)
    recurring = Recurring.learn(scale.scale(real), none, real, none, scale, LIMITS)
    np.testing.assert_array_equal(recurring.series(np.arange(1), BINS)[0], flow_of(QUESTION))
    assert len(recurring.label) == 1


def test_at_most_so_many_are_kept_the_most_frequent_ones() -> None:
    real = np.stack([flow_of({0: (100 + number, 61)}) for number in range(2 * MOST)])
    often = np.repeat(real, np.where(np.arange(2 * MOST) < MOST, 2, 3), axis=0)
    scale, none = BinScaler.of(often), np.zeros(len(often), int)
    recurring = Recurring.learn(scale.scale(often), none, often, none, scale, LIMITS)
    assert len(recurring.label) == MOST
    assert recurring.series(np.arange(MOST), BINS)[:, 0, 0].min() == 100 + MOST


@given(seed=st.integers(0, 2**64), first=st.integers(0, 50), cut=st.integers(1, 39))
def test_flow_i_is_flow_i_however_many_are_decoded(seed: int, first: Any, cut: Any) -> None:
    _, scale, recurring, draw = learnt(np.random.default_rng(7), flows=40, spread=0.1)
    sampled = draw()[1]
    way, none = decoder(scale, recurring), np.zeros(40, int)
    numbers = first + way.indices(none)
    complete = way.decode(sampled, none, numbers, seed=seed)
    np.testing.assert_array_equal(complete[:cut], way.decode(sampled[:cut], none[:cut], numbers[:cut], seed=seed))
    np.testing.assert_array_equal(complete[cut:], way.decode(sampled[cut:], none[cut:], numbers[cut:], seed=seed))


def test_totals_are_those_of_flows_that_do_not_recur(rng: Any) -> None:
    """A flow that recurs keeps what it adds up to; others are given totals."""
    real, scale, recurring, draw = learnt(rng)
    _, sampled = draw()
    none, rest = np.zeros(len(sampled), int), ~recurring.members(real, np.zeros(len(real), int))
    plain = decoder(scale, recurring)
    rows = recurring(sampled, none, plain.indices(none), scale, seed=0) < 0
    ours = plain.rounded(sampled[rows], none[rows], plain.indices(none)[rows], seed=0)
    for kind in (Marginals, Shares):
        totals = kind.learn(ours, none[rows], real[rest], none[rest], LIMITS)
        made = decoder(scale, recurring, totals).decode(sampled, none)
        np.testing.assert_array_equal(made[~rows], plain.decode(sampled, none)[~rows])
        assert (made[rows] != plain.decode(sampled, none)[rows]).any((1, 2)).mean() > 0.1


@pytest.mark.parametrize("flows", [0, 1, 16])
def test_any_number_of_flows_can_be_sampled(rng: Any, flows: int) -> None:
    _, scale, recurring, draw = learnt(rng)
    assert decoder(scale, recurring).decode(draw()[1][:flows], np.zeros(flows, int)).shape == (flows, 4, BINS)


@pytest.mark.slow
@given(wanted=st.lists(st.integers(0, 60), min_size=2, max_size=6), seed=st.integers(0, 99))
def test_log_priors_are_balanced_if_the_samples_allow_it(wanted: Any, seed: int) -> None:
    """Whatever each drawn thing looks like, each real one is picked as often as it is real."""
    rng = np.random.default_rng(seed)
    count = np.array(wanted) + 1
    alone = rng.normal(0, 1, (2000, len(count)))
    log_prior = balanced(alone, count, rounds=200, bound=50.0)
    result = np.bincount(picked(alone + log_prior, rng.random(2000)), minlength=len(count)) / 2000
    np.testing.assert_allclose(result, count / count.sum(), atol=0.06)


def test_log_priors_are_bounded() -> None:
    """What is never drawn stays so, however often it is real."""
    alone = np.tile([0.0, -100.0], (50, 1))
    log_prior = balanced(alone, np.array([1, 1]), rounds=50, bound=2.0)
    np.testing.assert_allclose(log_prior - np.log(0.5), [-2.0, 2.0])
    assert not picked(alone + log_prior, np.linspace(0, 1, 50)).any()
    np.testing.assert_allclose(balanced(alone[:0], np.array([1, 3]), rounds=9, bound=2.0), np.log([0.25, 0.75]))
