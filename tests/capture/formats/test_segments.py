"""Segments: the table is the same byte for byte, whatever the pieces of a capture and whoever reads them."""

import dataclasses
import functools
import gzip
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import handshakes
from support import synthetic_captures as made
from support.extraction import extract, extraction

from netgen.capture.formats import pcap, pcapng, reader
from netgen.capture.formats.reader import CaptureFile
from netgen.capture.formats.source import Source
from netgen.capture.native import packets
from netgen.capture.segments import ReadOptions, Segment, guess_segment, is_contiguous, read_next_segment, read_segments

pytestmark = pytest.mark.usefixtures("either_reader")


NS = 1_000_000_000
ALL = ReadOptions(name_sources="all")
_MANY = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])

FRAMES = made.frames(1, 200)
HIDDEN = made.hidden(150)
_PCAP = made.pcap(FRAMES)
_BLOCKS = made.pcapng(FRAMES)
#: Name: the bytes of a capture.
CAPTURES = {
    "pcap": _PCAP,
    "big-endian": made.pcap(FRAMES[:150], ">"),
    "joined": made.pcap(FRAMES[:90]) + made.pcap(FRAMES[90:150], ">") + made.pcap([]) + made.pcap(FRAMES[150:]),
    "cut": _PCAP[:-30],
    "damaged": _PCAP[:40_000] + bytes(8) + _PCAP[40_004:],
    "payloads that are records": HIDDEN[0],
    "pcapng": _BLOCKS,
    "one section": made.pcapng(FRAMES[:150], 5, sections=1),
    "cut pcapng": _BLOCKS[:-30],
    "damaged pcapng": _BLOCKS[:40_000] + b"\xff\xff\xff\x7f" + _BLOCKS[40_004:],
    "payloads that are blocks": HIDDEN[1],
    "joined pcapng": _BLOCKS + made.pcapng(made.frames(7, 20), 7),
    "headers only": made.pcap([]),
    "section only": made.section(),
}


@pytest.fixture(scope="module")
def path_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function from the name of a capture to its file."""
    folder = tmp_path_factory.mktemp("captures")
    for name, data in CAPTURES.items():
        (folder / name).write_bytes(data)
    return lambda name: folder / name


def digest(path: Any, out: Any) -> Any:
    """Return the digest of the Parquet file of a capture's flows."""
    extraction(path, name_sources="all").write(out, force=True)
    return hashlib.sha256(out.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def digest_of(path_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function from the name of a capture to the digest of its flows, read in one piece."""
    out = tmp_path_factory.mktemp("out") / "a.parquet"
    return functools.cache(lambda name: digest(path_of(name), out))


def assert_equal(one: Segment, other: Segment) -> None:
    """Check that two segments hold the same."""
    for column in dataclasses.fields(one.batch):
        left, right = getattr(one.batch, column.name), getattr(other.batch, column.name)
        same = np.array_equal(left, right) if isinstance(left, np.ndarray) else left == right
        assert same, column.name
    for name in ("begin", "end", "state_before", "state_after", "last_ns", "damage"):
        assert getattr(one, name) == getattr(other, name), name
    assert +one.notes == +other.notes


def count_guesses(path: Path, size: int) -> tuple[int, int]:
    """Guess all segments of a capture, and check that those believed equal the ones read in order.

    Returns
    -------
    int, int
        Right and wrong guesses.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "SEGMENT", size)
        capture = CaptureFile(path)
        guesses = {start // size: guess_segment(capture, start, ALL) for start in range(size, capture.size, size)}
        right = wrong = 0
        last: Segment | None = None
        for expected in list(read_segments(CaptureFile(path), ALL)):
            guess = guesses.get(last.end // size) if last is not None else None
            if guess is not None and last is not None and is_contiguous(guess, last):
                segment = guess
                right += 1
            else:
                segment = read_next_segment(capture, last, ALL)
                wrong += guess is not None and guess.begin != expected.begin
            assert_equal(segment, expected)
            last = segment
        assert last is None or last.end == capture.size
    return right, wrong


# -- in one process ------------------------------------------------------------------------------


@_MANY
@given(
    name=st.sampled_from(sorted(CAPTURES)),
    segment=st.one_of(st.integers(3_000, 10_000), st.integers(10_000, 200_000)),
    chunk=st.sampled_from([7, 100, 16_384]),
    step=st.sampled_from([400, 5_000, 65_536]),
)
def test_the_table_is_the_same_from_pieces_of_any_size(
    tmp_path: Path, path_of: Any, digest_of: Any, name: Any, segment: Any, chunk: Any, step: Any
) -> None:
    """Segments, chunks of records and the distance of guesses."""
    expected = digest_of(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "SEGMENT", segment)
        patch.setattr(pcap, "CHUNK", chunk)
        patch.setattr(pcapng, "CHUNK", chunk)
        patch.setattr(packets, "GUESS_STRIDE", step)
        patch.setattr(packets, "GUESS_REACH", min(step, 2048))
        patch.setattr(pcap, "MIN_SCAN", 2 * step)
        assert digest(path_of(name), tmp_path / "a.parquet") == expected


@_MANY
@given(name=st.sampled_from(sorted(CAPTURES)), size=st.integers(300, 40_000))
def test_a_stream_gives_the_same_table(tmp_path: Path, path_of: Any, name: Any, size: Any) -> None:
    """In pieces of any size, behind the 64 kB that tell what it is: with hellos on their edges."""
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(CAPTURES[name], 1))
    read_pieces = Source.pieces

    def pieces(self: Source) -> Iterator[bytes]:
        held = b"".join(read_pieces(self))
        yield held[:65_536]
        for at in range(65_536, len(held), size):
            yield held[at : at + size]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Source, "pieces", pieces)
        result = extract(path, name_sources="all")
    expected = extract(path_of(name), name_sources="all")
    assert result.table.drop_columns("source").equals(expected.table.drop_columns("source"))
    report, expected_report = (dict(table.metadata["read_report"]) for table in (result, expected))
    for read_report in (report, expected_report):
        read_report["damaged"] = [(item["byte"], item["reason"].split(";")[0]) for item in read_report["damaged"]]
    assert report == expected_report


# -- by several ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAPTURES)
def test_stretches_that_others_read_are_those_that_are_read_in_turn(path_of: Any, name: Any) -> None:
    """Packets, names, damage and notes of each; and most guesses are right in ordinary captures."""
    rights = wrongs = 0
    for segment in (3_000, 10_000, 33_333):
        right, wrong = count_guesses(path_of(name), segment)
        rights, wrongs = rights + right, wrongs + wrong
    if name in ("pcap", "big-endian"):
        assert (rights > 10, wrongs) == (True, 0)
    if name == "one section":  # not where an interface was declared before
        assert rights > 0
    if name.startswith("payloads"):
        assert wrongs > 10  # guesses that land in a payload are found out


@_MANY
@given(name=st.sampled_from(sorted(CAPTURES)), segment=st.integers(1000, 100_000))
@pytest.mark.slow
def test_any_edge_will_do(path_of: Any, name: Any, segment: Any) -> None:
    count_guesses(path_of(name), segment)


def test_a_guess_that_looks_right_for_long_is_detected(tmp_path: Path) -> None:
    """A payload with hundreds of records right where a stretch begins."""
    inside = made.pcap([(made.T, made.ip(1, 2, 17, made.udp(7, 7, bytes(9))))] * 400)[24:]
    big = made.ip(3, 4, 17, made.udp(1, 1, b"\xaa" * 5 + inside))[:60_000]
    frames = [(made.T + i * NS, made.ip(3, 4, 17, made.udp(i, 9, bytes(40)))) for i in range(20)]
    path = tmp_path / "a.pcap"
    path.write_bytes(made.pcap([*frames, (made.T, big), *frames]))
    _, wrong = count_guesses(path, 10_000)
    assert wrong >= 1


def test_damage_behind_a_joined_files_header_is_the_same_wherever_an_edge_is(tmp_path: Path) -> None:
    """Its first record is damaged; an edge may lie anywhere around it."""
    joined = bytearray(made.pcap(FRAMES[:3]))
    joined[32:36] = b"\xff\xff\xff\x7f"
    before = made.pcap(FRAMES[3:6])
    path = tmp_path / "a.pcap"
    path.write_bytes(before + joined)
    result = {}
    for segment in (1 << 25, *range(len(before) - 2, len(before) + 50)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "SEGMENT", segment)
            result[segment] = extract(path).metadata["read_report"]
    assert len(result[1 << 25]["damaged"]) == 1
    assert all(read_report == result[1 << 25] for read_report in result.values())


@pytest.mark.parametrize("segment", range(150, 700, 50))
@pytest.mark.parametrize("write", [made.pcap, lambda frames: made.pcapng(frames, sections=1)], ids=["pcap", "pcapng"])
def test_a_hello_over_an_edge_keeps_its_name(
    tmp_path: Path, write: Any, segment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In three segments of TCP, with other packets between; whoever reads the stretch it begins in."""
    hello = handshakes.hello(b"www.example.org", ((21, bytes(100)),))
    cuts = (0, 60, 130, len(hello))
    frames = [(made.T, made.ip(1, 2, 6, made.tcp(1000, 443, made.SYN, 9)))]
    for first, last in itertools.pairwise(cuts):
        frames.append((made.T, made.ip(1, 2, 6, made.tcp(1000, 443, made.ACK, 10 + first, hello[first:last]))))
        frames += [(made.T, made.ip(8, 9, 17, made.udp(5, 6, bytes(30 + first))))] * 2
    path = tmp_path / "a"
    path.write_bytes(write(frames))
    right, _ = count_guesses(path, segment)
    assert right > 0 or segment > 400
    monkeypatch.setattr(reader, "SEGMENT", segment)
    table = extract(path)
    assert table.table["server_name"].to_pylist() == ["www.example.org", None]


# -- pcapng: what only the file so far can tell ----------------------------------------------------


def _packets(count: Any, size: Any = 40) -> Any:
    return [(made.T + i * NS, made.ip(1, 2, 17, made.udp(i, 9, bytes(size)))) for i in range(count)]


def _stretches(path: Any, segment: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "SEGMENT", segment)
        return list(read_segments(CaptureFile(path), ALL)), count_guesses(path, segment)


def test_a_packet_without_a_time_at_an_edge_has_the_time_of_the_one_before(tmp_path: Path) -> None:
    """Whoever begins there can't know it, and says so."""
    first, *rest = (made.enhanced(*item) for item in _packets(40))
    simple = made.simple(made.ip(1, 2, 17, made.udp(99, 9, bytes(41))))
    path = tmp_path / "a.pcapng"
    path.write_bytes(made.section() + made.interface() + first + b"".join(item + simple for item in rest))
    capture = CaptureFile(path)
    begins_simple = 0
    for segment in range(200, 3000, 99):
        result, _ = _stretches(path, segment)
        times = np.concatenate([item.batch.time_ns for item in result])
        assert (times[2::2] == times[1::2]).all()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "SEGMENT", segment)
            for last in result[:-1]:
                guess = guess_segment(capture, last.end, ALL)
                begins_simple += guess is not None and guess.unsure
                assert guess is None or not (guess.unsure and is_contiguous(guess, last))
    assert begins_simple > 9


def test_the_time_is_carried_over_a_stretch_without_packets(tmp_path: Path) -> None:
    """An interface and blocks that are passed over lie between a packet and one without a time."""
    last = made.enhanced(made.T + 5, made.ip(1, 2, 17, made.udp(1, 9)))
    simple = made.simple(made.ip(1, 2, 17, made.udp(99, 9, bytes(41))))
    head = made.section() + made.interface()
    path = tmp_path / "a.pcapng"
    for count in range(9, 20):
        between = made.interface() + made.block(0x0BAD, bytes(240)) * 5
        path.write_bytes(head + last * count + between + simple * 4 + last)
        for segment in (300, 430):
            result, _ = _stretches(path, segment)
            assert set(np.concatenate([item.batch.time_ns for item in result]).tolist()) == {made.T + 5}


def test_interfaces_and_sections_that_change_on_the_way_are_known_behind_them(tmp_path: Path) -> None:
    """A stretch that was read as if they had not changed is read again."""
    later = [(time_ns // 1000, frame) for time_ns, frame in _packets(60)]
    data = made.section() + made.interface() + b"".join(made.enhanced(*item) for item in _packets(60))
    data += made.interface(resolution=6) + b"".join(made.enhanced(*item, 1) for item in later)
    data += made.section(">") + made.interface(">", 6, 50)
    data += b"".join(made.enhanced(*item, 0, ">") for item in later)
    path = tmp_path / "a.pcapng"
    path.write_bytes(data)
    result, (right, _) = _stretches(path, 2000)
    times = np.concatenate([item.batch.time_ns for item in result]).tolist()
    expected = [time_ns for time_ns, _ in _packets(60)]
    assert times == expected + expected + [time_ns + 50 * NS for time_ns in expected]
    assert 1 < right < len(result) - 3


# -- real captures -------------------------------------------------------------------------------


def test_real_captures_are_the_same_in_any_pieces(shared_data: Path, tmp_path: Path) -> None:
    """Some of each folder: as pieces of 20 kB and 150 kB, each guessed too, and compressed."""
    files = (item for item in (shared_data / "captures").rglob("*.pcap*") if 50_000 < item.stat().st_size < 900_000)
    rights = 0
    for path in sorted(files)[::29]:
        expected = digest(path, tmp_path / "a.parquet")
        for segment in (20_000, 150_000):
            right, _ = count_guesses(path, segment)
            rights += right
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(reader, "SEGMENT", segment)
                assert digest(path, tmp_path / "a.parquet") == expected, path
    assert rights > 30
