"""netgen.capture.names.dns: names that clients ask for, and the addresses that they are told."""

import ipaddress
import itertools
from typing import Any

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import handshakes

from netgen.capture.names.dns import find_responses, parse_response

dns, dns_name, record = handshakes.dns, handshakes.dns_name, handshakes.record
NAME = "www.example.org"
A, CNAME, AAAA, HTTPS = 1, 5, 28, 65
QUESTION = b"\xc0\x0c"  # a pointer to the name in the question
V4, V6 = bytes([192, 0, 2, 7]), bytes.fromhex("20010db8000000000000000000000005")
IS_V4, IS_V6 = (4, 0, 0xC0000207), (6, 0x20010DB800000000, 5)


def parse(message: Any) -> Any:
    response = parse_response(message)
    return response and (response.name, response.answers)


def test_addresses_of_both_kinds_are_read() -> None:
    records = [record(QUESTION, A, V4), record(QUESTION, AAAA, V6), record(QUESTION, A, V4)]
    assert parse(dns(NAME, records)) == (NAME, (IS_V4, IS_V6))
    assert parse(dns("WWW.Example.ORG", [record(dns_name("www.EXAMPLE.org"), A, V4)])) == (NAME, (IS_V4,))


def test_a_chain_of_aliases_leads_to_the_addresses_of_the_name_in_the_question() -> None:
    """Records may come in any order; addresses of other names do not count."""
    chain = [
        record(QUESTION, CNAME, dns_name("a.cdn.net")),
        record(dns_name("a.cdn.net"), CNAME, dns_name("b.cdn.net")),
        record(dns_name("b.cdn.net"), A, V4),
    ]
    stranger = record(dns_name("stranger.net"), A, bytes(4))
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        assert parse(dns(NAME, [chain[index] for index in order] + [stranger])) == (NAME, (IS_V4,))
    assert parse(dns(NAME, chain[1:])) is None
    circle = [record(QUESTION, CNAME, dns_name("b.net")), record(dns_name("b.net"), CNAME, QUESTION), stranger]
    assert parse(dns(NAME, circle)) is None


def test_names_may_point_into_earlier_names() -> None:
    """The end of an alias points into the question, and another record points to the alias."""
    alias = b"\x03cdn\xc0\x10"  # cdn.example.org
    at = len(dns(NAME, [])) + 12
    records = [record(QUESTION, CNAME, alias), record(bytes([0xC0, at]), A, V4)]
    assert parse(dns(NAME, records)) == (NAME, (IS_V4,))


@pytest.mark.parametrize(
    "message",
    [
        dns(NAME, []),
        dns(NAME, [record(QUESTION, HTTPS, V4)]),
        dns(NAME, [record(QUESTION, A, V6)]),  # an A record of 16 bytes
        dns(NAME, [record(QUESTION, A, V4, family=3)]),  # not class IN
        dns(NAME, [], more=[record(QUESTION, A, V4)]),  # no answer
        dns(NAME, [record(QUESTION, A, V4)], flags=0x0100),  # a query
        dns(NAME, [record(QUESTION, A, V4)], flags=0xA980),  # an update
        dns(NAME, [record(QUESTION, A, V4)], questions=0),
        dns(NAME, [record(QUESTION, A, V4)], questions=2),
        dns("caf\xe9.org", [record(QUESTION, A, V4)]),
        dns(".".join(["a" * 63] * 4), [record(QUESTION, A, V4)]),  # 257 bytes
        dns(NAME, [record(b"\xc0\xff", A, V4)]),  # forward
        dns(NAME, [record(b"\xc0" + bytes([len(dns(NAME, []))]), A, V4)]),  # to itself
        dns(NAME, [record(b"\x80\x01", A, V4)]),
        b"",
        bytes(11),
    ],
)
def test_messages_without_an_address_of_a_host_are_ignored(message: Any) -> None:
    assert parse(message) is None


def test_the_complete_records_of_a_cut_message_count() -> None:
    complete = dns(NAME, [record(QUESTION, A, V4), record(QUESTION, AAAA, V6)])
    for end in range(len(complete)):
        least = len(dns(NAME, [record(QUESTION, A, V4)]))
        assert parse(complete[:end]) == (None if end < least else (NAME, (IS_V4,)))


def test_long_chains_of_pointers_end() -> None:
    """Following pointers takes at most as many steps as there are bytes, and names end at 255 bytes."""
    names = b"\0" + b"".join(b"\x01a" + (0xC000 | max(at - 4, 12)).to_bytes(2, "big") for at in range(13, 60_000, 4))
    message = b"\0\1\x81\x80\0\1\0\1\0\0\0\0" + names[:16_000]
    assert parse(message) is None
    back = b"".join((0xC000 | 12 + at).to_bytes(2, "big") for at in range(0, 16_000, 2))
    assert parse(b"\0\1\x81\x80\0\1\0\1\0\0\0\0\0" + back) is None


def test_only_packets_from_port_53_are_responses() -> None:
    message = dns(NAME, [record(QUESTION, A, V4)])
    framed = len(message).to_bytes(2, "big") + message
    sent = [
        handshakes.Sent(message, handshakes.UDP, 53, 40_000),
        handshakes.Sent(message, handshakes.UDP, 5353, 5353),  # multicast
        handshakes.Sent(message, handshakes.UDP, 40_000, 53),
        handshakes.Sent(message[:11], handshakes.UDP, 53, 40_000),
        handshakes.Sent(framed, handshakes.TCP, 53, 40_000),
        handshakes.Sent(framed[:-1], handshakes.TCP, 53, 40_000),
        handshakes.Sent(message, handshakes.TCP, 53, 40_000),
    ]
    responses = find_responses(*handshakes.columns(sent))
    assert [row for row, _ in responses] == [0, 4]
    assert {answer for _, answer in responses} == {(NAME, (IS_V4,))}


LABEL = st.text("abcXYZ019-_", min_size=1, max_size=12)
HOST = st.lists(LABEL, min_size=1, max_size=5).map(".".join)


@given(
    question=HOST,
    aliases=st.lists(HOST, max_size=3),
    addresses=st.lists(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)), min_size=1),
)
def test_messages_that_dpkt_writes_are_read(question: Any, aliases: Any, addresses: Any) -> None:
    """The name and the addresses come back."""
    chain = list(dict.fromkeys(name.lower() for name in (question, *aliases)))
    records = [dpkt.dns.DNS.RR(name=a, type=CNAME, cname=b) for a, b in itertools.pairwise(chain)]
    for address in addresses:
        kind = {"type": A, "ip": address} if len(address) == 4 else {"type": AAAA, "ip6": address}
        records.append(dpkt.dns.DNS.RR(name=chain[-1], **kind))
    message = bytes(dpkt.dns.DNS(op=0x8180, qd=[dpkt.dns.DNS.Q(name=question)], an=records))
    name, answers = parse(message)
    assert name == question.lower()
    parsed = [
        ipaddress.IPv4Address(low) if v == 4 else ipaddress.IPv6Address(high << 64 | low) for v, high, low in answers
    ]
    assert [address.packed for address in parsed] == list(dict.fromkeys(addresses))


@given(
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6),
    st.integers(0, 120),
    st.binary(max_size=40),
)
def test_damaged_messages_never_raise(flips: Any, end: Any, rest: Any) -> None:
    records = [record(QUESTION, CNAME, b"\x03cdn\xc0\x10"), record(b"\xc0\x2d", A, V4), record(QUESTION, AAAA, V6)]
    data = bytearray(dns(NAME, records))
    for at, value in flips:
        data[at % len(data)] = value
    for damaged in (bytes(data), bytes(data[:end]) + rest, bytes(data[:12]) + rest):
        response = parse_response(damaged)
        assert response is None or (response.answers and response.name.isascii() and len(response.name) < 255)
