"""Other programs take exported captures for recorded ones.

benchmarks/replayable.py runs them on thousands of flows.
"""

from __future__ import annotations

import functools
import importlib.util
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
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

pytestmark = pytest.mark.external

OPTIONS = {
    "plain": CaptureOptions(seed=3),
    "ipv6": CaptureOptions(seed=4, ip_version="6", rate=200),
    "tls": CaptureOptions(seed=5, payload="tls", sni="www.example.org"),
}

Sample = tuple[FlowTable, Path, WriteResult, CaptureOptions]


def require(*names: str) -> None:
    lacking = outside.missing(*names)
    if lacking:
        pytest.skip(f"not installed: {lacking}")


def odd_flows(number: int, seed: int) -> FlowTable:
    """Make flows unlike real ones: bursts, single packets and silence in any order, alternately TCP and UDP."""
    rng = np.random.default_rng(seed)
    busy = rng.random((number, 2, 32)) < rng.random((number, 1, 1))
    count = rng.geometric(rng.uniform(0.02, 1, (number, 1, 1)), (number, 2, 32)) * busy
    size = rng.choice([40, 44, 48, 52, 60, 64, 72, 80, 601, 1500], (number, 2, 32))
    series = np.concatenate([count * size, count], axis=1)
    spec = SeriesSpec(bin_ns=100_000_000, length=32)
    return FlowTable.build(series, spec, protocol=[6, 17] * (number // 2), label=["a", "b"] * (number // 2))


def attempts(number: int, seed: int) -> FlowTable:
    """Make attempts at connections: SYNs at any time, a third refused, and a third accepted and then reset."""
    rng = np.random.default_rng(seed)
    series = np.zeros((number, 4, 32), dtype=np.int64)
    for flow, row in enumerate(series):
        syn, at = rng.choice([44, 52, 60]), np.r_[0, np.sort(rng.integers(1, 16, rng.integers(6)))]
        np.add.at(row[2], at, 1)
        row[0] = syn * row[2]
        if flow % 3 == 1:
            row[3, at + rng.integers(0, 4)] = 1
            row[1] = 40 * row[3]
        elif flow % 3 == 2:
            row[[1, 3], 16 + rng.integers(0, 4)] = (60, 1)
            row[[0, 2], 20 + rng.integers(0, 4)] = (40, 1)
    spec = SeriesSpec(bin_ns=100_000_000, length=32)
    return FlowTable.build(series, spec, protocol=6, label=["a", "b"] * (number // 2))


@functools.cache
def bundled_flows() -> FlowTable:
    """Sample flows of every class of the bundled model base."""
    return netgen.load("base").sample("all", 48, seed=7, sampling_steps=8)


@pytest.fixture(scope="module", params=["plain", "ipv6", "tls", "odd", "video", "attempts"])
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Export a table; return the table, the capture, the result and the options."""
    options = OPTIONS.get(request.param, CaptureOptions())
    if request.param == "odd":
        table = odd_flows(300, 1)
    elif request.param == "attempts":
        table = attempts(100, 2)
    elif request.param == "video":
        table = netgen.load("video").sample("all", 4, seed=2, sampling_steps=8)
    else:
        table = bundled_flows()
    path = tmp_path_factory.mktemp(request.param) / "sample.pcap"
    return table, path, write(table, path, options=options), options


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Export 400 flows of recorded traffic: an anonymised replay."""
    captures = [shared_data / "captures" / name for name in ("ndpi", "iot_setup/test")]
    flows = netgen.extract(captures, label_by="folder")  # UDP flows have profiles
    rows = np.sort(np.random.default_rng(0).permutation(len(flows))[:400])
    path = tmp_path_factory.mktemp("real") / "sample.pcap"
    options = CaptureOptions(rate=50)
    return flows.take(rows), path, write(flows.take(rows), path, options=options), options


def read_ground_truth(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path.with_name("sample.labels.parquet")).to_pylist()
    return rows


def check_loop(sample: Sample) -> None:
    table, path, report, options = sample
    again = netgen.extract(path, spec_from=table, idle_timeout=1e6)
    planned = plan(table, seed=options.seed, ip_version=options.ip_version)
    rows = read_ground_truth(path)
    order = sorted(range(len(rows)), key=lambda row: (rows[row]["start_ns"], row))
    np.testing.assert_array_equal(again.series(), written_series(planned)[order])
    assert again.table["src_port"].to_pylist() == [rows[row]["src_port"] for row in order]
    assert report.packets == planned.packet_counts.sum()
    assert report.repairs == planned.repairs
    unchanged = ~planned.repaired
    assert unchanged.any()
    np.testing.assert_array_equal(written_series(planned)[unchanged], table.series()[unchanged])
    assert [row["repaired"] for row in rows] == planned.repaired.tolist()


def connection_states(path: Path) -> Counter[str]:
    """Count the flows by the state of their connection."""
    return Counter(row["connection"] for row in read_ground_truth(path) if row["protocol"] == 6)


def remarks(sample: Sample) -> dict[str, Counter[str]]:
    """Predict what Wireshark says of the packets as planned."""
    table, path, _, options = sample
    packets = lay_out(plan(table, seed=options.seed, ip_version=options.ip_version), np.arange(len(table)))
    messages: dict[str, Counter[str]] = outside.remarks(packets, connection_states(path)["closed"])
    return messages


def check_wireshark(sample: Sample) -> None:
    require("tshark", "capinfos")
    _, path, _, _ = sample
    messages, expected = outside.wireshark(path), remarks(sample)
    assert not messages.get("Errors")
    # counters that differ in zeros are equal
    assert messages.get("Warns", Counter()) == expected["Warns"]
    assert messages["Notes"] == expected["Notes"]
    assert outside.strictly_ordered(path)


CLOSED = {("closed", "closed")}

#: State of a connection -> states that Suricata gives the flow and its TCP session.
SURICATA = {
    "closed": CLOSED,
    "reset": CLOSED,
    "refused": CLOSED,
    "unanswered": {("new", "syn_sent")},
    "half-open": CLOSED | {("new", "syn_recv")},
}

#: State of a connection -> state that argus gives it.
ARGUS = {"closed": "tcp FIN", "reset": "tcp RST", "refused": "tcp RST", "unanswered": "tcp REQ"}


def check_suricata(sample: Sample, tmp_path: Path) -> None:
    require("suricata")
    _, path, _, _ = sample
    report = outside.suricata(path, tmp_path)
    rows = read_ground_truth(path)
    assert report["alerts"] == report["anomalies"] == Counter()
    rows = [row for row in rows if row["protocol"] != outside.IGMP]  # Suricata keeps no flows of IGMP
    by_id = {flow["community_id"]: flow for flow in report["flows"]}
    assert len(by_id) == len(report["flows"]) == len(rows)
    for row in rows:
        flow = by_id[row["community_id"]]
        if row["protocol"] == 6:
            assert (flow["flow"]["state"], flow["tcp"]["state"]) in SURICATA[row["connection"]]
        assert flow["flow"]["pkts_toserver"] == row["up_packets"]
        assert flow["flow"]["bytes_toclient"] == row["down_bytes"] + 14 * row["down_packets"]
        if row["protocol"] in outside.PORTED:
            assert (flow["src_port"], flow["dest_port"]) == (row["src_port"], row["dst_port"])


def check_flow_tools(sample: Sample, tmp_path: Path) -> None:
    require("argus", "ra", "tcptrace")
    _, path, _, _ = sample
    expected = connection_states(path)
    states = outside.argus(path, tmp_path)
    connections = Counter({name: number for name, number in states.items() if name.startswith("tcp")})
    half_open = connections - Counter(name for kind, name in ARGUS.items() for _ in range(expected[kind]))
    assert half_open.total() == expected["half-open"]
    assert set(half_open) <= {"tcp RST", "tcp ACC"}
    traced = outside.tcptrace(path)
    assert traced["connections"] == sum(expected[kind] for kind in SURICATA)
    assert traced["complete"] == expected["closed"]
    assert (traced["sent twice"], traced["out of order"]) == (remarks(sample)["Notes"][outside.REPEATED], 0)


def check_nfstream(sample: Sample) -> None:
    if importlib.util.find_spec("nfstream") is None:
        pytest.skip("not installed: pip install nfstream")
    _, path, _, _ = sample
    assert sorted(outside.nfstream(path)) == sorted(map(outside.as_nfstream, read_ground_truth(path)))


def check_checksums(sample: Sample, tmp_path: Path) -> None:
    require("tcprewrite")
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
def test_other_tools_accept_synthetic_flows(check: Callable[..., None], sample: Sample, tmp_path: Path) -> None:
    """No tool reports a problem; all agree with the ground truth on connections, packets and bytes."""
    run(check, sample, tmp_path)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_recorded_flows_can_be_replayed(check: Callable[..., None], real: Sample, tmp_path: Path) -> None:
    """The same holds for flows extracted from real captures."""
    run(check, real, tmp_path)


def test_other_tools_recognise_tls(tmp_path: Path) -> None:
    """With --payload tls, Suricata and Wireshark see the protocol and the server name."""
    require("suricata", "tshark")
    count = np.zeros((40, 2, 8), dtype=np.int64)
    size = np.zeros_like(count)
    rng = np.random.default_rng(0)
    for side in (0, 1):
        count[:, side, 0], size[:, side, 0] = 4, 60 + 2 * 52 + 200 + rng.integers(300, 1000, 40)
        count[:, side, 1:] = rng.integers(2, 30, (40, 7))
        size[:, side, 1:] = 52 * count[:, side, 1:] + rng.integers(0, 1448, (40, 7)) * count[:, side, 1:]
    table = FlowTable.build(np.concatenate([size, count], axis=1), SeriesSpec(bin_ns=10**8, length=8))
    write(table, tmp_path / "x.pcap", options=CaptureOptions(payload="tls", sni="films.example"))
    report = outside.suricata(tmp_path / "x.pcap", tmp_path)
    assert report["alerts"] == Counter()
    assert Counter(flow["app_proto"] for flow in report["flows"]) == {"tls": 40}
    fields = ("tls.handshake.extensions_server_name", "_ws.malformed")
    words = [word for field in fields for word in ("-e", field)]
    lines = outside.output("tshark", "-r", tmp_path / "x.pcap", "-Y", "tls.handshake.type == 1", "-T", "fields", *words)
    assert Counter(line.strip() for line in lines.splitlines()) == {"films.example": 40}
    assert outside.output("tshark", "-r", tmp_path / "x.pcap", "-Y", "_ws.malformed") == ""


def test_the_gate_can_fail(tmp_path: Path) -> None:
    """The tools report a capture with an acknowledgement of data never sent and a wrong checksum."""
    require("tshark", "suricata", "tcprewrite")
    table = bundled_flows().take([0])
    path = tmp_path / "sample.pcap"
    write(table, path)
    packets = list(outside.records(path))
    broken = bytearray(path.read_bytes())
    at = 24 + sum(16 + len(packet) for packet in packets[:5]) + 16 + 14 + 20 + 8
    broken[at : at + 4] = (int.from_bytes(broken[at : at + 4], "big") + 5000 & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(broken)
    messages = outside.wireshark(path)
    assert messages["Errors"] or messages["Warns"]
    assert not outside.checksums_renewed(path, tmp_path)
    assert outside.suricata(path, tmp_path)["alerts"]
