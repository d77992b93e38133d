"""netgen.capture.table.writer: a table written in blocks equals the one written at once, or no file appears."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.extraction import extract, extraction

from netgen.capture.errors import InputError, OutputError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.capture.table.schema import flow_columns
from netgen.capture.table.writer import TableWriter

NS = 1_000_000_000
T = 1_700_000_000 * NS
SPEC = SeriesSpec(bin_ns=NS, length=8)
ROWS = 50


@pytest.fixture(scope="module")
def columns() -> Any:
    """Build all columns but the series, some of them empty."""
    rng = np.random.default_rng(0)
    names = [None if number % 3 else f"host{number}.example.org" for number in range(ROWS)]
    return flow_columns(
        ROWS,
        flow=np.arange(ROWS),
        label=[f"class {number % 4}" for number in range(ROWS)],
        source="a.pcap",
        synthetic=False,
        start_ns=T + rng.integers(0, NS, ROWS),
        duration_ns=rng.integers(0, NS, ROWS),
        protocol=17,
        server_name=names,
        packets=rng.integers(1, 9, ROWS),
        bytes=rng.integers(1, 9999, ROWS),
        truncated_packets=0,
    )


@pytest.fixture(scope="module")
def series() -> Any:
    return np.random.default_rng(1).integers(0, 2**40, (ROWS, *SPEC.shape))


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, ROWS), max_size=6).map(sorted))
def test_rows_written_in_batches_are_the_table(tmp_path: Path, columns: Any, series: Any, cuts: Any) -> None:
    """Batches may be empty; the metadata given at the end is in the file. `FlowTable.write` writes the same file."""
    full = FlowTable.from_columns(columns, series, SPEC, {"made_by": "a test", "numbers": [1, 2]})
    path = tmp_path / "batches.parquet"
    with TableWriter(path, SPEC, force=True) as writer:
        for first, last in zip([0, *cuts], [*cuts, ROWS], strict=True):
            writer.write(columns.slice(first, last - first), series[first:last])
        writer.metadata = full.metadata
    result = FlowTable.read(path)
    full.write(tmp_path / "whole.parquet", force=True)
    for table in (FlowTable.read(tmp_path / "whole.parquet"), full):
        assert result.table.equals(table.table)
        assert (result.spec, result.metadata) == (table.spec, table.metadata)
    assert (result.series() == series).all()


def test_an_empty_table_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with TableWriter(path, SPEC) as writer:
        writer.metadata = {"made_by": "nobody"}
    result = FlowTable.read(path)
    assert (len(result), result.spec, result.metadata) == (0, SPEC, {"made_by": "nobody"})
    assert result.series().shape == (0, *SPEC.shape)


def test_the_file_appears_at_the_end(tmp_path: Path, columns: Any, series: Any) -> None:
    path = tmp_path / "a.parquet"
    with TableWriter(path, SPEC) as writer:
        writer.write(columns, series)
        assert not path.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def write(path: Any, *batches: Any, error: Any = None) -> None:
    """Write batches of columns and series, and raise the error."""
    with TableWriter(path, SPEC, force=True) as writer:
        for batch in batches:
            writer.write(*batch)
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, b"what was there"])
def test_an_error_while_writing_leaves_the_old_file(
    tmp_path: Path, columns: Any, series: Any, error: Any, old: bytes | None
) -> None:
    path = tmp_path / "a.parquet"
    if old:
        path.write_bytes(old)
    with pytest.raises(error):
        write(path, (columns, series), error=error)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([old] if old else [])


def test_rows_that_do_not_fit_are_refused(tmp_path: Path, columns: Any, series: Any) -> None:
    """Nothing of the other rows is left."""
    with pytest.raises((InputError, ValueError)):
        write(tmp_path / "a.parquet", (columns, series), (columns, series[:-1]))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_refused_before_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"what was there")
    with pytest.raises(OutputError, match=r"a\.parquet exists already"):
        TableWriter(path, SPEC)
    assert path.read_bytes() == b"what was there"


# -- no room -------------------------------------------------------------------------------------


def fill(disk: Any, left: Any) -> None:
    """Fill a disk except for this many bytes."""
    with (disk / "filler").open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            stream.truncate(max(stream.tell() - left, 0))


@pytest.mark.parametrize("left", [0, 8192])
def test_a_full_disk_is_reported_in_one_line_and_leaves_no_file(small_disk: Any, left: int) -> None:
    """The disk may be full from the beginning, or fill up in the middle."""
    fill(small_disk, left)
    series = np.random.default_rng(2).integers(0, 2**60, (200, *SPEC.shape))
    columns = flow_columns(
        200, flow=np.arange(200), synthetic=False, duration_ns=0, packets=1, bytes=1, truncated_packets=0
    )
    with pytest.raises(OutputError, match="No space left") as caught:
        write(small_disk / "a.parquet", *[(columns, series)] * 3)
    assert "\n" not in str(caught.value)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_a_file_that_may_not_grow_is_reported_in_one_line(tmp_path: Path, size_limit: Any) -> None:
    series = np.random.default_rng(2).integers(0, 2**60, (200, *SPEC.shape))
    with size_limit(10_000), pytest.raises(OutputError, match="File too large"):
        FlowTable.build(series, SPEC).write(tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


# -- extractions ---------------------------------------------------------------------------------


@pytest.fixture
def capture(pcap_file: Any, packet: Any) -> Any:
    return pcap_file([(T + i * NS // 10, packet.udp4(1000 + i % 7, 53, bytes(i))) for i in range(99)], "in/a.pcap")


def test_an_extraction_that_is_written_is_the_table(capture: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    written = extraction(capture).write(path)
    full = extract(capture)
    result = FlowTable.read(path)
    assert result.table.equals(full.table)
    assert result.metadata == full.metadata
    assert written == full.summary()


def test_an_extraction_can_be_written_elsewhere_if_the_file_exists(capture: Any, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"what was there")
    result = extraction(capture)
    with pytest.raises(OutputError, match="exists already"):
        result.write(tmp_path / "a.parquet")
    result.write(tmp_path / "b.parquet")
    assert FlowTable.read(tmp_path / "b.parquet").table.equals(extract(capture).table)


def test_the_packets_of_an_extraction_are_counted_once(capture: Any, tmp_path: Path) -> None:
    """A second attempt is refused with a clear message, and leaves no file."""
    result = extraction(capture)
    result.table()
    with pytest.raises(InputError, match=r"can be counted only once\. Keep its table, or extract again"):
        result.table()
    with pytest.raises(InputError, match="can be counted only once"):
        result.write(tmp_path / "a.parquet")
    assert not list(tmp_path.glob("*.parquet*"))
