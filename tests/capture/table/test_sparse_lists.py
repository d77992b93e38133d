"""netgen.capture.table.sparse_lists: every reader of Parquet finds in the lists what was put there, zeros and all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.examples import examples

from netgen.capture.series.counters import BinCounter, SparseChannel, dense
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table import sparse_lists, thrift
from netgen.capture.table.flow_table import FlowTable
from netgen.capture.table.schema import flow_columns
from netgen.capture.table.writer import TableWriter

pytestmark = pytest.mark.usefixtures("either_reader")

duckdb = pytest.importorskip("duckdb")
datasets = pytest.importorskip("datasets")

LENGTHS = [4, 8, 12, 128, 4096]


def table_of(series: Any, length: Any) -> Any:
    return FlowTable.build(series, SeriesSpec(bin_ns=10**9, length=length))


def sparse(seed: Any, rows: Any, length: Any, share: Any, highest: Any = 2**62) -> Any:
    """Build series with this share of non-zero numbers up to `highest`."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, highest, (rows, 4, length)) * (rng.random((rows, 4, length)) < share)


def read_by_all(path: Any) -> Iterator[Any]:
    """Yield the column `down_bytes` as each reader reads it."""
    yield "pyarrow", np.array(pq.read_table(path)["down_bytes"].to_pylist())
    yield "pandas", np.stack(pd.read_parquet(path)["down_bytes"])
    yield "polars", np.array(pl.read_parquet(path)["down_bytes"].to_list())
    result = duckdb.sql(f"SELECT down_bytes FROM '{path}' ORDER BY flow").fetchall()
    yield "duckdb", np.array([row[0] for row in result])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    ("rows", "share", "highest"),
    [(1, 0, 2), (1, 1, 2), (33, 0.1, 2**62), (33, 0.13, 2**62), (33, 0.02, 3), (700, 0.11, 2**62), (5, 0.125, 300)],
)
def test_every_reader_reads_the_lists_as_written(
    tmp_path: Path, length: Any, rows: int, share: float | int, highest: Any
) -> None:
    """Pages have dictionaries with indices of one to three bytes or plain numbers, and lists of all lengths."""
    series = sparse(0, rows if length < 4096 else min(rows, 40), length, share, highest)
    path = tmp_path / "a.parquet"
    table_of(series, length).write(path)
    for reader, result in read_by_all(path):
        assert (result == series[:, 1]).all(), reader
    assert (FlowTable.read(path).series() == series).all()


def test_hugging_face_datasets_reads_it(tmp_path: Path) -> None:
    series = sparse(1, 50, 128, 0.02)
    table_of(series, 128).write(tmp_path / "a.parquet")
    result = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "a.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert (np.array(result["up_bytes"]) == series[:, 0]).all()


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    length=st.sampled_from([4, 8, 20]),
    group=st.integers(1, 9),
    page=st.integers(1, 200),
    plain=st.integers(1, 200),
    rows=st.integers(0, 30),
    share=st.sampled_from([0, 0.05, 0.12, 0.2, 1]),
    seed=st.integers(0, 9),
)
def test_lists_come_back_for_any_pages_and_row_groups(
    tmp_path: Path, length: Any, group: Any, page: Any, plain: Any, rows: Any, share: Any, seed: int
) -> None:
    """One row group has plain numbers and the next runs; the footer equals that of pyarrow."""
    series = sparse(seed, rows, length, share)
    path, table = tmp_path / "a.parquet", table_of(series, length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_lists, "_MAX_PAGE", page)
        patch.setattr(sparse_lists, "_PLAIN_PAGE", plain)
        patch.setattr("netgen.capture.table.writer.ROW_GROUP", group)
        table.write(path, force=True)
    assert pq.read_table(path).equals(table.table)
    assert (np.array(pl.read_parquet(path)["up_packets"].to_list()).reshape(rows, length) == series[:, 2]).all()
    pq.write_table(table.table, tmp_path / "b.parquet")
    ours, arrows = pq.ParquetFile(path), pq.ParquetFile(tmp_path / "b.parquet")
    assert ours.schema.equals(arrows.schema)
    assert ours.schema_arrow.equals(arrows.schema_arrow)
    assert b"ARROW:schema" in ours.metadata.metadata
    assert ours.metadata.num_rows == rows
    for number in range(ours.num_row_groups):
        row_group = ours.metadata.row_group(number)
        columns = [row_group.column(index) for index in range(row_group.num_columns)]
        assert row_group.total_byte_size == sum(column.total_uncompressed_size for column in columns)
        offsets = [column.dictionary_page_offset or column.data_page_offset for column in columns]
        sizes = [column.total_compressed_size for column in columns]
        assert [offset + size for offset, size in zip(offsets, sizes, strict=True)][:-1] == offsets[1:]


@example([0, 63, 64, 8191, 8192, 1 << 20, (1 << 20) - 1])
@given(st.lists(st.integers(0, 1 << 21), max_size=12))
def test_runs_of_zeros_may_have_any_length(gaps: Any) -> None:
    cell = np.cumsum(np.array(gaps, np.int64) + 1) - 1
    rows = (int(cell[-1]) if gaps else 0) // 4096 + 1
    cells = SparseChannel(rows, 4096, cell, np.arange(1, len(gaps) + 1))
    assert (SparseChannel.of(cells.dense()).cell == cell).all()
    data = sparse_lists.encode_runs(cells, 1)
    position, runs = 0, []
    while position < len(data):
        header, shift = 0, 0
        while True:
            byte = data[position]
            header |= (byte & 127) << shift
            position, shift = position + 1, shift + 7
            if byte < 128:
                break
        assert header & 1 == 0
        runs.append((header >> 1, data[position]))
        position += 1
    assert all(count for count, _ in runs)
    values = np.repeat([value for _, value in runs], [count for count, _ in runs])
    assert (values.reshape(rows, 4096) == cells.dense()).all()


def test_cells_and_arrays_write_the_same_file(tmp_path: Path) -> None:
    series = sparse(2, 60, 16, 0.1)
    columns = flow_columns(
        60, flow=np.arange(60), synthetic=False, duration_ns=0, packets=1, bytes=1, truncated_packets=0
    )
    spec = SeriesSpec(bin_ns=1, length=16)
    for name, given_series in (("a", series), ("b", [SparseChannel.of(series[:, channel]) for channel in range(4)])):
        with TableWriter(tmp_path / name, spec) as writer:
            writer.write(columns, given_series)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99), st.integers(0, 9), st.booleans()), max_size=60))
def test_bins_do_not_depend_on_the_batches_of_packets(packets: Any) -> None:
    spec = SeriesSpec(bin_ns=10, length=8)
    flow, time, size, up = (
        (np.array(column) for column in zip(*packets, strict=True)) if packets else np.zeros((4, 0), int)
    )
    together, apart = BinCounter(4, spec), BinCounter(4, spec)
    together.add(flow, time, size, up.astype(bool))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("netgen.capture.series.counters.MERGE_INTERVAL", 5)
        for row in range(len(flow)):
            one = slice(row, row + 1)
            apart.add(flow[one], time[one], size[one], up[one].astype(bool))
    expected = np.zeros((4, 4, 8), np.int64)
    for row in range(len(flow)):
        if time[row] < 80:
            expected[flow[row], 0 if up[row] else 1, time[row] // 10] += size[row]
            expected[flow[row], 2 if up[row] else 3, time[row] // 10] += 1
    for counter in (together, apart):
        cells, cut = counter.channels()
        assert (dense(cells) == expected).all()
        assert cut.sum() == (time >= 80).sum()


# -- thrift ---------------------------------------------------------------------------------------


def test_a_footer_of_pyarrow_is_rewritten_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({f"c{n}": pa.array([n, None, 5]) for n in range(20)}), path)
    data = path.read_bytes()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    assert thrift.dumps(thrift.loads(footer)) == footer


def test_fields_far_apart_and_negative_numbers_come_back() -> None:
    struct = {
        1: (thrift.I32, -5),
        40: (thrift.I64, -(2**63)),
        41: (thrift.TRUE, None),
        300: (thrift.LIST, (thrift.I32, list(range(20)))),
        301: (thrift.STRUCT, {7: (thrift.BINARY, bytes(200))}),
    }
    assert thrift.loads(thrift.dumps(struct)) == struct
