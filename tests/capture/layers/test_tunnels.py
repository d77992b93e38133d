"""netgen.capture.layers.tunnels: with `decapsulate`, the packet inside a tunnel replaces the one around it."""

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.record_batches import batch_of, check_tcp4, dissect_one, from_hex

from netgen.capture.layers.dissect import dissect
from netgen.capture.layers.tunnels import MAX_TUNNELS, TUNNELS

ETHERNET, TAGGED = "12*02 0800", "12*02 8100 0007 0800"
MANY = "2000 0000"  # a key

#: Name, IP protocol or UDP port, the headers before the inner IPv4 packet, and their VLAN.
INSIDES = [
    ("IPv4 in IP", 4, "", -1),
    ("GRE", 47, "0000 0800", -1),
    ("GRE", 47, "8000 0800 0000 0000", -1),  # a checksum
    ("GRE", 47, "2000 0800 00000007", -1),  # a key
    ("GRE", 47, "b000 0800 12*00", -1),  # both and a sequence number
    ("GRE", 47, f"0000 6558 {ETHERNET}", -1),
    ("GRE", 47, f"2000 6558 00000007 {TAGGED}", 7),
    ("GRE", 47, "0000 8847 00001140", -1),
    ("GRE", 47, "3081 880b 0031 0001 00000001 00000001 ff03 0021", -1),  # PPTP's
    ("GRE", 47, f"0000 88be {ETHERNET}", -1),  # ERSPAN: I, II, III, III with more
    ("GRE", 47, f"1000 88be 00000001 1000 0001 00000000 {TAGGED}", 7),
    ("GRE", 47, f"1000 22eb 00000001 2000 0001 00000000 0000 0000 {ETHERNET}", -1),
    ("GRE", 47, f"1000 22eb 00000001 2000 0001 00000000 0000 0001 8*00 {ETHERNET}", -1),
    ("GRE", 47, "0000 8909 0800 01 01 0001 0005", -1),  # Cisco's metadata
    ("GRE", 47, "0000 883e", -1),  # packets redirected to a cache
    ("GRE", 47, "0000 883e 0559 0048", -1),
    ("EtherIP", 97, f"3000 {TAGGED}", 7),
    ("MPLS in IP", 137, "00001040 00002140", -1),
    ("VXLAN", "4789", f"08 000000 00000700 {ETHERNET}", -1),
    ("VXLAN", "4789", f"08 000000 00000700 {TAGGED}", 7),
    ("Geneve", "6081", f"00 00 6558 00000700 {ETHERNET}", -1),
    ("Geneve", "6081", "02 00 0800 00000700 8*00", -1),
    ("GTP-U", "2152", "30 ff 002b 00000001", -1),
    ("GTP-U", "2152", "32 ff 002f 00000001 0001 00 00", -1),  # a sequence number
    ("GTP-U", "2152", "32 ff 002f 00000001 0001 00 85", -1),  # without the flag for an extension
    ("GTP-U", "2152", "34 ff 0033 00000001 0000 00 85 01 1009 00", -1),
    ("GTP-U", "2152", "34 ff 003b 00000001 0000 00 85 01 1009 c0 02 0000 0000 0000 00", -1),
]

#: Headers before an inner IPv6 packet.
INSIDES_IPV6 = [
    ("IPv6 in IP", 41, ""),
    ("GRE", 47, "0000 86dd"),
    ("GRE", 47, "2000 6558 00000007 12*02 86dd"),
    ("VXLAN", "4789", "08 000000 00000700 12*02 86dd"),
    ("Geneve", "6081", "00 00 86dd 00000700"),
    ("GTP-U", "2152", "30 ff 0030 00000001"),
    ("Teredo", "3544", ""),
    ("Teredo", "3544", "0000 d431 12345678"),  # its source
    ("Teredo", "3544", "0001 00 00 9*00"),  # an authentication
    ("Teredo", "3544", "0001 02 04 2*05 4*06 9*00 0000 d431 12345678"),
]


@pytest.fixture
def ip(packet: Any) -> Any:
    return packet.ipv4(packet.tcp(1234, 80, 0x18, b"abc"), 6)


def ipv6(payload: Any, protocol: Any) -> Any:
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + bytes(range(32)) + payload


@pytest.fixture
def around(packet: Any) -> Any:
    """Return a function that wraps a payload in a tunnel, over IPv4 and IPv6."""

    def wrap(carrier: Any, payload: Any) -> Any:
        if isinstance(carrier, str):
            carrier, payload = 17, packet.udp(50000, int(carrier), payload)
        return packet.ether(packet.ipv4(payload, carrier, "192.0.2.1", "192.0.2.2")), packet.ether(
            ipv6(payload, carrier), 0x86DD
        )

    return wrap


def without(name: Any) -> Any:
    return f"{name} without an IP packet inside"


@pytest.mark.parametrize(("name", "carrier", "header", "vlan"), INSIDES)
def test_the_ipv4_packet_inside_counts(ip: Any, around: Any, name: Any, carrier: Any, header: Any, vlan: Any) -> None:
    for frame in around(carrier, from_hex(header) + ip):
        dissected = dissect(batch_of([frame]), decapsulate=True)
        assert not dissected.skipped
        assert dissected.notes == {f"inside {name}": 1}
        inside, outside = dissect_one(frame, decapsulate=True), dissect_one(frame)
        check_tcp4(inside, vlan)
        assert inside["fingerprint"] == dissect_one(ip, 101)["fingerprint"]
        assert inside["payload_at"] == len(frame) - 3
        # without `decapsulate` it does not
        assert outside["size"] == len(frame) - 14
        protocol, port = (17, int(carrier)) if isinstance(carrier, str) else (carrier, 0)
        assert (outside["protocol"], outside["dst_port"]) == (protocol, port)
        assert not dissect(batch_of([frame])).notes


@pytest.mark.parametrize(("name", "carrier", "header"), INSIDES_IPV6)
def test_the_ipv6_packet_inside_counts(packet: Any, around: Any, name: Any, carrier: Any, header: Any) -> None:
    inside = ipv6(packet.udp(53, 99), 17)
    for frame in around(carrier, from_hex(header) + inside):
        assert dissect(batch_of([frame]), decapsulate=True).notes == {f"inside {name}": 1}
        columns = dissect_one(frame, decapsulate=True)
        assert (columns["version"], columns["protocol"], columns["size"]) == (6, 17, 48)
        assert (columns["src_high"], columns["dst_low"]) == (0x0001020304050607, 0x18191A1B1C1D1E1F)
        assert (columns["src_port"], columns["dst_port"]) == (53, 99)


def test_every_tunnel_is_tested() -> None:
    assert {layer[0] for layer in INSIDES + INSIDES_IPV6} == {tunnel.name for tunnel in TUNNELS}


@pytest.mark.parametrize(
    ("name", "carrier", "content"),
    [
        ("IPv4 in IP", 4, "40*ff"),
        ("IPv4 in IP", 4, "6000 0000 0000 3b40 32*00"),
        ("IPv6 in IP", 41, "4500 0028 36*00"),
        ("GRE", 47, "0000 0806 28*00"),
        ("GRE", 47, "4000 0800 0000 0000 40*45"),  # routing: not read
        ("GRE", 47, "0002 0800 40*45"),  # an unknown version
        ("GRE", 47, "2081 880b 0000 0001 00000001"),  # PPTP's bare acknowledgement
        ("GRE", 47, "00"),
        ("EtherIP", 97, "3000 12*02 0806 28*00"),
        ("MPLS in IP", 137, "00001140 40*00"),
        ("VXLAN", "4789", "00 000000 00000700 12*02 0800 40*45"),  # no network number
        ("VXLAN", "4789", "08 000000 00000700 12*02 0806 28*00"),
        ("VXLAN", "4789", ""),
        ("Geneve", "6081", "40 00 0800 00000700 40*45"),
        ("GTP-U", "2152", "32 01 0004 00000000 0001 00 00"),  # an echo request
        ("GTP-U", "2152", "20 ff 002b 00000001 40*45"),  # the charging protocol
        ("GTP-U", "2152", "34 ff 0033 00000001 0000 00 85 00 1009 00 40*45"),  # an extension of no length
        ("GTP-U", "2152", "34 ff 0033 00000001 0000 00 85" + " 01 1009 85" * 20 + " 40*45"),
        ("Teredo", "3544", "40*45"),
    ],
)
def test_a_tunnel_without_an_ip_packet_is_not_decapsulated(
    around: Any, name: str, carrier: int | str, content: Any
) -> None:
    for frame in around(carrier, from_hex(content)):
        dissected = dissect(batch_of([frame]), decapsulate=True)
        assert dissected.notes == {without(name): 1}
        assert not dissected.skipped
        assert dissect_one(frame, decapsulate=True) == dissect_one(frame)


@pytest.mark.parametrize(("name", "carrier", "header"), [inside[:3] for inside in INSIDES])
def test_a_tunnel_with_a_truncated_packet_is_not_decapsulated(
    ip: Any, around: Any, name: Any, carrier: Any, header: Any
) -> None:
    """The snap length may cut the inner packet anywhere up to its ports."""
    frame = around(carrier, from_hex(header) + ip)[0]
    start = 34 + (8 if isinstance(carrier, str) else 0)
    for length in range(start, len(frame) - 20):
        dissected = dissect(batch_of([frame, frame], snaplen=length), decapsulate=True)
        assert dissected.notes == {without(name): 2}
        assert dissect_one(frame, decapsulate=True, snaplen=length) == dissect_one(frame, snaplen=length)
    assert dissect_one(frame, decapsulate=True, snaplen=len(frame) - 17)["dst_port"] == 80


def test_fragments_are_not_decapsulated(packet: Any, ip: Any) -> None:
    for fragment in (0x2000, 185):
        frame = packet.ether(packet.ipv4(ip, 4, fragment=fragment))
        dissected = dissect(batch_of([frame]), decapsulate=True)
        assert dissected.protocol.tolist() == [4]
        assert not any("inside" in note for note in dissected.notes)


def test_nested_tunnels_are_entered_up_to_a_depth(packet: Any, ip: Any) -> None:
    frame = ip
    for depth in range(1, MAX_TUNNELS + 2):
        frame = packet.ipv4(frame, 4, "192.0.2.1", "192.0.2.2")
        dissected = dissect(batch_of([frame], 101), decapsulate=True)
        assert dissected.notes == {"inside IPv4 in IP": min(depth, MAX_TUNNELS)}
        assert dissected.protocol.tolist() == [6 if depth <= MAX_TUNNELS else 4]
        assert dissected.size.tolist() == [43 + 20 * max(depth - MAX_TUNNELS, 0)]


def test_a_cut_tunnel_in_a_tunnel_leaves_the_last_complete_packet(packet: Any, around: Any) -> None:
    """GRE carries VXLAN, which carries an ARP frame."""
    vxlan = packet.ipv4(packet.udp(1, 4789, from_hex("08 000000 00000700 12*02 0806 28*00")), 17)
    frame = around(47, from_hex("0000 0800") + vxlan)[0]
    dissected = dissect(batch_of([frame]), decapsulate=True)
    assert dissected.notes == {"inside GRE": 1, without("VXLAN"): 1}
    assert dissected.dst_port.tolist() == [4789]


def test_the_inner_vlan_replaces_the_outer_one(packet: Any, ip: Any) -> None:
    """The inner packet has a VLAN only if its own frame has a tag."""
    outer = packet.ipv4(ip, 4)
    frame = bytes(12) + from_hex("8100 0005 0800") + outer
    assert dissect_one(frame)["vlan"] == 5
    assert dissect_one(frame, decapsulate=True)["vlan"] == -1
    empty = bytes(12) + from_hex("8100 0005 0800") + packet.ipv4(bytes(20), 4)
    assert dissect_one(empty, decapsulate=True)["vlan"] == 5


def test_an_inner_length_of_0_is_replaced_by_the_bytes_of_the_outer_packet(packet: Any) -> None:
    inside = packet.ipv4(packet.tcp(1, 2, 0x10, bytes(100)), 6, length=0)
    frame = packet.ether(packet.ipv4(inside, 4)) + bytes(10)
    assert dissect_one(frame, decapsulate=True)["size"] == len(inside)
    assert dissect_one(frame, decapsulate=True, snaplen=80)["size"] == len(inside)


def test_batches_of_many_kinds_are_read_as_one_at_a_time(packet: Any, ip: Any, around: Any) -> None:
    frames = [frame for _, carrier, header, _ in INSIDES for frame in around(carrier, from_hex(header) + ip)]
    frames += [packet.tcp4(1, 2, 0x10), packet.udp4(4789, 53, b"abc"), packet.ether(bytes(28), 0x0806)] * 3
    dissected = dissect(batch_of(frames), decapsulate=True)
    assert dissected.skipped == {"not IP": 3}
    for row, number in enumerate(dissected.number.tolist()):
        alone = dissect_one(frames[number - 1], decapsulate=True)
        for name in ("size", "src_low", "dst_low", "src_port", "dst_port", "protocol", "vlan", "fingerprint"):
            assert getattr(dissected, name)[row] == alone[name]


def test_scapy_and_netgen_agree_on_tunnels(ip: Any) -> None:
    """The headers are built by scapy."""
    inet = pytest.importorskip("scapy.layers.inet")
    inet6 = pytest.importorskip("scapy.layers.inet6")
    l2 = pytest.importorskip("scapy.layers.l2")
    vxlan = pytest.importorskip("scapy.layers.vxlan")
    gtp = pytest.importorskip("scapy.contrib.gtp")
    geneve = pytest.importorskip("scapy.contrib.geneve")
    outer = inet.IP(src="192.0.2.1", dst="192.0.2.2")
    ether = l2.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    built = [
        (outer / inet.IP(ip), "IPv4 in IP"),
        (inet6.IPv6() / inet.IP(ip), "IPv4 in IP"),
        (outer / l2.GRE() / inet.IP(ip), "GRE"),
        (outer / l2.GRE(key_present=1, key=5, chksum_present=1, seqnum_present=1) / inet.IP(ip), "GRE"),
        (outer / l2.GRE(proto=0x6558) / ether / inet.IP(ip), "GRE"),
        (outer / inet.UDP(dport=4789) / vxlan.VXLAN(vni=5, flags="Instance") / ether / inet.IP(ip), "VXLAN"),
        (outer / inet.UDP(dport=6081) / geneve.GENEVE(vni=5) / ether / inet.IP(ip), "Geneve"),
        (outer / inet.UDP(dport=2152) / gtp.GTP_U_Header(teid=5) / inet.IP(ip), "GTP-U"),
        (
            outer
            / inet.UDP(dport=2152)
            / gtp.GTP_U_Header(teid=5, E=1, next_ex=0x85)
            / gtp.GTPPDUSessionContainer(type=0, QFI=9)
            / inet.IP(ip),
            "GTP-U",
        ),
    ]
    for frame, name in built:
        raw = bytes(frame)
        check_tcp4(dissect_one(raw, 101, decapsulate=True))
        assert dissect(batch_of([raw], 101), decapsulate=True).notes == {f"inside {name}": 1}


TUNNEL_CAPTURES = [
    *("ndpi/4in4tunnel.pcap", "ndpi/4in6tunnel.pcap", "ndpi/6in6tunnel.pcap", "ndpi/gre.pcapng", "ndpi/teredo.pcap"),
    *("ndpi/ipv6_in_gtp.pcap", "tcpdump/geneve.pcap", "tcpdump/erspan-type-i-4.pcap", "tcpdump/erspan-type-ii-2.pcap"),
    *("tcpdump/erspan-type-iii-ft-0.pcap", "tcpdump/wccp_redirect_gre.pcap"),
]


@pytest.mark.external
@pytest.mark.parametrize("name", TUNNEL_CAPTURES)
def test_tshark_finds_the_same_packets_inside(shared_data: Path, name: Any) -> None:
    """The IP lengths are those of the last IP header that is not quoted by ICMP."""
    if not shutil.which("tshark"):
        pytest.skip("there is no tshark here to compare with")
    from netgen.capture.formats.reader import CaptureFile

    path = shared_data / "captures" / name
    words = [word for field in ("frame.protocols", "ip.len", "ipv6.plen") for word in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-T", "fields", *words], capture_output=True, text=True, check=True
    )
    expected = []
    for line in done.stdout.splitlines():
        protocols, v4, v6 = line.split("\t")
        before_icmp = protocols.split(":icmp")[0].split(":")
        kinds = [layer for layer in before_icmp if layer in ("ip", "ipv6")]
        lengths = {"ip": [int(layer) for layer in v4.split(",") if layer]}
        lengths["ipv6"] = [int(layer) + 40 for layer in v6.split(",") if layer]
        expected += [lengths[kinds[-1]][kinds.count(kinds[-1]) - 1]] if kinds else []
    actual = [size for batch in CaptureFile(path).chunks() for size in dissect(batch, decapsulate=True).size.tolist()]
    assert actual == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.sampled_from([(carrier, header) for _, carrier, header, *_ in INSIDES + INSIDES_IPV6]),
    content=st.binary(max_size=80),
    at=st.integers(0, 60),
    byte=st.integers(0, 255),
)
def test_any_bytes_inside_a_tunnel_are_counted(
    around: Any, ip: Any, header: Any, content: Any, at: Any, byte: Any
) -> None:
    """The packet counts for any content: either the outer one or an inner one that is not longer."""
    carrier, before = header
    inside = bytearray(from_hex(before) + ip + content)
    inside[at % len(inside)] = byte
    for frame in around(carrier, bytes(inside)):
        plain, dissected = dissect(batch_of([frame])), dissect(batch_of([frame]), decapsulate=True)
        assert len(dissected) == 1
        assert dissected.size[0] <= plain.size[0]
        changed = dissected.size[0] < plain.size[0]
        assert changed == any(note.startswith("inside") for note in dissected.notes)
        assert dissected.payload_length[0] <= plain.size[0]
