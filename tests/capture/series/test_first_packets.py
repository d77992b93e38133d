"""Series of the first packets: counted, learnt, decoded, made feasible, written as captures and read again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
import pyarrow.csv as pacsv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

import netgen
import netgen.capture.series.counters
from netgen.capture.errors import InputError, ModelError, OutputError, SpecMismatchError, TableError
from netgen.capture.importers.foreign_tables import read_table
from netgen.capture.series.counters import PacketCounter, as_bins, count_packets
from netgen.capture.series.feasible import PacketLimits, feasible_packets
from netgen.capture.series.spec import NS, SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.encoders.decoding.packet_scaler import PacketScaler
from netgen.evaluation.report.sections import write_report
from netgen.exporters.pcap.layout import written_series
from netgen.exporters.pcap.plan import plan
from netgen.exporters.verify.verify import verify
from netgen.plotting import show

US = 1_000
COMMAND = Path(sys.executable).with_name("netgen")  # what pip puts on the PATH


def talks(number: int, length: int = 16, seed: int = 0) -> np.ndarray:
    """Series of TCP connections from handshake to closing, (flows, 2, length), of which some are longer than kept."""
    rng = np.random.default_rng(seed)
    series = np.zeros((number, 2, length), np.int64)
    for flow in range(number):
        middle = [int(rng.choice([52, -52, 600, -1500])) for _ in range(rng.integers(0, length - 6))]
        sizes = [60, -60, 52, 400, *middle, 52, -52, 52][:length]
        series[flow, 0, : len(sizes)] = sizes
        series[flow, 1, 1 : len(sizes)] = rng.integers(0, [50_000] * (len(sizes) - 1))
    return series


# -- counting ------------------------------------------------------------------------------------


@st.composite
def packets(draw: Any) -> Any:
    flows = draw(st.integers(1, 4))
    rows = st.tuples(st.integers(0, flows - 1), st.integers(0, 9000), st.integers(20, 65535), st.booleans())
    return flows, draw(st.lists(rows, max_size=60)), draw(st.lists(st.integers(0, 60), max_size=4))


@given(packets(), st.booleans())
def test_the_first_packets_are_those_of_a_slow_loop(given_packets: Any, often: Any) -> None:
    """In order of time, of equal times as they came; in whatever parts they are given, and sorted at whatever time."""
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
        if often:
            patch.setattr(netgen.capture.series.counters, "MERGE_INTERVAL", 3)
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(rows)], strict=True):
            columns = np.array([row[:3] for row in rows[begin:end]], np.int64).reshape(-1, 3).T
            counter.add(*columns, np.array([row[3] for row in rows[begin:end]], bool))
        cells, truncated = counter.channels()
    np.testing.assert_array_equal(np.stack([row.dense() for row in cells], axis=1), expected)
    np.testing.assert_array_equal(truncated, cut)


def test_gaps_add_up_to_the_time_since_the_first_packet() -> None:
    """Fractions of a microsecond do not add up: each packet's time is right to one."""
    offsets = np.arange(100) * 1_700  # ns
    series, _ = count_packets(
        np.zeros(100, int), offsets, np.full(100, 40), np.ones(100, bool), 1, SeriesSpec.packets()
    )
    np.testing.assert_array_equal(series[0, 1, :100].cumsum(), offsets // US)


def test_a_capture_is_read_as_dpkt_reads_it(pcap_file: Any, tmp_path: Path) -> None:
    """Sizes, directions and gaps of a capture, beside those of an independent reader."""
    table = FlowTable.build(talks(20), SeriesSpec.packets(16), label="a")
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


def test_extraction_keeps_the_account_and_the_totals(tmp_path: Path) -> None:
    """Packets beyond the series are counted, and totals are of whole flows whatever the series holds."""
    netgen.write(FlowTable.build(talks(30, 32), SeriesSpec.packets(32), label="a"), tmp_path / "x.pcap")
    long, short = (netgen.extract(tmp_path / "x.pcap", view="packets", length=row) for row in (64, 4))
    for name in ("packets", "bytes", "duration_ns", "start_ns"):
        assert long.table[name].to_pylist() == short.table[name].to_pylist()
    cut = np.array(short.table["truncated_packets"].to_pylist())
    np.testing.assert_array_equal(cut, np.array(short.table["packets"].to_pylist()) - 4)
    assert short.metadata["read_report"]["warnings"]["packets after the last of a series"] == cut.sum() > 0
    np.testing.assert_array_equal(short.series(), long.series()[:, :, :4])


def test_any_number_of_processes_gives_the_same_table(tmp_path: Path) -> None:
    netgen.write(FlowTable.build(talks(30), SeriesSpec.packets(16), label="a"), tmp_path / "x.pcap")
    one, two = (netgen.extract(tmp_path / "x.pcap", view="packets", length=16, threads=jobs) for jobs in (1, 2))
    assert one.table.equals(two.table)


# -- the table -----------------------------------------------------------------------------------


def test_a_table_of_packets_knows_its_totals(tmp_path: Path) -> None:
    series = talks(12)
    table = FlowTable.build(series, SeriesSpec.packets(16), label=["a", "b"] * 6)
    assert table.table["packets"].to_pylist() == (series[:, 0] != 0).sum(1).tolist()
    assert table.table["bytes"].to_pylist() == np.abs(series[:, 0]).sum(1).tolist()
    assert table.table["duration_ns"].to_pylist() == (series[:, 1].sum(1) * US).tolist()
    table.write(tmp_path / "t.parquet")
    again = FlowTable.read(tmp_path / "t.parquet")
    assert again.spec == table.spec
    np.testing.assert_array_equal(again.series(), series)


def test_short_flows_are_stored_without_their_zeros(tmp_path: Path) -> None:
    """Few packets of many places go through the dictionary of the page writer, negative sizes as well."""
    series = np.zeros((300, 2, 128), np.int64)
    series[:, 0, :3] = [60, -1500, -65_000]
    series[:, 1, 1:3] = [7, 10**12]
    FlowTable.build(series, SeriesSpec.packets()).write(tmp_path / "t.parquet")
    np.testing.assert_array_equal(FlowTable.read(tmp_path / "t.parquet").series(), series)


def test_a_csv_of_packets_comes_back(tmp_path: Path) -> None:
    """It is known by its columns; gaps that run backwards are refused."""
    table = FlowTable.build(talks(12), SeriesSpec.packets(16), label=["a", "b"] * 6)
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
    table = FlowTable.build(talks(12), SeriesSpec.packets(16), label="a")
    data = netgen.to_torch(table).series.numpy()
    np.testing.assert_allclose(np.sign(data), np.sign(table.series()))
    np.testing.assert_allclose(np.expm1(np.abs(data)), np.abs(table.series()), rtol=1e-4)


def test_kinds_are_never_mixed() -> None:
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
        ({"view": "packets", "bin": "0.1s"}, "Leave it out"),
        ({"view": "cells"}, "--view must be bins or packets"),
        ({"view": "packets", "length": 6}, "--length must be a multiple of 4 from 4 to 4096, got 6"),
        ({"view": "packets", "spec_from": SeriesSpec.packets()}, "Leave --kind, --bin and --length out"),
    ],
)
def test_impossible_series_are_refused_before_reading(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        netgen.extract("no such file", **options)


# -- the scale -----------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
@settings(max_examples=examples(50))
def test_packets_come_back_from_their_scale(seed: int, flows: Any) -> None:
    """Sizes exactly, through the float32 of an image; gaps as near as such a number holds them."""
    series = talks(flows, seed=seed)
    scale = PacketScaler.of(series)
    scaled = scale.scale(series)
    assert scaled.shape == (flows, 3, 16)
    assert scaled.min() >= 0.25
    assert scaled.max() <= 1
    again = PacketScaler.from_json(json.loads(json.dumps(scale.to_json())))
    result = again.decode(scaled.astype(np.float32), np.array([20, 20]), np.array([1500, 1500]))
    np.testing.assert_array_equal(result[:, 0], series[:, 0])
    np.testing.assert_allclose(result[:, 1], series[:, 1], atol=1, rtol=1e-4)


@given(st.integers(0, 2**32 - 1), st.floats(0, 2))
@settings(max_examples=examples(50))
def test_any_sampled_series_becomes_feasible(seed: int, noise: Any) -> None:
    """Noise on the scale, however much, is decoded into packets without holes, within the limits of the class."""
    series = talks(8, seed=seed)
    labels = np.arange(8) % 2
    limits = PacketLimits.of(as_bins(series, SeriesSpec.packets(16)), labels, 2)
    scale = PacketScaler.of(series)
    sampled = scale.scale(series) + noise * np.random.default_rng(seed).standard_normal((8, 3, 16))
    result = scale.decode(sampled, limits.smallest[labels], limits.largest[labels])
    same, changed = feasible_packets(result, labels, limits)
    assert changed == {}
    np.testing.assert_array_equal(same, result)
    assert (result[:, 0, 0] != 0).all()


def test_a_sampled_hole_does_not_end_a_flow() -> None:
    """Where a flow ends is decided by all of its places: a weak packet among strong ones stays, one behind goes."""
    series = talks(30, 32)
    series = series[(series[:, 0] != 0).sum(1) >= 12][:1]
    scale = PacketScaler.of(series)
    number = int((series[0, 0] != 0).sum())
    sampled = scale.scale(series)
    sampled[0, :2, 5] = 0.26
    sampled[0, :2, min(number + 2, 31)] = 0.35  # nearer to none than to the smallest packet
    result = scale.decode(sampled, np.array([20, 20]), np.array([1500, 1500]))
    assert (result[0, 0] != 0).sum() == number
    np.testing.assert_array_equal(np.delete(result[0, 0], 5), np.delete(series[0, 0], 5))


@given(st.integers(0, 2**32 - 1))
def test_any_numbers_become_packets_that_a_flow_can_have(seed: int) -> None:
    rng = np.random.default_rng(seed)
    series = np.stack([rng.choice([0, 0, -2000, -100, 3, 60, 5000], (20, 8)), rng.integers(-5, 50, (20, 8))], axis=1)
    result, changed = feasible_packets(series)
    size, gap = result[:, 0], result[:, 1]
    assert ((size == 0) | ((np.abs(size) >= 20) & (np.abs(size) <= 1500))).all()
    assert (size[:, 0] != 0).all()
    assert not ((size[:, 1:] != 0) & (size[:, :-1] == 0)).any()
    assert (gap >= 0).all()
    assert not gap[:, 0].any()
    assert not gap[size == 0].any()
    assert set(changed) <= {
        "packets moved up into a hole",
        "packets brought within the sizes of their class",
        "empty flow given one packet",
        "gaps where there can be none",
    }
    again, unchanged = feasible_packets(result)
    assert unchanged == {}
    np.testing.assert_array_equal(again, result)


# -- captures ------------------------------------------------------------------------------------


def test_the_closed_loop_of_packets(tmp_path: Path) -> None:
    """extract(export(flows)) == flows, packet for packet and microsecond for microsecond, TCP and UDP."""
    series = talks(60)
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
    """Handshake, data and closing packet by packet, as a host sees them, are written as they are."""
    complete = talks(40, 32)
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
    """Where packets that are too large are split, they are counted as what they become."""
    series = np.full((1, 2, 32), 0, np.int64)
    series[0, 0] = 60_000
    table = FlowTable.build(series, SeriesSpec.packets(32), protocol=17, flow=[77])
    with pytest.raises(
        OutputError, match=r"flow 77 has more than 1000 packets in one microsecond, 0 microseconds after its first"
    ):
        netgen.write(table, tmp_path / "x.pcap")
    assert list(tmp_path.iterdir()) == []


def test_verify_finds_nothing_wrong_with_such_a_capture(tmp_path: Path) -> None:
    netgen.write(FlowTable.build(talks(40), SeriesSpec.packets(16), label="a"), tmp_path / "x.pcap")
    assert verify(tmp_path / "x.pcap").issues == ()


# -- learning ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[FlowTable, Path]:
    """Two classes, one of which sends large packets and the other small ones, and a model of them."""
    series = talks(40, 8)
    series[::2, 0] = np.where(np.abs(series[::2, 0]) > 60, np.sign(series[::2, 0]) * 1400, series[::2, 0])
    table = FlowTable.build(series, SeriesSpec.packets(8), label=["large", "small"] * 20)
    out = tmp_path_factory.mktemp("packets") / "m.safetensors"
    netgen.train(table, out=out, training_steps=150, threads=1, precision="float32")
    return table, out


@pytest.mark.parametrize("encoder", ["series", "gasf", "gadf", "delay"])
def test_every_encoder_learns_packets(learnt: Any, encoder: str, tmp_path: Path) -> None:
    table, _ = learnt
    model = netgen.train(table, training_steps=3, threads=1, precision="float32", validation=0, encoder=encoder)
    sampled = model.sample("all", 4)
    assert sampled.spec == table.spec
    _, changed = feasible_packets(sampled.series())
    assert changed == {}


def test_a_model_of_packets_samples_packets_of_its_classes(learnt: Any) -> None:
    """Sizes are those of the real class's packets; flow i is the same alone and among others."""
    table, path = learnt
    model = netgen.load(path)
    sampled = model.sample({"large": 6, "small": 3}, seed=4)
    sizes = {name: np.abs(table.take(table.labels == name).series()[:, 0]) for name in table.classes}
    for name in table.classes:
        ours = np.abs(sampled.take(sampled.labels == name).series()[:, 0])
        assert ours[ours > 0].min() >= sizes[name][sizes[name] > 0].min()
        assert ours.max() <= sizes[name].max()
    again = netgen.load(path).sample({"large": 6}, seed=4)
    np.testing.assert_array_equal(again.series(), sampled.take(sampled.labels == "large").series())
    assert model.metadata()["series"] == SeriesSpec.packets(8).to_json()


@pytest.mark.slow
def test_evaluation_report_and_picture_of_packets(learnt: Any, tmp_path: Path) -> None:
    """Figures are finite, and what is drawn says packets, not seconds."""
    table, path = learnt
    sampled = netgen.load(path).sample("all", 40)
    result = netgen.evaluate(table, sampled)
    values = [row.synthetic.value for row in result.rows.values() if row.synthetic is not None]
    assert len(values) > 15
    assert np.isfinite(values).all()
    text = write_report(result, tmp_path / "r.html").read_text()
    assert "Sizes of packets" in text
    assert "Bytes down" not in text
    assert show([path], tmp_path / "p.png").stat().st_size > 10_000


def test_a_model_with_another_view_than_its_network_is_refused(learnt: Any, tmp_path: Path) -> None:
    from netgen.diffusion import model_file

    _, path = learnt
    metadata = model_file.load_metadata(path)
    metadata["series"] = SeriesSpec(NS, 8).to_json()
    model_file.save(tmp_path / "m.safetensors", model_file.load_tensors(path), metadata)
    with pytest.raises(ModelError, match="its channels should be 4, not 3"):
        netgen.load(tmp_path / "m.safetensors")


def test_topping_up_a_table_of_packets(learnt: Any) -> None:
    table, path = learnt
    more = netgen.augment(table.take(np.arange(30)), 25, model=path)
    assert more.counts() == {"large": 25, "small": 25}
    assert more.spec == table.spec


@pytest.mark.slow
def test_the_commands_from_capture_to_capture(learnt: Any, tmp_path: Path) -> None:
    """extract --kind packets, train, synth to a capture, extract --like: by a user's own words."""
    table, _ = learnt
    netgen.write(table, tmp_path / "real.pcap")

    def run(*words: str) -> str:
        done = subprocess.run([COMMAND, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    message = run("extract", "real.pcap", "--view", "packets", "--length", "8", "--label", "x", "-o", "f.parquet")
    assert "the first 8 packets" in message
    run(
        "train", "f.parquet", "-o", "m.safetensors", "--training-steps", "5", "--threads", "1", "--precision", "float32"
    )
    assert "8 packets" in run("info", "m.safetensors")
    run("synth", "-m", "m.safetensors", "--class", "x", "-n", "5", "-o", "s.pcap")
    run("synth", "-m", "m.safetensors", "--class", "x", "-n", "5", "-o", "s.parquet")
    assert "the size and the gap of each" in (tmp_path / "s.card.md").read_text()
    run("extract", "s.pcap", "--spec-from", "s.parquet", "--label", "x", "-o", "back.parquet")
    assert len(FlowTable.read(tmp_path / "back.parquet")) == 5


def test_traces_are_cut_into_packets(tmp_path: Path) -> None:
    lines = ["time,size,direction", "0,60,up", "0.001,1000,down", "0.0035,52,up"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    table = netgen.import_traces(tmp_path / "t.csv", view="packets", length=4, label="x")
    assert table.series()[0].tolist() == [[60, -1000, 52, 0], [0, 1000, 2500, 0]]
