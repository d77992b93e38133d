"""Packets and flows in temporary files: the same table as in memory, and one line of error on a full disk."""

import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.extraction import extract, extraction

from netgen.capture.errors import InputError
from netgen.capture.flows import spill
from netgen.capture.formats import reader
from netgen.capture.table.flow_table import FlowTable

pytestmark = pytest.mark.usefixtures("either_reader")

NS = 1_000_000_000
T = 1_700_000_000 * NS
A, B = "10.0.0.1", "10.0.0.2"
_EXAMPLES = settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def capture(pcap_bytes: Any, packet: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Write 6000 packets of 1800 concurrent flows, with the first packet from either end."""
    rng = random.Random(3)
    frames = []
    for index in range(6000):
        port = 1000 + min(rng.randrange(1800), rng.randrange(1800))
        ends = (port, 53, bytes(rng.randrange(40)), A, B) if rng.random() < 0.6 else (53, port, bytes(9), B, A)
        frames.append((T + index * NS // 100, packet.udp4(*ends)))
    path = tmp_path_factory.mktemp("spill") / "a.pcap"
    path.write_bytes(pcap_bytes(frames, nano=True))
    return path


@pytest.fixture(scope="module")
def in_memory(capture: Any) -> Any:
    """Extract the capture in memory, once for each `group_by`."""
    return {group_by: extract(capture, group_by=group_by) for group_by in ("flow", "host", "capture")}


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep nothing in memory that can go to a temporary file."""
    monkeypatch.setattr(spill, "MAX_BYTES_IN_MEMORY", 0)
    monkeypatch.setattr(spill, "MAX_ROWS_IN_MEMORY", 0)


def same(one: Any, other: Any) -> None:
    assert one.spec == other.spec
    assert one.metadata == other.metadata
    assert one.table.equals(other.table)
    one.table.validate(full=True)


# -- in memory and in files ---------------------------------------------------------------


@pytest.mark.usefixtures("on_disk")
def test_the_series_equal_a_count_packet_by_packet(capture: Any) -> None:
    """A loop over the bytes of the file counts the packets."""
    table = extract(capture, bin_ns=NS, length=64)
    data, at = capture.read_bytes(), 24
    series: dict[int, np.ndarray] = defaultdict(lambda: np.zeros((4, 64), np.int64))
    first: dict[int, tuple[int, tuple[int, ...]]] = {}
    while at < len(data):
        seconds, fraction, size, _ = np.frombuffer(data, "<u4", 4, at).tolist()
        time, frame = seconds * NS + fraction, data[at + 16 : at + 16 + size]
        at += 16 + size
        ports = tuple(np.frombuffer(frame, ">u2", 2, 34).tolist())
        start, initiator = first.setdefault(max(ports), (time, ports))
        down = ports != initiator
        bin_number = (time - start) // NS
        if bin_number < 64:
            series[max(ports)][[0 + down, 2 + down], bin_number] += (size - 14, 1)
    assert (table.series() == np.stack([series[port] for port in first])).all()


@_EXAMPLES
@given(
    block=st.sampled_from([7, 100, 1799, 1800, 4096]),
    kept=st.sampled_from([0, 16, 20_000, 1 << 30]),
    segment=st.sampled_from([3_000, 40_000, 1 << 25]),
    group_by=st.sampled_from(["flow", "host", "capture"]),
)
def test_the_table_does_not_depend_on_where_packets_are_kept(
    capture: Any, in_memory: Any, block: Any, kept: Any, segment: Any, group_by: Any
) -> None:
    """They may be in memory, in a file or both, in blocks of any number of flows and segments of any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "BLOCK", block)
        patch.setattr(spill, "MAX_BYTES_IN_MEMORY", kept)
        patch.setattr(spill, "MAX_ROWS_IN_MEMORY", min(kept, 1 << 18))
        patch.setattr(reader, "SEGMENT", segment)
        same(extract(capture, group_by=group_by), in_memory[group_by])


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("block", [64, 4096])
@pytest.mark.parametrize("group_by", ["flow", "host"])
def test_a_table_written_block_by_block_is_the_one_in_memory(
    capture: Any,
    in_memory: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    block: int,
    group_by: str,
) -> None:
    monkeypatch.setattr(spill, "BLOCK", block)
    path = tmp_path / "a.parquet"
    summary = extraction(capture, group_by=group_by).write(path)
    same(FlowTable.read(path), in_memory[group_by])
    assert summary == in_memory[group_by].summary()


@pytest.mark.usefixtures("on_disk")
def test_packets_of_dropped_flows_are_not_counted(
    capture: Any, in_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "BLOCK", 50)
    spec = in_memory["flow"].spec
    few = extract(capture, spec=spec, min_packets=4)
    packets = np.array(in_memory["flow"].table["packets"].to_pylist())
    assert 100 < len(few) < 1700
    assert (few.series() == in_memory["flow"].series()[packets >= 4]).all()
    assert few.metadata["read_report"]["in_flows"] == packets[packets >= 4].sum()


@pytest.mark.usefixtures("on_disk")
def test_packets_of_several_captures_are_kept_apart(
    capture: Any, in_memory: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Flows of two files lie in one block."""
    monkeypatch.setattr(spill, "BLOCK", 1000)
    spec = in_memory["flow"].spec
    other = tmp_path / "b.pcap"
    other.write_bytes(capture.read_bytes())
    twice = extract([capture, other], spec=spec)
    series = in_memory["flow"].series()
    assert (twice.series() == np.concatenate([series, series])).all()


# -- a full disk -----------------------------------------------------------------------------------


def refused(capture: Any, out: Any) -> Any:
    """Return the error message of an extraction without room for temporary files; check that it writes nothing."""
    with pytest.raises(InputError) as caught:
        extraction(capture).write(out)
    assert "\n" not in str(caught.value)
    assert "TMPDIR" in str(caught.value.hint)
    assert not list(out.parent.iterdir())
    return caught.value.message


@pytest.mark.usefixtures("on_disk")
def test_a_full_disk_for_temporary_files_is_one_line_of_error(
    capture: Any, small_disk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    out = tmp_path / "out" / "a.parquet"
    out.parent.mkdir()
    message = refused(capture, out)
    assert "cannot write temporary data" in message
    assert str(small_disk) in message
    assert "No space left" in message
    assert not list(small_disk.iterdir())


@pytest.mark.parametrize("limit", ["MAX_BYTES_IN_MEMORY", "MAX_ROWS_IN_MEMORY"])
def test_a_file_size_limit_is_one_line_of_error(
    capture: Any, limit: str, size_limit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, limit, 0)
    out = tmp_path / "out" / "a.parquet"
    out.parent.mkdir()
    with size_limit(20_000):
        assert "File too large" in refused(capture, out)


@pytest.mark.usefixtures("on_disk")
def test_a_missing_folder_for_temporary_files_is_an_error(
    capture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    out = tmp_path / "out" / "a.parquet"
    out.parent.mkdir()
    assert f"to {tmp_path / 'none'}: No such file or directory" in refused(capture, out)


@pytest.mark.usefixtures("on_disk")
def test_the_command_prints_the_error_too(
    capture: Any, small_disk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, netgen_command: Any
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    outcome = netgen_command("extract", capture, "-o", tmp_path / "a.parquet")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("netgen: cannot write ")
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.glob("*.parquet*"))


@pytest.mark.usefixtures("on_disk")
def test_temporary_files_are_gone_afterwards(capture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open temporary file has no name, so that a crash leaves nothing behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    unfinished = extraction(capture)
    assert not list(tmp_path.iterdir())
    links = Counter(str(path.readlink()).split("/")[-1][:1] for path in _deleted(tmp_path))
    assert links.total() > 0
    unfinished.table()
    del unfinished
    assert not list(_deleted(tmp_path))


def _deleted(folder: Any) -> Iterator[Any]:
    """Yield open files of this process that were in this folder and were deleted."""
    for path in Path("/proc/self/fd").iterdir():
        try:
            target = str(path.readlink())
        except OSError:
            continue
        if target.startswith(str(folder)) and target.endswith("(deleted)"):
            yield path
