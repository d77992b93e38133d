"""What a flow adds up to: packets and bytes, up and down; and drawn flows brought to other totals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from netgen.encoders.decoding.rounding import RoundedBins, keep_top_k, round_to_total

#: In bins of at most so many packets the bytes are those of single packets, and stay.
SINGLE = 3

#: Points of a distribution that are kept, and their ranks.
POINTS = 100
RANKS = (np.arange(POINTS) + 0.5) / POINTS

#: By what factor a bin's packets may change so that others can stay.
BENT = 2.0

#: All bins bear a change alike, for what they hold.
ALIKE = np.ones((1, 4, 1))

#: Fewer real flows of a class say nothing of what its flows add up to; nor do fewer drawn ones.
LEAST, LEAST_DRAWN = 3, 8


def brought_to(totals: np.ndarray | None, drawn: RoundedBins, limits: np.ndarray, bears: np.ndarray) -> np.ndarray:
    """Series, int64 (flows, 4, bins), that add up to totals, near to what was drawn.

    Sizes that real bins have again and again stay, if totals can be met without them.

    Parameters
    ----------
    totals : ndarray of float, shape (flows, 4), or None
        Packets up and down, bytes up and down; None: as drawn.
    drawn : Drawn
    limits : ndarray of float, shape (2, flows, 2)
        Smallest and largest packet of each flow's class, up and down.
    bears : ndarray of float, shape (flows or 1, 4, bins or 1)
        How much of a change each bin bears, for what it holds: of bytes up and down, of packets up and down.
    """
    packets = drawn.packets if totals is None else with_totals(drawn, totals[:, :2], bears[:, 2:])
    size = drawn.sizes(packets, limits)
    volume = bytes_of(size, packets, limits)
    if totals is not None:
        low, high = (each * packets for each in limits[..., None])
        single = packets <= SINGLE
        often = drawn.scale.is_frequent_size(size, packets)
        for way in (0, 1):
            for stays in ((single | often)[:, way], single[:, way]):
                least = np.where(stays, volume[:, way], low[:, way])
                most = np.where(stays, volume[:, way], high[:, way])
                volume[:, way] = round_to_total(volume[:, way], totals[:, 2 + way], least, most, bears[:, way])
    return np.concatenate([volume, packets], axis=1).astype(np.int64)


def with_totals(drawn: RoundedBins, total: np.ndarray, bears: np.ndarray) -> np.ndarray:
    """Packets a bin, int64 (flows, 2, bins), that add up to totals (flows, 2).

    `bears` is (flows or 1, 2, bins or 1), as of `brought_to`.

    Numbers that real bins have again and again stay, where totals can be met by changes of the others up to `BENT`.
    """
    out = np.zeros(drawn.packets.shape, np.int64)
    often = drawn.scale.is_frequent_count(drawn.packets)
    for way in (0, 1):
        amount, packets, wanted = drawn.count_float[:, way], drawn.packets[:, way], total[:, way]
        busy = keep_top_k(amount, wanted)
        ceiling = np.where(busy, 2.0**40, 0.0)
        bear = np.broadcast_to(bears[:, way], amount.shape)
        out[:, way] = round_to_total(amount, wanted, busy.astype(float), ceiling, bear)
        stays = often[:, way] & busy
        some = np.flatnonzero(stays.any(1))
        low, high = (
            np.where(busy, np.where(stays, packets, np.maximum(np.rint(amount * by), 1)), 0)[some]
            for by in (1 / BENT, BENT)
        )
        fixed = round_to_total(amount[some], wanted[some], low, high, bear[some])
        met = fixed.sum(1) == np.rint(wanted[some])
        out[some[met], way] = fixed[met]
    return out


def bytes_of(size: np.ndarray, packets: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Bytes a bin, float64 whole numbers, of so many packets of a size; `limits` as of `RoundedBins.sizes`."""
    low, high = (each * packets for each in limits[..., None])
    volume: np.ndarray = np.clip(np.rint(size * packets), np.ceil(low), np.floor(high))
    return volume


def totals_of(series: np.ndarray) -> np.ndarray:
    """Packets up and down, bytes up and down, of series (flows, 4, bins); float64 (flows, 4)."""
    return series.sum(2)[:, [2, 3, 0, 1]].astype(float)


def several(packets: np.ndarray) -> np.ndarray:
    """Flows of more than one busy bin, by their packets (flows, 2, bins); bool (flows,)."""
    found: np.ndarray = packets.any(1).sum(1) > 1
    return found


def summed(pair: np.ndarray) -> np.ndarray:
    """(up, down) into (in all, share up)."""
    whole = pair.sum(1)
    return np.stack([whole, pair[:, 0] / np.maximum(whole, 1e-9)], axis=1)


def of_rank(values: np.ndarray, drawn: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Real values, and none between them, of the ranks that values have among drawn ones; by quantiles of both."""
    rank = np.interp(values, drawn, RANKS)
    found: np.ndarray = real[np.minimum((rank * POINTS).astype(int), POINTS - 1)]
    return found


def by_class(
    classes: int, drawn: RoundedBins, drawn_labels: np.ndarray, series: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[int, RoundedBins, np.ndarray]]:
    """Classes of enough flows: number, drawn flows, real series."""
    for label in range(classes):
        mine, real = np.flatnonzero(drawn_labels == label), series[labels == label]
        if len(mine) >= LEAST_DRAWN and len(real) >= LEAST:
            yield label, drawn.take(mine), real
