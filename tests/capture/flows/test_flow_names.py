"""assemble: the server name of a flow, from TLS, QUIC or DNS."""

from typing import Any

import pytest
from support import handshakes
from support.connections import ACK, FIN, NS, SYN, A, B, C, T, rows, tcp_frame
from support.extraction import extract

pytestmark = pytest.mark.usefixtures("either_reader")


def test_only_the_first_name_sent_by_the_initiator_counts(packet: Any, flows_of: Any) -> None:
    """A new flow of the same 5-tuple has a name of its own."""
    film, other = handshakes.hello(b"a.nflxvideo.net"), handshakes.hello(b"www.example.org")

    def from_b(seq: Any, payload: Any) -> Any:
        return tcp_frame(packet, ACK, seq, "B", payload)

    def from_a(seq: Any, payload: Any, port: Any = 1000) -> Any:
        return tcp_frame(packet, ACK, seq, "A", payload, port)

    steps = [
        (0, tcp_frame(packet, SYN, 1)),
        (1, from_b(1, other)),
        (2, from_a(2, film)),
        (3, from_a(2 + len(film), other)),
        (4, tcp_frame(packet, FIN, 900)),
        (5, tcp_frame(packet, SYN, 5000)),
        (6, from_a(5001, other)),
        (7, from_a(1, film, port=2)),
        (8, from_b(1, b"")),
    ]
    assert rows(flows_of(steps), "server_name", "server_name_source") == [
        ("a.nflxvideo.net", "tls"),
        ("www.example.org", "tls"),
        ("a.nflxvideo.net", "tls"),
    ]
    assert rows(flows_of(steps[1:2]), "server_name") == ["www.example.org"]  # B sent the first packet


def test_the_initiator_may_become_known_after_the_name(packet: Any, flows_of: Any) -> None:
    """If A's SYN follows B's hello, B was the server and its name does not count."""
    hello = handshakes.hello(b"www.example.org")
    steps = [(0, tcp_frame(packet, ACK, 5, "B", hello)), (1, tcp_frame(packet, SYN, 1))]
    assert rows(flows_of(steps), "src", "server_name") == [(A, None)]
    steps = [(0, tcp_frame(packet, ACK, 2, "A", hello)), (1, tcp_frame(packet, SYN | ACK, 1, "B"))]
    assert rows(flows_of(steps), "src", "server_name") == [(A, "www.example.org")]


def dns(packet: Any, name: Any, *addresses: Any, client: Any = A) -> Any:
    """Build a DNS answer from a name server to a client."""
    answers = [
        handshakes.record(handshakes.dns_name(name), 1, bytes(map(int, address.split(".")))) for address in addresses
    ]
    return packet.udp4(53, 5000, handshakes.dns(name, answers), "10.0.0.53", client)


def test_dns_names_later_flows_between_the_client_and_the_address(packet: Any, flows_of: Any) -> None:
    """Earlier flows and other clients get no name; the last answer counts; TLS and QUIC names take precedence."""
    quic = handshakes.initial(handshakes.crypto(0, handshakes.message(b"quic.example.org")))
    steps = [
        (0, packet.udp4(1, 9, b"", A, B)),
        (1, dns(packet, "one.example.org", B, C)),
        (2, packet.udp4(2, 9, b"", A, B)),
        (3, packet.udp4(9, 3, b"", B, A)),
        (4, packet.udp4(4, 9, b"", "10.0.0.9", B)),
        (5, dns(packet, "two.example.org", B)),
        (6, packet.udp4(5, 9, b"", A, B)),
        (7, packet.udp4(6, 9, b"", A, C)),
        (8, packet.udp4(1, 9, b"", A, B)),
        (9, packet.udp4(7, 443, quic, A, B)),
        (10, tcp_frame(packet, ACK, 1, "A", handshakes.hello(b"tls.example.org"))),
    ]
    columns = ("src_port", "server_name", "server_name_source")
    named = {
        port: (name, source) for port, name, source in rows(flows_of(steps, name_sources="all"), *columns) if port != 53
    }
    assert named == {
        1: (None, None),
        2: ("one.example.org", "dns"),
        9: ("one.example.org", "dns"),
        4: (None, None),
        5: ("two.example.org", "dns"),
        6: ("one.example.org", "dns"),
        7: ("quic.example.org", "quic"),
        1000: ("tls.example.org", "tls"),
    }
    only_tls = [row for row in rows(flows_of(steps), *columns) if row[1]]
    assert only_tls == [(1000, "tls.example.org", "tls")]


def test_dns_answers_of_one_capture_do_not_name_flows_of_another(packet: Any, pcap_file: Any) -> None:
    one = pcap_file([(T, dns(packet, "one.example.org", B))], "a.pcap")
    two = pcap_file([(T + NS, packet.udp4(2, 9, b"", A, B))], "b.pcap")
    assert rows(extract([one, two], name_sources="all"), "server_name")[1:] == [None]
    both = pcap_file([(T, dns(packet, "one.example.org", B)), (T + NS, packet.udp4(2, 9, b"", A, B))], "c.pcap")
    assert rows(extract(both, name_sources="all"), "server_name")[1:] == ["one.example.org"]
