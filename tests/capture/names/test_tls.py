"""netgen.capture.names.tls: names in ClientHellos, in one segment or in many."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import handshakes

from netgen.capture.names.client_hello import (
    LOOK_AHEAD,
    LOOK_BACK,
    MAX_HELLO,
    Stream,
    client_hello_name,
    hello_name,
)
from netgen.capture.names.tls import TlsFinder

pytestmark = pytest.mark.usefixtures("either_reader")

hello, message, records, Sent = handshakes.hello, handshakes.message, handshakes.records, handshakes.Sent
NAME = "www.example.org"
LONG = hello(before=[(51, bytes(1600))])  # a post-quantum key share is larger than a segment


def find(*sent: Any, finder: Any = None) -> Any:
    """Find the names that one chunk completes; return them, and whether the finder waits for more."""
    finder = finder or TlsFinder()
    return finder.find(*handshakes.columns(list(sent))), finder.waiting


# -- one message ---------------------------------------------------------------------------------


def test_the_name_is_read_at_any_position_of_its_extension() -> None:
    assert client_hello_name(hello()) == NAME
    assert client_hello_name(hello(b"WWW.Example.ORG.", [(0x0A0A, b""), (51, bytes(1200))])) == NAME
    assert hello_name(message() + b"the next message") == NAME


def test_the_name_in_a_hello_of_pythons_tls_library_is_read() -> None:
    """OpenSSL writes the ClientHello."""
    ssl = pytest.importorskip("ssl")
    out = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="a.nflxvideo.net")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    assert client_hello_name(out.read()) == "a.nflxvideo.net"


@pytest.mark.parametrize("name", [None, b"", b"caf\xc3\xa9.org", b"a b.org", b"."])
def test_impossible_host_names_are_ignored(name: bytes | None) -> None:
    assert client_hello_name(hello(name)) == ""


@pytest.mark.parametrize(
    "payload",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x02\x01\x00\x10",
        b"\x16\x03\x01\x00\x00",  # an empty record
        b"\x16\x03\x03\x00\x28\x02",  # a ServerHello
        b"\x16\x03\x03\x00\x28\x01\x00\x00\x24\x47",  # encrypted bytes that look like a record
        b"\x16\x03\x01\x00\x02\x01\x00\x17\x03\x03",  # another record before the hello is complete
        records(message()[:-15]) + b"\x14\x03\x03\x00\x01\x01",
    ],
)
def test_other_messages_differ_from_cut_hellos(payload: Any) -> None:
    assert client_hello_name(payload) == ""


def test_a_hello_without_extensions_has_no_name() -> None:
    bare = message(None)[:-2]
    bare = b"\x01" + (len(bare) - 4).to_bytes(3, "big") + bare[4:]
    assert client_hello_name(records(bare)) == ""
    assert client_hello_name(records(bare)[:-2]) is None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 16_384])
def test_a_hello_cut_anywhere_gives_the_complete_name_or_waits(size: int) -> None:
    complete = records(message(before=[(10, bytes(8))]), size)
    for end in range(len(complete)):
        assert client_hello_name(complete[:end]) is None
    assert client_hello_name(complete + b"\x14\x03\x03\x00\x01\x01") == NAME


def test_the_name_does_not_wait_for_the_bytes_behind_it() -> None:
    complete = message(after=[(51, bytes(1200))])
    assert hello_name(complete[: len(message())]) == NAME
    assert find(Sent(records(complete)[:500])) == ([(1, NAME)], False)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=5), st.integers(0, 200))
def test_a_damaged_hello_never_raises(flips: Any, end: Any) -> None:
    data = bytearray(hello(before=[(10, bytes(8))]))
    for at, value in flips:
        data[at % len(data)] = value
    for damaged in (bytes(data), bytes(data[:end])):
        name = client_hello_name(damaged)
        assert name is None or (name.isascii() and name == name.lower())


@given(st.binary(max_size=80))
def test_bytes_of_any_kind_never_raise(rest: Any) -> None:
    for begin in (b"", b"\x16\x03\x01\x00\x40\x01\x00", b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03" + bytes(32)):
        name = client_hello_name(begin + rest)
        assert name is None or name.isascii()


# -- a stream out of pieces ------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=12))
def test_a_stream_returns_the_bytes_before_the_first_gap(spans: Any) -> None:
    complete = bytes(range(100))
    stream = Stream()
    filled = set()
    for at, size in spans:
        stream.put(at, complete[at : at + size])
        filled |= set(range(at, at + size))
    front = next(position for position in itertools.count() if position not in filled)
    assert stream.front == front
    assert stream.start() == complete[:front]
    assert not stream.full


def test_a_stream_keeps_at_most_16_kib() -> None:
    stream = Stream()
    stream.put(MAX_HELLO - 2, b"abc")
    stream.put(MAX_HELLO, b"abc")
    stream.put(1 << 62, b"abc")
    assert stream.front == 0
    stream.put(0, bytes(MAX_HELLO - 2))
    assert stream.full
    assert stream.start() == bytes(MAX_HELLO - 2) + b"ab"


# -- segments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [1, (1 << 32) - 60])  # the second wraps around within the hello
def test_a_hello_split_at_every_byte_is_read_in_either_order(seq: Any) -> None:
    complete = hello()
    for cut in range(1, len(complete)):
        head, tail = Sent(complete[:cut], seq=seq), Sent(complete[cut:], seq=seq + cut)
        assert find(head, tail) == ([(2, NAME)], False)
        assert find(tail, head) == ([(2, NAME)], False)


@given(
    cuts=st.sets(st.integers(1, len(LONG) - 1), max_size=8),
    again=st.sets(st.integers(0, 8)),
    size=st.sampled_from([100, 512, 16_384]),
    order=st.randoms(use_true_random=False),
)
def test_segments_may_come_in_any_order_and_again(cuts: Any, again: Any, size: Any, order: Any) -> None:
    complete = records(message(before=[(51, bytes(1600))]), size)
    ends = [*sorted(cuts), len(complete)]
    segments = [Sent(complete[a:b], seq=5 + a) for a, b in itertools.pairwise([0, *ends])]
    segments += [segments[row] for row in again if row < len(segments)]
    # retransmitted in other segments
    segments += [Sent(complete[3:70], seq=8)]
    order.shuffle(segments)
    names, _ = find(*segments)
    assert {name for _, name in names} == {NAME}


def test_the_finder_does_not_wait_after_a_hello_in_one_segment() -> None:
    assert find(Sent(hello()), Sent(bytes(100), seq=500)) == ([(1, NAME)], False)


def test_early_data_after_a_hello_is_ignored() -> None:
    more = b"\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x20" + bytes(32)
    assert find(Sent(hello() + more)) == ([(1, NAME)], False)


def test_a_hello_in_a_syn_is_read() -> None:
    """With TCP Fast Open, the SYN's sequence number is one below that of the data."""
    complete = hello()
    syn = Sent(complete[:50], seq=99, flags=0x02)
    assert find(syn, Sent(complete[50:], seq=150)) == ([(2, NAME)], False)


def test_other_directions_and_connections_do_not_mix() -> None:
    complete, other = hello(), hello(b"other.example.com")
    assert len(complete) + 2 == len(other)
    sent = [
        Sent(complete[:60], seq=7),
        Sent(other[:60], seq=7, src=3),  # another client
        Sent(bytes(len(complete) - 60), seq=67, src=2, dst=1, src_port=443, dst_port=40_000),  # the server's answer
        Sent(other[60:], seq=67, src=3),
        Sent(complete[60:], seq=67),
    ]
    assert find(*sent) == ([(4, "other.example.com"), (5, NAME)], False)


@pytest.mark.parametrize(("src_port", "dst_port"), [(40_000, 443), (39_999, 443 + 31), (40_009, 443 - 31 * 9)])
def test_connections_with_equal_hashes_do_not_mix(src_port: int, dst_port: Any) -> None:
    """Segments are looked up by a hash of their ports, which may collide."""
    complete = hello()
    ports = {"src_port": src_port, "dst_port": dst_port, "src": 3}
    sent = [Sent(complete[:60], seq=7), Sent(complete[:60], seq=1 << 31, **ports)]
    sent += [Sent(complete[60:], seq=(1 << 31) + 60, **ports), Sent(complete[60:], seq=67)]
    assert find(*sent) == ([(3, NAME), (4, NAME)], False)
    assert find(*sent[:2], sent[3], sent[2]) == ([(3, NAME), (4, NAME)], False)


def test_a_second_connection_of_the_same_ports_replaces_an_incomplete_one() -> None:
    complete = hello()
    sent = [Sent(complete[:60], seq=7), Sent(complete[:50], seq=900_000), Sent(complete[50:], seq=900_050)]
    assert find(*sent) == ([(3, NAME)], False)


def test_the_finder_does_not_wait_after_a_hello_without_a_name() -> None:
    complete = hello(None)
    assert find(Sent(complete[:40], seq=1)) == ([], True)
    assert find(Sent(complete[:40], seq=1), Sent(complete[40:], seq=41)) == ([], False)


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("later", "expected"), [(LOOK_AHEAD, True), (LOOK_AHEAD + 1, False)])
def test_an_incomplete_hello_is_given_up_in_time(later: Any, expected: bool) -> None:
    complete = hello()
    for batches in ([slice(0, 2)], [slice(0, 1), slice(1, 2)]):
        finder = TlsFinder()
        sent = [Sent(complete[:60], number=5), Sent(complete[60:], seq=61, number=5 + later)]
        names = [name for batch in batches for name in finder.find(*handshakes.columns(sent[batch]))]
        assert names == ([(5 + later, NAME)] if expected else [])
        assert not finder.waiting


@pytest.mark.parametrize(("number", "waiting"), [(5 + LOOK_AHEAD - 1, True), (5 + LOOK_AHEAD, False)])
def test_waiting_ends_with_the_last_packet_that_could_help(number: Any, waiting: bool) -> None:
    finder = TlsFinder()
    finder.find(*handshakes.columns([Sent(hello()[:60], number=5)]))
    assert finder.waiting
    finder.find(*handshakes.columns([Sent(b"x", src=9, number=number)]))
    assert finder.waiting is waiting
    finder.find(*handshakes.columns([]))
    assert finder.waiting is waiting


@pytest.mark.parametrize(("before", "expected"), [(LOOK_BACK, True), (LOOK_BACK + 1, False)])
def test_segments_before_the_first_are_used_within_look_back_packets(before: Any, expected: bool) -> None:
    complete = hello()
    first = Sent(complete[:60], number=9 + before)
    sent = [Sent(complete[60:], seq=61, number=9), Sent(b"x", number=8 + before), first]
    for batches in (
        [slice(0, 3)],
        [slice(0, 1), slice(1, 3)],
        [slice(0, 2), slice(2, 3)],
        [slice(0, 1), slice(1, 2), slice(2, 3)],
    ):
        finder = TlsFinder()
        names = [name for batch in batches for name in finder.find(*handshakes.columns(sent[batch]))]
        assert names == ([(9 + before, NAME)] if expected else [])
        assert finder.waiting is not expected


def test_a_name_after_16_kib_is_given_up() -> None:
    complete = records(message(before=[(0x0A0A, bytes(17_000))]))
    segments = [Sent(complete[at : at + 1400], seq=1 + at) for at in range(0, len(complete), 1400)]
    assert find(*segments) == ([], False)
    assert find(Sent(complete)) == ([], False)
    near = records(message(before=[(0x0A0A, bytes(15_000))]))
    segments = [Sent(near[at : at + 1400], seq=1 + at) for at in range(0, len(near), 1400)]
    assert find(*segments) == ([(len(segments), NAME)], False)
