"""netgen.capture.extract: captures and folders to a table of labelled flows, with every packet counted."""

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.extraction import extract

from netgen.capture.errors import CaptureError, InputError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable

pytestmark = pytest.mark.usefixtures("either_reader")

NS = 1_000_000_000
T = 1_700_000_000 * NS
FIN, SYN, ACK = 1, 2, 16
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


@pytest.fixture
def frames(packet: Any) -> Any:
    """Build two flows, an ARP request and a truncated header."""
    return [
        (T, packet.tcp4(1000, 443, SYN)),
        (T + NS, packet.tcp4(443, 1000, SYN | ACK, b"", B, A)),
        (T + NS, packet.ether(bytes(28), 0x0806)),
        (T + 2 * NS, packet.udp4(5000, 53, bytes(12), A, C)),
        (T + 2 * NS, packet.ether(b"\x45\0")),
        (T + 3 * NS, packet.tcp4(443, 1000, ACK, bytes(1460), B, A)),
        (T + 9 * NS, packet.tcp4(443, 1000, ACK, bytes(2000), B, A)),
    ]


def balanced(table: Any) -> Any:
    """Return the read report of a table, and check its sums."""
    read_report = table.metadata["read_report"]
    assert read_report["packets"] == read_report["in_flows"] + sum(read_report["skipped"].values())
    assert read_report["in_flows"] == sum(table.table["packets"].to_pylist())
    assert read_report["flows"] == len(table)
    json.dumps(read_report)
    return read_report


def rows(table: Any, *names: Any) -> Any:
    return list(zip(*(table.table[name].to_pylist() for name in names), strict=True))


def test_a_capture_becomes_flows_with_series(pcap_file: Any, frames: Any) -> None:
    table = extract([pcap_file(frames)], bin_ns=NS, length=8)
    assert rows(table, "src", "src_port", "dst", "dst_port", "protocol", "packets", "bytes", "truncated_packets") == [
        (A, 1000, B, 443, 6, 4, 40 + 40 + 1500 + 2040, 1),
        (A, 5000, C, 53, 17, 1, 40, 0),
    ]
    assert rows(table, "start_ns", "duration_ns", "synthetic") == [(T, 9 * NS, False), (T + 2 * NS, 0, False)]
    up, down, up_packets, down_packets = table.series()[0].tolist()
    assert up == [40, 0, 0, 0, 0, 0, 0, 0]
    assert down == [0, 40, 0, 1500, 0, 0, 0, 0]
    assert up_packets == [1, 0, 0, 0, 0, 0, 0, 0]
    assert down_packets == [0, 1, 0, 1, 0, 0, 0, 0]
    assert table.classes == []


def test_the_read_report_accounts_for_every_packet(pcap_file: Any, frames: Any) -> None:
    read_report = balanced(extract([pcap_file(frames)], bin_ns=NS, length=8))
    assert read_report == {
        "files": 1,
        "packets": 7,
        "in_flows": 5,
        "skipped": {"not IP": 1, "header cut short": 1},
        "warnings": {"over 1500 bytes (offload)": 1, "packets after the last bin": 1},
        "flows": 2,
        "flows_dropped": {},
        "damaged": [],
        "not_captures": [],
    }


def test_short_flows_are_dropped_and_counted(pcap_file: Any, frames: Any) -> None:
    table = extract([pcap_file(frames)], bin_ns=NS, min_packets=2)
    read_report = balanced(table)
    assert rows(table, "packets") == [(4,)]
    assert table.series()[:, 2:].sum() == 4
    assert read_report["flows_dropped"] == {"under min_packets": 1}
    assert read_report["skipped"]["in flows under min_packets"] == 1


def test_the_bin_width_is_given_or_taken_from_a_table_or_fitted(pcap_file: Any, frames: Any) -> None:
    path = pcap_file(frames)
    assert extract([path], bin_ns=NS, length=8).spec == SeriesSpec(NS, 8)
    spec = SeriesSpec(NS // 4, 16)
    assert extract([path], spec=spec, bin_ns=NS, length=8).spec == spec
    auto = extract([path], group_by="capture")
    assert auto.spec.length == 128
    assert 9 * NS < auto.spec.span_ns < 10 * NS
    assert auto.table["truncated_packets"].to_pylist() == [0]


def test_the_series_are_the_same_for_a_given_and_an_automatic_width(pcap_file: Any, frames: Any) -> None:
    path = pcap_file(frames)
    auto = extract([path])
    given_ = extract([path], spec=auto.spec)
    assert auto.table.equals(given_.table)
    assert auto.metadata == given_.metadata


def test_flows_binned_in_batches_are_the_same(pcap_file: Any, packet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any batch size gives the series of one batch."""
    path = pcap_file([(T + i * NS // 7, packet.udp4(1 + i % 10, 53, bytes(i))) for i in range(60)])
    expected = extract([path], bin_ns=NS).series()
    for size in (1, 3, 10):
        monkeypatch.setattr("netgen.capture.flows.spill.BLOCK", size)
        assert (extract([path], bin_ns=NS).series() == expected).all()
    assert expected[:, 2].sum() == 60


def test_grouping_by_host_or_capture_makes_one_row(pcap_file: Any, frames: Any) -> None:
    path = pcap_file(frames)
    host = extract([path], group_by="host")
    assert rows(host, "src", "dst", "protocol", "packets") == [(A, None, None, 5)]
    capture = extract([path], group_by="capture")
    assert rows(capture, "src", "dst", "protocol", "packets") == [(None, None, None, 5)]
    balanced(host)
    balanced(capture)


def test_folders_are_read_in_order_and_other_files_are_reported(pcap_file: Any, frames: Any, tmp_path: Path) -> None:
    for name in ("set/b/2.pcap", "set/a/1.pcap", "set/b/1.pcap"):
        pcap_file(frames, name)
    (tmp_path / "set" / "README.txt").write_text("hello")
    (tmp_path / "set" / "b" / "empty.pcap").write_bytes(b"")
    table = extract([tmp_path / "set"], label_by="folder", group_by="capture")
    assert rows(table, "source", "label") == [("set/a/1.pcap", "a"), ("set/b/1.pcap", "b"), ("set/b/2.pcap", "b")]
    assert balanced(table)["not_captures"] == ["set/README.txt", "set/b/empty.pcap"]


def test_the_source_of_a_named_file_is_its_path_as_given(
    pcap_file: Any, frames: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pcap_file(frames, "x/a.pcap")
    monkeypatch.chdir(tmp_path)
    assert rows(extract("x/a.pcap", group_by="capture"), "source") == [("x/a.pcap",)]
    assert rows(extract(Path("x"), group_by="capture"), "source") == [("x/a.pcap",)]
    monkeypatch.chdir(tmp_path / "x")
    assert rows(extract(".", group_by="capture"), "source") == [("x/a.pcap",)]


def test_a_label_is_fixed_or_the_name_of_the_file_or_folder(pcap_file: Any, frames: Any) -> None:
    path = pcap_file(frames, "video/netflix.pcap.cap")
    assert extract([path], label="x").counts() == {"x": 2}
    assert extract([path], label_by="file").counts() == {"netflix": 2}
    assert extract([path], label_by="folder").counts() == {"video": 2}


def test_a_label_file_takes_precedence(pcap_file: Any, frames: Any, tmp_path: Path) -> None:
    csv = tmp_path / "labels.csv"
    csv.write_text(f"src,dst,dst_port,start,end,label\n{C},{A},,2023-11-14T22:13:22Z,2023-11-14T22:13:30Z,dns\n")
    table = extract([pcap_file(frames)], labels=csv, label="rest")
    assert rows(table, "dst_port", "label") == [(443, "rest"), (53, "dns")]
    assert extract([pcap_file(frames)], labels=csv).counts() == {"dns": 1}


def hello(name: Any) -> Any:
    entry = struct.pack(">HBH", len(name) + 3, 0, len(name)) + name
    body = b"\x03\x03" + bytes(33) + b"\0\2\x13\x01\1\0" + struct.pack(">HHH", len(entry) + 4, 0, len(entry)) + entry
    return b"\x16\3\1" + struct.pack(">H", len(body) + 4) + b"\1" + len(body).to_bytes(3, "big") + body


def test_server_names_are_columns_and_labels(pcap_file: Any, packet: Any, tmp_path: Path) -> None:
    """Only the initiator's hello counts; the row of a capture has the name with the most bytes."""
    film, other = hello(b"a.nflxvideo.net"), hello(b"www.example.org")
    path = pcap_file(
        [
            (T, packet.tcp4(1000, 443, SYN)),
            (T + 1, packet.tcp4(443, 1000, ACK, other, B, A)),
            (T + 2, packet.tcp4(1000, 443, ACK, film)),
            (T + 3, packet.tcp4(1000, 443, ACK, other)),
            (T + 4, packet.tcp4(443, 1000, ACK, bytes(1000), B, A)),
            (T + 5, packet.tcp4(1001, 443, SYN)),
            (T + 6, packet.tcp4(1001, 443, ACK, other)),
            (T + 7, packet.udp4(1001, 443, film)),
        ]
    )
    table = extract([path], label_by="sni", label="rest")
    assert rows(table, "server_name", "label") == [
        ("a.nflxvideo.net", "netflix"),
        ("www.example.org", "rest"),
        (None, "rest"),
    ]
    assert rows(extract([path], group_by="capture", label_by="sni"), "server_name", "label") == [
        ("a.nflxvideo.net", "netflix")
    ]
    table_file = tmp_path / "table.csv"
    table_file.write_text("suffix,class\nexample.org,example\n")
    assert extract([path], label_by="sni", sni_table=table_file).counts() == {"example": 1, "netflix": 1}


def test_damage_is_reported_and_strict_refuses_it(pcap_file: Any, frames: Any) -> None:
    path = pcap_file(frames)
    path.write_bytes(path.read_bytes()[:-7])
    read_report = balanced(extract([path]))
    (damage,) = read_report["damaged"]
    assert damage["file"] == str(path)
    assert damage["byte"] > 24
    assert "last record" in damage["reason"]
    with pytest.raises(CaptureError, match="damaged at byte"):
        extract([path], strict=True)


@pytest.mark.parametrize("content", [b"", b"just text", b"\xd4\xc3\xb2\xa1"])
def test_a_named_file_that_is_not_a_capture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=r"x\.pcap: not a pcap or pcapng file"):
        extract([path])


def test_nothing_to_read_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    for path, message in (("empty", "is empty"), ("texts", "none of the 1 files"), ("none.pcap", "does not exist")):
        with pytest.raises(CaptureError, match=message) as caught:
            extract([tmp_path / path])
        assert path.split(".")[0] in caught.value.message
        assert caught.value.hint
    with pytest.raises(CaptureError, match="no capture was named"):
        extract([])


def test_a_capture_of_headers_only_is_an_empty_table(pcap_file: Any, tmp_path: Path) -> None:
    for group_by in ("flow", "host", "capture"):
        table = extract([pcap_file([])], group_by=group_by)
        assert len(table) == 0
        assert balanced(table)["files"] == 1
        assert table.metadata["read_report"]["warnings"] == {"captures without a flow": 1}
    out = table.write(tmp_path / "a.parquet")
    assert len(FlowTable.read(out)) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by": "packet"}, "--group-by must be one of flow, host, capture, got 'packet'"),
        ({"label_by": "colour"}, "by 'colour'"),
        ({"min_packets": 0}, "--min-packets must be at least 1, got 0"),
        ({"length": 3}, "got 3"),
        ({"bin_ns": 0}, "--bin-width must be positive"),
        ({"idle_timeout_ns": -1}, "--idle-timeout must be"),
        ({"labels": "none.csv"}, "none.csv"),
        ({"sni_table": "none.csv"}, "not used"),
        ({"labels": "none.csv", "group_by": "capture"}, "cannot label a capture"),
    ],
)
def test_options_that_cannot_be_used_are_refused_before_reading(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        extract(["none.pcap"], **options)


def test_progress_grows_to_the_total(pcap_file: Any, frames: Any) -> None:
    paths = [pcap_file(frames, "a.pcap"), pcap_file([], "b.pcap"), pcap_file(frames, "c.pcap")]
    seen = []
    extract(paths, progress=lambda done, total: seen.append((done, total)))
    total = sum(path.stat().st_size for path in paths)
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=12),
    group_by=st.sampled_from(["flow", "host", "capture"]),
)
def test_any_damage_still_gives_a_balanced_read_report(pcap_file: Any, frames: Any, flips: Any, group_by: Any) -> None:
    path = pcap_file(frames)
    data = bytearray(path.read_bytes())
    for at, value in flips:
        data[at % len(data)] = value
    path.write_bytes(data)
    try:
        table = extract([path], group_by=group_by)
    except CaptureError:
        return
    balanced(table)
    assert (table.series() >= 0).all()


# -- real captures -----------------------------------------------------------------------------


@pytest.mark.external
@pytest.mark.parametrize("name", ["ndpi/netflix.pcap", "ndpi/instagram.pcap", "ndpi/zoom.pcap", "ndpi/teams.pcap"])
def test_tshark_counts_the_same_ip_packets_and_bytes(shared_data: Path, name: str) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    path = shared_data / "captures" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    fields = ["-e", "ip.len", "-e", "ipv6.plen"]
    command = ["tshark", "-n", "-r", str(path), "-Y", "ip or ipv6", "-T", "fields", *fields, "-E", "occurrence=f"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    sizes = [int(v4) if v4 else int(v6) + 40 for v4, v6 in (line.split("\t") for line in lines)]
    table = extract([path], group_by="capture")
    assert rows(table, "packets", "bytes") == [(len(sizes), sum(sizes))]


def test_real_folders_have_a_balanced_read_report_and_their_classes(shared_data: Path) -> None:
    """The captures of IoT devices, labelled by folder, hold all 31 of them."""
    folder = shared_data / "captures" / "iot_setup" / "test"
    table = extract([folder], group_by="capture", label_by="folder")
    read_report = balanced(table)
    assert read_report["files"] == len(table) == 137
    assert len(table.classes) == 31
    truth = json.loads((shared_data / "captures" / "truth.json").read_text())
    assert read_report["packets"] == sum(
        entry["dpkt_packets"] for name, entry in truth.items() if "iot_setup/test/" in name
    )
    inside = table.series()[:, 2:].sum(axis=(1, 2)) + np.array(table.table["truncated_packets"].to_pylist())
    assert inside.tolist() == table.table["packets"].to_pylist()


def test_the_netflix_capture_has_flows_labelled_netflix(shared_data: Path) -> None:
    table = extract([shared_data / "captures" / "ndpi" / "netflix.pcap"], label_by="sni")
    assert table.counts()["netflix"] >= 5
    balanced(table)
