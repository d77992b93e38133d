"""Series of the first packets: counted from captures, kept in tables, written as captures and read again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
import pyarrow.csv as pacsv
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.packet_series import tcp_packet_series

import netgen
import netgen.capture.series.counters
from netgen.capture.errors import InputError, OutputError, SpecMismatchError, TableError
from netgen.capture.importers.foreign_tables import read_table
from netgen.capture.series.counters import PacketCounter, count_packets
from netgen.capture.series.spec import NS, SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.layout import written_series
from netgen.exporters.pcap.plan import plan
from netgen.exporters.verify.verify import verify

US = 1_000
COMMAND = Path(sys.executable).with_name("netgen")  # what pip puts on the PATH


# -- counting ------------------------------------------------------------------------------------


@st.composite
def packets(draw: Any) -> Any:
    flows = draw(st.integers(1, 4))
    rows = st.tuples(st.integers(0, flows - 1), st.integers(0, 9000), st.integers(20, 65535), st.booleans())
    return flows, draw(st.lists(rows, max_size=60)), draw(st.lists(st.integers(0, 60), max_size=4))


@given(packets(), st.booleans())
def test_the_first_packets_are_those_of_a_slow_loop(given_packets: Any, merge: bool) -> None:
    """Packets are in order of time, then of the file, however they are split into calls."""
    flows, rows, cuts = given_packets
    spec = SeriesSpec.packets(4)
    expected, cut = np.zeros((flows, 2, 4), int), np.zeros(flows, int)
    for flow in range(flows):
        own = sorted((row for row in rows if row[0] == flow), key=lambda row: row[1])
        before = 0
        for position, (_, offset, size, up) in enumerate(own):
            if position >= 4:
                cut[flow] += 1
                continue
            expected[flow, 0, position] = size if up else -size
            expected[flow, 1, position] = offset // US - before if position else 0
            before = offset // US
    counter = PacketCounter(flows, spec)
    with pytest.MonkeyPatch.context() as patch:
        if merge:
            patch.setattr(netgen.capture.series.counters, "MERGE_INTERVAL", 3)
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(rows)], strict=True):
            flow_of, offsets, sizes = np.array([row[:3] for row in rows[begin:end]], np.int64).reshape(-1, 3).T
            counter.add(flow_of, offsets, sizes, np.array([row[3] for row in rows[begin:end]], bool))
        cells, truncated = counter.channels()
    np.testing.assert_array_equal(np.stack([row.dense() for row in cells], axis=1), expected)
    np.testing.assert_array_equal(truncated, cut)


def test_gaps_add_up_to_the_time_since_the_first_packet() -> None:
    """Rounding errors do not add up: each packet's time is right to a microsecond."""
    offsets = np.arange(100) * 1_700  # ns
    series, _ = count_packets(
        np.zeros(100, int), offsets, np.full(100, 40), np.ones(100, bool), 1, SeriesSpec.packets()
    )
    np.testing.assert_array_equal(series[0, 1, :100].cumsum(), offsets // US)


def test_a_capture_is_read_as_dpkt_reads_it(tmp_path: Path) -> None:
    """Sizes, directions and gaps equal those that dpkt reads."""
    table = FlowTable.build(tcp_packet_series(20), SeriesSpec.packets(16), label="a")
    netgen.write(table, tmp_path / "x.pcap")
    seen: dict[tuple[object, ...], list[tuple[int, int]]] = {}
    with (tmp_path / "x.pcap").open("rb") as stream:
        for stamp, frame in dpkt.pcap.Reader(stream):
            ip = dpkt.ethernet.Ethernet(frame).data
            ends = (ip.src, ip.data.sport), (ip.dst, ip.data.dport)
            up = ip.src[:2] == b"\xc6\x12"
            key = ends if up else ends[::-1]
            seen.setdefault(key, []).append((round(float(stamp) * 1e9), ip.len if up else -ip.len))
    again = netgen.extract(tmp_path / "x.pcap", view="packets", length=16)
    assert again.spec == table.spec
    expected = [[size for _, size in row[:16]] + [0] * (16 - len(row)) for row in seen.values()]
    assert sorted(again.series()[:, 0].tolist()) == sorted(expected)
    times = sorted((row[min(len(row), 16) - 1][0] - row[0][0]) / US for row in seen.values())
    np.testing.assert_allclose(np.sort(again.series()[:, 1].sum(1)), times, atol=2)  # dpkt's times are floats


def test_totals_count_packets_beyond_the_series(tmp_path: Path) -> None:
    """Totals are those of the complete flow, and the packets beyond the series are counted."""
    netgen.write(FlowTable.build(tcp_packet_series(30, 32), SeriesSpec.packets(32), label="a"), tmp_path / "x.pcap")
    long, short = (netgen.extract(tmp_path / "x.pcap", view="packets", length=row) for row in (64, 4))
    for name in ("packets", "bytes", "duration_ns", "start_ns"):
        assert long.table[name].to_pylist() == short.table[name].to_pylist()
    cut = np.array(short.table["truncated_packets"].to_pylist())
    np.testing.assert_array_equal(cut, np.array(short.table["packets"].to_pylist()) - 4)
    assert short.metadata["read_report"]["warnings"]["packets after the last of a series"] == cut.sum() > 0
    np.testing.assert_array_equal(short.series(), long.series()[:, :, :4])


def test_any_number_of_processes_gives_the_same_table(tmp_path: Path) -> None:
    netgen.write(FlowTable.build(tcp_packet_series(30), SeriesSpec.packets(16), label="a"), tmp_path / "x.pcap")
    one, two = (netgen.extract(tmp_path / "x.pcap", view="packets", length=16, threads=jobs) for jobs in (1, 2))
    assert one.table.equals(two.table)


# -- the table -----------------------------------------------------------------------------------


def test_totals_are_computed_from_the_packets(tmp_path: Path) -> None:
    series = tcp_packet_series(12)
    table = FlowTable.build(series, SeriesSpec.packets(16), label=["a", "b"] * 6)
    assert table.table["packets"].to_pylist() == (series[:, 0] != 0).sum(1).tolist()
    assert table.table["bytes"].to_pylist() == np.abs(series[:, 0]).sum(1).tolist()
    assert table.table["duration_ns"].to_pylist() == (series[:, 1].sum(1) * US).tolist()
    table.write(tmp_path / "t.parquet")
    again = FlowTable.read(tmp_path / "t.parquet")
    assert again.spec == table.spec
    np.testing.assert_array_equal(again.series(), series)


def test_short_flows_are_stored_without_their_zeros(tmp_path: Path) -> None:
    """Most numbers are 0, and negative sizes come back too."""
    series = np.zeros((300, 2, 128), np.int64)
    series[:, 0, :3] = [60, -1500, -65_000]
    series[:, 1, 1:3] = [7, 10**12]
    FlowTable.build(series, SeriesSpec.packets()).write(tmp_path / "t.parquet")
    np.testing.assert_array_equal(FlowTable.read(tmp_path / "t.parquet").series(), series)


def test_a_csv_of_packets_can_be_read_back(tmp_path: Path) -> None:
    """The columns tell the view; negative gaps are refused."""
    table = FlowTable.build(tcp_packet_series(12), SeriesSpec.packets(16), label=["a", "b"] * 6)
    netgen.write(table, tmp_path / "t.csv")
    again = read_table(tmp_path / "t.csv")
    assert again.spec == table.spec
    np.testing.assert_array_equal(again.series(), table.series())
    assert again.labels.tolist() == table.labels.tolist()
    lacking = pacsv.read_csv(tmp_path / "t.csv")
    kept = [name for name in lacking.column_names if not name.startswith("gap_")]
    pacsv.write_csv(lacking.select(kept), tmp_path / "l.csv")
    with pytest.raises(TableError, match="there is no column gap"):
        read_table(tmp_path / "l.csv")
    series = table.series()
    series[3, 1, 2] = -1
    netgen.write(FlowTable.build(series, table.spec), tmp_path / "bad.csv")
    with pytest.raises(TableError, match="has negative numbers"):
        read_table(tmp_path / "bad.csv")


def test_packets_as_tensors_keep_their_direction() -> None:
    table = FlowTable.build(tcp_packet_series(12), SeriesSpec.packets(16), label="a")
    data = netgen.to_torch(table).series.numpy()
    np.testing.assert_allclose(np.sign(data), np.sign(table.series()))
    np.testing.assert_allclose(np.expm1(np.abs(data)), np.abs(table.series()), rtol=1e-4)


def test_bins_and_packets_are_never_mixed() -> None:
    packets, bins = SeriesSpec.packets(16), SeriesSpec(NS, 16)
    assert SeriesSpec.from_json(packets.to_json()) == packets != bins
    assert "bin_ns" not in packets.to_json()
    with pytest.raises(SpecMismatchError, match="the first 16 packets"):
        packets.require_equal(bins, "a", "b")
    with pytest.raises(InputError, match="no bin width"):
        SeriesSpec(NS, 16, "packets", packets.channels)
    with pytest.raises(InputError, match="unknown series"):
        SeriesSpec(NS, 16, "bins", packets.channels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "packets", "bin_width": "0.1s"}, "a series of packets has no bins"),
        ({"view": "cells"}, "--view must be bins or packets"),
        ({"view": "packets", "length": 6}, "--length must be a multiple of 4 from 4 to 4096, got 6"),
        ({"view": "packets", "spec_from": SeriesSpec.packets()}, "--spec-from already sets view, bin width and length"),
    ],
)
def test_impossible_series_are_refused_before_reading(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        netgen.extract("no such file", **options)


# -- captures ------------------------------------------------------------------------------------


def test_an_exported_table_of_packets_comes_back_from_the_capture(tmp_path: Path) -> None:
    """extract(export(flows)) == flows for TCP and UDP, packet by packet, to the microsecond."""
    series = tcp_packet_series(60)
    series = written_series(plan(FlowTable.build(series, SeriesSpec.packets(16), protocol=[6, 17] * 30)))
    table = FlowTable.build(series, SeriesSpec.packets(16), protocol=[6, 17] * 30)
    planned = plan(table)
    np.testing.assert_array_equal(written_series(planned)[~planned.repaired], series[~planned.repaired])
    assert (~planned.repaired).mean() > 0.9
    report = netgen.write(table, tmp_path / "x.pcap")
    assert report.repairs == planned.repairs
    again = netgen.extract(tmp_path / "x.pcap", spec_from=table, idle_timeout="10h")
    np.testing.assert_array_equal(again.series(), written_series(planned))
    assert again.table["protocol"].to_pylist() == table.table["protocol"].to_pylist()


def test_complete_connections_need_no_repair() -> None:
    """Handshake, data and closing are written as they are."""
    complete = tcp_packet_series(40, 32)
    complete = complete[(complete[:, 0] != 0).sum(1) < 32]
    planned = plan(FlowTable.build(complete, SeriesSpec.packets(32), protocol=6))
    assert planned.repairs == {}
    np.testing.assert_array_equal(written_series(planned), complete)


def test_packets_of_one_microsecond_keep_their_order(tmp_path: Path) -> None:
    series = np.zeros((1, 2, 8), np.int64)
    series[0, 0] = [100, 101, 102, -103, 104, -105, 106, 107]
    table = FlowTable.build(series, SeriesSpec.packets(8), protocol=17)
    netgen.write(table, tmp_path / "x.pcap")
    again = netgen.extract(tmp_path / "x.pcap", spec_from=table)
    np.testing.assert_array_equal(again.series(), series)


def test_too_many_packets_of_one_microsecond_name_the_flow(tmp_path: Path) -> None:
    """Packets over the MTU count as the packets into which they are split."""
    series = np.full((1, 2, 32), 0, np.int64)
    series[0, 0] = 60_000
    table = FlowTable.build(series, SeriesSpec.packets(32), protocol=17, flow=[77])
    with pytest.raises(
        OutputError, match=r"flow 77 has more than 1000 packets in one microsecond, 0 microseconds after its first"
    ):
        netgen.write(table, tmp_path / "x.pcap")
    assert list(tmp_path.iterdir()) == []


def test_verify_reports_no_issues_for_a_capture_of_packets(tmp_path: Path) -> None:
    netgen.write(FlowTable.build(tcp_packet_series(40), SeriesSpec.packets(16), label="a"), tmp_path / "x.pcap")
    assert verify(tmp_path / "x.pcap").issues == ()


def test_traces_are_cut_into_packets(tmp_path: Path) -> None:
    lines = ["time,size,direction", "0,60,up", "0.001,1000,down", "0.0035,52,up"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    table = netgen.import_traces(tmp_path / "t.csv", view="packets", length=4, label="x")
    assert table.series()[0].tolist() == [[60, -1000, 52, 0], [0, 1000, 2500, 0]]
