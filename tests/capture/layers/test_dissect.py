"""netgen.capture.layers.dissect: every record is an IP packet with the right columns, or has a reason why not."""

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.record_batches import COLUMNS, batch_of, dissect_one, from_hex, skip_reason

from netgen.capture.formats.reader import CaptureFile
from netgen.capture.layers.dissect import dissect
from netgen.capture.native import plain

pytestmark = pytest.mark.usefixtures("either_reader")


@pytest.mark.parametrize(
    ("reason", "content"),
    [
        ("header cut short", "4500 0028"),
        ("header cut short", "4800 0028 16*00"),  # options not captured
        ("header cut short", "4500 0028 0000 0000 4006 0000 01020304 05060708 04d2"),  # ports not captured
        (
            "header cut short",
            "4500 0016 0000 0000 4006 0000 01020304 05060708 04d2 0050",
        ),  # the IP packet ends before the ports
        ("header cut short", "6000 0000 0008 11 40 20*00"),
        ("bad IP header", "7500 0028 36*00"),
        ("bad IP header", "4400 0028 36*00"),
        ("bad IP header", "4500 0013 36*00"),
    ],
)
def test_records_without_an_ip_packet_are_counted_with_their_reason(reason: str, content: str) -> None:
    for header in ("0800", "8100 0001 0800"):
        kind = "86dd" if content.startswith("6") else "0800"
        assert skip_reason(bytes(12) + from_hex(header.replace("0800", kind)) + from_hex(content)) == reason


def test_a_header_of_the_other_version_is_bad() -> None:
    assert skip_reason(from_hex("4500 0013 60*00"), 229) == "bad IP header"
    assert skip_reason(from_hex("6000 0000 0000 3b40 32*00"), 228) == "bad IP header"


def test_ip_bytes_do_not_depend_on_the_snap_length(packet: Any) -> None:
    """The size is the IP header's, so a capture cut to 54 bytes a packet has the same bytes."""
    frame = packet.tcp4(1, 2, 0x10, bytes(1000))
    assert dissect_one(frame)["size"] == dissect_one(frame, snaplen=54)["size"] == 1040
    assert dissect_one(frame, snaplen=38)["src_port"] == 1  # the ports were captured, the flags were not
    assert dissect_one(frame, snaplen=38)["flags"] == 0
    assert dissect(batch_of([frame], snaplen=38)).notes["TCP without its flags"] == 1


def test_ethernet_padding_is_not_counted(packet: Any) -> None:
    columns = dissect_one(packet.tcp4(1, 2, 0x10) + bytes(6))
    assert (columns["size"], columns["payload_length"]) == (40, 0)


def test_a_length_of_0_is_replaced_by_the_length_on_the_wire(packet: Any) -> None:
    frame = packet.ether(packet.ipv4(packet.tcp(1, 2, 0x10, bytes(3000)), 6, length=0))
    assert dissect_one(frame)["size"] == 3040
    assert dissect_one(frame, snaplen=60)["size"] == 3040
    assert dissect_one(frame, wire=[4_000_000_000])["size"] == 3040  # an impossible length on the wire is ignored
    notes = dissect(batch_of([frame])).notes
    assert notes == {"IP length 0 (offload)": 1, "over 1500 bytes (offload)": 1}


def test_ipv6_length_0_is_a_jumbogram_or_nothing() -> None:
    """Big TCP and jumbograms have the length on the wire; an ICMPv6 packet of length 0 is empty."""
    for protocol, size in ((6, 3040), (17, 3040), (58, 40)):
        assert dissect_one(from_hex(f"6000 0000 0000 {protocol:02x} 40 3032*00"), 101)["size"] == size


def test_ip_options_are_skipped(packet: Any) -> None:
    frame = packet.ether(packet.ipv4(packet.udp(7, 8), 17, options=b"\x01" * 12))
    columns = dissect_one(frame)
    assert (columns["size"], columns["src_port"], columns["dst_port"]) == (40, 7, 8)


def test_later_fragments_have_no_ports(packet: Any) -> None:
    columns = dissect_one(packet.ether(packet.ipv4(packet.udp(7, 8, bytes(32)), 17, fragment=185)))
    assert (columns["src_port"], columns["dst_port"], columns["size"]) == (-1, -1, 60)
    first = dissect_one(packet.ether(packet.ipv4(packet.udp(7, 8, bytes(32)), 17, fragment=0x2000)))
    assert (first["src_port"], first["dst_port"]) == (7, 8)


def test_an_icmp_echo_has_its_id_as_port_pair(packet: Any) -> None:
    for kind in (8, 0):
        columns = dissect_one(packet.ether(packet.ipv4(struct.pack(">BBHHH", kind, 0, 0, 77, 1), 1)))
        assert (columns["src_port"], columns["dst_port"]) == (77, 77)
    unreachable = dissect_one(packet.ether(packet.ipv4(struct.pack(">BBHHH", 3, 1, 0, 77, 1) + bytes(28), 1)))
    assert (unreachable["src_port"], unreachable["dst_port"]) == (0, 0)
    for kind in (128, 129):
        v6 = from_hex("6000 0000 0008 3a 40 32*00") + struct.pack(">BBHHH", kind, 0, 0, 78, 1)
        assert dissect_one(v6, 101)["src_port"] == 78


@pytest.mark.parametrize("protocol", [6, 17, 33, 132, 136])
def test_five_transports_have_ports(packet: Any, protocol: int) -> None:
    frame = packet.ether(packet.ipv4(struct.pack(">HH", 80, 81) + bytes(16), protocol))
    columns = dissect_one(frame)
    assert (columns["protocol"], columns["src_port"], columns["dst_port"]) == (protocol, 80, 81)
    assert skip_reason(frame, snaplen=37) == "header cut short"
    later = dissect_one(packet.ether(packet.ipv4(bytes(24), protocol, fragment=185)))
    assert (later["src_port"], later["dst_port"]) == (-1, -1)


@pytest.mark.parametrize("protocol", [0, 2, 47, 50, 51, 89, 112, 255])
def test_other_protocols_have_ports_0(packet: Any, protocol: int) -> None:
    columns = dissect_one(packet.ether(packet.ipv4(b"\x00\x50\x00\x51", protocol)))
    assert (columns["protocol"], columns["src_port"], columns["dst_port"]) == (protocol, 0, 0)


def ipv6(chain: Any, payload: Any) -> Any:
    """Make an IPv6 packet with a chain of (protocol, header) before its UDP payload."""
    numbers = [number for number, _ in chain] + [17]
    body = b"".join(bytes([numbers[i + 1]]) + header for i, (_, header) in enumerate(chain)) + payload
    return struct.pack(">IHBB", 6 << 28, len(body), numbers[0], 64) + bytes(32) + body


HOP, ROUTING, DESTINATION = (0, b"\0" + bytes(6)), (43, b"\1" + bytes(14)), (60, b"\0" + bytes(6))
AUTHENTICATION = (51, b"\4" + bytes(22))


@pytest.mark.parametrize(
    "chain",
    [[HOP], [HOP, ROUTING, DESTINATION], [AUTHENTICATION], [HOP, (44, bytes(7)), DESTINATION], [DESTINATION] * 8],
)
def test_ipv6_extension_headers_are_skipped(packet: Any, chain: Any) -> None:
    frame = ipv6(chain, packet.udp(5, 6, b"xyz"))
    columns = dissect_one(frame, 101)
    assert (columns["protocol"], columns["src_port"], columns["dst_port"]) == (17, 5, 6)
    assert columns["size"] == len(frame)


def test_an_endless_chain_of_extension_headers_ends(packet: Any) -> None:
    assert skip_reason(ipv6([DESTINATION] * 9, packet.udp(5, 6)), 101) == "bad IP header"
    assert skip_reason(ipv6([(60, b"\xff" + bytes(6))], packet.udp(5, 6)), 101) == "header cut short"


def test_a_later_ipv6_fragment_has_no_ports(packet: Any) -> None:
    columns = dissect_one(ipv6([(44, struct.pack(">xHI", 0x0101, 9))], packet.udp(5, 6)), 101)
    assert (columns["protocol"], columns["src_port"]) == (17, -1)


def test_scapy_and_netgen_agree_on_packets_that_scapy_builds() -> None:
    """The packets have VLAN tags, options and extension headers."""
    inet = pytest.importorskip("scapy.layers.inet")
    inet6 = pytest.importorskip("scapy.layers.inet6")
    l2 = pytest.importorskip("scapy.layers.l2")
    ether = l2.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    built = [
        ether / inet.IP(src="1.2.3.4", dst="5.6.7.8") / inet.TCP(sport=9, dport=10, flags="S", options=[("MSS", 9)]),
        ether / l2.Dot1Q(vlan=7) / inet.IP(options=[inet.IPOption_NOP()] * 4) / inet.UDP(sport=9, dport=10) / b"abc",
        ether / inet6.IPv6(src="2001:db8::1") / inet6.IPv6ExtHdrHopByHop() / inet.UDP(sport=9, dport=10) / b"abc",
        ether / inet6.IPv6() / inet6.IPv6ExtHdrFragment(m=1) / inet.TCP(sport=9, dport=10, flags="FA"),
    ]
    raw = [bytes(record) for record in built]
    dissected = dissect(batch_of(raw))
    assert not dissected.skipped
    for row, frame in enumerate(ether.__class__(record) for record in raw):
        v6 = inet6.IPv6 in frame
        assert dissected.size[row] == (frame[inet6.IPv6].plen + 40 if v6 else frame[inet.IP].len)
        assert (dissected.src_port[row], dissected.dst_port[row]) == (9, 10)
        if inet.TCP in frame:
            assert dissected.flags[row] == int(frame[inet.TCP].flags)
        assert dissected.vlan[row] == (frame[l2.Dot1Q].vlan if l2.Dot1Q in frame else -1)


LINK_CAPTURES = """
LINKTYPE_IPV4 LINKTYPE_IPV6 LINKTYPE_PKTAP OSPFv3_NBMA_adjacencies arcnet-rfc1201-arp-icmp-http arista_ether e1000g
ipoib ieee802.11_exthdr ieee802.11_rx-stbc macsec-integonly nflog bgp-aigp ppp_ip_udp_dns
"""


@pytest.mark.external
@pytest.mark.parametrize("name", LINK_CAPTURES.split())
def test_tshark_finds_the_same_ip_packets(shared_data: Path, name: Any) -> None:
    """The captures have rare link layers."""
    if not shutil.which("tshark"):
        pytest.skip("there is no tshark here to compare with")
    path = shared_data / "captures" / "tcpdump" / f"{name}.pcap"
    fields = ("frame.number", "ip.src", "ip.proto", "ip.len", "ipv6.src", "ipv6.nxt", "ipv6.plen")
    words = [word for field in fields for word in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-Y", "ip or ipv6", "-T", "fields", "-E", "occurrence=f", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    expected: list[Any] = []
    for line in done.stdout.splitlines():
        number, src, protocol, length, *v6 = line.split("\t")
        expected.append((int(number), 4, src, int(protocol), int(length)) if src else (int(number), 6, *v6))
    actual = []
    for batch in CaptureFile(path).chunks():
        dissected = dissect(batch)
        for row in range(len(dissected)):
            version, size, low = dissected.version[row], int(dissected.size[row]), int(dissected.src_low[row])
            src = ".".join(str(byte) for byte in low.to_bytes(4, "big")) if version == 4 else ""
            actual.append((int(dissected.number[row]), int(version), src, int(dissected.protocol[row]), size))
    assert [record[:2] for record in actual] == [record[:2] for record in expected]
    assert [record for record in actual if record[1] == 4] == [record for record in expected if record[1] == 4]
    payload_sizes = [int(record[4]) for record in expected if record[1] == 6]
    assert [record[4] - 40 for record in actual if record[1] == 6] == payload_sizes


def test_every_real_packet_is_read_or_skipped_with_a_reason(shared_data: Path) -> None:
    """The tcpdump captures have 35 link types and many wrong headers."""
    read = kept = 0
    for path in sorted((shared_data / "captures" / "tcpdump").rglob("*")):
        if path.is_file():
            for batch in CaptureFile(path).chunks():
                dissected = dissect(batch)
                assert len(dissected) + dissected.skipped.total() == len(batch)
                assert (dissected.size >= 20).all()
                read += len(batch)
                kept += len(dissected)
    assert 0 < kept < read


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    packets=st.lists(st.binary(max_size=90), min_size=1, max_size=8),
    linktype=st.sampled_from([0, 1, 9, 12, 50, 101, 104, 108, 113, 228, 229, 276, 147]),
    start=st.sampled_from([b"", bytes(12) + b"\x08\x00\x45", bytes(12) + b"\x86\xdd\x60", bytes(12) + b"\x81\x00"]),
)
def test_any_bytes_are_read_or_skipped_with_a_reason(packets: Any, linktype: Any, start: Any) -> None:
    """No content crashes the dissector, and its columns are consistent."""
    batch = batch_of([start + record for record in packets], linktype)
    dissected = dissect(batch)
    assert len(dissected) + dissected.skipped.total() == len(batch)
    end = batch.offset[dissected.number - 1] + batch.captured[dissected.number - 1]
    assert ((dissected.payload_at + dissected.payload_length <= end) | (dissected.payload_length == 0)).all()
    assert (dissected.size >= 20).all()


def ports_and_words(packet: Any, *, protocol: Any, identification: Any, ttl: Any, payload: Any) -> Any:
    """Make an IPv4 packet with its identification and TTL set."""
    raw = bytearray(packet.ipv4(payload, protocol))
    raw[4:6], raw[8] = struct.pack(">H", identification), ttl
    return bytes(raw)


def fingerprints(*packets: Any, linktype: Any = 101, **options: Any) -> Any:
    return dissect(batch_of(list(packets), linktype, **options)).fingerprint.tolist()


@pytest.mark.parametrize("protocol", [1, 6, 17, 47, 50, 132])
def test_two_records_of_a_packet_have_one_fingerprint(packet: Any, protocol: int) -> None:
    """Link layer, TTL and padding may differ."""
    payload = bytes(range(30))
    near = ports_and_words(packet, protocol=protocol, identification=7, ttl=64, payload=payload)
    far = ports_and_words(packet, protocol=protocol, identification=7, ttl=60, payload=payload)
    frames = [bytes(12) + b"\x08\0" + near, bytes(12) + from_hex("8100 0005 0800") + far + bytes(9), far]
    marks = dissect(batch_of(frames, [1, 1, 101])).fingerprint
    assert len(set(marks.tolist())) == 1
    assert marks[0] != 0
    assert fingerprints(near, far, near, snaplen=44)[0] == fingerprints(near, far, near, snaplen=44)[1]


def test_different_packets_have_different_fingerprints(packet: Any) -> None:
    base = {"protocol": 6, "identification": 7, "ttl": 64, "payload": packet.tcp(1, 2, 0x10, b"abc")}
    others = [
        {"identification": 8},
        {"payload": packet.tcp(1, 2, 0x10, b"abcd")},
        {"payload": packet.tcp(1, 2, 0x11, b"abc")},
    ]
    for offset in (*range(4, 13), 16, 17):  # sequence number to flags, checksum
        payload = bytearray(base["payload"])
        payload[offset] ^= 1
        others.append({"payload": bytes(payload)})
    marks = fingerprints(*(ports_and_words(packet, **{**base, **other}) for other in ({}, *others)))
    assert len(set(marks)) == len(marks)


def test_a_packet_without_checksum_and_identification_has_no_fingerprint(packet: Any) -> None:
    """Such payloads may begin alike, so two packets could not be told apart."""
    none = ports_and_words(packet, protocol=17, identification=0, ttl=64, payload=packet.udp(1, 2, bytes(20)))
    numbered = ports_and_words(packet, protocol=17, identification=1, ttl=64, payload=packet.udp(1, 2, bytes(20)))
    assert fingerprints(none)[0] == 0
    assert fingerprints(numbered)[0] != 0
    # later fragments have an identification and an offset
    first, second = (packet.ipv4(bytes(16), 17, fragment=offset) for offset in (10, 12))
    assert 0 not in fingerprints(first, second)
    assert len(set(fingerprints(first, second, second))) == 2
    # IPv6 has an identification only in a fragment header
    assert fingerprints(ipv6([], packet.udp(5, 6)))[0] == 0
    fragments = [ipv6([(44, struct.pack(">xHI", offset, 9))], bytes(8)) for offset in (0x0101, 0x0201)]
    assert len(set(fingerprints(*fragments))) == 2


HEADERS = st.fixed_dictionaries(
    {
        "v4": st.booleans(),
        "protocol": st.sampled_from([6, 6, 6, 17, 17, 1, 58, 47, 132, 0, 44, 60]),
        "ihl": st.sampled_from([5, 5, 5, 6, 15, 4, 0]),
        "fragment": st.sampled_from([0, 0, 0, 0x4000, 0x2000, 185, 0x8000]),
        "length": st.sampled_from([None, None, None, 0, 19, 20, 28, 39, 40, 41, 1000, 65535]),
        "version": st.sampled_from([None, None, None, 7]),
        "tags": st.sampled_from(["", "", "", "8100 0005"]),
        "payload": st.binary(max_size=50),
        "cut": st.sampled_from([0, 0, 0, 1, 8, 12, 20, 30]),
        "more": st.sampled_from([0, 0, 6, 40]),
    }
)


def frame_of(field: Any) -> Any:
    """Make an Ethernet frame whose IP header has the values of `field`, valid or not."""
    payload = field["payload"]
    if field["v4"]:
        length = 20 + len(payload) if field["length"] is None else field["length"]
        first = (field["version"] or 4) << 4 | field["ihl"]
        addresses = b"\x0a\0\0\x01\x0a\0\0\x02"
        head = struct.pack(">BBHHHBBH", first, 0, length, 3, field["fragment"], 64, field["protocol"], 0) + addresses
    else:
        length = len(payload) if field["length"] is None else field["length"]
        head = struct.pack(">IHBB", (field["version"] or 6) << 28, length, field["protocol"], 64) + bytes(range(32))
    frame = bytes(12) + from_hex(field["tags"]) + (b"\x08\0" if field["v4"] else b"\x86\xdd") + head + payload
    return frame[: max(len(frame) - field["cut"], 0)] + bytes(field["more"])


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.lists(HEADERS, min_size=1, max_size=12), decapsulate=st.booleans(), wire=st.integers(0, 2000))
def test_the_fast_path_and_the_general_path_give_the_same_columns(
    monkeypatch: pytest.MonkeyPatch, fields: Any, decapsulate: Any, wire: Any
) -> None:
    """Usual packets take the fast path, and any mixture gives the columns of the general one."""
    frames = [frame_of(field) for field in fields]
    batch = batch_of(frames, wire=[len(frame) + wire for frame in frames])
    quick = dissect(batch, decapsulate=decapsulate)
    with monkeypatch.context() as patch:
        patch.setattr("netgen.capture.layers.ip.parse_headers", plain.parse_headers)
        patch.setattr("netgen.capture.layers.dissect.native_packets.parse_headers", plain.parse_headers)
        slow = dissect(batch, decapsulate=decapsulate)
    for name in COLUMNS:
        assert getattr(quick, name).tolist() == getattr(slow, name).tolist(), name
        assert getattr(quick, name).dtype == getattr(slow, name).dtype
    assert (quick.skipped, quick.notes) == (slow.skipped, slow.notes)


def test_both_paths_give_the_same_columns_for_real_packets(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = 0
    for path in sorted((shared_data / "captures" / "ndpi").glob("[f-i]*.pcap*")):
        for batch in CaptureFile(path).chunks():
            quick = dissect(batch, decapsulate=True)
            with monkeypatch.context() as patch:
                patch.setattr("netgen.capture.layers.ip.parse_headers", plain.parse_headers)
                patch.setattr("netgen.capture.layers.dissect.native_packets.parse_headers", plain.parse_headers)
                slow = dissect(batch, decapsulate=True)
            for name in COLUMNS:
                assert np.array_equal(getattr(quick, name), getattr(slow, name)), (path.name, name)
            assert (quick.skipped, quick.notes) == (slow.skipped, slow.notes)
            at_once += len(batch)
    assert at_once > 1000


def test_few_packets_of_a_real_flow_share_a_fingerprint(shared_data: Path) -> None:
    """Nearby packets of a capture without repeats are compared."""
    near, alike, packets = 32, 0, 0
    for path in sorted((shared_data / "captures" / "youtube_requet_c").glob("*.pcap"))[:2]:
        for batch in CaptureFile(path).chunks():
            marks = dissect(batch).fingerprint
            packets += len(marks)
            alike += sum(int((marks[step:] == marks[:-step]).sum()) for step in range(1, near))
    assert packets > 10_000
    assert alike < packets / 1000
