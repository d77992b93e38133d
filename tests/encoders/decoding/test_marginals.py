"""netgen.encoders.decoding: sampled flows get the distributions of totals of their class."""

from typing import Any

import numpy as np
import pytest
from support.decoder_series import blurred, traffic

from netgen.capture.series.feasible import PacketLimits, feasible
from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.counts import Counts
from netgen.encoders.decoding.decoder import Decoder
from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.quantile_scale import N_QUANTILES
from netgen.encoders.decoding.rounding import RoundedBins
from netgen.encoders.decoding.shares import MOST, Shares
from netgen.encoders.decoding.sizes import Sizes
from netgen.encoders.decoding.totals import totals_of

SCALE = BinScaler((Sizes.same_for_all(np.linspace(20.0, 1500.0, N_QUANTILES + 1)),) * 2, (Counts.even(300.0),) * 2)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(params=[Marginals.learn, Shares.learn], ids=["each", "shared"])
def put_right(request: pytest.FixtureRequest) -> Any:
    """Return a function: learns a map of each total by itself, or whose totals are shared out."""
    return request.param


@pytest.fixture
def learnt(rng: Any, put_right: Any) -> Any:
    """Two classes, their limits, what a blurred model draws of them, and the decoder that learnt from both."""
    real = np.concatenate([traffic(rng, 60), traffic(rng, 60, sizes=(60, 600), most=200)])
    labels = np.repeat([0, 1], 60)
    scale = BinScaler.of(real)
    limits = PacketLimits.of(real, labels, 2)
    both = np.stack([limits.smallest, limits.largest]).astype(float)
    plain = Decoder(scale, both, Marginals.none(2))
    more = rng.integers(0, 60, 150) + 60 * (np.arange(150) % 2)
    first, then = (blurred(rng, real[more], scale, 0.02) for _ in range(2))
    totals = put_right(plain.rounded(first, labels[more]), labels[more], real, labels, both)
    return real, labels, plain, Decoder(scale, both, totals), then, labels[more]


def gap(ours: Any, real_side: Any) -> Any:
    """Earth mover's distance between two samples, over the spread of the second."""
    at = np.linspace(0.01, 0.99, 99)
    return np.abs(np.quantile(ours, at) - np.quantile(real_side, at)).mean() / real_side.std()


def test_totals_of_new_flows_follow_the_real_ones(learnt: Any) -> None:
    """Far nearer than without, for flows that the maps were not learnt from."""
    real, labels, plain, decoder, scaled, sampled_labels = learnt
    for label in (0, 1):
        real_side = real[labels == label]
        rows = sampled_labels == label
        before, after = (item.decode(scaled, sampled_labels)[rows] for item in (plain, decoder))
        for channel in range(4):
            sums = [item[:, channel].sum(1) for item in (before, after, real_side)]
            assert gap(sums[1], sums[2]) < max(0.15, 1.05 * gap(sums[0], sums[2]))


def test_sizes_that_occur_again_and_again_stay_when_totals_are_put_right(rng: Any, put_right: Any) -> None:
    """Bins of 158-byte packets stay so; what the totals lack goes to bins of other sizes."""
    real = np.zeros((80, 4, 16), int)
    real[:, 2] = rng.integers(4, 12, (80, 16))
    real[:, 0] = 158 * real[:, 2]
    real[:, 0, 3] = rng.integers(300, 1400, 80) * real[:, 2, 3]
    labels, scale = np.zeros(80, int), BinScaler.of(real)
    limits = np.stack([np.full((1, 2), 40.0), np.full((1, 2), 1500.0)])
    plain = Decoder(scale, limits, Marginals.none(1))
    first, then = (blurred(rng, real, scale, 0.004) for _ in range(2))
    totals = put_right(plain.rounded(first, labels), labels, real, labels, limits)
    series = Decoder(scale, limits, totals).decode(then, labels)
    often = np.delete(series, 3, axis=2)
    assert (often[:, 0] == 158 * often[:, 2]).mean() > 0.9
    assert gap(series[:, 0].sum(1), real[:, 0].sum(1)) < 0.1
    before = plain.decode(then, labels)
    assert (before[:, 0, 3] != series[:, 0, 3]).mean() > 0.5


def test_totals_are_met_where_all_sizes_are_frequent(rng: Any, put_right: Any) -> None:
    """Then these give way."""
    real = np.zeros((80, 4, 8), int)
    real[:, 2] = rng.integers(5, 9, (80, 8))
    real[:, 0] = np.where(rng.random((80, 8)) < 0.5, 100, 200) * real[:, 2]
    labels, scale = np.zeros(80, int), BinScaler.of(real)
    limits = np.stack([np.full((1, 2), 40.0), np.full((1, 2), 1500.0)])
    plain = Decoder(scale, limits, Marginals.none(1))
    small = np.concatenate([100 * real[:, 2:3], real[:, 1:]], axis=1)
    low = blurred(rng, small, scale, 0.004)  # a model of too small packets
    totals = put_right(plain.rounded(low, labels), labels, real, labels, limits)
    before, after = (item.decode(low, labels)[:, 0].sum(1) for item in (plain, Decoder(scale, limits, totals)))
    real_side = real[:, 0].sum(1)
    assert gap(before, real_side) > 1
    assert gap(after, real_side) < 0.2


def test_a_flow_is_the_same_whatever_is_beside_its_group(learnt: Any) -> None:
    """A group is one flow where each total is mapped by itself."""
    *_, decoder, scaled, labels = learnt
    together = decoder.decode(scaled, labels, seed=5)
    for label in (0, 1):
        rows, size = np.flatnonzero(labels == label), decoder.group(label)
        for first in range(0, len(rows) - size, 2 * size):
            subset = rows[first : first + size]
            alone = decoder.decode(scaled[subset], labels[subset], first + np.arange(size), seed=5)
            np.testing.assert_array_equal(alone, together[subset])


def test_packets_can_carry_decoded_flows(learnt: Any) -> None:
    *_, decoder, scaled, labels = learnt
    series = decoder.decode(scaled, labels)
    limits = PacketLimits(*decoder.limits.astype(int))
    feasible_series, _ = feasible(series, labels, limits)
    same = (feasible_series == series).all((1, 2))
    assert same.mean() > 0.95  # a total may leave no packet for bin 0


def test_captures_cut_after_n_packets_are_sampled_with_that_cut(rng: Any, put_right: Any) -> None:
    """Where flows end with packet 100, none has 101: up and down are mapped together, not each by itself."""
    real = traffic(rng, 80)
    packets = real[:, 2:].reshape(80, -1)
    for row in packets:
        row[1] += max(0, 100 - row.sum())
        while row.sum() > 100:
            row[row.argmax()] -= row.sum() - 100 if row.max() > row.sum() - 100 else row.max() - 1
    real[:, 2:] = packets.reshape(80, 2, -1)
    real[:, :2] = 52 * real[:, 2:]
    assert (real[:, 2:].sum((1, 2)) == 100).all()
    labels, scale = np.zeros(80, int), BinScaler.of(real)
    limits = np.full((2, 1, 2), 52.0)
    sampled = blurred(rng, real, scale, 0.01)
    plain = Decoder(scale, limits, Marginals.none(1))
    totals = plain.decode(sampled, labels)[:, 2:].sum((1, 2))
    assert (totals != 100).mean() > 0.5
    totals = put_right(plain.rounded(sampled, labels), labels, real, labels, limits)
    decoded = Decoder(scale, limits, totals).decode(blurred(rng, real, scale, 0.01), labels)
    assert (decoded[:, 2:].sum((1, 2)) == 100).mean() > 0.95


def test_a_class_of_few_flows_is_left_as_sampled(rng: Any, put_right: Any) -> None:
    real = traffic(rng, 2)
    scale, labels = BinScaler.of(real), np.zeros(2, int)
    limits = np.stack([np.full((1, 2), 20.0), np.full((1, 2), 1500.0)])
    plain = Decoder(scale, limits, Marginals.none(1))
    scaled = blurred(rng, real, scale)
    totals = put_right(plain.rounded(scaled, labels), labels, real, labels, limits)
    assert totals.group(0) == 1
    np.testing.assert_array_equal(Decoder(scale, limits, totals).decode(scaled, labels), plain.decode(scaled, labels))


def test_totals_that_hang_together_stay_together(rng: Any) -> None:
    """Of two kinds of flows in a class, no flow gets the packets of one and the bytes of the other."""
    few_large = traffic(rng, 40, sizes=(1400,), most=2)
    many_small = traffic(rng, 40, sizes=(60,), most=400)
    many_small[:, 2:, 1:9] += 20
    many_small[:, :2] = 60 * many_small[:, 2:]
    real = np.concatenate([few_large, many_small])
    labels, scale = np.zeros(80, int), BinScaler.of(real)
    limits = np.stack([np.full((1, 2), 60.0), np.full((1, 2), 1400.0)])
    plain = Decoder(scale, limits, Marginals.none(1))
    first, then = (blurred(rng, rng.permutation(real), scale, 0.02) for _ in range(2))
    totals = Shares.learn(plain.rounded(first, labels), labels, real, labels, limits)
    sampled = Decoder(scale, limits, totals).decode(then, labels)
    size, packets = sampled[:, :2].sum((1, 2)) / sampled[:, 2:].sum((1, 2)), sampled[:, 2:].sum((1, 2))
    large = packets <= few_large[:, 2:].sum((1, 2)).max()
    assert 0.4 < large.mean() < 0.6
    # a few lie between the kinds, and packets cannot be so many and so large
    assert ((size > 1300) == large).mean() > 0.85
    assert ((size < 70) == ~large).mean() > 0.85


def shared(rng: Any, flows: Any) -> Any:
    """Totals of so many real flows, what is drawn of them, all in turn, and the limits of their packets."""
    real = traffic(rng, flows)
    labels, scale = np.zeros(flows, int), BinScaler.of(real)
    limits = np.stack([np.full((1, 2), 20.0), np.full((1, 2), 1500.0)])
    plain = Decoder(scale, limits, Marginals.none(1))
    rows = np.concatenate([rng.permutation(flows) for _ in range(-(-120 // flows))])
    ours = plain.rounded(blurred(rng, real[rows], scale, 0.02), np.zeros(len(rows), int))
    result = Shares.learn(ours, np.zeros(len(rows), int), real, labels, limits)
    return totals_of(real).astype(np.float32), ours, result, limits[:, 0]


@pytest.mark.parametrize("flows", [3, 5, 8, 9, 16, 17, 40])
def test_every_real_flow_donates_its_totals_once_per_round(rng: Any, flows: int) -> None:
    """A turn is as many drawn flows as there are real ones; nearly all, where a group is not a whole turn."""
    real_side, ours, shared_, limits = shared(rng, flows)
    given = shared_.totals(0, ours, limits, np.arange(len(ours.packets)), seed=3)
    donated = [np.unique(given[turn : turn + flows], axis=0) for turn in range(0, len(given), flows)]
    known = {tuple(item) for item in real_side}
    assert all({tuple(item) for item in turn} <= known for turn in donated)
    assert min(len(turn) for turn in donated) >= flows * (1 if flows <= 16 else 0.8)


def test_one_round_of_samples_has_the_totals_of_the_real_flows(rng: Any) -> None:
    """In packets exactly; in bytes too, but for what bins of few packets keep."""
    real = traffic(rng, 9)
    labels, scale = np.zeros(9, int), BinScaler.of(real)
    limits = np.stack([np.full((1, 2), 20.0), np.full((1, 2), 1500.0)])
    first, then = (blurred(rng, rng.permutation(real), scale, 0.05) for _ in range(2))
    plain = Decoder(scale, limits, Marginals.none(1))
    decoder = Decoder(scale, limits, Shares.learn(plain.rounded(first, labels), labels, real, labels, limits))
    before, after, real_side = (
        np.sort(totals_of(item), axis=0) for item in (plain.decode(then, labels), decoder.decode(then, labels), real)
    )
    assert (before != real_side).mean() > 0.5
    np.testing.assert_array_equal(after[:, :2], real_side[:, :2])
    np.testing.assert_allclose(after[:, 2:], real_side[:, 2:], rtol=0.1)


def test_a_group_of_one_kind_is_not_given_totals_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it is the other's turn: but for those that stand at the border."""
    real_side = np.array([[10.0 * kind + item] * 4 for kind in (1, 100) for item in range(10)])
    quantiles = np.quantile(real_side, np.linspace(0, 1, 100), axis=0)
    shared_ = Shares(quantiles[None], real_side[None].astype(np.float32), np.ones((1, 4, 1), np.float32))
    limits = np.array([[0.0] * 2, [1e9] * 2])

    def given_the_other_kind() -> Any:
        result = []
        for kind in (0, 1):
            packets = np.tile(real_side[10 * kind + np.arange(16) % 10, 0, None, None] / 4, (1, 2, 2))
            ones = np.ones_like(packets)
            sampled = RoundedBins(packets.astype(int), packets, ones, ones, SCALE)
            given = shared_.totals(0, sampled, limits, np.arange(16), seed=0)
            assert given is not None
            result.append(((given[:, 0] > 500) != kind).mean())
        return np.array(result)

    result = given_the_other_kind()
    monkeypatch.setattr("netgen.encoders.decoding.shares.UNLIKE", 100.0)
    assert (given_the_other_kind() >= 0.4).all()
    assert result.mean() <= 0.2


def test_a_flow_of_a_single_bin_neither_donates_nor_receives_totals(rng: Any) -> None:
    """They would be all of it: a copy of a real flow."""
    real = traffic(rng, 60)
    real[:30, :, 1:] = 0
    real[:30, 2:, 0], real[:30, :2, 0] = 1, rng.integers(100, 1400, (30, 2))
    labels, scale = np.zeros(60, int), BinScaler.of(real)
    limits = np.stack([np.full((1, 2), 20.0), np.full((1, 2), 1500.0)])
    plain = Decoder(scale, limits, Marginals.none(1))
    first, then = (blurred(rng, real, scale, 0.02) for _ in range(2))
    totals = Shares.learn(plain.rounded(first, labels), labels, real, labels, limits)
    donated = totals.real[0][~np.isnan(totals.real[0, :, 0])]
    assert sorted(map(tuple, donated.tolist())) == sorted(map(tuple, totals_of(real[30:]).astype(np.float32).tolist()))
    before, after = plain.decode(then, labels), Decoder(scale, limits, totals).decode(then, labels)
    single = (before[:, 2:] > 0).any(1).sum(1) == 1
    assert single.sum() >= 25
    np.testing.assert_array_equal(after[single], before[single])
    assert (after[~single] != before[~single]).any((1, 2)).mean() > 0.9


def test_bins_that_all_flows_have_alike_bear_little_of_a_change(rng: Any) -> None:
    """A handshake of some packets in the first bins stays as drawn; with maps of each total it does not."""
    real = np.zeros((8, 4, 32), int)
    real[:, 2, :4] = [20, 30, 20, 30]
    real[:, 2, 4:] = rng.integers(5, 60, (8, 28))
    real[:, 0] = real[:, 2] * np.where(np.arange(32) < 4, 100, rng.integers(200, 1400, (8, 32)))
    labels, more, scale = np.zeros(8, int), np.zeros(48, int), BinScaler.of(real)
    limits = np.stack([np.full((1, 2), 40.0), np.full((1, 2), 1500.0)])
    plain = Decoder(scale, limits, Marginals.none(1))
    first, then = (blurred(rng, np.tile(real, (6, 1, 1)), scale, 0.002) for _ in range(2))
    then[:, 2, 4:] += rng.normal(0, 0.05, (48, 1))  # totals that are off
    before, moved = plain.decode(then, more), []
    for learn in (Marginals.learn, Shares.learn):
        totals = learn(plain.rounded(first, more), more, real, labels, limits)
        after = Decoder(scale, limits, totals).decode(then, more)
        assert (after[:, 2, 4:] != before[:, 2, 4:]).mean() > 0.3
        moved.append((np.abs(after - before) / np.maximum(before, 1))[:, [0, 2], :4].mean())
    assert moved[1] < 0.3 * moved[0]


def test_the_assignment_of_totals_depends_on_the_seed_and_the_samples(rng: Any) -> None:
    """Other totals with another seed, where not all are lent in a group; large flows get large totals."""
    _, ours, shared_, limits = shared(rng, 40)
    one, other = (shared_.totals(0, ours, limits, np.arange(len(ours.packets)), seed=seed) for seed in (0, -1))
    assert (one != other).any()
    sampled = ours.count_float.sum((1, 2))
    given = one[:, :2].sum(1)
    assert np.corrcoef(sampled.argsort().argsort(), given.argsort().argsort())[0, 1] > 0.7


def test_of_many_real_flows_those_that_stand_for_all_are_kept(rng: Any) -> None:
    real_side, _, shared_, _ = shared(rng, 500)
    kept = shared_.real[0]
    assert not np.isnan(kept).any()
    assert len(kept) == MOST
    for total in range(4):
        assert gap(kept[:, total], real_side[:, total]) < 0.1
