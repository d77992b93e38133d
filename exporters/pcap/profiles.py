"""The profiles of classes (`netgen.capture.series.profile`) as tables from which datagrams are drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from netgen.capture.headers import PROTOCOL_UDP
from netgen.capture.series.profile import GAPS, SIZES, read_profiles
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.addresses import FIRST_PORT, SERVER_PORT
from netgen.exporters.pcap.counter_rng import Words, random_bits, uniform
from netgen.exporters.pcap.flow_file import FlowFile
from netgen.exporters.pcap.packets import UDP_HEADERS, Ints

#: Server ports that are kept beside the dynamic ones: no tool takes zeros or random bytes there for a damaged protocol.
KNOWN_PORTS = (443, 3478, 8801)

_PORT, _SIZE = 100, 101  # streams of `random_bits`
_TILTS = np.exp(np.linspace(-3, 3, 41))  # exponents of the uniform numbers that pick a quantile
_GRID = 256


@dataclasses.dataclass(frozen=True)
class Profiles:
    """Profiles of the classes of some flows.

    Parameters
    ----------
    row : ndarray of int64, shape (flows,)
        Which profile a flow has; -1 if none, as every flow that is not UDP.
    sizes : ndarray of int64, shape (profiles, 2, SIZES)
        Quantiles of the packets' IP bytes, up and down.
    gaps : ndarray of int64, shape (profiles, GAPS)
        Quantiles of the gaps, ns; all zero where there was none.
    ports : list of ndarray of int64
        Server ports, each as often as it shall be drawn.
    means : ndarray of float, shape (profiles, 2, tilts)
        Mean of the sizes drawn with each of `_TILTS`.
    """

    row: Ints
    sizes: Ints
    gaps: Ints
    ports: list[Ints]
    means: NDArray[np.float64]

    def take(self, rows: Ints) -> Profiles:
        """Of some of the flows, in the order given."""
        return dataclasses.replace(self, row=self.row[rows])

    def server_ports(self, keys: Words) -> Ints:
        """A server port for each flow, shape (flows,)."""
        out = np.full(len(keys), SERVER_PORT, dtype=np.int64)
        for index, ports in enumerate(self.ports):
            mine = np.flatnonzero(self.row == index)
            out[mine] = ports[(random_bits(keys[mine], _PORT) % np.uint64(len(ports))).astype(np.int64)]
        return out


def profiles(table: FlowTable | FlowFile) -> Profiles:
    """The profiles of a table's UDP flows; what is no profile is left out."""
    known = read_profiles(table.metadata)
    tables: list[tuple[Ints, Ints, Ints, Ints]] = []
    udp = table.table["protocol"].fill_null(0).to_numpy() == PROTOCOL_UDP
    row = np.full(len(table), -1, dtype=np.int64)
    labels = np.array(table.table["label"].to_pylist(), dtype=object)
    for name, profile in known.items():
        mine = udp & (labels == name)
        ways = [profile.get(f"{way}_sizes") or [] for way in ("up", "down")]
        if mine.any() and any(ways):
            row[mine] = len(tables)
            up, down = (ways[way] or ways[1 - way] for way in (0, 1))
            gaps = profile.get("gaps_ns") or [0]
            tables.append((_spread(up, SIZES), _spread(down, SIZES), _spread(gaps, GAPS), _ports(profile)))
    sizes = np.array([each[:2] for each in tables], dtype=np.int64).reshape(-1, 2, SIZES)
    picked = (((np.arange(_GRID) + 0.5) / _GRID)[:, None] ** _TILTS * SIZES).astype(np.int64)
    return Profiles(
        row=row,
        sizes=sizes,
        gaps=np.array([each[2] for each in tables], dtype=np.int64).reshape(-1, GAPS),
        ports=[each[3] for each in tables],
        means=sizes[:, :, picked].mean(axis=2),
    )


def _spread(values: list[int], number: int) -> Ints:
    """So many quantiles, whatever number there is."""
    chosen = np.array(values, dtype=np.int64)
    return np.sort(chosen)[np.arange(number) * len(chosen) // number]


def _ports(profile: dict[str, object]) -> Ints:
    counts = profile.get("ports") or {}
    assert isinstance(counts, dict)
    kept = [
        port if port in KNOWN_PORTS or port >= FIRST_PORT else SERVER_PORT
        for port, number in ((int(port), int(number)) for port, number in counts.items())
        for _ in range(max(round(64 * number / max(sum(counts.values()), 1)), 1))
    ]
    return np.array(kept or [SERVER_PORT], dtype=np.int64)


def profile_sizes(
    known: Profiles, profile: Ints, side: Ints, index: Ints, cell: Ints, many: Ints, rest: Ints, mtu: Ints, keys: Words
) -> Ints:
    """Sizes of datagrams like those of their class, which add up to the bytes of each cell.

    The quantiles that are picked are tilted so that their mean is near the cell's; what is then
    over or missing changes as few packets as it can.

    Parameters
    ----------
    known : Profiles
    profile, side : ndarray of int64, shape (cells,)
        The profile, and the direction.
    index, cell : ndarray of int64, shape (packets,)
        Number of the packet in its cell, and the cell; all packets of a cell in a row.
    many, rest, mtu : ndarray of int64, shape (cells,)
        Packets of the cell, their bytes, and the bytes of the largest packet.
    keys : ndarray of uint64, shape (cells,)
    """
    means = known.means[profile, side]
    tilt = np.abs(means - (rest / many)[:, None]).argmin(1)
    share = uniform(random_bits(keys[cell], _SIZE, index)) ** _TILTS[tilt][cell]
    size = known.sizes[profile[cell], side[cell], np.minimum((share * SIZES).astype(np.int64), SIZES - 1)]
    size = np.clip(size, UDP_HEADERS, mtu[cell])
    lack = rest - np.bincount(cell, size, len(many)).astype(np.int64)
    more = lack[cell] > 0
    room = np.where(more, mtu[cell] - size, size - UDP_HEADERS)
    before = room.cumsum() - room
    before -= before[np.flatnonzero(index == 0)][cell]
    change = np.clip(np.abs(lack)[cell] - before, 0, room)
    return size + np.where(more, change, -change)
