"""`netgen verify` reports every fault that a test makes in an exported capture, at the right packet."""

from __future__ import annotations

import dataclasses
import gzip
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.paths import ROOT

from netgen.capture.errors import CaptureError, InputError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.verify.issues import CHECKS
from netgen.exporters.verify.verify import verify
from netgen.exporters.write import write

COMMAND = Path(sys.executable).with_name("netgen")
ACK, FIN, SYN = 0x10, 0x01, 0x02


@dataclasses.dataclass
class Frame:
    """A record: time, and the packet, whose fields can be set; checksums are computed when it is written."""

    time_ns: int
    data: bytearray
    keep_checksum: bool = False

    @property
    def tcp(self) -> bool:
        return self.data[23] == 6

    @property
    def flags(self) -> int:
        return self.data[47] if self.tcp else 0

    @property
    def up(self) -> bool:
        return self.data[26:28] == b"\xc6\x12"

    @property
    def payload(self) -> int:
        return len(self.data) - 34 - (self.data[46] >> 4) * 4

    def add(self, at: int, amount: int, width: int = 4) -> None:
        number = int.from_bytes(self.data[at : at + width], "big") + amount
        self.data[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "big")

    def to_bytes(self) -> bytes:
        if not self.keep_checksum:
            for begin, end, at, pseudo in ((14, 34, 24, b""), (34, None, 50 if self.tcp else 40, self._pseudo())):
                self.data[at : at + 2] = bytes(2)
                self.data[at : at + 2] = _checksum(pseudo + bytes(self.data[begin:end])).to_bytes(2, "big")
        return bytes(self.data)

    def _pseudo(self) -> bytes:
        return bytes(self.data[26:34]) + bytes([0, self.data[23]]) + (len(self.data) - 34).to_bytes(2, "big")


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF


def read(path: Path) -> list[Frame]:
    content, at, out = path.read_bytes(), 24, []
    while at < len(content):
        seconds, fraction, kept, _ = struct.unpack_from("<4I", content, at)
        out.append(Frame(seconds * 10**9 + fraction, bytearray(content[at + 16 : at + 16 + kept])))
        at += 16 + kept
    return out


def save(frames: list[Frame], path: Path, snaplen: int = 1 << 18) -> None:
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
    for frame in frames:
        data = frame.to_bytes()
        out.append(struct.pack("<4I", *divmod(frame.time_ns, 10**9), min(len(data), snaplen), len(data)))
        out.append(data[:snaplen])
    path.write_bytes(b"".join(out))


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Two TCP connections and a UDP flow, one after the other, with downloads and small questions."""
    series = np.zeros((3, 4, 8), dtype=np.int64)
    series[:, 2:, :6] = 4
    series[:, 3, 2:4] = 30
    series[:, 2, 2:4] = 16
    series[:, 0] = 52 * series[:, 2] + 20 * (series[:, 2] > 0) + 300 * (series[:, 2] > 4)
    series[:, 1] = 52 * series[:, 3] + 20 * (series[:, 3] > 0) + 1448 * np.maximum(series[:, 3] - 6, 0)
    table = FlowTable.build(series, SeriesSpec(bin_ns=10**8, length=8), protocol=[6, 6, 17], label="a")
    write(table, tmp_path / "x.pcap", options=CaptureOptions(rate=0.5))
    return tmp_path / "x.pcap"


def middle(frames: list[Frame], wanted: Callable[[Frame], bool]) -> int:
    """Index of a packet in the middle of those of a kind."""
    indices = [index for index, frame in enumerate(frames) if wanted(frame)]
    return indices[len(indices) // 2]


def is_data(frame: Frame) -> bool:
    return frame.tcp and not frame.up and frame.payload > 0 and not frame.flags & (SYN | FIN)


def is_bare(frame: Frame) -> bool:
    return frame.tcp and frame.up and frame.payload == 0 and frame.flags == ACK


def late(frames: list[Frame]) -> int:
    index = middle(frames, is_data)
    frames[index].time_ns = frames[index - 1].time_ns - 7
    return index


def wrong_checksum(at: int) -> Callable[[list[Frame]], int]:
    """Return a function that breaks the checksum at an offset of a frame."""

    def make(frames: list[Frame]) -> int:
        index = middle(frames, is_data)
        frames[index].to_bytes()
        frames[index].keep_checksum = True
        frames[index].add(at, 1, 2)
        return index

    return make


def no_udp_checksum(frames: list[Frame]) -> int:
    index = middle(frames, lambda frame: not frame.tcp)
    frames[index].to_bytes()
    frames[index].keep_checksum = True
    frames[index].data[-1] ^= 1
    return index


def too_long(frames: list[Frame]) -> int:
    index = middle(frames, is_data)
    frames[index].add(16, 40, 2)
    return index


def no_syn(frames: list[Frame]) -> int:
    del frames[next(index for index, frame in enumerate(frames) if frame.flags == SYN)]
    return next(index for index, frame in enumerate(frames) if frame.tcp)


def no_syn_ack(frames: list[Frame]) -> int:
    del frames[next(index for index, frame in enumerate(frames) if frame.flags == SYN | ACK)]
    return 0


def no_last(frames: list[Frame]) -> int:
    index = max(index for index, frame in enumerate(frames) if frame.tcp)
    del frames[index]
    return max(index for index, frame in enumerate(frames) if frame.tcp)


def no_fin(frames: list[Frame]) -> int:
    for frame in frames:
        if frame.up and frame.flags & FIN:
            frame.data[47] &= ~FIN
    port = next(frame for frame in frames if frame.tcp).data[34:36]
    return max(i for i, frame in enumerate(frames) if frame.tcp and port in (frame.data[34:36], frame.data[36:38]))


def lost(frames: list[Frame]) -> int:
    index = middle(frames, is_data)
    port = frames[index].data[36:38]
    del frames[index]
    return next(i for i, frame in enumerate(frames) if i >= index and not frame.up and frame.data[36:38] == port)


def repeated(frames: list[Frame]) -> int:
    index = middle(frames, is_data)
    copy = Frame(frames[index].time_ns, bytearray(frames[index].data))
    frames.insert(index + 1, copy)
    return index + 1


def ahead(frames: list[Frame]) -> int:
    index = middle(frames, is_bare)
    frames[index].add(42, 100_000)
    return index


def behind(frames: list[Frame]) -> int:
    index = middle(frames, is_bare)
    frames[index].add(42, -100_000)
    return index


def duplicate(frames: list[Frame]) -> int:
    index = middle(frames, is_bare)
    frames.insert(index + 1, Frame(frames[index].time_ns, bytearray(frames[index].data)))
    return index + 1


def shut(frames: list[Frame]) -> int:
    for frame in frames:
        if frame.tcp and frame.up:
            frame.data[48:50] = b"\0\1"
    return next(index for index, frame in enumerate(frames) if is_data(frame) and frame.payload > 128)


def stamp_back(frames: list[Frame]) -> int:
    index = middle(frames, is_data)
    assert frames[index].data[54:58] == b"\1\1\x08\x0a"
    frames[index].add(58, -5_000)
    return index


def stamp_unheard(frames: list[Frame]) -> int:
    index = middle(frames, is_data)
    frames[index].add(62, 5_000)
    return index


def tuple_again(frames: list[Frame]) -> int:
    first = frames[0].data[34:36]
    own = [frame for frame in frames if frame.tcp and first in (frame.data[34:36], frame.data[36:38])]
    later = frames[-1].time_ns + 10**9 - own[0].time_ns
    frames += [Frame(frame.time_ns + later, bytearray(frame.data)) for frame in own]
    return len(frames) - len(own)


#: Fault -> (what makes it, the check that finds it). The table in docs/replay.md is this one.
FAULTS: dict[str, tuple[Callable[[list[Frame]], int], str]] = {
    "a packet with an earlier time than the one before": (late, "order"),
    "a wrong IP checksum": (wrong_checksum(24), "ip checksum"),
    "a wrong TCP checksum": (wrong_checksum(50), "checksum"),
    "a byte of UDP payload changed": (no_udp_checksum, "checksum"),
    "an IP length beyond the frame": (too_long, "length"),
    "the SYN left out": (no_syn, "handshake"),
    "the SYN-ACK left out": (no_syn_ack, "handshake"),
    "the last acknowledgement left out": (no_last, "closing"),
    "a FIN flag taken away": (no_fin, "closing"),
    "a data segment left out": (lost, "sequence"),
    "a data segment sent twice": (repeated, "sequence"),
    "an acknowledgement of what was not sent": (ahead, "acknowledgement"),
    "an acknowledgement of less than before": (behind, "acknowledgement"),
    "an acknowledgement sent twice": (duplicate, "duplicate"),
    "windows shut": (shut, "window"),
    "a time stamp that goes back": (stamp_back, "timestamps"),
    "an echo of a time stamp not sent yet": (stamp_unheard, "timestamps"),
    "a second connection with the same ends": (tuple_again, "tuple"),
}


def test_an_exported_capture_has_no_issues(capture: Path) -> None:
    """No issue is reported for it, nor for a copy that the test wrote; the ground truth was compared."""
    report = verify(capture)
    assert report.issues == ()
    assert report.ground_truth == capture.with_name("x.labels.parquet")
    assert (report.flows, report.connections, report.others) == (3, 2, 0)
    assert report.checked == list(CHECKS)
    save(read(capture), capture)
    assert verify(capture).issues == ()
    assert verify(capture, capture.with_name("x.labels.csv")).issues == ()


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_reported(fault: str, capture: Path) -> None:
    """The check of the table fails, and names the packet."""
    make, check = FAULTS[fault]
    frames = read(capture)
    where = make(frames)
    save(frames, capture)
    issues = {issue.check: issue for issue in verify(capture).issues}
    assert check in issues
    assert issues[check].packet == where + 1


def test_the_page_lists_the_faults() -> None:
    """docs/replay.md says of each fault which check finds it, as the tests have it."""
    page = (ROOT / "docs" / "replay.md").read_text("utf-8")
    for fault, (_, check) in FAULTS.items():
        assert f"| {fault} | {check} |" in page
    assert all(f"| {check} |\n" in page for check in CHECKS)


def test_truncated_packets_are_reported(capture: Path) -> None:
    """A snap length shows, and so does --headers-only; checksums of what is not there are not judged."""
    save(read(capture), capture, snaplen=96)
    assert {issue.check for issue in verify(capture).issues} == {"whole"}


def test_a_truncated_file_is_reported(capture: Path) -> None:
    """A file that ends within a packet, and then lacks flows and packets of the truth."""
    content = capture.read_bytes()
    capture.write_bytes(content[: len(content) * 2 // 3])
    assert {"readable", "ground truth"} <= {issue.check for issue in verify(capture).issues}


TRUTH_FAULTS = {
    "packets": lambda rows: rows[1].update(up_packets=rows[1]["up_packets"] + 1),
    "bytes": lambda rows: rows[1].update(down_bytes=rows[1]["down_bytes"] - 1),
    "start": lambda rows: rows[0].update(start_ns=rows[0]["start_ns"] + 1),
    "end": lambda rows: rows[0].update(end_ns=rows[0]["end_ns"] + 1),
    "initiator": lambda rows: rows[2].update(src=rows[2]["dst"]),
    "server": lambda rows: rows[2].update(dst="198.19.9.9"),
    "protocol": lambda rows: rows[2].update(protocol=1),
    "a row too few": lambda rows: rows.pop(1),
    "a row too many": lambda rows: rows.append({**rows[0], "community_id": "1:AAAA", "flow": 9}),
    "a row twice": lambda rows: rows.append(rows[0]),
}


@pytest.mark.parametrize("fault", TRUTH_FAULTS)
def test_a_wrong_ground_truth_is_reported(fault: str, capture: Path) -> None:
    """Each column that can be compared is, and no row is missing on either side."""
    path = capture.with_name("x.labels.parquet")
    table = pq.read_table(path)
    rows = table.to_pylist()
    TRUTH_FAULTS[fault](rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    issues = verify(capture).issues
    assert [issue.check for issue in issues] == ["ground truth"]


def test_unreadable_files_are_errors(tmp_path: Path, capture: Path) -> None:
    """A file that is no capture, and labels that are none, are refused in a line."""
    (tmp_path / "text.pcap").write_text("hello hello hello hello hello")
    with pytest.raises(CaptureError):
        verify(tmp_path / "text.pcap")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="no column flow, row"):
        verify(capture, tmp_path / "other.parquet")
    with pytest.raises(InputError, match="is not the ground truth of a capture"):
        verify(capture, tmp_path / "text.pcap")


def test_a_capture_of_other_packets_is_an_error(tmp_path: Path) -> None:
    """A capture of other packets alone is refused; one of none at all has none that break anything."""
    from scapy.all import ARP, Ether, wrpcap

    wrpcap(str(tmp_path / "arp.pcap"), [Ether() / ARP()] * 3)
    with pytest.raises(InputError, match="none of its 3 packets can be verified"):
        verify(tmp_path / "arp.pcap")


def test_the_exit_code_of_the_command(capture: Path) -> None:
    """0 and a table where all holds, 1 and the failing checks where not; --json prints one object; gzip is read."""
    done = subprocess.run([COMMAND, "verify", capture], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "all 15 checks passed" in done.stdout
    packed = capture.with_name("y.pcap.gz")
    frames = read(capture)
    late(frames)
    save(frames, capture)
    packed.write_bytes(gzip.compress(capture.read_bytes()))
    done = subprocess.run([COMMAND, "verify", packed, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert [issue["check"] for issue in report["issues"]] == ["order"]
    assert report["ground_truth"] is None
