"""links, tags and wireless: IP is found behind every link layer and tag."""

import struct
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.record_batches import batch_of, check_tcp4, dissect_one, from_hex, skip_reason

from netgen.capture.layers.cursor import LINK
from netgen.capture.layers.dissect import dissect
from netgen.capture.layers.links import LAYERS, MAX_LAYERS

MACS = "001122334455 00aabbccddee"
SNAP = "aaaa03 000000 0800"
ETHERNET = "12*00 0800"
WLAN, QOS = f"0801 22*00 {SNAP}", f"8801 22*00 0000 {SNAP}"

#: Link type, and the header before an IPv4 packet.
LINKS = [
    (0, "02000000"),
    (0, "00000002"),
    (1, ETHERNET),
    (1, f"12*00 0033 {SNAP}"),
    (1, "12*00 0033 aaaa03 0000f8 0800"),  # a bridge's
    (1, "12*00 002e 060603"),  # IP has its own SAP
    (6, f"10 40 12*00 {SNAP}"),
    (6, f"10 40 6*00 80 5*00 0630 0011 0020 {SNAP}"),  # source-routed
    (7, "01 02 d4 00 0000"),
    (7, "01 02 d4 ff ffff d4 00 0001"),  # a length that needs the exception
    (7, "01 02 f0"),  # RFC 1051
    (8, "16*00"),
    (9, "ff03 0021"),
    (9, "0021"),
    (9, "21"),
    (9, "0f00 0800"),
    (9, "ff03 0281 00000140"),  # MPLS
    (10, f"50 12*00 {SNAP}"),
    (11, SNAP),
    (12, ""),
    (14, ""),
    (50, "ff03 0021"),
    (51, "11 00 0001 002d 0021"),
    (100, SNAP),
    (101, ""),
    (104, "0f00 0800"),
    (105, WLAN),
    (105, QOS),
    (105, f"0803 28*00 {SNAP}"),  # four addresses
    (105, f"8803 30*00 {SNAP}"),
    (105, f"8881 28*00 {SNAP}"),  # HT control
    (105, f"8801 22*00 8000 12*00 0033 {SNAP}"),  # aggregated
    (106, ""),
    (106, SNAP),
    (107, "1841 03 cc"),
    (107, "1841 0800"),  # Cisco's
    (107, "18404001 03 cc"),
    (107, "1841 03 00 80 000000 0800"),
    (107, "1841 03 cf 0021"),  # PPP
    (108, "00000002"),
    (109, "00000002 8*00"),
    (109, "02000000 8*00"),
    (113, "0000 0001 0006 8*00 0800"),
    (113, f"0000 0001 0006 8*00 0004 {SNAP}"),
    (117, "3d 02 62*00"),
    (117, "40 02 62*00"),
    (119, f"44000000 90000000 136*00 {WLAN}"),
    (119, f"80211001 00000040 56*00 {WLAN}"),  # AVS under the same number
    (122, f"16*00 {SNAP}"),
    (123, f"02 00 0020 {SNAP}"),
    (123, f"01 00 0020 0000 {ETHERNET}"),
    (127, f"0000 0800 00000000 {WLAN}"),
    (127, f"0000 0900 02000000 20 8801 22*00 0000 0000 {SNAP}"),  # padded
    (127, f"0000 0900 02000000 20 8803 30*00 {SNAP}"),  # to pad, but of a length that needs none
    (127, f"0000 1100 03000000 8*00 20 8801 22*00 0000 0000 {SNAP}"),  # a time before the flags
    (127, f"0000 1900 03000080 00000000 4*ff 8*00 20 8801 22*00 0000 0000 {SNAP}"),
    (129, "01 02 0000 d4 00 0000"),
    (129, "01 02 0000 f0"),
    (138, "16*00 0800"),
    (143, f"00 00 0044 0000 {ETHERNET}"),
    (143, f"01 04 0048 4*00 0000 {ETHERNET}"),  # an extended header
    (163, f"80211001 00000040 56*00 {WLAN}"),
    (166, "01 03 0021"),
    (178, f"4d4743 01 {ETHERNET}"),
    (178, f"4d4743 81 0004 4*00 {ETHERNET}"),
    (192, f"00 00 0800 69000000 {WLAN}"),
    (192, f"00 00 1000 01000000 8*00 {ETHERNET}"),
    (192, "00 00 0800 65000000"),
    (204, "00 ff03 0021"),
    (204, "01 0021"),
    (205, "01 0f00 0800"),
    (206, "01 1841 03 cc"),
    (226, "01 02 0000 0000002b 16*00"),
    (228, ""),
    (239, "02 00 0000 0800 0100 08000100 0500 0a00 00 000000 2f00 0900"),
    (240, f"4*00 {ETHERNET}"),
    (242, "40*00 0800 0000"),
    (258, f"6c000000 01000000 01000000 96*00 {ETHERNET}"),
    (258, "70000000 01000000 0c000000 100*00"),
    (274, f"7*55 d5 {ETHERNET}"),
    (276, "0800 0000 00000001 0001 00 06 8*00"),
    (281, "12*00 20000080 0800"),
    (282, f"20000080 {ETHERNET}"),
    (284, "12*00 c00a0000 0800"),
    (285, "12*00 dada 0000 c00a0000 0800"),
]

#: Tags between Ethernet's addresses and an IPv4 packet, and their VLAN.
TAGS = [
    ("0800", -1),
    ("8100 2005 0800", 5),
    ("8100 e000 0800", -1),  # number 0: a priority, no VLAN
    ("88a8 0005 8100 0007 0800", 5 + 4096 * 7),
    ("9100 0005 8100 0007 0800", 5 + 4096 * 7),
    ("8100 0005 8100 0007 8100 0009 0800", 5 + 4096 * 7),
    (f"8100 0005 0033 {SNAP}", 5),
    ("8847 00001040 00002140", -1),
    ("8848 00001140", -1),
    (f"8847 00001140 00000000 {MACS} 0800", -1),  # an Ethernet pseudowire with a control word
    (f"8847 00001140 00000000 {MACS} 8100 0007 0800", 7),
    (f"8847 00001140 {MACS} 0800", -1),  # without a control word
    ("8864 11 00 0001 002d 0021", -1),
    ("6558 12*00 0800", -1),
    ("880b 0021", -1),
    ("88e7 00000005 12*00 0800", -1),
    ("88e5 00 00 00000001 0800", -1),
    ("88e5 20 00 00000001 8*00 0800", -1),
    ("8903 0001 12*00 8100 0007 0800", 7),
    ("8909 01 01 0001 0005 0800", -1),
    ("892f 0037 0001 0800", -1),
    ("894f 0fc2 02 01 00000001", -1),
    ("894f 0fc6 01 03 00000001 16*00 12*00 0800", -1),
    ("d28b 0001 0010 8*00 0800", -1),
    ("d28b 0001 0120 6*00 0800", -1),
]


@pytest.fixture
def ip(packet: Any) -> Any:
    return packet.ipv4(packet.tcp(1234, 80, 0x18, b"abc"), 6)


def udp6(packet: Any) -> Any:
    return from_hex("60000000 0008 11 40") + bytes(range(32)) + packet.udp(53, 99)


@pytest.mark.parametrize(("linktype", "header"), LINKS)
def test_ipv4_is_read_behind_every_link_layer(ip: Any, linktype: Any, header: Any) -> None:
    check_tcp4(dissect_one(from_hex(header) + ip, linktype))


@pytest.mark.parametrize(("header", "vlan"), TAGS)
def test_ipv4_is_read_behind_every_tag(ip: Any, header: Any, vlan: Any) -> None:
    check_tcp4(dissect_one(bytes(12) + from_hex(header) + ip), vlan)


@pytest.mark.parametrize(
    ("linktype", "header"),
    [
        *((linktype, header[:-4] + "86dd") for linktype, header in LINKS if header.endswith("0800")),
        *((1, f"12*00 {header[:-4]}86dd") for header, _ in TAGS if header.endswith("0800")),
        *((linktype, "") for linktype in (12, 14, 101, 106, 229)),
        *((0, family) for family in ("1e000000", "18000000", "0000001c", "0000000a")),
        *((108, family) for family in ("0000001c", "00000018")),
        (7, "01 02 c4 00 0000"),
        (9, "ff03 0057"),
        (9, "57"),
        (51, "11 00 0001 0032 0057"),
        (107, "1841 03 8e"),
        (109, "0000001e 8*00"),
        (117, "3d 18 62*00"),
        (226, "01 1a 0000 00000030 16*00"),
        (239, "0a 00 0000 3400 0900"),
        (1, "12*00 894f 0fc2 02 02 00000001"),
        (1, "12*00 8847 00001140"),
    ],
)
def test_ipv6_is_read_wherever_ipv4_is(packet: Any, linktype: Any, header: Any) -> None:
    columns = dissect_one(from_hex(header) + udp6(packet), linktype)
    assert (columns["version"], columns["protocol"], columns["size"]) == (6, 17, 48)
    assert (columns["src_high"], columns["dst_low"]) == (0x0001020304050607, 0x18191A1B1C1D1E1F)
    assert (columns["src_port"], columns["dst_port"]) == (53, 99)


@pytest.mark.parametrize("tagged", [0xE0000005, 0xF0000005])
def test_a_vlan_in_a_switch_tag_counts(ip: Any, tagged: int) -> None:
    frame = bytes(12) + struct.pack(">I", tagged) + from_hex("0800") + ip
    check_tcp4(dissect_one(frame, 284), 5)
    check_tcp4(dissect_one(frame[:12] + from_hex("dada 0000") + frame[12:], 285), 5)


def test_link_layers_in_one_batch_are_read_as_one_at_a_time(ip: Any) -> None:
    """Each interface of a pcapng file may have its own."""
    every = [(linktype, from_hex(header) + ip) for linktype, header in LINKS]
    every += [(1, bytes(12) + from_hex(header) + ip) for header, _ in TAGS]
    dissected = dissect(batch_of([frame for _, frame in every], [linktype for linktype, _ in every]))
    assert not dissected.skipped
    for row, (linktype, frame) in enumerate(every):
        alone = dissect_one(frame, linktype)
        for name in ("size", "src_low", "dst_low", "src_port", "dst_port", "flags", "vlan", "fingerprint"):
            assert getattr(dissected, name)[row] == alone[name]


@pytest.mark.parametrize(("linktype", "header"), [*LINKS, *((1, f"12*00 {header}") for header, _ in TAGS)])
def test_a_record_cut_inside_its_headers_is_skipped(ip: Any, linktype: Any, header: Any) -> None:
    """It is counted with a reason wherever it is cut, and no bytes after the cut are read."""
    frame = from_hex(header) + ip
    for length in range(len(frame) - 20):  # the cut may be anywhere up to the ports
        # the bytes of the next record must not complete this one
        dissected = dissect(batch_of([frame[:length], ip + bytes(64)], [linktype, 101]))
        assert dissected.number.tolist() == [2]
        ((reason, count),) = dissected.skipped.items()
        assert reason in ("header cut short", "not IP")
        assert count == 1


@pytest.mark.parametrize(
    ("reason", "linktype", "content"),
    [
        ("not IP", 1, "12*00 0806 28*00"),  # ARP
        ("not IP", 1, "12*00 0026 424203 40*00"),  # spanning tree
        ("not IP", 1, "12*00 0026 aaaa03 00000c 2000 40*00"),  # Cisco's discovery, in SNAP
        ("not IP", 1, "12*00 0003 0000"),
        ("not IP", 1, "12*00 " + "8100 0001 " * 12 + "0800 30*45"),
        ("not IP", 1, "12*00 8847 00000140 00000000 30*00"),  # MPLS, neither IP nor a frame inside
        ("not IP", 1, "12*00 88e5 0c 00 00000001 0800 30*45"),  # MACsec, encrypted
        ("not IP", 1, "12*00 8909 01 02 0001 0005 0800 30*45"),
        ("not IP", 1, "12*00 894f 0fc1 01 01 00000001 30*45"),
        ("not IP", 1, "12*00 d28b 0001 0030 8*00 0800 30*45"),
        ("not IP", 1, "12*00 8864 11 00 0001 002d c021 30*45"),  # PPP's own
        ("not IP", 1, "12*00 8863 30*45"),
        ("not IP", 6, "10 00 12*00 aaaa03 000000 0800 30*45"),  # Token Ring's own
        ("not IP", 10, "4f 12*00 aaaa03 000000 0800 30*45"),
        ("not IP", 129, "01 02 0000 d4 02 0000 30*45"),  # a later fragment of a packet
        ("not IP", 129, "01 02 0000 d5 00 0000 30*45"),
        ("not IP", 101, "40*00"),
        ("not IP", 0, "07000000 30*45"),
        ("not IP", 9, "ff03 c021 30*00"),
        ("not IP", 106, "e0e003 30*00"),
        ("not IP", 107, "18404040 40 03 cc 30*45"),  # an unterminated address
        ("not IP", 107, "1841 03 08 30*45"),
        ("not IP", 123, "05 00 0020 30*45"),
        ("not IP", 143, "c0 00 0044 0000 12*00 0800 30*45"),
        ("not IP", 178, "4d4743 02 30*45"),  # without the frame's header
        ("not IP", 178, "4d4744 00 30*45"),
        ("not IP", 239, "02 00 0000 " + "0400 0100 " * 40),
        ("not IP", 239, "02 00 0000 0000 0100 40*45"),
        ("not IP", 274, "7*55 61 12*00 0800 30*45"),  # a later fragment of a frame
        ("header cut short", 1, "8*00"),
        ("header cut short", 1, "12*00 8100"),
        ("header cut short", 101, ""),
        ("header cut short", 192, "00 00 ffff 01000000 40*00"),
        ("header cut short", 258, "00ffffff 01000000 01000000 40*00"),
        ("not IP", 192, "00 00 0400 01000000 40*00"),
        ("not IP", 192, "00 00 0800 c0000000 " * 12),  # nested in itself
        ("link type 147 is not read", 147, "40*00"),
        ("link type 195 is not read", 192, "00 00 0800 c3000000 40*00"),
        ("link type 65535 is not read", 192, "00 00 0800 ffffffff 40*00"),
        ("interface not declared", -1, "40*00"),
    ],
)
def test_frames_without_ip_are_counted_with_their_reason(reason: str, linktype: int, content: Any) -> None:
    assert skip_reason(from_hex(content), linktype) == reason


@pytest.mark.parametrize(
    ("reason", "content"),
    [
        ("encrypted 802.11", f"0841 22*00 {SNAP}"),
        ("encrypted 802.11", f"8842 22*00 0000 {SNAP}"),
        ("not IP", "8000 22*00 40*45"),  # a beacon
        ("not IP", "d400 8*00"),  # an acknowledgement
        ("not IP", "4801 22*00"),  # no data
        ("not IP", "c841 24*00"),  # no data, although encrypted
        ("not IP", f"0801 20*00 0100 {SNAP} 30*45"),  # a later fragment
        ("not IP", "0801 22*00 424203 30*45"),
        ("header cut short", "0801 21*00"),
        ("header cut short", "08"),
        ("header cut short", "8801 22*00 00"),
    ],
)
def test_80211_frames_without_an_ip_packet_have_their_reason(reason: str, content: str) -> None:
    assert skip_reason(from_hex(content), 105) == reason
    assert skip_reason(from_hex("0000 0800 00000000 " + content), 127) == reason
    assert skip_reason(from_hex("0000 1000 01000000 8*00 " + content), 127) == reason


def test_an_invalid_radiotap_header_is_not_ip(ip: Any) -> None:
    for header in ("0100 0800 00000000", "0000 0700 00000000"):
        assert skip_reason(from_hex(f"{header} {WLAN}") + ip, 127) == "not IP"
    assert skip_reason(from_hex(f"0000 ff00 00000000 {WLAN}") + ip, 127) == "header cut short"


def test_a_frame_check_sequence_is_not_counted(packet: Any) -> None:
    """It is subtracted where the length on the wire replaces a length of 0."""
    ip = packet.ipv4(packet.udp(1, 2, bytes(100)), 17, length=0)
    for flags, size in (("10", 128), ("00", 132)):
        frame = from_hex(f"0000 0900 02000000 {flags} {QOS}") + ip + bytes(4)
        assert dissect_one(frame, 127)["size"] == size
        assert dissect_one(frame, 127, snaplen=100)["size"] == size


def test_the_first_packet_of_an_aggregate_is_read_and_noted(ip: Any) -> None:
    frame = from_hex(f"8801 22*00 8000 12*00 0033 {SNAP}") + ip + bytes(1) + from_hex(f"12*00 0033 {SNAP}") + ip
    dissected = dissect(batch_of([frame], 105))
    assert len(dissected) == 1
    assert dissected.notes["802.11 aggregate, first packet read"] == 1


def test_every_link_type_read_is_tested() -> None:
    tested = {linktype for linktype, _ in LINKS} | {229}  # IPv6 on its own
    assert {kind - LINK for kind in LAYERS if kind >= LINK} == tested


def test_layers_are_bounded(ip: Any) -> None:
    """Tags are followed up to a limit, and one more is skipped."""
    tags = from_hex("8100 0001") * (MAX_LAYERS - 1)
    check_tcp4(dissect_one(bytes(12) + tags + from_hex("0800") + ip), 1 + 4096)
    assert skip_reason(bytes(12) + from_hex("8100 0001") + tags + from_hex("0800") + ip) == "not IP"


def test_scapy_and_netgen_agree_on_wireless_and_tagged_packets() -> None:
    """The headers are built by scapy."""
    inet = pytest.importorskip("scapy.layers.inet")
    l2 = pytest.importorskip("scapy.layers.l2")
    dot11 = pytest.importorskip("scapy.layers.dot11")
    ppp = pytest.importorskip("scapy.layers.ppp")
    mpls = pytest.importorskip("scapy.contrib.mpls")
    ip = inet.IP(src="10.0.0.1", dst="10.0.0.2") / inet.TCP(sport=1234, dport=80, flags="PA") / b"abc"
    snap = l2.LLC() / l2.SNAP()
    wireless = [
        dot11.Dot11(type=2, subtype=0, FCfield=1) / snap,
        dot11.Dot11(type=2, subtype=8, FCfield=2) / dot11.Dot11QoS() / snap,
        dot11.Dot11(type=2, subtype=8, FCfield=3, addr4="02:00:00:00:00:01") / dot11.Dot11QoS() / snap,
    ]
    tap = dot11.RadioTap(present="TSFT+Flags+Rate", Flags="", Rate=2.0)
    ether = l2.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    built = [
        *((105, content, -1) for content in wireless),
        *((127, tap / content, -1) for content in wireless),
        *((127, dot11.RadioTap() / content, -1) for content in wireless),
        (1, ether / l2.Dot1Q(vlan=7), 7),
        (1, ether / l2.Dot1AD(vlan=7) / l2.Dot1Q(vlan=9), 7 + 4096 * 9),
        (1, ether / ppp.PPPoE() / ppp.PPP(), -1),
        (1, ether / mpls.MPLS(label=5, s=0) / mpls.MPLS(label=6, s=1), -1),
        (113, l2.CookedLinux(), -1),
        (9, ppp.HDLC() / ppp.PPP(), -1),
        (0, l2.Loopback(), -1),
    ]
    for linktype, header, vlan in built:
        check_tcp4(dissect_one(bytes(header / ip), linktype), vlan)


@given(
    packets=st.lists(st.binary(max_size=120), min_size=1, max_size=8),
    linktype=st.sampled_from(sorted(kind - LINK for kind in LAYERS if kind >= LINK)),
    start=st.sampled_from([from_hex(header) for _, header in LINKS]),
)
def test_any_bytes_after_any_link_layer_are_read_or_skipped_with_a_reason(
    packets: Any, linktype: Any, start: Any
) -> None:
    """No content crashes the dissector, and packets lie inside their records."""
    batch = batch_of([start + content for content in packets], linktype)
    dissected = dissect(batch, decapsulate=True)
    assert len(dissected) + dissected.skipped.total() == len(batch)
    end = batch.offset[dissected.number - 1] + batch.captured[dissected.number - 1]
    assert ((dissected.payload_at + dissected.payload_length <= end) | (dissected.payload_length == 0)).all()
    assert np.isin(dissected.version, (4, 6)).all()


@given(
    records=st.lists(st.tuples(st.sampled_from(LINKS), st.binary(max_size=60)), min_size=1, max_size=6),
    decapsulate=st.booleans(),
)
@settings(max_examples=40)
def test_a_batch_is_read_as_its_records_one_at_a_time(records: Any, decapsulate: bool) -> None:
    """Damaged frames do not change how others are read."""
    frames = [from_hex(header) + b"\x45\0\0\x30" + content for (_, header), content in records]
    linktypes = [linktype for (linktype, _), _ in records]
    together = dissect(batch_of(frames, linktypes), decapsulate=decapsulate)
    pairs = zip(frames, linktypes, strict=True)
    alone = [dissect(batch_of([frame], linktype), decapsulate=decapsulate) for frame, linktype in pairs]
    for name in ("size", "protocol", "src_low", "src_port", "vlan", "fragment", "payload_length", "fingerprint"):
        assert getattr(together, name).tolist() == [v for packets in alone for v in getattr(packets, name).tolist()]
    assert together.skipped == sum((packets.skipped for packets in alone), Counter())
    assert together.notes == sum((packets.notes for packets in alone), Counter())
