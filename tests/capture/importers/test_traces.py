"""netgen.capture.importers.traces: labelled traces that are not captures, with an account of every packet."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.real_data import REAL_SETS

from netgen.capture.errors import InputError, TableError
from netgen.capture.importers.traces import ADDED, import_traces
from netgen.capture.series.spec import SeriesSpec

US = 1000
SPEC = SeriesSpec(bin_ns=1000 * US, length=4)
LISTS = pa.list_(pa.int64())


def write_parquet(path: Any, times: Any, sizes: Any, **columns: Any) -> Any:
    pq.write_table(pa.table({"t_us": pa.array(times, LISTS), "signed_bytes": pa.array(sizes, LISTS), **columns}), path)
    return path


@pytest.fixture
def traces(tmp_path: Path) -> Any:
    """Write three traces of two classes and splits, with 4, 2 and 1 packets."""
    return write_parquet(
        tmp_path / "t.parquet",
        [[0, 10, 1500, 5000], [70, 2071], [0]],
        [[100, -1500, -200, 60], [40, -40], [-1000]],
        label=["a", "b", "a"],
        split=["train", "test", "train"],
        sample_id=["x1", "x2", "x3"],
    )


def balanced(table: Any) -> Any:
    """Return the read report of a table, and check its sums."""
    read_report = table.metadata["read_report"]
    added = read_report["warnings"].get(ADDED, 0)
    assert read_report["packets"] + added == read_report["in_flows"] + sum(read_report["skipped"].values())
    assert read_report["in_flows"] == sum(table.table["packets"].to_pylist())
    assert all(read_report["skipped"].values())
    assert all(read_report["warnings"].values())
    inside = table.series()[:, 2:].sum() + sum(table.table["truncated_packets"].to_pylist())
    assert inside == read_report["in_flows"]
    return read_report


def column(table: Any, name: Any) -> Any:
    return table.table[name].to_pylist()


def test_a_parquet_trace_becomes_a_flow(traces: Any) -> None:
    """Positive sizes go up; time counts from the first packet; packets after the last bin are truncated."""
    table = import_traces(traces, spec=SPEC)
    assert column(table, "label") == ["a", "b", "a"]
    assert column(table, "source") == ["t.parquet:x1", "t.parquet:x2", "t.parquet:x3"]
    assert column(table, "packets") == [4, 2, 1]
    assert column(table, "bytes") == [1860, 80, 1000]
    assert column(table, "truncated_packets") == [1, 0, 0]
    assert column(table, "duration_ns") == [5000 * US, 2001 * US, 0]
    assert column(table, "start_ns") == column(table, "src") == [None] * 3
    assert table.series()[0].tolist() == [[100, 0, 0, 0], [1500, 200, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]
    assert table.series()[1].tolist() == [[40, 0, 0, 0], [0, 0, 40, 0], [1, 0, 0, 0], [0, 0, 1, 0]]
    assert balanced(table) == {"traces": 3, "packets": 7, "skipped": {}, "warnings": {}, "in_flows": 7}


def test_the_same_traces_as_csv_are_the_same_flows(traces: Any, tmp_path: Path) -> None:
    """Packets of traces may be mixed, sizes signed or with a direction, separated by commas or tabs."""
    rows = ["0,100,x1,a", "0.00007,40,x2,b", "0.00001,-1500,x1,a", "0.0015,-200,x1,a", "0,-1000,x3,a"]
    rows += ["0.002071,-40,x2,b", "0.005,60,x1,a"]
    (tmp_path / "t.csv").write_text("\n".join(["Time,SIZE,trace,label", *rows]) + "\n")
    words = [(row.replace("-", "").split(","), "out" if "-" not in row else "In") for row in rows]
    lines = ["\t".join([*cells, way]) for cells, way in words]
    (tmp_path / "t.tsv").write_text("\n".join(["time\tsize\ttrace\tlabel\tdirection", *lines]) + "\n")
    parquet = import_traces(traces, spec=SPEC)
    for name in ("t.csv", "t.tsv"):
        table = import_traces(tmp_path / name, spec=SPEC)
        np.testing.assert_array_equal(table.series(), parquet.series())
        for field in ("label", "packets", "bytes", "truncated_packets", "duration_ns"):
            assert column(table, field) == column(parquet, field)
        assert column(table, "source") == [f"{name}:x{number}" for number in (1, 2, 3)]
        balanced(table)


def test_a_csv_without_traces_and_labels_is_one_unlabelled_flow(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("time,size,label\n1700000000.5,60,\n1700000000.75,-90,\n")
    table = import_traces(tmp_path / "one.csv", bin_ns=10**8, length=4)
    assert (column(table, "source"), column(table, "label")) == (["one.csv:one"], [None])
    assert table.series()[0, :2].tolist() == [[60, 0, 0, 0], [0, 0, 90, 0]]


@pytest.mark.parametrize(
    ("sizes", "volume", "packets", "skipped"),
    [("ip", [60, 34, 20], [1, 1, 1], 1), ("frame", [46, 20], [1, 1], 2), ("payload", [100, 74, 60, 59], [1] * 4, 0)],
)
def test_sizes_become_ip_bytes(sizes: str, volume: Any, packets: Any, skipped: int, tmp_path: Path) -> None:
    """Frames lose 14 bytes, payloads gain 40; packets smaller than an IP header are skipped and counted."""
    path = write_parquet(tmp_path / "t.parquet", [[0], [0], [0], [0]], [[60], [-34], [20], [-19]])
    table = import_traces(path, size_unit=sizes, spec=SPEC)
    assert (column(table, "bytes"), column(table, "packets")) == (volume, packets)
    read_report = balanced(table)
    assert read_report["skipped"] == ({"smaller than an IP header": skipped} if skipped else {})
    assert table.metadata["size_unit"] == sizes


@given(
    st.lists(st.lists(st.integers(-20000, 20000), max_size=12), min_size=1, max_size=6),
    st.sampled_from(["ip", "frame", "payload"]),
    st.integers(1, 4),
    st.sampled_from([None, "train", ["test"], ["train", "test"]]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_read_report_balances_for_any_traces(
    tmp_path: Path, sizes_of: Any, kind: Any, min_packets: Any, split: Any
) -> None:
    """Every packet of the file, and every one that splitting added, is either in a flow or skipped."""
    splits = ["train", "test"] * len(sizes_of)
    path = write_parquet(
        tmp_path / "t.parquet",
        [list(range(0, 700 * len(row), 700)) for row in sizes_of],
        sizes_of,
        split=splits[: len(sizes_of)],
    )
    try:
        table = import_traces(path, size_unit=kind, min_packets=min_packets, split=split, spec=SPEC)
    except TableError as error:
        assert "nothing is left" in str(error) or "no split test" in str(error)  # noqa: PT017
        return
    balanced(table)
    assert min(column(table, "packets")) >= min_packets


def test_frames_over_the_mtu_are_split_into_packets(tmp_path: Path) -> None:
    """All packets but the last are full; each has a header of 40 bytes, so splitting adds bytes too."""
    path = write_parquet(tmp_path / "t.parquet", [[0, 0, 1, 2]], [[1500, 1501, -2960, -65535]])
    table = import_traces(path, spec=SPEC)
    pieces = 65535 - 40
    full, rest = divmod(pieces, 1460)
    assert table.series()[0, :, 0].tolist() == [
        1500 + 1500 + 41,
        1500 + 1500 + full * 1500 + rest + 40,
        3,
        2 + full + 1,
    ]
    read_report = balanced(table)
    assert read_report["warnings"] == {"frames over the MTU, split into packets": 3, ADDED: 1 + 1 + full}
    assert column(table, "bytes") == [1500 + 1501 + 2960 + 65535 + 40 * read_report["warnings"][ADDED]]


@given(st.integers(1501, 300_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_split_frame_carries_the_same_payload(tmp_path: Path, size: Any) -> None:
    path = write_parquet(tmp_path / "t.parquet", [[0]], [[size]])
    table = import_traces(path, spec=SPEC)
    packets, volume = column(table, "packets")[0], column(table, "bytes")[0]
    assert volume - 40 * packets == size - 40
    assert 1500 * (packets - 1) < volume <= 1500 * packets


def test_only_the_rows_of_a_split_are_imported(traces: Any) -> None:
    table = import_traces(traces, split="train", spec=SPEC)
    assert column(table, "source") == ["t.parquet:x1", "t.parquet:x3"]
    assert column(table, "flow") == [0, 1]
    assert balanced(table)["skipped"] == {"in another split": 2}
    assert len(import_traces(traces, split=["train", "test"], spec=SPEC)) == 3


def test_an_unknown_split_is_refused_with_the_known_ones(traces: Any, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"has no split dev, extra\. It has: test, train"):
        import_traces(traces, split=["extra", "train", "dev"])
    path = write_parquet(tmp_path / "u.parquet", [[0]], [[60]])
    with pytest.raises(TableError, match="has no column split"):
        import_traces(path, split="train")


def test_classes_are_renamed_or_replaced_by_one(traces: Any) -> None:
    assert column(import_traces(traces, relabel={"a": "z", "c": "y"}), "label") == ["z", "b", "z"]
    assert column(import_traces(traces, label="all", relabel={"a": "z"}), "label") == ["all"] * 3


def test_traces_of_too_few_packets_are_left_out_and_counted(traces: Any) -> None:
    read_report = balanced(import_traces(traces, min_packets=2, spec=SPEC))
    assert read_report["skipped"] == {"in traces of too few packets": 1}
    assert read_report["warnings"] == {"traces of too few packets": 1}
    with pytest.raises(TableError, match=r"no trace has 5 packets\. Lower --min-packets"):
        import_traces(traces, min_packets=5)


def test_the_automatic_bins_fit_the_durations(traces: Any) -> None:
    table = import_traces(traces, length=8)
    longest = np.quantile(column(table, "duration_ns"), 0.95)
    assert longest // table.spec.bin_ns < 8
    assert import_traces(traces, bin_ns=7).spec == SeriesSpec(bin_ns=7)


def test_rows_without_packets_are_not_flows(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "t.parquet", [None, [5], []], [[], [60], None])
    table = import_traces(path, spec=SPEC)
    assert column(table, "source") == ["t.parquet:1"]
    assert balanced(table)["warnings"] == {"traces of too few packets": 2}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t_us": [[0]]}, "lacks the column signed_bytes; it has t_us"),
        ({"label": ["a"]}, "lacks the columns signed_bytes, t_us; it has label"),
        ({"t_us": [[0, 1]], "signed_bytes": [[60]]}, "row 0: 2 times but 1 sizes"),
        ({"t_us": [[0, None]], "signed_bytes": [[60, 60]]}, "a value in t_us or signed_bytes is missing"),
        ({"t_us": [[0.5]], "signed_bytes": [[60]]}, "must be lists of whole numbers"),
        ({"t_us": [["x"]], "signed_bytes": [[60]]}, "must be lists of whole numbers"),
        ({"t_us": [0], "signed_bytes": [60]}, "must be lists of whole numbers"),
        ({"t_us": [[2**60]], "signed_bytes": [[60]]}, "over 146 years"),
        ({"t_us": [[-(2**63)]], "signed_bytes": [[60]]}, "over 146 years"),
        ({"t_us": pa.array([], LISTS), "signed_bytes": pa.array([], LISTS)}, "nothing is left"),
        ({"t_us": [[0]], "signed_bytes": [[5]]}, "nothing is left"),
    ],
)
def test_parquet_without_traces_is_refused_with_the_reason(columns: Any, message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(TableError, match=message):
        import_traces(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as CSV"),
        ("size\n60\n", "lacks the column time; it has size"),
        ("a,b\n1,2\n", "lacks the columns size, time; it has a, b"),
        ("time,size\n0,60\nx,60\n", "time or size is not a number"),
        ("time,size\n0,60\n1,6.5\n", "time or size is not a number"),
        ("time,size\n0,60\n,60\n", "line 3: time or size is missing"),
        ("time,size\n0,60\n1,60\n2,\n", "line 4: time or size is missing"),
        ("time,size\n0,60\ninf,60\n", "line 3: time or size is missing or too large"),
        ("time,size\n1e10,60\n", "line 2: time or size is missing or too large"),
        ("time,size,direction\n0,60,up\n0,60,left\n", "line 3: direction 'left' is not known. Write up or down"),
        ("time,size,time\n0,60,1\n", "time or size is not a number"),
        ("time,size\n", "nothing is left"),
        ("time,size\n0,60,7\n", "cannot be read as CSV"),
    ],
)
def test_csv_without_traces_is_refused_with_the_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(TableError, match=message):
        import_traces(path)


def test_files_that_are_not_traces_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pcap").write_bytes(bytes(100))
    with pytest.raises(TableError, match=r"neither Parquet nor CSV.*netgen extract"):
        import_traces(tmp_path / "a.pcap")
    with pytest.raises(TableError, match="does not exist"):
        import_traces(tmp_path / "b.parquet")
    with pytest.raises(TableError, match="is a folder"):
        import_traces(tmp_path)


def test_an_unknown_size_unit_is_refused_with_the_known_ones(traces: Any) -> None:
    with pytest.raises(InputError, match=r"'wire' is not known\. Take one of: frame, ip, payload"):
        import_traces(traces, size_unit="wire")


@pytest.mark.parametrize("name", REAL_SETS)
def test_real_sets_are_imported_completely(name: Any, real_table: Any, shared_data: Path) -> None:
    """Traces, packets, labels and bytes equal the counts of pyarrow, and the read report balances."""
    raw = pq.read_table(shared_data / "series" / f"{name}.parquet", columns=["label", "signed_bytes"])
    sizes = np.abs(raw["signed_bytes"].combine_chunks().flatten().to_numpy().astype(np.int64))
    table = real_table(name)
    read_report = balanced(table)
    assert (read_report["traces"], read_report["packets"]) == (raw.num_rows, len(sizes))
    assert column(table, "label") == raw["label"].to_pylist()
    added = read_report["warnings"].get(ADDED, 0)
    change = {"frame": -14, "ip": 0, "payload": 40}[table.metadata["size_unit"]]
    header_only = sizes[sizes + change < 20]
    assert read_report["skipped"].get("smaller than an IP header", 0) == len(header_only)
    volume = int(sizes.sum() + change * len(sizes) - (header_only + change).sum() + 40 * added)
    assert sum(column(table, "bytes")) == volume
    assert (added > 0) == (name == "video_platform")  # the only set with offloaded frames
    cut = np.array(column(table, "truncated_packets")) > 0
    assert cut.mean() <= 0.06  # the automatic bins hold 95 % of the traces
