"""Names in TLS ClientHellos (RFC 8446, RFC 6066), also in those that several TCP segments carry.

A hello that begins and names its server in one segment is read in passing. One that does not is
kept, up to `MAX_HELLO` bytes of it, until the segments with the rest have come or `LOOK_AHEAD`
packets have gone by. Segments that overtook its first one are looked for among the `LOOK_BACK`
packets before it. Both are counted in packets of the file, so that it does not matter how the file
is cut into chunks.
"""

from __future__ import annotations

import functools
import re

import numpy as np

from netgen.capture import native
from netgen.capture.headers import PROTOCOL_TCP, TCP_SYN
from netgen.capture.layers.dissect import PacketColumns
from netgen.capture.native import packets as native_packets

#: Bytes that are kept of a ClientHello; one with a post-quantum key share has 1.8 kB.
MAX_HELLO = 16_384

#: Packets after the first of an incomplete hello that may complete it.
LOOK_AHEAD = 4096

#: Packets before the first segment of a hello among which others of it may be.
LOOK_BACK = 64

#: What packets of one direction have in common: addresses, ports, VLAN.
Direction = tuple[int, int, int, int, int, int, int]

_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0
_RECORD = 5  # bytes of a record's header
_SESSION_ID = 4 + 2 + 32  # after handshake header, version, random
_HOST = re.compile(rb"[A-Za-z0-9._-]+")
_SLOTS = 1 << 16
_EMPTY, _SHARED = -1, -2


class Stream:
    """The beginning of a stream of bytes whose pieces come in any order, more than once or never.

    Attributes
    ----------
    front : int
        How many bytes are there without a gap.
    """

    __slots__ = ("_data", "_there", "front")

    def __init__(self) -> None:
        self._data = bytearray()
        self._there = bytearray()
        self.front = 0

    def put(self, at: int, piece: bytes) -> None:
        """Keep a piece that begins `at` bytes from the start; nothing from `MAX_HELLO` on is kept."""
        end = min(at + len(piece), MAX_HELLO)
        if at >= end:
            return
        missing = max(end - len(self._data), 0)
        self._data += bytes(missing)
        self._there += bytes(missing)
        self._data[at:end] = piece[: end - at]
        self._there[at:end] = b"\1" * (end - at)
        gap = self._there.find(0, self.front)
        self.front = gap if gap >= 0 else len(self._there)

    def start(self) -> bytes:
        """The bytes before the first gap."""
        return bytes(self._data[: self.front])

    @property
    def full(self) -> bool:
        """Whether no piece can make the start longer."""
        return self.front == MAX_HELLO


def directions(packets: PacketColumns, rows: np.ndarray) -> list[Direction]:
    """Addresses, ports and VLAN of some packets.

    Parameters
    ----------
    packets : Packets
        Packets of one chunk.
    rows : ndarray of int, shape (rows,)
        Which of them.

    Returns
    -------
    list of tuple
        What tells the direction of a connection from all others, for each row.
    """
    columns = ("src_high", "src_low", "dst_high", "dst_low", "src_port", "dst_port", "vlan")
    return list(zip(*(getattr(packets, name)[rows].tolist() for name in columns), strict=True))


def payload(data: np.ndarray, packets: PacketColumns, row: int) -> bytes:
    """A copy of the first `MAX_HELLO` bytes of a packet's payload."""
    start = int(packets.payload_at[row])
    return data[start : start + min(int(packets.payload_length[row]), MAX_HELLO)].tobytes()


def hello_name(message: bytes) -> str | None:
    """Server name in a handshake message of TLS, which may be cut anywhere.

    Parameters
    ----------
    message : bytes
        The message from its type on; what follows it does no harm.

    Returns
    -------
    str or None
        The name in lower case; empty if there is none, or the message is no ClientHello; None if
        only the bytes to come can tell.
    """
    if message[:1] not in (b"", b"\1") or message[4:5] not in (b"", b"\3"):
        return ""
    end = 4 + int.from_bytes(message[1:4])
    try:
        at = _SESSION_ID
        at += 1 + message[at]
        # numbers of two bytes are put together in place: calls would take half of the time
        at += 2 + (message[at] << 8 | message[at + 1])  # cipher suites
        at += 1 + message[at]  # compression methods
        if at >= end:  # no extensions
            return ""
        last = min(at + 2 + (message[at] << 8 | message[at + 1]), end)
        at += 2
        while at + 4 <= last:
            kind, length = message[at] << 8 | message[at + 1], message[at + 2] << 8 | message[at + 3]
            at += 4
            if kind == _SERVER_NAME and at + length <= len(message):
                return _host(message[at : at + length])
            if kind == _SERVER_NAME:
                break
            at += length
        else:
            return ""
    except IndexError:  # cut
        pass
    return None if len(message) < max(end, 4) else ""


def _host(extension: bytes) -> str:
    """The name in the body of a server name extension; empty if there is none that a host can have."""
    if len(extension) < 5 or extension[2] != _HOST_NAME:
        return ""
    length = _two(extension, 3)
    name = extension[5 : 5 + length]
    return host_text(name) if len(name) == length else ""


@functools.lru_cache(4096)
def host_text(name: bytes) -> str:
    """A host's name in lower case; empty if no host can have it."""
    return name.decode("ascii").lower().rstrip(".") if _HOST.fullmatch(name) else ""


def _two(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def client_hello_name(payload: bytes) -> str | None:
    """Server name in the TLS ClientHello that begins a stream of records, which may be cut anywhere.

    Parameters
    ----------
    payload : bytes
        What a client sends, from the first byte of a record on.

    Returns
    -------
    str or None
        As `hello_name` has it.
    """
    # most are in one record, or name the server in the first
    if payload[:2] == b"\x16\3" and len(payload) > _RECORD:
        name = hello_name(payload[_RECORD : _RECORD + (payload[3] << 8 | payload[4])])
        if name is not None:
            return name
    # a hello may be spread over records
    pieces = []
    at = 0
    ended = False
    while at < len(payload) and not ended:
        whole = at + _RECORD <= len(payload)
        length = int.from_bytes(payload[at + 3 : at + _RECORD])
        ended = payload[at] != _HANDSHAKE or payload[at + 1 : at + 2] not in (b"", b"\3") or (whole and not length)
        if not ended:
            pieces.append(payload[at + _RECORD : at + _RECORD + length])
        at += _RECORD + length
    name = hello_name(b"".join(pieces))
    return "" if name is None and ended else name


class _Hello:
    """A hello of which some segments have come."""

    __slots__ = ("_stream", "number", "seq")

    def __init__(self, number: int, seq: int) -> None:
        self.number = number
        self.seq = seq
        self._stream = Stream()

    def takes(self, number: int, seq: int) -> bool:
        """Whether a packet of this number and sequence number may carry a piece."""
        return number <= self.number + LOOK_AHEAD and (seq - self.seq) % (1 << 32) < MAX_HELLO

    def put(self, seq: int, piece: bytes) -> None:
        self._stream.put((seq - self.seq) % (1 << 32), piece)

    def name(self) -> str | None:
        """As `hello_name` has it; what does not name a server within `MAX_HELLO` bytes never does."""
        text = client_hello_name(self._stream.start())
        return "" if text is None and self._stream.full else text


class TlsFinder:
    """Finds the names in TLS ClientHellos of one capture, chunk after chunk."""

    def __init__(self) -> None:
        self._hellos: dict[Direction, _Hello] = {}
        # segments of the last packets: number, direction, sequence number, payload
        self._tail: list[tuple[int, Direction, int, bytes]] = []

    @property
    def waiting(self) -> bool:
        """Whether packets to come may complete a hello."""
        return bool(self._hellos)

    def find(self, data: np.ndarray, packets: PacketColumns, *, new: bool = True) -> list[tuple[int, str]]:
        """Names that the packets of a chunk complete.

        Parameters
        ----------
        data : ndarray of uint8
            The buffer that `packets` were dissected from.
        packets : Packets
            Packets of one chunk, which follow those of the last call.
        new : bool
            Whether hellos may begin here; if not, only those that are waited for are gone on with.

        Returns
        -------
        list of (int, str)
            Packet number and name.
        """
        if not len(packets):
            return []
        rows = np.flatnonzero((packets.protocol == PROTOCOL_TCP) & (packets.payload_length > 0))
        starts = _starts(data, packets, rows) if new else rows[:0]
        texts = _names(data, packets, starts)
        open_rows = [row for row, text in texts.items() if text is None]
        if open_rows or self._hellos:
            related = self._related(packets, rows, np.array(open_rows, np.int64))
            found = self._follow(data, packets, np.unique(np.concatenate([starts, related])), texts)
        else:
            found = [(int(packets.number[row]), text) for row, text in texts.items() if text]
        last = int(packets.number[-1])
        self._hellos = {key: hello for key, hello in self._hellos.items() if last < hello.number + LOOK_AHEAD}
        self._keep_tail(data, packets, rows, last)
        return found

    def _related(self, packets: PacketColumns, rows: np.ndarray, opening: np.ndarray) -> np.ndarray:
        """Those of `rows` that may carry a piece of an incomplete hello, old or `opening` in this chunk."""
        ports = [key[4:6] for key in self._hellos]
        ports += zip(packets.src_port[opening].tolist(), packets.dst_port[opening].tolist(), strict=True)
        seq = np.array([hello.seq for hello in self._hellos.values()], np.uint32)
        seq = np.concatenate([seq, _seq(packets, opening)])
        src_port, dst_port = np.array(ports, np.int32).T
        # a table from ports to hello instead of a search: its cost does not grow with their number
        table = np.full(_SLOTS, _EMPTY, np.int32)
        slot = _slot(src_port, dst_port)
        table[slot] = np.arange(len(seq))
        table[slot[seq != seq[table[slot]]]] = _SHARED
        hello = table[_slot(packets.src_port[rows], packets.dst_port[rows])]
        rows, hello = rows[hello != _EMPTY], hello[hello != _EMPTY]
        return rows[(hello == _SHARED) | (_seq(packets, rows) - seq[hello] < MAX_HELLO)]

    def _follow(
        self, data: np.ndarray, packets: PacketColumns, rows: np.ndarray, texts: dict[int, str | None]
    ) -> list[tuple[int, str]]:
        """Take the segments of `rows` in turn; `texts` has what is known of those that begin a hello."""
        found = []
        seen: dict[Direction, list[tuple[int, int, int]]] = {}
        columns = packets.number[rows].tolist(), _seq(packets, rows).tolist(), directions(packets, rows)
        for row, number, seq, key in zip(rows.tolist(), *columns, strict=True):
            text = texts.get(row, "")
            hello = self._hellos.get(key)
            if hello is not None and not hello.takes(number, seq):
                hello = None
            if hello is None and text is None:
                hello = _Hello(number, seq)
                self._hellos[key] = hello
                overtook = [each[2:] for each in self._tail if each[1] == key and each[0] >= number - LOOK_BACK]
                overtook += [
                    (each_seq, payload(data, packets, each))
                    for each_number, each_seq, each in seen.get(key, ())
                    if each_number >= number - LOOK_BACK
                ]
                for each_seq, piece in overtook:
                    hello.put(each_seq, piece)
            if hello is not None and not text:
                hello.put(seq, payload(data, packets, row))
                text = hello.name()
            if text:
                found.append((number, text))
            if hello is not None and text is not None:
                del self._hellos[key]
            seen.setdefault(key, []).append((number, seq, row))
        return found

    def _keep_tail(self, data: np.ndarray, packets: PacketColumns, rows: np.ndarray, last: int) -> None:
        """Copy the segments of the last packets: a hello may begin behind them."""
        self._tail = [each for each in self._tail if each[0] > last - LOOK_BACK]
        rows = rows[-LOOK_BACK:]
        rows = rows[packets.number[rows] > last - LOOK_BACK]
        columns = packets.number[rows].tolist(), directions(packets, rows), _seq(packets, rows).tolist()
        payloads = (payload(data, packets, row) for row in rows.tolist())
        self._tail += zip(*columns, payloads, strict=True)


def _starts(data: np.ndarray, packets: PacketColumns, rows: np.ndarray) -> np.ndarray:
    """Those of `rows` whose payload begins as a ClientHello does, be it cut after the first byte."""
    if native.ready():
        return native_packets.find_client_hellos(data, packets.protocol, packets.payload_at, packets.payload_length)
    rows = rows[data[packets.payload_at[rows]] == _HANDSHAKE]
    for place, value in ((1, 3), (_RECORD, _CLIENT_HELLO)):
        at = np.minimum(packets.payload_at[rows] + place, data.size - 1)
        rows = rows[(packets.payload_length[rows] <= place) | (data[at] == value)]
    return rows


def _names(data: np.ndarray, packets: PacketColumns, rows: np.ndarray) -> dict[int, str | None]:
    """What the payload of each of some rows alone says, as `client_hello_name` has it."""
    if not native.ready():
        return {row: client_hello_name(payload(data, packets, row)) for row in rows.tolist()}
    places, sizes = native_packets.find_server_names(data, packets.payload_at, packets.payload_length, rows, MAX_HELLO)
    return {
        row: client_hello_name(payload(data, packets, row)) if size < 0 else host_text(data[at : at + size].tobytes())
        for row, at, size in zip(rows.tolist(), places.tolist(), sizes.tolist(), strict=True)
    }


def _seq(packets: PacketColumns, rows: np.ndarray) -> np.ndarray:
    """Sequence numbers of the first byte of payload; a SYN, which may carry some, counts as a byte before it."""
    seq: np.ndarray = packets.seq[rows] + ((packets.flags[rows] & TCP_SYN) != 0).astype(np.uint32)
    return seq


def _slot(src_port: np.ndarray, dst_port: np.ndarray) -> np.ndarray:
    slot: np.ndarray = (31 * src_port + dst_port) % _SLOTS
    return slot
