"""netgen.capture.formats.source: compressed captures give the flows of the plain file."""

import gzip
import io
import itertools
import struct
import sys
import types
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import mutate
from support.extraction import extract
from support.streams import KINDS, PACK, pipe, read

from netgen.capture.errors import CaptureError
from netgen.capture.formats import pcap
from netgen.capture.formats.reader import CaptureFile
from netgen.capture.formats.source import Source

_MANY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def packets(path: Any) -> Any:
    """Every packet of a capture, of a stream too, and what was lost of it."""
    capture = CaptureFile(path)
    result = [
        chunk.data[at : at + size].tobytes()
        for chunk in capture.chunks()
        for at, size in zip(chunk.offset.tolist(), chunk.captured.tolist(), strict=True)
    ]
    return result, capture.damage


@contextmanager
def in_pieces(*edges: Any) -> Iterator[Any]:
    """Streams come in pieces that end at these places; the first two are read at once."""
    read_pieces = Source.pieces

    def pieces(self: Source) -> Iterator[bytes]:
        held = b"".join(read_pieces(self))
        for first, last in itertools.pairwise((0, *edges, len(held))):
            if first < len(held):
                yield held[first:last]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Source, "pieces", pieces)
        yield


# -- compressed files ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.pcap", "a.pcap.gz"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_compressed_capture_gives_the_same_table_whatever_its_name(
    tmp_path: Path, plain: Any, kind: Any, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(plain)
    expected = read(path)
    path.write_bytes(PACK[kind](plain))
    assert read(path) == expected
    assert expected[1]["packets"] == 400
    assert set(expected[0]["source"].to_pylist()) == {str(path)}


@pytest.mark.parametrize("made", range(len(mutate.made_captures())))
def test_captures_of_every_kind_can_be_compressed(tmp_path: Path, made: Any) -> None:
    """Both formats, byte orders and clocks, with fragments, tags and simple packet blocks."""
    data = mutate.made_captures()[made]
    path = tmp_path / "a"
    path.write_bytes(data)
    expected = read(path)
    for kind in KINDS:
        path.write_bytes(PACK[kind](data))
        assert read(path) == expected, kind


@pytest.mark.parametrize("kind", KINDS)
def test_several_compressed_files_joined_are_one(tmp_path: Path, plain: Any, kind: Any) -> None:
    """As `cat`, pigz and pbzip2 make them; the parts are cut anywhere."""
    path = tmp_path / "a"
    path.write_bytes(plain)
    expected = read(path)
    portions = plain[:5], plain[5:20_001], plain[20_001:]
    path.write_bytes(b"".join(map(PACK[kind], portions)))
    assert read(path) == expected


def test_zeros_behind_a_gzip_file_are_padding(tmp_path: Path, plain: Any) -> None:
    """As tapes and some disks leave them."""
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(plain) + bytes(1000))
    assert read(path)[1]["damaged"] == []


def test_compressed_captures_in_folders_are_read(tmp_path: Path, plain: Any) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for kind in KINDS:
        (folder / kind).write_bytes(PACK[kind](plain))
    table = extract(folder, group_by="capture")
    assert table.table["source"].to_pylist() == [f"set/{kind}" for kind in sorted(KINDS)]
    assert table.table["packets"].to_pylist() == [400] * len(KINDS)


def test_isal_is_used_where_it_is_installed(tmp_path: Path, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads gzip several times faster; nothing else changes."""
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(plain))
    monkeypatch.setitem(sys.modules, "isal", None)
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    expected = read(path)
    requested = []
    library = types.ModuleType("isal.isal_zlib")

    def decompressobj(wbits: int) -> Any:
        requested.append(wbits)
        return zlib.decompressobj(wbits)

    monkeypatch.setattr(library, "decompressobj", decompressobj, raising=False)
    monkeypatch.setitem(sys.modules, "isal", types.ModuleType("isal"))
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", library)
    assert read(path) == expected
    assert requested


# -- damage --------------------------------------------------------------------------------------


@_MANY
@given(kind=st.sampled_from(KINDS), cut=st.floats(0.001, 0.999))
def test_a_cut_stream_keeps_the_bytes_before_the_cut_and_reports_it(
    tmp_path: Path, plain: Any, frames: Any, kind: Any, cut: Any
) -> None:
    """Wherever it is cut: the packets are the first ones of the file, byte for byte."""
    path = tmp_path / "a"
    data = PACK[kind](plain)
    path.write_bytes(data[: max(int(cut * len(data)), 6)])
    if kind == "bzip2":  # in one block, of which nothing can be had
        with pytest.raises(CaptureError, match=r"the bzip2 data in .*: not a pcap or pcapng file \(empty: "):
            packets(path)
        return
    try:
        result, damage = packets(path)
    except CaptureError:  # not even the file header came out
        assert cut < 0.1
        return
    expected = [frame for _, frame in frames]
    assert result[:-1] == expected[: len(result) - 1]
    if result:  # the last one may be cut
        assert expected[len(result) - 1].startswith(result[-1])
    (problem,) = damage
    assert problem.reason.startswith(f"the {kind} data are cut or corrupt")
    assert f"{problem.byte} bytes came out" in problem.reason
    assert problem.byte <= len(plain)
    assert len(result) >= cut * 400 - 60


def test_a_cut_stream_is_refused_if_nothing_may_be_lost(tmp_path: Path, plain: Any) -> None:
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(plain)[:90_000])
    read_report = extract(path).metadata["read_report"]
    assert 100 < read_report["packets"] < 400
    assert len(read_report["damaged"]) == 1
    with pytest.raises(CaptureError, match="gzip data are cut"):
        extract(path, strict=True)


@_MANY
@given(kind=st.sampled_from(KINDS), at=st.floats(0, 1), flip=st.integers(1, 255))
def test_a_corrupt_stream_is_reported(tmp_path: Path, plain: Any, kind: Any, at: Any, flip: Any) -> None:
    """A byte that was changed: damage is told, or nothing came of it; and every packet is accounted for."""
    path = tmp_path / "a"
    data = bytearray(PACK[kind](plain))
    data[min(int(8 + at * len(data)), len(data) - 1)] ^= flip
    path.write_bytes(data)
    try:
        read_report = extract(path).metadata["read_report"]
    except CaptureError:
        return
    assert read_report["packets"] == read_report["in_flows"] + sum(read_report["skipped"].values())
    assert read_report["damaged"] or read_report["packets"] == 400


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_a_stream_that_ends_in_a_record_is_read_as_a_file_that_does(tmp_path: Path, plain: Any, kind: Any) -> None:
    """The stream itself is whole: what is told is what a plain file tells."""
    path = tmp_path / "a"
    path.write_bytes(plain[:-100])
    expected = read(path)
    assert "last record" in expected[1]["damaged"][0]["reason"]
    if kind is None:
        path.unlink()
        with pipe(path, plain[:-100]):
            assert read(path) == expected
    else:
        path.write_bytes(PACK[kind](plain[:-100]))
        assert read(path) == expected


def test_a_stream_that_ends_within_a_records_header(tmp_path: Path, plain: Any, frames: Any) -> None:
    path = tmp_path / "a"
    cut = plain[: -len(frames[-1][1]) - 5]
    path.write_bytes(cut)
    expected = read(path)
    assert "last record is cut" in expected[1]["damaged"][0]["reason"]
    path.write_bytes(gzip.compress(cut))
    assert read(path) == expected


def test_damage_inside_a_compressed_capture_is_where_it_is_in_the_plain_one(tmp_path: Path, plain: Any) -> None:
    data = bytearray(plain)
    at = 24 + 16 + struct.unpack_from("<8xI", data, 24)[0]
    struct.pack_into("<I", data, at + 8, 0x7FFFFFFF)
    path = tmp_path / "a"
    path.write_bytes(data)
    expected = packets(path)
    assert len(expected[0]) == 1
    assert expected[1][0].byte == at
    path.write_bytes(gzip.compress(bytes(data)))
    result = packets(path)
    assert result[0] == expected[0]
    assert [item.byte for item in result[1]] == [at]


# -- in pieces -----------------------------------------------------------------------------------


@settings(_MANY, max_examples=30)
@given(size=st.integers(500, 70_000), kind=st.sampled_from(["pcap", "pcapng", "joined"]), cut=st.integers(0, 500))
def test_a_stream_is_read_alike_in_pieces_of_any_size(
    tmp_path: Path, pcap_bytes: Any, frames: Any, size: Any, kind: Any, cut: Any
) -> None:
    """Records, and the headers of joined files, that lie on the edge of two pieces are read once they are whole."""
    if kind == "pcapng":
        data = mutate._pcapng([frame for _, frame in frames], "<")
    else:
        data = pcap_bytes(frames)
        if kind == "joined":
            data += b"".join(pcap_bytes(frames[at : at + 3]) for at in range(0, 200, 3))
    path = tmp_path / "a"
    path.write_bytes(data[: len(data) - cut])
    expected = packets(path)
    assert len(expected[0]) >= 398
    path.write_bytes(gzip.compress(data[: len(data) - cut], 0))
    with in_pieces(*range(size, len(data), size)):
        assert packets(path) == expected


@pytest.mark.parametrize("step", [5_000, 65_536])
def test_the_edge_of_a_piece_may_lie_anywhere_in_a_joined_files_header(
    tmp_path: Path, pcap_bytes: Any, plain: Any, frames: Any, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header of which only some is there reads as a record of no bytes: more must be waited for."""
    monkeypatch.setattr("netgen.capture.native.packets.GUESS_STRIDE", step)
    monkeypatch.setattr(pcap, "MIN_SCAN", 8 * step)
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(plain + pcap_bytes(frames[:9]), 0))
    for more in range(60):
        with in_pieces(70_000, len(plain) + more):
            result, damage = packets(path)
        assert (len(result), damage) == (409, []), more


# -- what is refused -----------------------------------------------------------------------------


def test_a_zip_archive_is_refused_with_a_way_on(tmp_path: Path, plain: Any) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.pcap", plain)
    path = tmp_path / "a.pcap"
    path.write_bytes(held.getvalue())
    with pytest.raises(CaptureError, match="zip archive") as caught:
        extract(path)
    assert "unzip" in (caught.value.hint or "")
    assert str(path) in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
def test_compressed_data_must_be_a_capture(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(PACK[kind](b"Hello, world"))
    with pytest.raises(CaptureError, match=rf"the {kind} data in .* \(first bytes 48 65 6c"):
        extract(path)
    path.write_bytes(PACK[kind](b""))
    with pytest.raises(CaptureError, match=rf"the {kind} data in .* \(empty"):
        extract(path)
