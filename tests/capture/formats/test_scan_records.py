"""scan_records: records found from many positions at once are those found one after the other."""

import dataclasses
import random
import struct
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support import oracle

from netgen.capture.formats import pcap
from netgen.capture.formats.reader import CaptureFile
from netgen.capture.formats.records import Order
from netgen.capture.native import compiled, packets
from netgen.capture.native.layouts import LikelyTimes, RecordLayout

pytestmark = pytest.mark.usefixtures("either_reader")


NS = 1_000_000_000
SECONDS = 1_700_000_000
TIMES = LikelyTimes(SECONDS - 86_400, SECONDS + 400 * 86_400)
LIMIT = 262_144
_QUICK = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@dataclasses.dataclass(frozen=True)
class Variant:
    """A kind of pcap file."""

    order: Order = "<"
    magic: int = 0xA1B2C3D4
    head: int = 16

    @property
    def layout(self) -> Any:
        return RecordLayout(self.order, self.head, LIMIT, 1 if self.magic == 0xA1B23C4D else 1000)

    def file(self, records: Any) -> Any:
        return struct.pack(self.order + "IHHiIII", self.magic, 2, 4, 0, 0, LIMIT, 1) + records

    def record(self, payload: Any, seconds: Any = SECONDS, fraction: Any = 7) -> Any:
        size = len(payload)
        return struct.pack(self.order + "4I", seconds, fraction, size, size).ljust(self.head, b"\0") + payload


VARIANTS = [
    Variant(order, magic, head)
    for order in get_args(Order)
    for magic, head in ((0xA1B2C3D4, 16), (0xA1B23C4D, 16), (0xA1B2CD34, 24))
]


def guess_often(patch: pytest.MonkeyPatch) -> None:
    """Put guesses so close together that a small file has many."""
    patch.setattr(packets, "GUESS_STRIDE", 300)
    patch.setattr(packets, "GUESS_REACH", 280)
    patch.setattr(pcap, "MIN_SCAN", 600)


def walk(data: Any, begin: Any, stop: Any, layout: Any) -> Any:
    """Return the starts of records one by one, and where the last one ends."""
    starts, at = [], begin
    while at < stop and at + layout.header <= len(data):
        (captured,) = struct.unpack_from(layout.order + "8xI", data, at)
        if captured > layout.limit or at + layout.header + captured > len(data):
            break
        starts.append(at)
        at += layout.header + captured
    return starts, at


def _payload(kind: Any, size: Any, variant: Any, rng: Any) -> Any:
    if kind == "noise":
        return rng.randbytes(size)
    if kind == "stamps":  # every fourth byte on looks like a time of this file
        return struct.pack(variant.order + "I", SECONDS) * (size // 4)
    inside = b"".join(
        variant.record(bytes(rng.randrange(30)), SECONDS + rng.randrange(99)) for _ in range(2 + size // 40)
    )
    # whole records lead on to the next true one, cut ones lead astray
    return inside if kind == "records" else inside[rng.randrange(9) : len(inside) - rng.randrange(9)]


@st.composite
def _records(draw: Any, variant: Any, kinds: Any = ("noise", "stamps", "records", "cut records")) -> Any:
    """Return records whose payloads are noise, or look like records themselves."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    shapes = st.tuples(st.sampled_from(kinds), st.sampled_from([0, 0, 1, 40, 60, 300, 1500]))
    pieces = draw(st.lists(shapes, min_size=1, max_size=20)) * draw(st.integers(1, 6))
    now, out = SECONDS, []
    for kind, size in pieces:
        now += rng.choice((0, 1, 1, 60, -5, 10**9)) if rng.random() < 0.1 else 0
        out.append(variant.record(_payload(kind, size, variant, rng), now % 2**32, rng.randrange(10**6)))
    return b"".join(out)


@st.composite
def _captures(draw: Any) -> Any:
    """Return a variant, and the bytes of a file of it."""
    variant = draw(st.sampled_from(VARIANTS))
    return variant, variant.file(draw(_records(variant)))


@st.composite
def _damaged(draw: Any) -> Any:
    """Return a file that is cut, or has other bytes somewhere."""
    variant, data = draw(_captures())
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(24, len(out) - 1)) & (~3 if draw(st.booleans()) else -1)
        patch = draw(st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\xff", b"\x01\0\0\x01", b"\x10"]))
        out[at : at + len(patch)] = patch
    return variant, bytes(out[: len(out) - draw(st.sampled_from([0, 0, 1, 15, 400])) % (len(out) - 24)])


def columns(path: Any) -> Any:
    """Return what a capture holds: every column, what was lost and what was odd."""
    capture = CaptureFile(path)
    chunks = list(capture.chunks())
    names = ("offset", "captured", "length", "time_ns", "linktype", "number")
    return (
        {name: [item for chunk in chunks for item in getattr(chunk, name).tolist()] for name in names},
        capture.damage,
        +capture.notes,
    )


def read_both_ways(path: Any) -> Any:
    """Return what a scan reads, checked to be the same as what is read record by record."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pcap, "MIN_SCAN", 1 << 60)
        walked = columns(path)
    with pytest.MonkeyPatch.context() as patch:
        guess_often(patch)
        assert columns(path) == walked
    return walked


# -- scanning ------------------------------------------------------------------------------------


@_QUICK
@given(
    capture=st.one_of(_captures(), _damaged()),
    limit=st.sampled_from([LIMIT, 1000]),
    stop=st.integers(1, 100),
)
def test_starts_are_those_of_a_walk_from_record_to_record(
    monkeypatch: pytest.MonkeyPatch, capture: Any, limit: Any, stop: Any
) -> None:
    """Up to any position, in whole files and damaged ones; the fallback leaves all to the caller."""
    guess_often(monkeypatch)
    variant, data = capture
    layout = dataclasses.replace(variant.layout, limit=limit)
    stop = max(len(data) * stop // 100, 40)
    assume(len(data) >= 40)
    expected, end = walk(data, 24, stop, layout)
    starts, after = packets.scan_records(np.frombuffer(data, np.uint8), 24, stop, layout, TIMES)
    result = starts.tolist()
    assert result == expected[: len(result)]
    assert after == ([*expected, end])[len(result)]
    assert len(result) == (len(expected) if compiled.ready() else 0)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_wrong_guesses_are_detected(monkeypatch: pytest.MonkeyPatch, variant: Any) -> None:
    """Payloads that are pcap data themselves: guesses land in them, and none is believed."""
    guess_often(monkeypatch)
    rng = random.Random(5)
    data = variant.file(b"".join(variant.record(_payload("cut records", 400, variant, rng)) for _ in range(99)))
    buffer = np.frombuffer(data, np.uint8)
    expected, end = walk(data, 24, len(data), variant.layout)
    positions = np.arange(324, len(data) - 280, 300)
    guessed = packets.guess_record_starts(buffer, positions, 280, variant.layout, TIMES).tolist()
    wrong = [item for item in guessed if item >= 0 and item not in set(expected)]
    assert len(wrong) > 20
    starts, after = packets.scan_records(buffer, 24, len(data), variant.layout, TIMES)
    assert (starts.tolist(), after) == ((expected, end) if compiled.ready() else ([], 24))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_guesses_in_ordinary_traffic_are_right(variant: Any) -> None:
    """Noise looks like four records in a row about never; each guess is the first record from its place on."""
    rng = random.Random(5)
    data = variant.file(b"".join(variant.record(rng.randbytes(rng.randrange(40, 1500))) for _ in range(300)))
    starts, _ = walk(data, 24, len(data), variant.layout)
    positions = np.arange(24, len(data) - 10_000, 500)
    result = packets.guess_record_starts(np.frombuffer(data, np.uint8), positions, 2048, variant.layout, TIMES)
    assert result.tolist() == [min(start for start in starts if start >= position) for position in positions.tolist()]


def test_no_record_start_is_guessed_in_zeros() -> None:
    data = np.zeros(5000, np.uint8)
    layout = VARIANTS[0].layout
    assert packets.guess_record_starts(data, np.array([24, 1000]), 500, layout, TIMES).tolist() == [-1, -1]
    assert packets.guess_record_starts(data, np.zeros(0, np.int64), 500, layout, TIMES).tolist() == []


# -- reading files -------------------------------------------------------------------------------


@_QUICK
@given(capture=_captures())
def test_undamaged_files_read_alike(tmp_path: Path, capture: Any) -> None:
    _, data = capture
    path = tmp_path / "a.pcap"
    path.write_bytes(data)
    result, damage, _ = read_both_ways(path)
    assert not damage
    records = list(oracle.records(path))
    assert result["time_ns"] == [item.time_ns for item in records]
    assert result["captured"] == [len(item.data) for item in records]
    assert [data[at : at + size] for at, size in zip(result["offset"], result["captured"], strict=True)] == [
        item.data for item in records
    ]


@_QUICK
@given(capture=_damaged())
def test_damaged_files_read_alike(tmp_path: Path, capture: Any) -> None:
    """To the same place, with the same said of it."""
    path = tmp_path / "a.pcap"
    path.write_bytes(capture[1])
    read_both_ways(path)


@_QUICK
@given(files=st.lists(_captures(), min_size=2, max_size=4))
def test_joined_files_read_alike(tmp_path: Path, files: Any) -> None:
    """`cat a b`, of any variants."""
    path = tmp_path / "a.pcap"
    sizes, total = [], 0
    for variant, data in files:
        path.write_bytes(data)
        sizes += [len(item.data) for item in oracle.records(path)]
        total += len(walk(data, 24, len(data), variant.layout)[0])
    path.write_bytes(b"".join(data for _, data in files))
    result, damage, notes = read_both_ways(path)
    assert not damage
    assert notes == {"joined files": len(files) - 1}
    assert result["captured"] == sizes
    assert len(sizes) == total


def test_real_captures_read_alike(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With guesses 16 kB apart, so that more captures are large enough for some."""
    paths = [path for path in (shared_data / "captures").rglob("*.pcap") if 300_000 < path.stat().st_size < 6_000_000]
    if not paths:
        pytest.skip("no capture of that size is there")
    for path in sorted(paths)[::4]:
        monkeypatch.setattr(pcap, "MIN_SCAN", 1 << 60)
        walked = columns(path)
        monkeypatch.setattr(packets, "GUESS_STRIDE", 16_384)
        monkeypatch.setattr(pcap, "MIN_SCAN", 65_536)
        assert columns(path) == walked, path
