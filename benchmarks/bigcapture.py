"""A capture as long as wanted, of real traffic, for measuring tools that read captures.

Small public captures are laid over one another so that they start within `START` of each other:
that is one copy, sorted by time. The big capture is copy after copy. Each capture of each copy has
addresses of its own, so flows stay distinct, and checksums stay right, because in each address
what one 16-bit word gains another loses.

    python benchmarks/bigcapture.py BIG.pcap --megabytes 800
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

DATA = Path(os.environ.get("NETGEN_SHARED_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
CAPTURES = DATA / "captures"

#: Captures longer than this (seconds) are left out: they would stretch a copy to days.
LONGEST = 600

#: The captures of a copy begin within so many seconds of each other.
START = 300

#: Of the eight long sessions, cut to 72 bytes a packet, a copy holds this one.
SESSION = "youtube_requet_c/baseline_May12_exp_318.pcap"

#: Seconds since 1970 at which the first copy begins.
EPOCH = 1_600_000_000

ETHERNET = 1
IPV4, IPV6, TAGS = 0x0800, 0x86DD, (0x8100, 0x88A8)
FILE_HEADER = struct.Struct("<IHHiIII")
RECORD = struct.Struct("<IIII")

#: First words of IPv4 addresses that are permuted: 1.0.0.0 to 223.255.0.0; the rest is broadcast and the like.
FIRST, LAST = 0x0100, 0xE000

#: Times in microseconds, bytes captured and on the wire, the packet.
Record = tuple[int, int, bytes]


@dataclasses.dataclass(frozen=True)
class Copy:
    """One copy before its addresses are changed.

    Parameters
    ----------
    records : ndarray of uint8
        pcap records, sorted by time; seconds count from the start of the copy.
    at : ndarray of int64, shape (packets,)
        Where each record begins.
    seconds : ndarray of uint32, shape (packets,)
        Time of each packet, whole seconds.
    file : ndarray of int64, shape (packets,)
        Which capture it is from.
    v4, v6 : ndarray of int64, shape (addresses,)
        Where each address begins that is to be changed.
    v4_row, v6_row : ndarray of int64, shape (addresses,)
        The packet it stands in.
    files : int
        How many captures it is made of.
    """

    records: np.ndarray
    at: np.ndarray
    seconds: np.ndarray
    file: np.ndarray
    v4: np.ndarray
    v4_row: np.ndarray
    v6: np.ndarray
    v6_row: np.ndarray
    files: int

    @property
    def ip_packets(self) -> int:
        """Packets with an IP header, behind at most two VLAN tags."""
        return len(self.v4) // 2 + len(self.v6) // 2

    @property
    def length(self) -> int:
        """Seconds from one copy to the next."""
        return int(self.seconds.max()) + 1


# -- reading the small captures ----------------------------------------------------------------


def read(path: Path) -> Iterator[Record]:
    """Time in microseconds, bytes on the wire, and packet of each record."""
    data = path.read_bytes()
    return _pcapng(data) if data[:4] == b"\x0a\x0d\x0d\x0a" else _pcap(data)


def _pcap(data: bytes) -> Iterator[Record]:
    order, per_us = {
        b"\xd4\xc3\xb2\xa1": ("<", 1),
        b"\xa1\xb2\xc3\xd4": (">", 1),
        b"\x4d\x3c\xb2\xa1": ("<", 1000),
        b"\xa1\xb2\x3c\x4d": (">", 1000),
    }[data[:4]]
    head = struct.Struct(order + "IIII")
    at = FILE_HEADER.size
    while at + head.size <= len(data):
        seconds, fraction, captured, wire = head.unpack_from(data, at)
        at += head.size
        yield seconds * 1_000_000 + fraction // per_us, wire, data[at : at + captured]
        at += captured


def _pcapng(data: bytes) -> Iterator[Record]:
    order, resolutions, at = "<", list[int](), 0
    while at + 12 <= len(data):
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            resolutions = []
        kind, total = struct.unpack_from(order + "II", data, at)
        body = data[at + 8 : at + total - 4]
        if kind == 1:
            resolutions.append(_resolution(body[8:], order))
        elif kind == 6:
            interface, high, low, captured, wire = struct.unpack_from(order + "IIIII", body)
            ticks = high << 32 | low
            yield ticks * 1_000_000 // resolutions[interface], wire, body[20 : 20 + captured]
        at += total


def _resolution(options: bytes, order: str) -> int:
    """Ticks a second of a pcapng interface."""
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack_from(order + "HH", options, at)
        if code == 9:
            power = options[at + 4]
            return int(2 ** (power & 127) if power & 128 else 10**power)
        at += 4 + length + -length % 4
    return 1_000_000


def sources(captures: Path = CAPTURES) -> list[str]:
    """List the Ethernet captures that a copy consists of, in a shuffled but fixed order."""
    truth = json.loads((captures / "truth.json").read_text())
    names = [
        name
        for name, item in truth.items()
        if (name.startswith(("ndpi/", "iot_setup/")) or name == SESSION)
        and "fuzz" not in name  # made to break readers, with lengths of 4 GB
        and (item["linktype_raw"] or 0) & 0xFFFF == ETHERNET
        and item["dpkt_packets"]
        and not item["dpkt_error"]
        and item["last"] - item["first"] <= LONGEST
    ]
    return [names[i] for i in np.random.default_rng(0).permutation(len(names))]


# -- one copy ----------------------------------------------------------------------------------


def one_copy(captures: Path = CAPTURES) -> Copy:
    """All small captures laid over one another."""
    truth = json.loads((captures / "truth.json").read_text())
    names = sources(captures)
    times, packets, wires, files = list[int](), list[bytes](), list[int](), list[int]()
    for number, name in enumerate(names):
        records = list(read(captures / name))
        if len(records) != truth[name]["dpkt_packets"]:
            raise ValueError(f"{name}: {len(records)} packets read, truth.json says {truth[name]['dpkt_packets']}")
        stamps = [time for time, _, _ in records]
        if max(stamps) - min(stamps) > LONGEST * 1_000_000:
            continue  # its clock jumped
        shift = number * START * 1_000_000 // len(names) - min(stamps)
        times += [time + shift for time in stamps]
        wires += [wire for _, wire, _ in records]
        packets += [packet for _, _, packet in records]
        files += [number] * len(records)
    time = np.array(times)
    order = np.argsort(time, kind="stable")
    seconds, fraction = np.divmod(time, 1_000_000)
    pieces = [
        piece
        for i, s, us in zip(order.tolist(), seconds[order].tolist(), fraction[order].tolist(), strict=True)
        for piece in (RECORD.pack(s, us, len(packets[i]), wires[i]), packets[i])
    ]
    buffer = np.frombuffer(b"".join(pieces), np.uint8)
    captured = np.array([len(packets[i]) for i in order.tolist()])
    at = np.cumsum(captured + RECORD.size) - captured - RECORD.size
    v4, v4_row, v6, v6_row = _addresses(buffer, at + RECORD.size, captured)
    return Copy(buffer, at, seconds[order].astype("<u4"), np.array(files)[order], v4, v4_row, v6, v6_row, len(names))


def _addresses(
    data: np.ndarray, at: np.ndarray, captured: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the addresses of the outer IP headers are, and in which packets."""
    end, at = at + captured, at + 12
    for _ in TAGS:
        at = np.where(np.isin(_words(data, at, end), TAGS), at + 4, at)
    kind, at = _words(data, at, end), at + 2
    columns = []
    for ethertype, header, size in ((IPV4, 20, 4), (IPV6, 40, 16)):
        rows = np.flatnonzero((kind == ethertype) & (at + header <= end))
        columns += [np.concatenate([at[rows] + header - 2 * size, at[rows] + header - size]), np.tile(rows, 2)]
    return columns[0], columns[1], columns[2], columns[3]


def _words(data: np.ndarray, at: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Big-endian 16-bit words, 0 where they are not inside their packet."""
    clipped = np.where(at + 2 <= end, at, 0)
    return np.where(at + 2 <= end, data[clipped].astype(np.int64) << 8 | data[clipped + 1], 0)


# -- the big capture ---------------------------------------------------------------------------


def patched(copy: Copy, number: int) -> np.ndarray:
    """Return the records of copy `number`, with times and addresses of its own."""
    data = copy.records.copy()
    seconds = (copy.seconds + np.uint32(EPOCH + number * copy.length)).astype("<u4")
    _store(data, copy.at, seconds.view(np.uint8).reshape(-1, 4))
    key = 1 + copy.file + number * copy.files
    _exchange(data, copy.v4, key[copy.v4_row], 0, FIRST, LAST)
    # of an IPv6 address the interface's half; ff00::/8 is multicast, and 0:... is nobody
    selected = (data[copy.v6] != 0xFF) & (data[copy.v6] != 0)
    _exchange(data, copy.v6[selected], key[copy.v6_row[selected]], 8, 0, 0xFFFF)
    return data


def _exchange(data: np.ndarray, at: np.ndarray, key: np.ndarray, skip: int, first: int, last: int) -> None:
    """Permute one word of each address within [first, last); what it gains the next word loses.

    Sums are modulo 65535, as in the Internet checksum (RFC 1071), which therefore does not change.
    """
    everywhere = np.full(len(at), len(data))
    one, other = (_words(data, at + skip + more, everywhere) for more in (0, 2))
    new = np.where((one >= first) & (one < last), first + (one - first + key) % (last - first), one)
    for more, word in ((0, new), (2, np.where(new == one, other, (other + one - new) % 0xFFFF))):
        _store(data, at + skip + more, np.stack([word >> 8, word & 0xFF], axis=1).astype(np.uint8))


def _store(data: np.ndarray, at: np.ndarray, values: np.ndarray) -> None:
    for column in range(values.shape[1]):
        data[at + column] = values[:, column]


@dataclasses.dataclass(frozen=True)
class Big:
    """A capture that was built, and what is known of it.

    Parameters
    ----------
    path : Path
        The file.
    packets, ip_packets : int
        All, and those with an IP header.
    size : int
        Bytes of the file.
    copies, files : int
        How many copies it holds, each of how many captures; 0 for a part of another.
    """

    path: Path
    packets: int
    ip_packets: int
    size: int
    copies: int = 0
    files: int = 0


def build(path: Path, megabytes: float, *, times: int = 1, captures: Path = CAPTURES) -> Big:
    """Build a capture of at least `megabytes` (10**6 bytes) and `times` as many copies, unless it exists.

    Parameters
    ----------
    path : Path
        Where to; what is known of it goes into a JSON file beside it.
    megabytes : float
        Size of a capture of ``times=1``.
    times : int
        How many times as long.
    captures : Path
        The folder of small captures with its ``truth.json``.

    Returns
    -------
    Big
    """
    note = path.with_suffix(".json")
    wanted = {"megabytes": megabytes, "times": times, "sources": sources(captures)}
    if path.is_file() and note.is_file():
        stored = json.loads(note.read_text())
        if stored["wanted"] == wanted and stored["known"]["size"] == path.stat().st_size:
            return Big(path, **stored["known"])
    copy = one_copy(captures)
    copies = math.ceil(megabytes * 1e6 / len(copy.records)) * times
    if copies * copy.files >= LAST - FIRST:
        raise ValueError(f"{copies} copies of {copy.files} captures are more than there are addresses for")
    note.unlink(missing_ok=True)
    with path.open("wb") as stream:
        stream.write(FILE_HEADER.pack(0xA1B2C3D4, 2, 4, 0, 0, 262_144, ETHERNET))
        for number in range(copies):
            stream.write(patched(copy, number).data)
    known = {
        "packets": copies * len(copy.at),
        "ip_packets": copies * copy.ip_packets,
        "size": path.stat().st_size,
        "copies": copies,
        "files": copy.files,
    }
    note.write_text(json.dumps({"known": known, "wanted": wanted}))
    return Big(path, **known)


def first_packets(big: Path, packets: int, path: Path) -> Big:
    """Write the first packets of a capture to a file of its own."""
    captured, pieces = list[int](), list[bytes]()
    with big.open("rb") as stream:
        header = stream.read(FILE_HEADER.size)
        for _ in range(packets):
            head = stream.read(RECORD.size)
            captured.append(RECORD.unpack(head)[2])
            pieces += [head, stream.read(captured[-1])]
    records = b"".join(pieces)
    path.write_bytes(header + records)
    lengths = np.array(captured)
    v4, _, v6, _ = _addresses(np.frombuffer(records, np.uint8), np.cumsum(lengths + RECORD.size) - lengths, lengths)
    return Big(path, packets, (len(v4) + len(v6)) // 2, path.stat().st_size)


def small_files(big: Path, folder: Path, *, files: int, packets: int) -> None:
    """Split a capture into a folder of captures of `packets` packets each."""
    folder.mkdir(exist_ok=True)
    with big.open("rb") as stream:
        header = stream.read(FILE_HEADER.size)
        for number in range(files):
            pieces = [header]
            for _ in range(packets):
                head = stream.read(RECORD.size)
                pieces += [head, stream.read(RECORD.unpack(head)[2])]
            (folder / f"{number:05}.pcap").write_bytes(b"".join(pieces))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--megabytes", type=float, default=800)
    parser.add_argument("--times", type=int, default=1)
    arguments = parser.parse_args()
    print(build(arguments.path, arguments.megabytes, times=arguments.times))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
