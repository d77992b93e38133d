"""netgen.capture.formats.reader: every record of every capture, and of a damaged one all that can be read."""

import json
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from netgen.capture.errors import CaptureError
from netgen.capture.formats import pcap, pcapng
from netgen.capture.formats.reader import NO_INTERFACE, CaptureFile

NS = 1_000_000_000
START = 1_700_000_000 * NS


def records(path: Any) -> Any:
    """All columns of a capture, and the file once it is read."""
    capture = CaptureFile(path)
    chunks = list(capture.chunks())
    columns = {
        name: np.concatenate([getattr(chunk, name) for chunk in chunks]).tolist() if chunks else []
        for name in ("offset", "captured", "length", "time_ns", "linktype", "number")
    }
    columns["packets"] = [
        capture.data[at : at + size].tobytes() for at, size in zip(columns["offset"], columns["captured"], strict=True)
    ]
    return columns, capture


def block(kind: Any, body: Any, order: Any = "<") -> Any:
    body += bytes(-len(body) % 4)
    total = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + total + body + total


def section(order: Any = "<") -> Any:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(linktype: Any = 1, snaplen: Any = 0, order: Any = "<", options: Any = ()) -> Any:
    body = struct.pack(order + "HHI", linktype, 0, snaplen)
    for code, value in options:
        body += struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
    return block(1, body + (bytes(4) if options else b""), order)


def enhanced(packet: Any, ticks: Any, number: Any = 0, order: Any = "<", length: Any = None) -> Any:
    head = struct.pack(order + "5I", number, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), length or len(packet))
    return block(6, head + packet + bytes(-len(packet) % 4), order)


PACKETS = [(START + index * 1_234_567_000, bytes([index]) * (20 + index)) for index in range(5)]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("variant", [{}, {"nano": True}, {"kuznetsov": True}])
def test_every_pcap_variant_gives_the_same_records(pcap_file: Any, order: Any, variant: Any) -> None:
    """Both byte orders, micro- and nanoseconds and Kuznetsov's records read alike."""
    columns, capture = records(pcap_file(PACKETS, order=order, **variant))
    assert columns["packets"] == [packet for _, packet in PACKETS]
    assert columns["time_ns"] == [time_ns for time_ns, _ in PACKETS]
    assert columns["number"] == [1, 2, 3, 4, 5]
    assert set(columns["linktype"]) == {1}
    assert not capture.damage
    assert not capture.notes.total()


def test_snap_length_cuts_the_captured_bytes_but_not_the_wire_length(pcap_file: Any) -> None:
    columns, _ = records(pcap_file(PACKETS, snaplen=22))
    assert columns["captured"] == [20, 21, 22, 22, 22]
    assert columns["length"] == [20, 21, 22, 23, 24]


@pytest.mark.parametrize("flags", [0x3000_0000, 0x0400_0000, 0x1000_0000, 0xF400_0000, 0x03FF_0000])
def test_flags_in_the_link_type_word_are_masked(pcap_file: Any, flags: int) -> None:
    columns, _ = records(pcap_file(PACKETS, linktype=flags | 113))
    assert set(columns["linktype"]) == {113}


def test_chunks_join_to_the_file_whatever_their_size(pcap_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    full, _ = records(pcap_file(PACKETS))
    for size in (1, 2, 5, 6):
        monkeypatch.setattr(pcap, "CHUNK", size)
        assert records(pcap_file(PACKETS))[0] == full


def test_joined_files_are_read_through(pcap_bytes: Any, tmp_path: Path) -> None:
    """`cat a.pcap b.pcap` is recognised, even where b has another byte order and clock."""
    second = pcap_bytes(PACKETS, order=">", nano=True, linktype=101)
    path = tmp_path / "joined.pcap"
    path.write_bytes(pcap_bytes(PACKETS) + second + pcap_bytes([]))
    columns, capture = records(path)
    assert columns["packets"] == [packet for _, packet in PACKETS] * 2
    assert columns["time_ns"] == [time_ns for time_ns, _ in PACKETS] * 2
    assert columns["linktype"] == [1] * 5 + [101] * 5
    assert columns["number"] == list(range(1, 11))
    assert capture.notes["joined files"] == 2


@pytest.mark.parametrize("order", "<>")
def test_pcapng_interfaces_have_their_own_clock_and_link_type(tmp_path: Path, order: Any) -> None:
    """if_tsresol (decimal and binary), if_tsoffset and link type are those of the packet's interface."""
    offset = struct.pack(order + "q", 1_000_000_000)
    clocks = [
        (1, (), 10**6, 0),
        (101, ((9, b"\x09"),), 10**9, 0),
        (113, ((9, b"\x8a"),), 1 << 10, 0),  # 2^-10
        (1, ((2, b"eth0"), (9, b"\x03"), (14, offset)), 10**3, 1_000_000_000),
        (1, ((9, b"\x0c"),), 10**12, 0),
        (1, ((9, b"\xa2"),), 1 << 34, 0),
    ]
    seconds = 1_700_000_000
    out = section(order) + b"".join(interface(link, 0, order, options) for link, options, _, _ in clocks)
    for number, (_, _, unit, offset_s) in enumerate(clocks):
        ticks = min((seconds - offset_s) * unit + unit // 4, 2**64 - 1)
        out += enhanced(b"abcde", ticks, number, order)
    path = tmp_path / "a.pcapng"
    path.write_bytes(out)
    columns, capture = records(path)
    expected = [seconds * NS + NS // 4] * 6
    expected[4] = (2**64 - 1) // 1000 if seconds * 10**12 >= 2**64 else expected[4]
    expected[5] = (2**64 - 1) * NS >> 34 if seconds << 34 >= 2**64 else expected[5]
    assert columns["time_ns"] == expected
    assert columns["linktype"] == [link for link, *_ in clocks]
    assert columns["packets"] == [b"abcde"] * 6
    assert not capture.damage


@given(ticks=st.integers(0, 2**64 - 1), resolution=st.integers(0, 255), offset=st.integers(-(2**63), 2**63 - 1))
@example(ticks=200_000_000_000, resolution=20, offset=0)
@example(ticks=2**64 - 1, resolution=0x80 | 64, offset=0)
@example(ticks=2**64 - 1, resolution=28, offset=0)
@settings(max_examples=1000)
def test_any_clock_gives_exact_nanoseconds(ticks: Any, resolution: Any, offset: Any) -> None:
    """Time stamps equal exact integer arithmetic, clipped where int64 nanoseconds end."""
    got = pcapng.ticks_to_ns(np.array([ticks], np.uint64), pcapng.Interface(1, 0, resolution, offset))
    power = resolution & 0x7F
    unit = 1 << power if resolution & 0x80 else 10**power
    seconds, remainder = divmod(ticks, unit)
    bound = pcapng.MAX_SECONDS
    full = min(max(min(seconds, 2 * bound) + min(max(offset, -bound), bound), -bound), bound)
    # of a clock finer than 2^-32 a fraction may lose a nanosecond
    assert 0 <= full * NS + remainder * NS // unit - int(got[0]) <= (1 if resolution & 0x80 and power > 32 else 0)


def test_pcapng_sections_of_both_byte_orders_and_every_packet_block(tmp_path: Path) -> None:
    """A section forgets the interfaces before it; simple, old and enhanced blocks are packets, others are passed."""
    ticks = 1_700_000_000_000_000
    old = struct.pack(">HHIIII", 0, 7, ticks >> 32, ticks & 0xFFFFFFFF, 3, 9) + b"old\0"
    path = tmp_path / "a.pcapng"
    path.write_bytes(
        section("<")
        + interface(1)
        + block(0x0000_0BAD, b"a vendor's own")
        + enhanced(b"first", ticks)
        + block(3, struct.pack("<I", 6) + b"simple\0\0")
        + block(5, bytes(12))
        + section(">")
        + interface(276, order=">", snaplen=4)
        + block(2, old, ">")
        + block(3, struct.pack(">I", 6) + b"simple\0\0", ">")
        + enhanced(b"nowhere", ticks, number=1, order=">")
    )
    columns, capture = records(path)
    assert columns["packets"] == [b"first", b"simple", b"old", b"simp", b"nowhere"]
    assert columns["length"] == [5, 6, 9, 6, 7]
    assert columns["linktype"] == [1, 1, 276, 276, NO_INTERFACE]
    assert columns["time_ns"][:4] == [ticks * 1000] * 4  # a simple block has the time of the packet before
    assert capture.notes["packets without a time"] == 2
    assert not capture.damage


def test_scapy_and_netgen_read_the_same_pcapng(tmp_path: Path) -> None:
    scapy = pytest.importorskip("scapy.utils")
    layers = pytest.importorskip("scapy.layers.inet")
    path = tmp_path / "a.pcapng"
    frame = layers.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / layers.IP() / layers.UDP() / b"x"
    frame.time = 1_700_000_000.25
    with scapy.PcapNgWriter(str(path)) as writer:
        for _ in range(3):
            writer.write(frame)
    columns, _ = records(path)
    assert columns["packets"] == [bytes(frame)] * 3
    assert columns["time_ns"] == [1_700_000_000 * NS + NS // 4] * 3


def test_every_real_capture_has_as_many_packets_as_dpkt_read(shared_data: Path) -> None:
    """All files of truth.json: number of packets, captured bytes, and times where dpkt has them right."""
    truth = json.loads((shared_data / "captures" / "truth.json").read_text())
    wrong, wrong_time = [], []
    began = time.monotonic()
    for name, expected in truth.items():
        columns, _ = records(shared_data / "captures" / name)
        if expected["dpkt_error"] is None:
            counts = len(columns["number"]), sum(columns["captured"])
            if counts != (expected["dpkt_packets"], expected["caplen_bytes"]):
                wrong.append((name, counts, expected))
            times = columns["time_ns"]
            if times and max(abs(times[0] / NS - expected["first"]), abs(times[-1] / NS - expected["last"])) > 1e-5:
                wrong_time.append(name)
    assert not wrong
    # where interfaces differ in resolution, dpkt uses the last one's: off by a power of 1000
    assert len(wrong_time) <= 11
    for name in wrong_time:
        _, capture = records(shared_data / "captures" / name)
        assert isinstance(capture.format, pcapng.Pcapng)
        assert capture.data.tobytes().count(b"\x09\x00\x01\x00\x09") > 0, "an interface of nanoseconds"
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("cut", [1, 10, 24, 25, 30])
def test_a_cut_file_keeps_its_records_and_reports_the_damage(pcap_file: Any, cut: int) -> None:
    path = pcap_file(PACKETS)
    full = path.read_bytes()
    path.write_bytes(full[:-cut])
    columns, capture = records(path)
    complete = 4
    assert columns["packets"][:complete] == [packet for _, packet in PACKETS[:4]]
    if cut <= 24:  # the last packet has 24 bytes: some of it, or none, is left
        assert columns["packets"][4:] == [PACKETS[4][1][: 24 - cut]]
    else:
        assert len(columns["packets"]) == complete
    (damage,) = capture.damage
    assert damage.byte == len(full) - 24 - 16
    assert "last record" in damage.reason


@pytest.mark.parametrize("claim", [262_145, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_corrupt_length_stops_the_scan_at_the_last_good_record(
    pcap_file: Any, claim: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No garbage is read past a length that cannot be; the place and the loss are told."""
    monkeypatch.setattr(pcap, "CHUNK", size)
    path = pcap_file(PACKETS)
    data = bytearray(path.read_bytes())
    third = 24 + 2 * 16 + 20 + 21
    struct.pack_into("<I", data, third + 8, claim)
    path.write_bytes(data)
    columns, capture = records(path)
    assert columns["packets"] == [packet for _, packet in PACKETS[:2]]
    (damage,) = capture.damage
    assert damage.byte == third
    assert str(claim) in damage.reason


def test_the_first_packet_is_kept_even_if_its_length_is_corrupt(pcap_file: Any) -> None:
    """It begins where it must, so its headers are right."""
    path = pcap_file(PACKETS[:1])
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 24 + 8, 0x7FFF_FFFF)
    path.write_bytes(data)
    columns, capture = records(path)
    assert columns["packets"] == [PACKETS[0][1]]
    assert len(capture.damage) == 1


@pytest.mark.parametrize("cut", [1, 4, 8, 20, 35])
def test_a_cut_pcapng_keeps_its_packets(tmp_path: Path, cut: int) -> None:
    full = section() + interface() + enhanced(b"first", 1) + enhanced(b"second", 2)
    path = tmp_path / "a.pcapng"
    path.write_bytes(full[:-cut])
    columns, capture = records(path)
    assert columns["packets"][0] == b"first"
    assert b"second".startswith(b"".join(columns["packets"][1:]))
    assert len(capture.damage) == 1


def test_pcapng_blocks_that_disagree_on_their_length_stop_the_scan(tmp_path: Path) -> None:
    bad = bytearray(enhanced(b"second", 2))
    bad[-4] ^= 0xFF
    path = tmp_path / "a.pcapng"
    path.write_bytes(section() + interface() + enhanced(b"first", 1) + bytes(bad) + enhanced(b"third", 3))
    columns, capture = records(path)
    assert columns["packets"] == [b"first"]
    assert capture.damage[0].byte == len(section() + interface() + enhanced(b"first", 1))


def test_a_file_of_headers_only_has_no_records(pcap_file: Any, tmp_path: Path) -> None:
    columns, capture = records(pcap_file([]))
    assert columns["number"] == []
    assert not capture.damage
    path = tmp_path / "a.pcapng"
    path.write_bytes(section())
    columns, capture = records(path)
    assert columns["number"] == []
    assert not capture.damage


@pytest.mark.parametrize(
    ("content", "excerpt"),
    [
        (b"", "(empty)"),
        (b"Hello, world", "48 65 6c 6c 6f 2c 20 77 'Hello, w'"),
        (b"\x1f\x8b\x08\x00rest", "gzip"),
        (b"\xd4\xc3\xb2\xa1\x02\x00", "cut or bad, 6 bytes in all"),
        (b"\x0a\x0d\x0d\x0a" + bytes(40), "cut or bad"),
        (bytes(100), "00 00 00 00"),
    ],
)
def test_other_files_are_refused_with_name_and_first_bytes(tmp_path: Path, content: Any, excerpt: str) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        CaptureFile(path)
    assert str(path) in caught.value.message
    assert excerpt in caught.value.message
    assert caught.value.hint


def test_reading_twice_tells_the_same(pcap_file: Any) -> None:
    path = pcap_file(PACKETS)
    path.write_bytes(path.read_bytes()[:-1])
    capture = CaptureFile(path)
    for _ in range(2):
        assert [chunk.number.tolist() for chunk in capture.chunks()] == [[1, 2, 3, 4, 5]]
        assert len(capture.damage) == 1


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.pcap"):
        with pytest.raises(CaptureError, match="cannot read"):
            CaptureFile(path)


PCAPNG = section() + interface(options=((9, b"\x09"),)) + enhanced(b"first" * 9, 1) + enhanced(b"second" * 9, 2)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 60),
    kind=st.sampled_from(["pcap", "pcapng"]),
)
def test_no_damage_crashes_or_hangs_or_reads_outside_the_file(
    tmp_path: Path, pcap_bytes: Any, flips: Any, cut: Any, kind: Any
) -> None:
    """Flipped bytes and cuts: the file is refused, or its records lie inside it."""
    data = bytearray(PCAPNG if kind == "pcapng" else pcap_bytes(PACKETS))
    for at, value in flips:
        data[at % len(data)] ^= value
    path = Path(tmp_path) / "a"
    path.write_bytes(data[: len(data) - cut])
    try:
        columns, capture = records(path)
    except CaptureError:
        return
    assert all(0 <= size <= capture.size for size in columns["captured"])
    assert all(len(p) == size for p, size in zip(columns["packets"], columns["captured"], strict=True))
    assert len(columns["number"]) <= len(data) // 12
