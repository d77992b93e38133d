"""Server names in TLS ClientHellos over TCP, also in those that several segments carry.

A hello that begins and names its server in one segment is read at once. Another is kept until the
segments with the rest have come or `LOOK_AHEAD` packets have passed. Segments that overtook its first one
are searched among the `LOOK_BACK` packets before it. Both count packets of the file, so that it does not
matter how the file is cut into batches.
"""

from __future__ import annotations

import numpy as np

from netgen.capture.factorize import unique
from netgen.capture.headers import PROTOCOL_TCP, TCP_SYN
from netgen.capture.layers.dissect import PacketColumns
from netgen.capture.names.client_hello import (
    LOOK_BACK,
    MAX_HELLO,
    Direction,
    PartialHello,
    client_hello_name,
    directions,
    host_text,
    payload,
    unexpired,
)
from netgen.capture.native import packets as native_packets

#: Size of a table from hashes of ports to hellos.
_SLOTS = 1 << 16
_EMPTY, _SHARED = -1, -2


class _TlsHello(PartialHello):
    """A hello whose first byte has TCP sequence number `seq`."""

    __slots__ = ("seq",)

    def __init__(self, number: int, seq: int) -> None:
        super().__init__(number)
        self.seq = seq

    def accepts(self, number: int, seq: int) -> bool:
        """Return whether a packet of this number and sequence number may carry a piece."""
        return self.reaches(number) and (seq - self.seq) % (1 << 32) < MAX_HELLO

    def put(self, seq: int, piece: bytes) -> None:
        self.stream.put((seq - self.seq) % (1 << 32), piece)

    def name(self) -> str | None:
        """Return the name as `client_hello_name` does; empty if it is not within `MAX_HELLO` bytes."""
        name = client_hello_name(self.stream.start())
        return "" if name is None and self.stream.full else name


class TlsFinder:
    """Finds the server names in the TLS ClientHellos of one capture, batch after batch."""

    def __init__(self) -> None:
        self._hellos: dict[Direction, _TlsHello] = {}
        # segments of the last packets: number, sequence number, payload
        self._recent: dict[Direction, list[tuple[int, int, bytes]]] = {}

    @property
    def waiting(self) -> bool:
        """Whether later packets may complete a hello."""
        return bool(self._hellos)

    def find(self, data: np.ndarray, packets: PacketColumns, *, new: bool = True) -> list[tuple[int, str]]:
        """Return packet number and name for each name that the packets complete, as `NameFinder.find` does."""
        if not len(packets):
            return []
        segments = np.flatnonzero((packets.protocol == PROTOCOL_TCP) & (packets.payload_length > 0))
        names = _complete_names(data, packets) if new else {}
        openings = [row for row, name in names.items() if name is None]
        if openings or self._hellos:
            related = self._related(packets, segments, np.array(openings, np.int64))
            rows = unique(np.concatenate([np.array([*names], np.int64), related]))
            completed = self._follow(data, packets, rows, names)
        else:
            completed = [(int(packets.number[row]), name) for row, name in names.items() if name]
        self._hellos = unexpired(self._hellos, int(packets.number[-1]))
        self._keep_recent(data, packets, segments[-LOOK_BACK:])
        return completed

    def _related(self, packets: PacketColumns, segments: np.ndarray, openings: np.ndarray) -> np.ndarray:
        """Return the segments that may carry a piece of an incomplete hello, old or beginning at `openings`."""
        ports = [key[4:6] for key in self._hellos]
        ports += zip(packets.src_port[openings].tolist(), packets.dst_port[openings].tolist(), strict=True)
        seq = np.array([hello.seq for hello in self._hellos.values()], np.uint32)
        seq = np.concatenate([seq, _payload_seq(packets, openings)])
        # a table in place of a search: its cost does not grow with the number of hellos
        table = np.full(_SLOTS, _EMPTY, np.int32)
        slot = _slot(*np.array(ports, np.int32).T)
        table[slot] = np.arange(len(seq))
        table[slot[seq != seq[table[slot]]]] = _SHARED
        hello = table[_slot(packets.src_port[segments], packets.dst_port[segments])]
        segments, hello = segments[hello != _EMPTY], hello[hello != _EMPTY]
        return segments[(hello == _SHARED) | (_payload_seq(packets, segments) - seq[hello] < MAX_HELLO)]

    def _follow(
        self, data: np.ndarray, packets: PacketColumns, rows: np.ndarray, names: dict[int, str | None]
    ) -> list[tuple[int, str]]:
        """Take the segments of `rows` in turn; `names` is what those that begin a hello tell on their own."""
        completed = []
        columns = packets.number[rows].tolist(), _payload_seq(packets, rows).tolist(), directions(packets, rows)
        for row, number, seq, key in zip(rows.tolist(), *columns, strict=True):
            name = names.get(row, "")
            piece = payload(data, packets, row)
            hello = self._hellos.get(key)
            if hello is not None and not hello.accepts(number, seq):
                hello = None
            if hello is None and name is None:
                hello = self._hellos[key] = _TlsHello(number, seq)
                for earlier, earlier_seq, earlier_piece in self._recent.get(key, ()):
                    if earlier >= number - LOOK_BACK:
                        hello.put(earlier_seq, earlier_piece)
            if hello is not None and not name:
                hello.put(seq, piece)
                name = hello.name()
            if name:
                completed.append((number, name))
            if hello is not None and name is not None:
                del self._hellos[key]
            self._recent.setdefault(key, []).append((number, seq, piece))
        return completed

    def _keep_recent(self, data: np.ndarray, packets: PacketColumns, rows: np.ndarray) -> None:
        """Copy the segments of the last packets: a hello may begin behind them."""
        first, oldest = int(packets.number[0]), int(packets.number[-1]) - LOOK_BACK + 1
        before = self._recent
        self._recent = {}
        for key, segments in before.items() if first > oldest else ():
            kept = [segment for segment in segments if oldest <= segment[0] < first]
            if kept:
                self._recent[key] = kept
        rows = rows[packets.number[rows] >= oldest]
        columns = packets.number[rows].tolist(), _payload_seq(packets, rows).tolist(), directions(packets, rows)
        for row, number, seq, key in zip(rows.tolist(), *columns, strict=True):
            self._recent.setdefault(key, []).append((number, seq, payload(data, packets, row)))


def _complete_names(data: np.ndarray, packets: PacketColumns) -> dict[int, str | None]:
    """Return what each payload that begins a ClientHello tells on its own, by row, as `client_hello_name` does."""
    rows = native_packets.find_client_hellos(data, packets.protocol, packets.payload_at, packets.payload_length)
    starts, sizes = native_packets.find_server_names(data, packets.payload_at, packets.payload_length, rows, MAX_HELLO)
    return {
        row: client_hello_name(payload(data, packets, row)) if size < 0 else host_text(data[at : at + size].tobytes())
        for row, at, size in zip(rows.tolist(), starts.tolist(), sizes.tolist(), strict=True)
    }


def _payload_seq(packets: PacketColumns, rows: np.ndarray) -> np.ndarray:
    """Return the sequence number of the first payload byte; a SYN, which may carry some, counts one before it."""
    return packets.seq[rows] + ((packets.flags[rows] & TCP_SYN) != 0).astype(np.uint32)


def _slot(src_port: np.ndarray, dst_port: np.ndarray) -> np.ndarray:
    return (31 * src_port + dst_port) % _SLOTS
