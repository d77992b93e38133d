"""Flow tables that netgen did not write, and its own CSV, are read as far as they say what they hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from netgen.capture.errors import TableError
from netgen.capture.importers.foreign_tables import read_table
from netgen.capture.series.spec import CHANNELS, SeriesSpec
from netgen.exporters.tables.csv_file import write_csv


@pytest.fixture
def plain() -> Any:
    """Build the columns of ten flows of eight bins, as another tool writes them."""
    series = np.random.default_rng(0).integers(0, 1500, (10, 4, 8))
    columns = {channel: pa.array(list(series[:, position])) for position, channel in enumerate(CHANNELS)}
    return series, columns


def test_tables_of_netgen_are_read_unchanged(tiny_flows: Any, tmp_path: Path) -> None:
    tiny_flows.write(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").table.equals(tiny_flows.table)


def test_a_csv_that_netgen_wrote_can_be_read_back(tiny_flows: Any, tmp_path: Path) -> None:
    write_csv(tiny_flows, tmp_path / "a.csv")
    again = read_table(tmp_path / "a.csv", spec_from=tiny_flows.spec)
    assert again.spec == tiny_flows.spec
    assert (again.series() == tiny_flows.series()).all()
    assert again.labels.tolist() == tiny_flows.labels.tolist()


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.large_list(pa.float64()), pa.list_(pa.int64(), 8)])
def test_lists_of_any_kind_are_series(plain: Any, tmp_path: Path, kind: Any) -> None:
    series, columns = plain
    table = {name: column.cast(kind) for name, column in columns.items()}
    pq.write_table(pa.table({**table, "Class": ["a", None] * 5}), tmp_path / "a.parquet")
    result = read_table(tmp_path / "a.parquet", spec_from=SeriesSpec(bin_ns=7, length=8))
    assert (result.series() == series).all()
    assert result.spec == SeriesSpec(bin_ns=7, length=8)
    assert result.labels.tolist() == ["a", None] * 5
    assert result.table["packets"].to_pylist() == series[:, 2:].sum((1, 2)).tolist()


def test_series_are_padded_with_empty_bins(tmp_path: Path) -> None:
    pq.write_table(pa.table({channel: [[1, 2, 3, 4, 5]] for channel in CHANNELS}), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").series()[0, 0].tolist() == [1, 2, 3, 4, 5, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"up_bytes": None}, "no column up_bytes"),
        ({"up_bytes": [[1, 2]] * 9 + [[1]]}, "several lengths"),
        ({"up_bytes": [[1] * 8] * 9 + [None]}, "empty fields"),
        ({"up_bytes": [[1.5] * 8] * 10}, "not a whole number"),
        ({"up_bytes": [[-1] * 8] * 10}, "negative"),
        ({"up_bytes": [3] * 10}, "not lists"),
    ],
)
def test_a_bad_table_is_refused_with_the_reason(plain: Any, tmp_path: Path, change: Any, message: str) -> None:
    columns = {name: column for name, column in {**plain[1], **change}.items() if column is not None}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(TableError, match=message):
        read_table(tmp_path / "a.parquet")


@pytest.mark.parametrize("text", ["", "a,b\n1\n", "label,up_bytes_0,up_bytes_2\nx,1,2\n"])
def test_other_csv_files_are_refused_in_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(TableError, match=r"a\.csv is not a flow table"):
        read_table(tmp_path / "a.csv")
