"""netgen.capture.names.dns: names that clients ask for, and the addresses that they are told."""

import ipaddress
import itertools
from typing import Any

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import handshakes as hellos

from netgen.capture.names.dns import find_responses, parse_response

dns, dns_name, record = hellos.dns, hellos.dns_name, hellos.record
NAME = "www.example.org"
A, CNAME, AAAA, HTTPS = 1, 5, 28, 65
ASKED = b"\xc0\x0c"  # a pointer to the name in the question
V4, V6 = bytes([192, 0, 2, 7]), bytes.fromhex("20010db8000000000000000000000005")
IS_V4, IS_V6 = (4, 0, 0xC0000207), (6, 0x20010DB800000000, 5)


def said(message: Any) -> Any:
    found = parse_response(message)
    return found and (found.name, found.answers)


def test_addresses_of_both_kinds_are_read() -> None:
    records = [record(ASKED, A, V4), record(ASKED, AAAA, V6), record(ASKED, A, V4)]
    assert said(dns(NAME, records)) == (NAME, (IS_V4, IS_V6))
    assert said(dns("WWW.Example.ORG", [record(dns_name("www.EXAMPLE.org"), A, V4)])) == (NAME, (IS_V4,))


def test_a_chain_of_aliases_leads_to_the_addresses_of_the_name_that_was_asked_for() -> None:
    """In whatever order the records come; an address of another name is not one of its own."""
    chain = [
        record(ASKED, CNAME, dns_name("a.cdn.net")),
        record(dns_name("a.cdn.net"), CNAME, dns_name("b.cdn.net")),
        record(dns_name("b.cdn.net"), A, V4),
    ]
    stranger = record(dns_name("stranger.net"), A, bytes(4))
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        assert said(dns(NAME, [chain[place] for place in order] + [stranger])) == (NAME, (IS_V4,))
    assert said(dns(NAME, chain[1:])) is None
    circle = [record(ASKED, CNAME, dns_name("b.net")), record(dns_name("b.net"), CNAME, ASKED), stranger]
    assert said(dns(NAME, circle)) is None


def test_names_may_point_back_into_others() -> None:
    """An alias whose end is the end of the name asked for, and is pointed to in turn."""
    alias = b"\x03cdn\xc0\x10"  # cdn.example.org
    at = len(dns(NAME, [])) + 12
    records = [record(ASKED, CNAME, alias), record(bytes([0xC0, at]), A, V4)]
    assert said(dns(NAME, records)) == (NAME, (IS_V4,))


@pytest.mark.parametrize(
    "message",
    [
        dns(NAME, []),
        dns(NAME, [record(ASKED, HTTPS, V4)]),
        dns(NAME, [record(ASKED, A, V6)]),  # an A record of 16 bytes
        dns(NAME, [record(ASKED, A, V4, family=3)]),  # not of the internet
        dns(NAME, [], more=[record(ASKED, A, V4)]),  # no answer
        dns(NAME, [record(ASKED, A, V4)], flags=0x0100),  # a query
        dns(NAME, [record(ASKED, A, V4)], flags=0xA980),  # an update
        dns(NAME, [record(ASKED, A, V4)], questions=0),
        dns(NAME, [record(ASKED, A, V4)], questions=2),
        dns("caf\xe9.org", [record(ASKED, A, V4)]),
        dns(".".join(["a" * 63] * 4), [record(ASKED, A, V4)]),  # 257 bytes
        dns(NAME, [record(b"\xc0\xff", A, V4)]),  # forward
        dns(NAME, [record(b"\xc0" + bytes([len(dns(NAME, []))]), A, V4)]),  # to itself
        dns(NAME, [record(b"\x80\x01", A, V4)]),
        b"",
        bytes(11),
    ],
)
def test_what_tells_no_address_of_a_host_is_passed_over(message: Any) -> None:
    assert said(message) is None


def test_of_a_cut_message_the_whole_records_count() -> None:
    whole = dns(NAME, [record(ASKED, A, V4), record(ASKED, AAAA, V6)])
    for end in range(len(whole)):
        least = len(dns(NAME, [record(ASKED, A, V4)]))
        assert said(whole[:end]) == (None if end < least else (NAME, (IS_V4,)))


def test_long_chains_of_pointers_end() -> None:
    """Each pointer leads to another: no more steps than bytes, and no name longer than 255 bytes."""
    names = b"\0" + b"".join(b"\x01a" + (0xC000 | max(at - 4, 12)).to_bytes(2, "big") for at in range(13, 60_000, 4))
    message = b"\0\1\x81\x80\0\1\0\1\0\0\0\0" + names[:16_000]
    assert said(message) is None
    back = b"".join((0xC000 | 12 + at).to_bytes(2, "big") for at in range(0, 16_000, 2))
    assert said(b"\0\1\x81\x80\0\1\0\1\0\0\0\0\0" + back) is None


def test_responses_are_those_from_port_53() -> None:
    message = dns(NAME, [record(ASKED, A, V4)])
    framed = len(message).to_bytes(2, "big") + message
    sent = [
        hellos.Sent(message, hellos.UDP, 53, 40_000),
        hellos.Sent(message, hellos.UDP, 5353, 5353),  # multicast
        hellos.Sent(message, hellos.UDP, 40_000, 53),
        hellos.Sent(message[:11], hellos.UDP, 53, 40_000),
        hellos.Sent(framed, hellos.TCP, 53, 40_000),
        hellos.Sent(framed[:-1], hellos.TCP, 53, 40_000),
        hellos.Sent(message, hellos.TCP, 53, 40_000),
    ]
    found = find_responses(*hellos.columns(sent))
    assert [row for row, _ in found] == [0, 4]
    assert {answer for _, answer in found} == {(NAME, (IS_V4,))}


LABEL = st.text("abcXYZ019-_", min_size=1, max_size=12)
HOST = st.lists(LABEL, min_size=1, max_size=5).map(".".join)


@given(
    asked=HOST,
    aliases=st.lists(HOST, max_size=3),
    addresses=st.lists(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)), min_size=1),
)
def test_messages_of_dpkt_are_read(asked: Any, aliases: Any, addresses: Any) -> None:
    """Another writer of messages, and other names: what went in comes out."""
    chain = list(dict.fromkeys(name.lower() for name in (asked, *aliases)))
    records = [dpkt.dns.DNS.RR(name=a, type=CNAME, cname=b) for a, b in itertools.pairwise(chain)]
    for each in addresses:
        kind = {"type": A, "ip": each} if len(each) == 4 else {"type": AAAA, "ip6": each}
        records.append(dpkt.dns.DNS.RR(name=chain[-1], **kind))
    message = bytes(dpkt.dns.DNS(op=0x8180, qd=[dpkt.dns.DNS.Q(name=asked)], an=records))
    name, answers = said(message)
    assert name == asked.lower()
    told = [
        ipaddress.IPv4Address(low) if v == 4 else ipaddress.IPv6Address(high << 64 | low) for v, high, low in answers
    ]
    assert [each.packed for each in told] == list(dict.fromkeys(addresses))


@given(
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6),
    st.integers(0, 120),
    st.binary(max_size=40),
)
def test_damaged_messages_never_raise(flips: Any, end: Any, rest: Any) -> None:
    records = [record(ASKED, CNAME, b"\x03cdn\xc0\x10"), record(b"\xc0\x2d", A, V4), record(ASKED, AAAA, V6)]
    data = bytearray(dns(NAME, records))
    for at, value in flips:
        data[at % len(data)] = value
    for part in (bytes(data), bytes(data[:end]) + rest, bytes(data[:12]) + rest):
        found = parse_response(part)
        assert found is None or (found.answers and found.name.isascii() and len(found.name) < 255)
