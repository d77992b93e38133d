"""Writing tables: the ending of the path chooses the format, and a failed write leaves no file."""

from __future__ import annotations

import csv
import errno
from pathlib import Path

import numpy as np
import pandas
import pytest

import netgen.exporters.tables.csv_file
import netgen.exporters.write
from netgen.capture.errors import OutputError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.capture.table.schema import FLOW_COLUMNS
from netgen.exporters.write import FORMATS, WriteResult, check_ending, write


@pytest.fixture
def table() -> FlowTable:
    rng = np.random.default_rng(0)
    count = rng.integers(0, 4, (5, 2, 8))
    series = np.concatenate([count * 100, count], axis=1)
    spec = SeriesSpec(bin_ns=10**8, length=8)
    return FlowTable.build(series, spec, metadata={"seed": 3}, label=["a", 'b, "c"', None, "ä", ""], src="10.0.0.1")


def test_parquet_reads_back_equal(table: FlowTable, tmp_path: Path) -> None:
    """So does its metadata; the report describes the file."""
    report = write(table, tmp_path / "x.parquet")
    again = FlowTable.read(tmp_path / "x.parquet")
    assert again.table.equals(table.table)
    assert (again.spec, again.metadata) == (table.spec, table.metadata)
    assert report == WriteResult(
        tmp_path / "x.parquet", "Parquet flow table", 5, None, (tmp_path / "x.parquet").stat().st_size, {}
    )


def test_csv_is_one_row_a_flow(table: FlowTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns of the flow, then its bins, channel by channel; csv and pandas read them back."""
    monkeypatch.setattr(netgen.exporters.tables.csv_file, "_BLOCK_ROWS", 2)
    report = write(table, tmp_path / "x.CSV")
    assert (report.format, report.flows, report.packets) == ("CSV", 5, None)
    with (tmp_path / "x.CSV").open(newline="", encoding="utf-8") as stream:
        head, *rows = csv.reader(stream)
    bins = [f"{channel}_{index}" for channel in table.spec.channels for index in range(8)]
    assert head == [*FLOW_COLUMNS.names, *bins]
    assert [[int(cell) for cell in row[len(FLOW_COLUMNS) :]] for row in rows] == table.series().reshape(5, -1).tolist()
    assert [row[1] for row in rows] == ["a", 'b, "c"', "", "ä", ""]
    frame = pandas.read_csv(tmp_path / "x.CSV")
    assert frame["packets"].tolist() == table.table["packets"].to_pylist()
    assert frame[bins].to_numpy().tolist() == table.series().reshape(5, -1).tolist()


@pytest.mark.parametrize("ending", FORMATS)
def test_an_empty_table_is_a_file_of_no_flows(ending: str, table: FlowTable, tmp_path: Path) -> None:
    """A table without rows is valid."""
    report = write(table.take([]), tmp_path / f"x{ending}")
    assert report.flows == 0
    assert report.bytes_written > 0


@pytest.mark.parametrize("name", ["x.txt", "x", "x.pcap.tmp", ".pcap"])
def test_an_unknown_ending_is_refused(name: str, table: FlowTable, tmp_path: Path) -> None:
    """The message lists the known endings, and nothing is written."""
    with pytest.raises(OutputError, match=r"\.parquet, \.csv, \.pcap"):
        check_ending(tmp_path / name)
    with pytest.raises(OutputError, match=r"has no ending|unknown ending"):
        write(table, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", FORMATS)
def test_existing_files_are_kept_unless_forced(ending: str, table: FlowTable, tmp_path: Path) -> None:
    """A file is replaced only on request; a missing folder is named."""
    path = tmp_path / f"x{ending}"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write(table, path)
    assert path.read_text() == "mine"
    report = write(table, path, force=True)
    assert report.bytes_written == path.stat().st_size > 4
    with pytest.raises(OutputError, match="mkdir -p"):
        write(table, tmp_path / "no" / path.name)
    assert sorted(tmp_path.iterdir()) == sorted([path, *report.ground_truth])


@pytest.mark.parametrize("ending", [".csv", ".pcap"])
def test_a_full_disk_leaves_the_old_file(
    ending: str, table: FlowTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails half-way leaves what was there before, and no partial file."""
    path = tmp_path / f"x{ending}"
    path.write_text("mine")

    def full(*arguments: object, **_: object) -> None:
        next(path for path in arguments if isinstance(path, Path)).write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(netgen.exporters.write, {".csv": "write_csv", ".pcap": "write_capture"}[ending], full)
    with pytest.raises(OutputError, match="No space left on device"):
        write(table, path, force=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_the_report_is_json(table: FlowTable, tmp_path: Path) -> None:
    """`to_json` holds JSON types only."""
    report = write(table, tmp_path / "x.pcap").to_json()
    assert report["path"] == str(tmp_path / "x.pcap")
    assert report["format"] == "pcap"
    assert report["packets"] >= 5
    assert set(report) == {
        "path",
        "format",
        "flows",
        "packets",
        "bytes_written",
        "repairs",
        "card",
        "ground_truth",
        "connections",
    }
