"""netgen.capture.table.flow_table: the table that passes between the rooms, and its file."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from netgen.capture.errors import InputError, OutputError, SpecMismatchError, TableError
from netgen.capture.series.spec import CHANNELS, SeriesSpec
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.capture.table.schema import FLOW_COLUMNS, FORMAT, METADATA_KEY

SPEC = SeriesSpec(bin_ns=250_000_000, length=8)
GIVEN = {
    "label": ["a", None, "b", "a"],
    "source": "x.pcap",
    "start_ns": [1_700_000_000_000_000_001, None, 2, 3],
    "protocol": [6, 17, None, 255],
    "src": ["10.0.0.1", "::1", None, "x"],
    "src_port": [0, 65535, None, 1],
    "vlan": [None, 0, 4095, 1],
    "server_name": [None, "a.b", "", "ä"],
}


@pytest.fixture
def table() -> Any:
    series = np.random.default_rng(0).integers(0, 2**40, (4, 4, 8))
    return FlowTable.build(
        series, SPEC, metadata={"made_by": "test", "read_report": {"packets": 3, "skipped": {}}}, **GIVEN
    )


def rewritten(path: Any, table: Any, *, metadata: Any = None, **columns: Any) -> Any:
    """Write the table to a file with other metadata or columns."""
    arrow = table.table
    for name, column in columns.items():
        position = arrow.column_names.index(name)
        arrow = arrow.drop_columns([name]) if column is None else arrow.set_column(position, name, column)
    if metadata is None:
        metadata = {"format": FORMAT, "series": table.spec.to_json()}
    pq.write_table(arrow.replace_schema_metadata({METADATA_KEY: json.dumps(metadata).encode()}), path)
    return path


def test_a_table_can_be_written_and_read_back(table: Any, tmp_path: Path) -> None:
    """Columns, types, nulls, specification and metadata come back."""
    path = table.write(tmp_path / "x.parquet")
    again = FlowTable.read(path)
    assert again.table.equals(table.table)
    assert again.table.schema.equals(table.table.schema)
    assert (again.spec, again.metadata) == (table.spec, table.metadata)
    for name, values in GIVEN.items():
        assert again.table[name].to_pylist() == (values if isinstance(values, list) else [values] * 4)


@given(
    hnp.arrays(np.int64, st.tuples(st.integers(0, 5), st.just(4), st.just(8)), elements=st.integers(0, 2**62)),
    st.integers(1, 10**12),
)
def test_series_come_back_integer_for_integer(
    tmp_path_factory: pytest.TempPathFactory, series: Any, bin_ns: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "series.parquet"
    table = FlowTable.build(series, SeriesSpec(bin_ns=bin_ns, length=8), packets=1, bytes=1)
    table.write(path, force=True)
    again = FlowTable.read(path)
    np.testing.assert_array_equal(again.series(), series)
    assert again.spec == table.spec
    assert len(again) == len(series)


def test_missing_totals_are_computed_from_the_series() -> None:
    series = np.zeros((2, 4, 8), int)
    series[0, :, 0] = 100, 0, 1, 0
    series[0, :, 5] = 0, 3000, 0, 2
    table = FlowTable.build(series, SPEC)
    columns = {name: table.table[name].to_pylist() for name in ("flow", "packets", "bytes", "duration_ns", "synthetic")}
    assert columns == {
        "flow": [0, 1],
        "packets": [3, 0],
        "bytes": [3100, 0],
        "duration_ns": [5 * SPEC.bin_ns, 0],
        "synthetic": [False, False],
    }
    assert table.labels.tolist() == [None, None]


def test_wrong_shapes_and_unknown_columns_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 4, 9\) do not fit"):
        FlowTable.build(np.zeros((2, 4, 9)), SPEC)
    with pytest.raises(InputError, match=r"no column lable"):
        FlowTable.build(np.zeros((2, 4, 8)), SPEC, lable="a")


def test_labels_classes_and_counts(table: Any) -> None:
    assert table.labels.tolist() == ["a", None, "b", "a"]
    assert table.classes == ["a", "b"]
    assert table.counts() == {"a": 2, "b": 1}
    series, labels = table.to_numpy()
    assert (series.shape, series.dtype, labels.shape) == ((4, 4, 8), np.int64, (4,))
    assert repr(table) == f"FlowTable(4 flows, 2 classes, {SPEC})"


@pytest.mark.parametrize(
    "rows", [[2, 0], np.array([True, False, True, False]), [], [1, 1, 1], np.zeros(4, bool)], ids=str
)
def test_rows_are_taken_by_mask_or_by_index_in_that_order(rows: Any, table: Any) -> None:
    block = table.take(rows)
    expected = np.arange(4)[np.asarray(rows, dtype=None if len(rows) else int)]
    np.testing.assert_array_equal(block.series(), table.series()[expected])
    assert block.labels.tolist() == table.labels[expected].tolist()
    assert block.table["flow"].to_pylist() == expected.tolist()
    assert (block.spec, block.metadata) == (table.spec, table.metadata)


def test_flows_without_a_label_are_left_out_of_the_labelled(table: Any) -> None:
    assert table.labelled().labels.tolist() == ["a", "b", "a"]
    np.testing.assert_array_equal(table.labelled().series(), table.series()[[0, 2, 3]])


def test_a_table_without_any_label_is_refused_with_a_hint(table: Any) -> None:
    with pytest.raises(TableError, match=r"none of the 1 flows has a label\. .*--label-by folder\|file\|sni"):
        table.take([1]).labelled()


def test_joined_tables_keep_their_rows_and_get_new_flow_numbers(table: Any) -> None:
    joined = concat([table, table.take([3, 1]), table.take([])])
    assert joined.labels.tolist() == ["a", None, "b", "a", "a", None]
    assert joined.table["flow"].to_pylist() == list(range(6))
    np.testing.assert_array_equal(joined.series(), table.series()[[0, 1, 2, 3, 3, 1]])
    assert joined.metadata == {"tables": [table.metadata] * 3}
    assert concat([table]).metadata == table.metadata


def test_tables_of_other_series_are_not_joined(table: Any) -> None:
    other = FlowTable.build(np.zeros((1, 4, 8)), dataclasses.replace(SPEC, bin_ns=1))
    with pytest.raises(SpecMismatchError, match=r"the first table has 8 bins of 0\.25s.* table 2 has 8 bins of 1ns"):
        concat([table, other])
    with pytest.raises(TableError, match="no flow table"):
        concat([])


def test_pandas_polars_and_duckdb_read_the_same_numbers(table: Any, tmp_path: Path) -> None:
    """The file is plain Parquet, so readers do not need netgen."""
    path = str(table.write(tmp_path / "x.parquet"))
    series = table.series()
    by_pandas = pandas.read_parquet(path)
    by_polars = polars.read_parquet(path)
    by_duckdb = duckdb.connect().execute(f"select * from '{path}' order by flow").fetchall()
    names = table.table.column_names
    assert list(by_pandas.columns) == by_polars.columns == names
    for index, channel in enumerate(CHANNELS):
        assert np.array_equal(np.stack(by_pandas[channel]), series[:, index])
        assert by_polars[channel].to_list() == series[:, index].tolist()
        assert [list(row[names.index(channel)]) for row in by_duckdb] == series[:, index].tolist()
    for name in ("packets", "bytes", "truncated_packets", "duration_ns"):
        expected = table.table[name].to_pylist()
        assert by_pandas[name].tolist() == by_polars[name].to_list() == expected
        assert [row[names.index(name)] for row in by_duckdb] == expected
    for name in ("label", "start_ns", "src_port"):
        expected = table.table[name].to_pylist()
        assert by_polars[name].to_list() == [row[names.index(name)] for row in by_duckdb] == expected
        assert by_pandas[name].isna().tolist() == [value is None for value in expected]
    assert np.array_equal(np.stack(table.to_pandas()["up_bytes"]), series[:, 0])


def test_an_existing_file_is_kept_unless_forced(table: Any, tmp_path: Path) -> None:
    path = table.take([0]).write(tmp_path / "x.parquet")
    with pytest.raises(OutputError, match="exists already"):
        table.write(path)
    assert len(FlowTable.read(path)) == 1
    table.write(path, force=True)
    assert len(FlowTable.read(path)) == 4


def test_a_table_of_another_version_is_refused(table: Any, tmp_path: Path) -> None:
    path = rewritten(tmp_path / "x.parquet", table, metadata={"format": 99, "series": SPEC.to_json()})
    with pytest.raises(TableError, match=rf"of format 99; this netgen reads format {FORMAT}\. Extract it again"):
        FlowTable.read(path)


def test_a_foreign_parquet_file_is_refused_with_a_hint_to_import(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"label": ["a"], "t_us": [[0]]}), path)
    with pytest.raises(TableError, match=r"no netgen metadata\. .*netgen import .*x\.parquet"):
        FlowTable.read(path)


def test_a_missing_file_and_a_folder_have_their_own_errors(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="does not exist"):
        FlowTable.read(tmp_path / "x.parquet")
    with pytest.raises(TableError, match="is a folder"):
        FlowTable.read(tmp_path)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99, 0.9999])
def test_a_truncated_file_is_no_flow_table(share: float | int, table: Any, tmp_path: Path) -> None:
    path = table.write(tmp_path / "x.parquet")
    full = path.read_bytes()
    path.write_bytes(full[: int(len(full) * share)])
    with pytest.raises(TableError, match=r"is not a flow table: .*netgen extract"):
        FlowTable.read(path)


def test_a_damaged_file_never_raises_an_error_of_another_library(table: Any, tmp_path: Path) -> None:
    """Damage that is noticed raises a TableError, wherever it lies."""
    path = table.write(tmp_path / "x.parquet")
    full = path.read_bytes()
    refused = 0
    for position in range(4, len(full), 97):
        path.write_bytes(full[:position] + bytes([full[position] ^ 0xFF]) + full[position + 1 :])
        try:
            FlowTable.read(path)
        except InputError:
            refused += 1
    assert refused


@pytest.mark.parametrize(
    "metadata",
    [[], 3, {"format": FORMAT}, {"format": FORMAT, "series": {"length": 8}}, {"format": FORMAT, "series": [1]}],
    ids=str,
)
def test_invalid_metadata_is_a_table_error(metadata: Any, table: Any, tmp_path: Path) -> None:
    path = rewritten(tmp_path / "x.parquet", table, metadata=metadata)
    with pytest.raises(TableError, match=r"x\.parquet"):
        FlowTable.read(path)


def test_missing_columns_are_named(table: Any, tmp_path: Path) -> None:
    path = rewritten(tmp_path / "x.parquet", table, label=None, down_bytes=None)
    with pytest.raises(TableError, match="lacks the columns down_bytes, label"):
        FlowTable.read(path)


def test_columns_of_another_type_are_refused(table: Any, tmp_path: Path) -> None:
    short = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(16, int)), 4)
    for column in (short, pa.array(["x"] * 4)):
        path = rewritten(tmp_path / "x.parquet", table, up_bytes=column)
        with pytest.raises(TableError, match="columns of another type"):
            FlowTable.read(path)


def test_a_null_in_a_required_column_is_refused(table: Any, tmp_path: Path) -> None:
    path = rewritten(tmp_path / "x.parquet", table, packets=pa.array([1, None, 3, 4]))
    with pytest.raises(TableError, match=r"columns of another type.*packets"):
        FlowTable.read(path)


def test_columns_in_another_order_and_extra_ones_are_accepted(table: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    arrow = table.table.select(list(reversed(table.table.column_names))).append_column("more", pa.array([1, 2, 3, 4]))
    metadata = {METADATA_KEY: json.dumps({"format": FORMAT, "series": SPEC.to_json()}).encode()}
    pq.write_table(arrow.replace_schema_metadata(metadata), path)
    assert FlowTable.read(path).table.equals(table.table)


def test_a_folder_named_like_a_partition_adds_no_column(table: Any, tmp_path: Path) -> None:
    """Arrow would read `label=x/` in a path as a column."""
    folder = tmp_path / "label=zoom"
    folder.mkdir()
    assert FlowTable.read(table.write(folder / "x.parquet")).labels.tolist() == ["a", None, "b", "a"]


def test_the_columns_are_those_that_are_documented() -> None:
    """They are `FLOW_COLUMNS` and the channels; only columns that every flow has are required."""
    schema = FlowTable.build(np.zeros((1, 4, 8)), SPEC).table.schema
    assert schema.names == [*FLOW_COLUMNS.names, *CHANNELS]
    required = {field.name for field in schema if not field.nullable}
    assert required == {"flow", "synthetic", "duration_ns", "packets", "bytes", "truncated_packets", *CHANNELS}


def test_writing_a_table_that_does_not_fit_leaves_nothing(small_disk: Any) -> None:
    """The disk is empty afterwards."""
    big = FlowTable.build(np.random.default_rng(0).integers(0, 2**60, (2000, 4, 8)), SPEC, packets=1, bytes=1)
    with pytest.raises(OutputError, match=r"No space left on device\. Free some space"):
        big.write(small_disk / "x.parquet")
    assert list(Path(small_disk).iterdir()) == []
