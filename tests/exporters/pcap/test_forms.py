"""Formats of a capture: pcapng, compressed, headers only, to standard output; all hold the same packets."""

from __future__ import annotations

import errno
import io
import ipaddress
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.utils import PcapNgReader, RawPcapReader

import netgen
from netgen.capture.errors import InputError, OutputError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.choices import IpVersion
from netgen.exporters.pcap import merge
from netgen.exporters.pcap.capture_file import EPOCH_NS, estimate_capture_bytes
from netgen.exporters.pcap.frames import FRAME
from netgen.exporters.pcap.ground_truth import community_id, read_ground_truth
from netgen.exporters.pcap.merge import Merger
from netgen.exporters.pcap.options import CaptureOptions, capture_options
from netgen.exporters.write import FORMATS, write

COMMAND = Path(sys.executable).with_name("netgen")


def table(flows: int = 40, seed: int = 0, **columns: Any) -> FlowTable:
    """Make flows like downloads, alternately TCP and UDP."""
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 20, (flows, 2, 8))
    count[:, :, 0] += 4
    count[:, :, -1] += 3
    series = np.concatenate(
        [count * 52 + rng.integers(0, 1448, count.shape) * (count > 4) + 20 * (count > 0), count], 1
    )
    columns = {"protocol": [6, 17] * (flows // 2), "label": ["a", "b"] * (flows // 2), **columns}
    return FlowTable.build(series, SeriesSpec(bin_ns=10**8, length=8), **columns)


def decompressed(path: Path) -> bytes:
    codec = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    if codec is None:
        return path.read_bytes()
    with pa.CompressedInputStream(pa.OSFile(str(path)), codec) as stream:
        return bytes(stream.read())


@pytest.mark.parametrize("ending", [".pcap.gz", ".pcap.zst", ".pcapng.gz", ".pcapng.zst"])
def test_compressed_captures_hold_the_plain_ones(ending: str, tmp_path: Path) -> None:
    """The same bytes once unpacked, fewer on disk, the same file for the same seed."""
    flows = table()
    plain = tmp_path / f"x{Path(ending).stem}"
    for path in (plain, tmp_path / f"y{ending}", tmp_path / f"z{ending}"):
        report = write(flows, path)
        assert report.bytes_written == path.stat().st_size
    assert decompressed(tmp_path / f"y{ending}") == plain.read_bytes()
    assert (tmp_path / f"y{ending}").read_bytes() == (tmp_path / f"z{ending}").read_bytes()
    assert (tmp_path / f"y{ending}").stat().st_size < plain.stat().st_size / 3


def test_pcapng_has_the_packets_and_times_of_pcap(tmp_path: Path) -> None:
    """Scapy reads the same packets and nanosecond times; the first block names the program and the model."""
    flows = table()
    flows = FlowTable(flows.table, flows.spec, {"made_by": "synth", "model": "m", "seed": 5})
    write(flows, tmp_path / "x.pcap", options=CaptureOptions(seed=3))
    write(flows, tmp_path / "x.pcapng", options=CaptureOptions(seed=3), force=True)
    with RawPcapReader(str(tmp_path / "x.pcap")) as reader:
        plain = [(meta.sec * 10**9 + meta.usec, bytes(data)) for data, meta in reader]
    with PcapNgReader(str(tmp_path / "x.pcapng")) as reader:
        packets = [(round(packet.time * 10**9), bytes(packet)) for packet in reader]
    assert packets == plain
    head = (tmp_path / "x.pcapng").read_bytes()[:1000]
    assert b"Not real traffic" in head
    assert b'"model": "m"' in head
    assert b'"model_seed": 5' in head
    assert b'"seed": 3' in head


def test_pcapng_comment_is_read_by_others(tmp_path: Path) -> None:
    """Wireshark's capinfos shows the comment, the program and the time resolution."""
    capinfos = shutil.which("capinfos")
    if capinfos is None:
        pytest.skip("capinfos is not installed: apt-get install tshark")
    write(table(), tmp_path / "x.pcapng", options=CaptureOptions(seed=3))
    text = subprocess.run([capinfos, tmp_path / "x.pcapng"], capture_output=True, text=True, check=True).stdout
    assert "Not real traffic" in text
    assert "netgen 0." in text
    assert "nanoseconds (9)" in text
    assert "Strict time order:   True" in text


def test_headers_only(tmp_path: Path) -> None:
    """What is left of each packet is its headers; the records keep the true lengths, so the series comes back."""
    flows = table()
    write(flows, tmp_path / "x.pcap")
    write(flows, tmp_path / "y.pcap", options=CaptureOptions(headers_only=True), force=True)
    with RawPcapReader(str(tmp_path / "x.pcap")) as full, RawPcapReader(str(tmp_path / "y.pcap")) as short:
        for (data, meta), (head, kept) in zip(full, short, strict=True):
            assert meta == kept._replace(caplen=meta.caplen)
            ip = data[14:]
            end = 14 + 20 + (8 if ip[9] == 17 else (ip[32] >> 4) * 4)
            assert head == data[:end]
    again = netgen.extract(tmp_path / "y.pcap", spec_from=flows)
    np.testing.assert_array_equal(again.series(), netgen.extract(tmp_path / "x.pcap", spec_from=flows).series())


def test_standard_output(tmp_path: Path) -> None:
    """`-o -` writes the bytes of the file, and prints to stderr only."""
    table().write(tmp_path / "t.parquet")
    write(table(), tmp_path / "x.pcap", options=CaptureOptions(seed=4))
    words: list[str | Path] = [COMMAND, "export", tmp_path / "t.parquet", "--seed", "4", "-o"]
    done = subprocess.run([*words, "-"], capture_output=True, check=True, cwd=tmp_path)
    assert done.stdout == (tmp_path / "x.pcap").read_bytes()
    assert b"40 flows" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "t.parquet",
        "x.labels.csv",
        "x.labels.parquet",
        "x.pcap",
    ]


def test_the_export_command(tmp_path: Path) -> None:
    """A flow table becomes a capture with ground truth; --json lists what was written."""
    table(start_ns=10**18, src="10.9.8.7", dst="10.1.1.1").write(tmp_path / "t.flows.parquet")
    words: list[str | Path] = [COMMAND, "export", "t.flows.parquet", "--start", "2026-03-01T10:00:00+01:00", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    report = json.loads(done.stdout)
    assert (report["wrote"], report["flows"]) == ("t.pcap", 40)
    assert report["ground_truth"] == ["t.labels.csv", "t.labels.parquet"]
    rows = pq.read_table(tmp_path / "t.labels.parquet").to_pylist()
    assert {row["start_ns"] for row in rows} == {1_772_355_600 * 10**9}
    assert {row["src"][:7] for row in rows} == {"198.18."}
    assert b"10.9.8.7" not in (tmp_path / "t.labels.csv").read_bytes()
    assert bytes([10, 9, 8, 7]) not in (tmp_path / "t.pcap").read_bytes()


#: Options -> the error, and what to type next.
INVALID = {
    ("--sni", "a.example"): "--sni needs TLS handshakes to stand in. Add --payload tls",
    ("--payload", "tls", "--sni", "a b\n"): r"--sni must be a host name, got 'a b\n'. Type --sni www.example.org",
    ("--payload", "tls", "--sni", "name!"): "--sni must be a host name, got 'name!'. Type --sni www.example.org",
    ("--payload", "tls", "--sni", "a..b"): "--sni must be a host name, got 'a..b'. Type --sni www.example.org",
    ("--rate", "0"): "--rate must be greater than 0, got 0. Type --rate 10 for 10 flows a second",
    ("--rate", "1e-9"): "flow 5 begins 5135199434874899968 ns after 1970, which a pcap file cannot hold. "
    "Give another start (--start 2026-01-01) or, for many flows, a higher --rate",
    ("--start", "soon"): "--start must be a date and time, got 'soon'. Type --start 2026-01-31T12:00:00",
    ("--start", "1066-10-14"): "--start must lie between 1970 and 2106, got -28502755200 s after 1970. "
    "pcap files hold no other times. Type --start 2026-01-31",
    ("--headers-only", "--payload", "tls"): "--headers-only stores no payload, got --payload tls. "
    "Leave one of them out",
    ("-o", "x.txt"): f"cannot write x.txt: unknown ending '.txt'. End the name in one of {', '.join(FORMATS)}",
    ("-o", "x.csv", "--payload", "tls"): "--payload: only for captures, and x.csv is a table. "
    "Type -o FILE.pcap, or leave them out",
}


@pytest.mark.parametrize("words", INVALID, ids=" ".join)
def test_invalid_options_are_errors(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, netgen_command: Any
) -> None:
    """One line names the option, the value and what to type next; no file is written."""
    monkeypatch.chdir(tmp_path)
    table().write("t.parquet")
    outcome = netgen_command("export", "t.parquet", *words)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == f"netgen: {INVALID[words]}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_unknown_payloads_are_usage_errors(tmp_path: Path, netgen_command: Any) -> None:
    """The message lists the payloads; the exit code is that of a usage error."""
    outcome = netgen_command("export", tmp_path / "t.parquet", "--payload", "noise")
    assert (outcome.code, outcome.out) == (2, "")
    message = " ".join(outcome.err.replace("│", "").split())
    assert "Invalid value for '--payload': 'noise' is not one of 'zeros', 'tls', 'random'." in message


def test_rate_is_that_of_a_poisson_process(tmp_path: Path) -> None:
    """2,000 arrivals at 50 a second take 40 s, give or take four standard deviations; gaps vary as they should."""
    flows = table(2000)
    write(flows, tmp_path / "x.pcap", options=CaptureOptions(rate=50, start_ns=10**18, headers_only=True))
    starts = np.sort(pq.read_table(tmp_path / "x.labels.parquet")["start_ns"].to_numpy())
    assert starts[0] == 10**18
    assert abs((starts[-1] - starts[0]) / 1e9 - 40) < 4 * 40 / np.sqrt(2000)
    gaps = np.diff(starts) / 1e9
    assert 0.9 < gaps.std() / gaps.mean() < 1.1
    assert EPOCH_NS not in starts


def test_packets_that_wait_on_disk_come_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for few frames in memory a capture is the same, byte for byte."""
    flows = table(200)
    write(flows, tmp_path / "x.pcap", options=CaptureOptions(rate=1000))
    for name, value in (("MAX_IN_MEMORY", 500), ("READ_FRAMES", 300), ("MIN_READ_FRAMES", 20)):
        monkeypatch.setattr(netgen.exporters.pcap.merge, name, value)
    monkeypatch.setattr(netgen.exporters.pcap.capture_file, "_BLOCK_PACKETS", 400)
    write(flows, tmp_path / "y.pcap", options=CaptureOptions(rate=1000))
    assert (tmp_path / "x.pcap").read_bytes() == (tmp_path / "y.pcap").read_bytes()


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 300), max_size=40), max_size=12), st.integers(1, 60), st.integers(1, 40))
def test_the_merger_sorts(blocks: list[list[int]], memory: int, read: int) -> None:
    """Frames are added in blocks; those before the next block's begin come out in order of time."""
    saved = merge.MAX_IN_MEMORY, merge.READ_FRAMES, merge.MIN_READ_FRAMES
    merge.MAX_IN_MEMORY, merge.READ_FRAMES, merge.MIN_READ_FRAMES = memory, read, 1
    try:
        blocks = sorted(filter(None, blocks), key=min)
        merger, out, number = Merger(), [], 0
        for block in blocks:
            out += [ready.copy() for ready in merger.before(min(block))]
            assert all((ready["time_ns"] < min(block)).all() for ready in out)
            batch = np.zeros(len(block), FRAME)
            batch["time_ns"], batch["seq"] = block, np.arange(number, number + len(block))
            number += len(block)
            merger.add(batch)
        out += [ready.copy() for ready in merger.before(None)]
        merger.close()
    finally:
        merge.MAX_IN_MEMORY, merge.READ_FRAMES, merge.MIN_READ_FRAMES = saved
    merged = np.concatenate([np.zeros(0, FRAME), *out])
    assert (np.diff(merged["time_ns"]) >= 0).all()
    assert sorted(merged["seq"].tolist()) == list(range(number))
    assert sorted(merged["time_ns"].tolist()) == sorted(time for block in blocks for time in block)


def test_a_full_disk_while_packets_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the temporary folder's variable, and no file is left."""

    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(netgen.exporters.pcap.merge, "MAX_IN_MEMORY", 10)
    monkeypatch.setattr(netgen.exporters.pcap.merge, "READ_FRAMES", 10)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    monkeypatch.setattr(netgen.exporters.pcap.capture_file, "_BLOCK_PACKETS", 100)
    with pytest.raises(
        OutputError, match="cannot write packets to a temporary file: No space left on device"
    ) as caught:
        write(table(), tmp_path / "x.pcap", options=CaptureOptions(rate=1000))
    assert "TMPDIR" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_addresses_of_ipv6_flows(tmp_path: Path) -> None:
    """A flow that had IPv6 addresses is written as IPv6, in 2001:db8::/32, and gives back its series."""
    flows = table(src=["fe80::1", "10.0.0.1"] * 20)
    write(flows, tmp_path / "x.pcap")
    rows = pq.read_table(tmp_path / "x.labels.parquet").to_pylist()
    assert all(row["src"].startswith("2001:db8:0:18::" if row["row"] % 2 == 0 else "198.18.") for row in rows)
    assert all(row["dst"].startswith("2001:db8:0:19::" if row["row"] % 2 == 0 else "198.19.") for row in rows)
    again = netgen.extract(tmp_path / "x.pcap", spec_from=flows)
    order = sorted(range(len(rows)), key=lambda row: rows[row]["start_ns"])
    assert again.table["src"].to_pylist() == [rows[row]["src"] for row in order]
    assert again.series()[:, 2:].sum() == sum(row["up_packets"] + row["down_packets"] for row in rows)


#: From the specification of Community ID (corelight/community-id-spec, baseline): TCP and UDP over IPv4 and IPv6.
COMMUNITY_IDS = [
    (6, "128.232.110.120", 34855, "66.35.250.204", 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    (17, "192.168.1.52", 54585, "8.8.8.8", 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
]


@pytest.mark.parametrize("case", COMMUNITY_IDS)
def test_community_id(case: tuple[int, str, int, str, int, str]) -> None:
    """The values of the specification, from either side. test_external.py compares them with Suricata's."""
    protocol, src, src_port, dst, dst_port, expected = case
    first, second = (ipaddress.ip_address(address).packed for address in (src, dst))
    assert community_id(protocol, first, src_port, second, dst_port) == expected
    assert community_id(protocol, second, dst_port, first, src_port) == expected


def test_options_of_a_table_are_refused() -> None:
    """What only a capture has is not silently left out of a table."""
    with pytest.raises(InputError, match=r"--rate, --headers-only: only for captures, and x\.parquet is a table"):
        capture_options("x.parquet", seed=0, start=None, rate=3.0, headers_only=True)
    assert capture_options("x.parquet", seed=0, start=None, rate=None) == CaptureOptions()
    assert capture_options("x.pcap", seed=0, start="1.5").start_ns == 1_500_000_000


@pytest.mark.parametrize("option", [{"payload": "noise"}, {"ip_version": "5"}, {"rate": float("nan")}], ids=str)
def test_options_of_a_capture_are_checked(option: dict[str, Any]) -> None:
    """Each error names the option and the value."""
    ((name, value),) = option.items()
    with pytest.raises(InputError, match=rf"--{name.replace('_', '-')} must be .*, got '?{value}"):
        CaptureOptions(**option)


@pytest.mark.parametrize("headers_only", [False, True])
@pytest.mark.parametrize("ip_version", ["4", "6"])
def test_the_estimated_size_is_close(tmp_path: Path, headers_only: bool, ip_version: IpVersion) -> None:
    """Within 5 % of the file, or 10 % of one with headers only."""
    options = CaptureOptions(headers_only=headers_only, ip_version=ip_version)
    flows = table(200)
    size = write(flows, tmp_path / "x.pcap", options=options).bytes_written
    assert abs(estimate_capture_bytes(flows, options) / size - 1) < (0.1 if headers_only else 0.05)


def test_a_large_capture_gives_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netgen.exporters.write, "LARGE_CAPTURE_BYTES", 1000)
    with pytest.warns(UserWarning, match=r"x\.pcap will take about 0\.0 GB; a name that ends in \.zst compresses it"):
        write(table(), tmp_path / "x.pcap")
    write(table(), tmp_path / "x.pcap.zst", force=True)


def test_flows_are_read_from_files(tmp_path: Path) -> None:
    """`write` takes the path of a flow table in Parquet or CSV in place of the table."""
    flows = table()
    flows.write(tmp_path / "t.parquet")
    write(flows, tmp_path / "t.csv")
    write(flows, tmp_path / "a.pcap")
    write(tmp_path / "t.parquet", tmp_path / "b.pcap")
    assert (tmp_path / "a.pcap").read_bytes() == (tmp_path / "b.pcap").read_bytes()
    assert write(str(tmp_path / "t.csv"), tmp_path / "c.pcap").flows == 40
    write(tmp_path / "t.parquet", tmp_path / "u.csv")
    assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "u.csv").read_bytes()


def test_ground_truth_names_seed_class_and_source(tmp_path: Path) -> None:
    """CSV and Parquet have the same rows, with seed, class and source; metadata names options and model."""
    flows = table(source="netgen:base")
    flows = FlowTable(flows.table, flows.spec, {"made_by": "synth", "model": "base"})
    report = write(flows, tmp_path / "x.pcap.gz", options=CaptureOptions(seed=11, payload="tls"))
    assert [path.name for path in report.ground_truth] == ["x.labels.csv", "x.labels.parquet"]
    rows = pq.read_table(tmp_path / "x.labels.parquet")
    assert read_ground_truth(tmp_path / "x.labels.csv").to_pylist() == rows.to_pylist()
    assert rows["label"].to_pylist() == flows.labels.tolist()
    assert set(rows["seed"].to_pylist()) == {11}
    assert set(rows["source"].to_pylist()) == {"netgen:base"}
    metadata = json.loads(rows.schema.metadata[b"netgen"])["ground_truth"]
    assert metadata["model"] == "base"
    assert metadata["payload"] == "tls"
