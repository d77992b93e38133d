"""Programs of other people take exported captures for recorded ones.

benchmarks/replayable.py asks them about thousands of flows.
"""

from __future__ import annotations

import functools
import importlib.util
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import external_tools as outside

import netgen
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.layout import lay_out, written_series
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.pcap.plan import plan
from netgen.exporters.write import WriteResult, write

OPTIONS = {
    "plain": CaptureOptions(seed=3),
    "ipv6": CaptureOptions(seed=4, ip_version="6", rate=200),
    "tls": CaptureOptions(seed=5, payload="tls", sni="www.example.org"),
}

Sample = tuple[FlowTable, Path, WriteResult, CaptureOptions]


def tools(*names: str) -> None:
    lacking = outside.missing(*names)
    if lacking:
        pytest.skip(f"not installed: {lacking}")


def odd_flows(number: int, seed: int) -> FlowTable:
    """Flows that no network made: bursts, single packets and silence in any order, TCP and UDP by turns."""
    rng = np.random.default_rng(seed)
    busy = rng.random((number, 2, 32)) < rng.random((number, 1, 1))
    count = rng.geometric(rng.uniform(0.02, 1, (number, 1, 1)), (number, 2, 32)) * busy
    each = rng.choice([40, 44, 48, 52, 60, 64, 72, 80, 601, 1500], (number, 2, 32))
    series = np.concatenate([count * each, count], axis=1)
    spec = SeriesSpec(bin_ns=100_000_000, length=32)
    return FlowTable.build(series, spec, protocol=[6, 17] * (number // 2), label=["a", "b"] * (number // 2))


def attempts(number: int, seed: int) -> FlowTable:
    """Connections that never came about: SYNs at any times, a third of them refused and a third accepted and reset."""
    rng = np.random.default_rng(seed)
    series = np.zeros((number, 4, 32), dtype=np.int64)
    for flow, each in enumerate(series):
        syn, at = rng.choice([44, 52, 60]), np.r_[0, np.sort(rng.integers(1, 16, rng.integers(6)))]
        np.add.at(each[2], at, 1)
        each[0] = syn * each[2]
        if flow % 3 == 1:
            each[3, at + rng.integers(0, 4)] = 1
            each[1] = 40 * each[3]
        elif flow % 3 == 2:
            each[[1, 3], 16 + rng.integers(0, 4)] = (60, 1)
            each[[0, 2], 20 + rng.integers(0, 4)] = (40, 1)
    spec = SeriesSpec(bin_ns=100_000_000, length=32)
    return FlowTable.build(series, spec, protocol=6, label=["a", "b"] * (number // 2))


@functools.cache
def shipped_flows() -> FlowTable:
    """Some flows of every class of the models that come with netgen; of video, which is large, one each."""
    return netgen.load("base").sample("all", 48, seed=7, sampling_steps=8)


@pytest.fixture(scope="module", params=["plain", "ipv6", "tls", "odd", "video", "attempts"])
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A table, the capture made of it, and how it was made."""
    options = OPTIONS.get(request.param, CaptureOptions())
    if request.param == "odd":
        table = odd_flows(300, 1)
    elif request.param == "attempts":
        table = attempts(100, 2)
    elif request.param == "video":
        table = netgen.load("video").sample("all", 4, seed=2, sampling_steps=8)
    else:
        table = shipped_flows()
    path = tmp_path_factory.mktemp(request.param) / "sample.pcap"
    return table, path, write(table, path, options=options), options


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """400 flows of recorded traffic, exported: an anonymised replay."""
    captures = [shared_data / "captures" / name for name in ("ndpi", "iot_setup/test")]
    flows = netgen.extract(captures, label_by="folder")  # UDP flows have profiles
    rows = np.sort(np.random.default_rng(0).permutation(len(flows))[:400])
    path = tmp_path_factory.mktemp("real") / "sample.pcap"
    options = CaptureOptions(rate=50)
    return flows.take(rows), path, write(flows.take(rows), path, options=options), options


def truth(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path.with_name("sample.labels.parquet")).to_pylist()
    return rows


def check_loop(sample: Sample) -> None:
    table, path, report, options = sample
    again = netgen.extract(path, spec_from=table, idle_timeout=1e6)
    planned = plan(table, seed=options.seed, ip_version=options.ip_version)
    rows = truth(path)
    order = sorted(range(len(rows)), key=lambda row: (rows[row]["start_ns"], row))
    np.testing.assert_array_equal(again.series(), written_series(planned)[order])
    assert again.table["src_port"].to_pylist() == [rows[row]["src_port"] for row in order]
    assert report.packets == planned.packet_counts.sum()
    assert report.repairs == planned.repairs
    whole = ~planned.repaired
    assert whole.any()
    np.testing.assert_array_equal(written_series(planned)[whole], table.series()[whole])
    assert [row["repaired"] for row in rows] == planned.repaired.tolist()


def became(path: Path) -> Counter[str]:
    """What became of the connections -> flows."""
    return Counter(row["connection"] for row in truth(path) if row["protocol"] == 6)


def remarks(sample: Sample) -> dict[str, Counter[str]]:
    """What Wireshark has to say of the packets as they are planned."""
    table, path, _, options = sample
    packets = lay_out(plan(table, seed=options.seed, ip_version=options.ip_version), np.arange(len(table)))
    found: dict[str, Counter[str]] = outside.remarks(packets, became(path)["closed"])
    return found


def check_wireshark(sample: Sample) -> None:
    tools("tshark", "capinfos")
    _, path, _, _ = sample
    found, wanted = outside.wireshark(path), remarks(sample)
    assert not found.get("Errors")
    # counters that differ in zeros are equal
    assert found.get("Warns", Counter()) == wanted["Warns"]
    assert found["Notes"] == wanted["Notes"]
    assert outside.strictly_ordered(path)


CLOSED = {("closed", "closed")}

#: What became of a connection -> states that Suricata gives the flow and its TCP session.
SURICATA = {
    "closed": CLOSED,
    "reset": CLOSED,
    "refused": CLOSED,
    "unanswered": {("new", "syn_sent")},
    "half-open": CLOSED | {("new", "syn_recv")},
}

#: The same of argus.
ARGUS = {"closed": "tcp FIN", "reset": "tcp RST", "refused": "tcp RST", "unanswered": "tcp REQ"}


def check_suricata(sample: Sample, tmp_path: Path) -> None:
    tools("suricata")
    _, path, _, _ = sample
    found = outside.suricata(path, tmp_path)
    rows = truth(path)
    assert found["alerts"] == found["anomalies"] == Counter()
    rows = [row for row in rows if row["protocol"] != outside.IGMP]  # of which Suricata keeps no flows
    seen = {each["community_id"]: each for each in found["flows"]}
    assert len(seen) == len(found["flows"]) == len(rows)
    for row in rows:
        flow = seen[row["community_id"]]
        if row["protocol"] == 6:
            assert (flow["flow"]["state"], flow["tcp"]["state"]) in SURICATA[row["connection"]]
        assert flow["flow"]["pkts_toserver"] == row["up_packets"]
        assert flow["flow"]["bytes_toclient"] == row["down_bytes"] + 14 * row["down_packets"]
        if row["protocol"] in outside.PORTED:
            assert (flow["src_port"], flow["dest_port"]) == (row["src_port"], row["dst_port"])


def check_flow_tools(sample: Sample, tmp_path: Path) -> None:
    tools("argus", "ra", "tcptrace")
    _, path, _, _ = sample
    wanted = became(path)
    states = outside.argus(path, tmp_path)
    found = Counter({name: number for name, number in states.items() if name.startswith("tcp")})
    half_open = found - Counter(name for each, name in ARGUS.items() for _ in range(wanted[each]))
    assert half_open.total() == wanted["half-open"]
    assert set(half_open) <= {"tcp RST", "tcp ACC"}
    traced = outside.tcptrace(path)
    assert traced["connections"] == sum(wanted[each] for each in SURICATA)
    assert traced["complete"] == wanted["closed"]
    assert (traced["sent twice"], traced["out of order"]) == (remarks(sample)["Notes"][outside.REPEATED], 0)


def check_nfstream(sample: Sample) -> None:
    if importlib.util.find_spec("nfstream") is None:
        pytest.skip("not installed: pip install nfstream")
    _, path, _, _ = sample
    assert sorted(outside.nfstream(path)) == sorted(map(outside.as_nfstream, truth(path)))


def check_checksums(sample: Sample, tmp_path: Path) -> None:
    tools("tcprewrite")
    assert outside.checksums_renewed(sample[1], tmp_path)


CHECKS: list[Callable[..., None]] = [
    check_loop,
    check_wireshark,
    check_suricata,
    check_flow_tools,
    check_nfstream,
    check_checksums,
]


def run(check: Callable[..., None], sample: Sample, folder: Path) -> None:
    names = check.__code__.co_varnames[: check.__code__.co_argcount]
    check(sample, *[folder] * ("tmp_path" in names))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_synthetic_flows_pass_for_recorded_ones(check: Callable[..., None], sample: Sample, tmp_path: Path) -> None:
    """No tool finds anything wrong, all see what became of each connection, and all count what the truth says."""
    run(check, sample, tmp_path)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_recorded_flows_can_be_replayed(check: Callable[..., None], real: Sample, tmp_path: Path) -> None:
    """The same holds of flows that were extracted from real captures."""
    run(check, real, tmp_path)


def test_tls_is_seen_as_tls(tmp_path: Path) -> None:
    """With --payload tls, Suricata and Wireshark see the protocol and the server name, where hellos had room."""
    tools("suricata", "tshark")
    count = np.zeros((40, 2, 8), dtype=np.int64)
    size = np.zeros_like(count)
    rng = np.random.default_rng(0)
    for side in (0, 1):
        count[:, side, 0], size[:, side, 0] = 4, 60 + 2 * 52 + 200 + rng.integers(300, 1000, 40)
        count[:, side, 1:] = rng.integers(2, 30, (40, 7))
        size[:, side, 1:] = 52 * count[:, side, 1:] + rng.integers(0, 1448, (40, 7)) * count[:, side, 1:]
    table = FlowTable.build(np.concatenate([size, count], axis=1), SeriesSpec(bin_ns=10**8, length=8))
    write(table, tmp_path / "x.pcap", options=CaptureOptions(payload="tls", sni="films.example"))
    found = outside.suricata(tmp_path / "x.pcap", tmp_path)
    assert found["alerts"] == Counter()
    assert Counter(each["app_proto"] for each in found["flows"]) == {"tls": 40}
    fields = ("tls.handshake.extensions_server_name", "_ws.malformed")
    words = [word for field in fields for word in ("-e", field)]
    lines = outside.output("tshark", "-r", tmp_path / "x.pcap", "-Y", "tls.handshake.type == 1", "-T", "fields", *words)
    assert Counter(line.strip() for line in lines.splitlines()) == {"films.example": 40}
    assert outside.output("tshark", "-r", tmp_path / "x.pcap", "-Y", "_ws.malformed") == ""


def test_the_gate_can_fail(tmp_path: Path) -> None:
    """A capture with one acknowledgement too far, one wrong checksum and one packet missing is found out."""
    tools("tshark", "suricata", "tcprewrite")
    table = shipped_flows().take([0])
    path = tmp_path / "sample.pcap"
    write(table, path)
    packets = list(outside.records(path))
    broken = bytearray(path.read_bytes())
    at = 24 + sum(16 + len(packet) for packet in packets[:5]) + 16 + 14 + 20 + 8
    broken[at : at + 4] = (int.from_bytes(broken[at : at + 4], "big") + 5000 & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(broken)
    found = outside.wireshark(path)
    assert found["Errors"] or found["Warns"]
    assert not outside.checksums_renewed(path, tmp_path)
    assert outside.suricata(path, tmp_path)["alerts"]


def test_truth_says_what_is_asked(tmp_path: Path) -> None:
    """CSV and Parquet have the same rows; seed, class and source stand in them; notes name options and model."""
    table = shipped_flows()
    report = write(table, tmp_path / "x.pcap.gz", options=CaptureOptions(seed=11, payload="tls"))
    assert [each.name for each in report.ground_truth] == ["x.labels.csv", "x.labels.parquet"]
    rows = pq.read_table(tmp_path / "x.labels.parquet")
    import pyarrow.csv

    from netgen.exporters.pcap.ground_truth import SCHEMA

    options = pyarrow.csv.ConvertOptions(column_types={field.name: field.type for field in SCHEMA})
    again = pyarrow.csv.read_csv(tmp_path / "x.labels.csv", convert_options=options)
    assert again.to_pylist() == rows.to_pylist()
    assert rows["label"].to_pylist() == table.labels.tolist()
    assert set(rows["seed"].to_pylist()) == {11}
    assert set(rows["source"].to_pylist()) == {"netgen:base"}
    notes = rows.schema.metadata[b"netgen"].decode()
    assert '"model": "base"' in notes
    assert '"payload": "tls"' in notes
    assert pa.types.is_string(rows.schema.field("community_id").type)
