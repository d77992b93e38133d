"""capture.assemble: packets to flows, with the right ends, direction, order and totals."""

import collections
import ipaddress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.assemble import Assembler
from capture.dissect import dissect
from capture.errors import InputError
from capture.reader import CaptureFile, Chunk

NS = 1_000_000_000
FIN, SYN, RST, ACK = 1, 2, 4, 16
A, B = "10.0.0.1", "10.0.0.2"


def flows_of(packets, **options):
    """The flows of (time_ns, Ethernet frame) pairs, and the assembler."""
    assembler = Assembler(**options)
    size = np.array([len(frame) for _, frame in packets])
    chunk = Chunk(
        data=np.frombuffer(b"".join(frame for _, frame in packets), np.uint8),
        offset=np.cumsum(size) - size,
        captured=size,
        length=size,
        time_ns=np.array([time_ns for time_ns, _ in packets], np.int64),
        linktype=np.ones(len(packets), np.int64),
        number=np.arange(1, len(packets) + 1),
    )
    assembler.add(dissect(chunk))
    return assembler.finish(), assembler


def talk(packet, *steps, port=1000):
    """Frames of one TCP pair: steps of (seconds, "A" or "B", flags[, payload bytes])."""
    frames = []
    for seconds, side, flags, *payload in steps:
        ends = (port, 80, flags, bytes(*payload), A, B) if side == "A" else (80, port, flags, bytes(*payload), B, A)
        frames.append((int(seconds * NS), packet.tcp4(*ends)))
    return frames


def test_both_directions_are_one_flow_and_up_is_from_the_initiator(packet):
    flows, _ = flows_of(talk(packet, (0, "A", SYN), (1, "B", SYN | ACK), (2, "A", ACK), (3, "B", ACK, 100)))
    assert len(flows) == 1
    assert flows.up.tolist() == [True, False, True, False]
    assert flows.size.tolist() == [40, 40, 40, 140]
    assert flows.offset_ns.tolist() == [0, NS, 2 * NS, 3 * NS]
    assert (flows.packets[0], flows.bytes[0], flows.duration_ns[0]) == (4, 260, 3 * NS)
    assert {name: values[0] for name, values in flows.columns.items()} == {
        "protocol": 6,
        "src": A,
        "src_port": 1000,
        "dst": B,
        "dst_port": 80,
        "vlan": None,
        "name": None,
    }


@pytest.mark.parametrize(
    ("steps", "initiator"),
    [
        ([(0, "B", ACK), (1, "A", SYN), (2, "B", SYN | ACK)], A),  # the SYN counts, not the first packet
        ([(0, "B", SYN | ACK), (1, "A", ACK)], A),  # a SYN-ACK answers the initiator
        ([(0, "A", SYN | ACK), (1, "B", SYN)], B),  # a SYN says more than a SYN-ACK
        ([(0, "A", SYN), (1, "B", SYN)], A),  # both open at once: the first
        ([(0, "B", ACK), (1, "A", ACK)], B),  # mid-stream: the first packet
    ],
)
def test_the_initiator_sent_the_syn_or_else_the_first_packet(packet, steps, initiator):
    flows, _ = flows_of(talk(packet, *steps))
    assert flows.columns["src"] == [initiator]


def test_an_idle_timeout_ends_a_flow(packet):
    frames = talk(packet, (0, "A", ACK), (120, "B", ACK), (240.5, "A", ACK))
    assert flows_of(frames)[0].packets.tolist() == [2, 1]
    assert flows_of(frames, idle_timeout_ns=121 * NS)[0].packets.tolist() == [3]
    assert flows_of(frames, idle_timeout_ns=NS)[0].packets.tolist() == [1, 1, 1]


@pytest.mark.parametrize("end", [FIN | ACK, RST])
def test_a_syn_after_fin_or_rst_is_a_new_flow_and_trailing_acks_stay_with_the_old(packet, end):
    steps = [(0, "A", SYN), (1, "A", end), (2, "B", ACK), (3, "A", ACK), (4, "B", SYN), (5, "A", SYN | ACK)]
    flows, _ = flows_of(talk(packet, *steps))
    assert flows.packets.tolist() == [4, 2]
    assert flows.columns["src"] == [A, B]


def test_a_repeated_syn_is_no_new_flow(packet):
    flows, _ = flows_of(talk(packet, (0, "A", SYN), (1, "A", SYN), (3, "A", SYN), (4, "B", SYN | ACK)))
    assert flows.packets.tolist() == [4]
    again = [(0, "A", SYN), (1, "B", RST), (2, "A", SYN), (3, "A", SYN), (4, "B", RST), (5, "A", SYN)]
    flows, _ = flows_of(talk(packet, *again))
    assert flows.packets.tolist() == [2, 3, 1]


def test_times_that_run_backwards_are_sorted_and_counted(packet):
    flows, assembler = flows_of(talk(packet, (5, "A", ACK), (3, "B", ACK), (4, "A", ACK)))
    assert flows.offset_ns.tolist() == [0, NS, 2 * NS]
    assert flows.up.tolist() == [True, False, False]  # B's packet is the first in time
    assert assembler.notes["time runs backwards"] == 1


def test_a_packet_to_itself_goes_up(packet):
    frames = [(0, packet.udp4(7, 7, b"", A, A)), (1, packet.udp4(7, 7, b"", A, A))]
    assert flows_of(frames)[0].up.tolist() == [True, True]


def test_vlans_keep_flows_apart(packet):
    frame = packet.udp4(1, 2)
    tagged = [frame[:12] + b"\x81\x00\x00" + bytes([number]) + frame[12:] for number in (5, 6)]
    flows, _ = flows_of([(0, frame), (1, tagged[0]), (2, tagged[1])])
    assert flows.columns["vlan"] == [None, 5, 6]


def test_later_fragments_are_a_flow_with_null_ports(packet):
    first = packet.ether(packet.ipv4(packet.udp(7, 8, bytes(32)), 17, fragment=0x2000))
    later = packet.ether(packet.ipv4(bytes(32), 17, fragment=4))
    flows, _ = flows_of([(0, first), (1, later)])
    assert flows.columns["src_port"] == [7, None]
    assert flows.columns["dst_port"] == [8, None]


def test_by_capture_is_one_row_with_each_flows_own_direction(packet):
    frames = [
        *talk(packet, (0, "A", SYN), (1, "B", SYN | ACK)),
        (2 * NS, packet.udp4(9, 53, b"abc", B, A)),
        (400 * NS, packet.udp4(9, 53, b"abc", B, A)),
    ]
    flows, _ = flows_of(frames, by="capture")
    assert flows.packets.tolist() == [4]
    assert flows.up.tolist() == [True, False, True, True]
    assert flows.duration_ns.tolist() == [400 * NS]
    assert flows.columns["src"] == flows.columns["protocol"] == [None]


def test_by_host_is_one_row_for_each_initiating_address(packet):
    frames = [
        *talk(packet, (0, "A", SYN), (1, "B", SYN | ACK)),
        (2 * NS, packet.udp4(9, 53, b"abc", B, A)),
        (500 * NS, packet.udp4(10, 53, b"", A, B)),
    ]
    flows, _ = flows_of(frames, by="host")
    assert flows.columns["src"] == [A, B]
    assert flows.columns["protocol"] == [None, 17]
    assert flows.packets.tolist() == [3, 1]
    assert flows.bytes.tolist() == [40 + 40 + 28, 31]
    assert flows.duration_ns.tolist() == [500 * NS, 0]


def test_nothing_in_is_nothing_out():
    for by in ("flow", "host", "capture"):
        assert len(Assembler(by=by).finish()) == 0


def test_an_unknown_grouping_or_timeout_is_refused():
    with pytest.raises(InputError, match="by 'packet'"):
        Assembler(by="packet")
    with pytest.raises(InputError, match="idle timeout"):
        Assembler(idle_timeout_ns=0)


# -- against slow, plain oracles ---------------------------------------------------------------


def oracle(packets, idle_ns=120 * NS):
    """Flows of (time, src, sport, dst, dport, protocol, vlan, size, flags) by a loop with a dictionary."""
    live, done = {}, []
    for time_ns, src, sport, dst, dport, protocol, vlan, size, flags in sorted(packets, key=lambda each: each[0]):
        key = (frozenset([(src, sport), (dst, dport)]), protocol, vlan)
        syn = flags & (SYN | ACK) == SYN
        flow = live.get(key)
        if flow is None or time_ns - flow["last"] > idle_ns or (syn and flow["closed"]):
            flow = live[key] = {"closed": False, "packets": [], "first": None, "answer": None}
            done.append(flow)
        flow["last"] = time_ns
        flow["closed"] |= bool(flags & (FIN | RST))
        ends = (src, sport, dst, dport)
        if syn:
            flow["first"] = flow["first"] or ends
        if flags & (SYN | ACK) == SYN | ACK:
            flow["answer"] = flow["answer"] or (dst, dport, src, sport)
        flow["packets"].append((time_ns, ends, size))
        flow["key"] = (protocol, vlan)
    rows = []
    for flow in done:
        ends = flow["first"] or flow["answer"] or flow["packets"][0][1]
        up = [size for _, each, size in flow["packets"] if each == ends]
        times = [time_ns for time_ns, *_ in flow["packets"]]
        total = sum(size for *_, size in flow["packets"])
        rows.append((*flow["key"], *ends, times[0], times[-1] - times[0], len(times), total, len(up), sum(up)))
    return collections.Counter(rows)


def as_rows(flows):
    """The same rows from netgen's flows."""
    up_packets = np.bincount(flows.flow[flows.up], minlength=len(flows)).tolist()
    up_bytes = np.bincount(flows.flow, weights=flows.size * flows.up, minlength=len(flows)).astype(int).tolist()
    columns = [flows.columns[name] for name in ("protocol", "vlan", "src", "src_port", "dst", "dst_port")]
    totals = [each.tolist() for each in (flows.start_ns, flows.duration_ns, flows.packets, flows.bytes)]
    return collections.Counter(zip(*columns, *totals, up_packets, up_bytes, strict=True))


STEP = st.tuples(
    st.sampled_from([0, 1, NS, 60 * NS, 119 * NS, 121 * NS, -NS]),
    st.sampled_from("AB"),
    st.integers(1, 3),
    st.sampled_from([6, 6, 6, 17]),
    st.sampled_from([0, FIN, SYN, RST, ACK, SYN | ACK, FIN | ACK, SYN | FIN]),
    st.integers(0, 5),
)


@settings(max_examples=200)
@given(steps=st.lists(STEP, min_size=1, max_size=40))
def test_flows_equal_a_plain_loop_over_the_packets(packet, steps):
    """Any mix of pairs, flags, gaps and backward steps."""
    frames, expected, now = [], [], 1000 * NS
    for gap, side, port, protocol, flags, size in steps:
        now += gap
        ends = (A, port, B, 80) if side == "A" else (B, 80, A, port)
        src, sport, dst, dport = ends
        if protocol == 6:
            frame = packet.tcp4(sport, dport, flags, bytes(size), src, dst)
        else:
            frame, flags = packet.udp4(sport, dport, bytes(size), src, dst), 0
        frames.append((now, frame))
        expected.append((now, *ends, protocol, None, len(frame) - 14, flags))
    flows, _ = flows_of(frames)
    assert as_rows(flows) == oracle(expected)
    assert flows.packets.sum() == len(steps)
    assert (np.diff(flows.start_ns) >= 0).all()


def dpkt_packets(path, dpkt):
    """Packets of a capture by dpkt, as `oracle` takes them; None where dpkt itself cannot."""
    found = []
    with path.open("rb") as stream:
        reader = dpkt.pcap.UniversalReader(stream)
        link = {1: dpkt.ethernet.Ethernet, 113: dpkt.sll.SLL, 101: dpkt.ip.IP}.get(reader.datalink() & 0xFFFF)
        if link is None:
            return None
        for number, (_, frame) in enumerate(reader):
            try:
                layer = link(frame)
            except dpkt.UnpackError:
                return None
            ip = layer if link is dpkt.ip.IP else layer.data
            tags = getattr(layer, "vlan_tags", [])
            if isinstance(ip, dpkt.ip.IP):
                size, protocol, later = ip.len, ip.p, ip.offset & 0x1FFF
            elif isinstance(ip, dpkt.ip6.IP6):
                size, protocol = ip.plen + 40, ip.p
                later = 0
                if ip.all_extension_headers:
                    return None  # few, and dpkt reads them its own way
            elif isinstance(ip, dpkt.arp.ARP | dpkt.llc.LLC):
                continue
            else:
                return None  # not read by dpkt: ESP, PPPoE in two VLANs, and the like
            if size < 20 or later or len(tags) > 1:
                return None
            sport = dport = flags = 0
            data = ip.data
            if isinstance(data, dpkt.tcp.TCP | dpkt.udp.UDP):
                sport, dport, flags = data.sport, data.dport, getattr(data, "flags", 0)
            elif protocol in (6, 17):
                return None  # cut or wrong: dpkt leaves it as bytes
            elif isinstance(data, dpkt.icmp.ICMP | dpkt.icmp6.ICMP6) and data.type in (0, 8, 128, 129):
                if (isinstance(data, dpkt.icmp.ICMP)) != (data.type < 128):
                    return None
                echo = data.data
                sport = dport = echo.id if hasattr(echo, "id") else int.from_bytes(bytes(echo)[:2], "big")
            ends = [str(ipaddress.ip_address(end)) for end in (ip.src, ip.dst)]
            vlan = tags[0].id if tags and tags[0].id else None
            found.append((number, ends[0], sport, ends[1], dport, protocol, vlan, size, flags & 0xFF))
    return found


def test_real_flows_equal_those_of_a_plain_loop_over_dpkt(shared_data):
    """Ends, packets, bytes, times and directions of every flow in a sample of real captures."""
    dpkt = pytest.importorskip("dpkt")
    compared = flows_seen = 0
    files = sorted((shared_data / "captures" / "ndpi").iterdir())
    for path in files[::3]:
        packets = dpkt_packets(path, dpkt) if path.stat().st_size < 300_000 else None
        if packets is None:
            continue
        capture, assembler, times = CaptureFile(path), Assembler(), []
        for chunk in capture.chunks():
            assembler.add(dissect(chunk))
            times += chunk.time_ns.tolist()
        flows = assembler.finish()
        # the clock is the reader's: dpkt's is off where interfaces differ, and has microseconds only
        expected = oracle([(times[number], *rest) for number, *rest in packets])
        assert as_rows(flows) == expected, path
        compared += 1
        flows_seen += len(flows)
    assert compared > 80
    assert flows_seen > 500
