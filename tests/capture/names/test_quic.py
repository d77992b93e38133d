"""netgen.capture.names.quic: names in QUIC's ClientHellos, from the RFCs' examples and generated packets."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import handshakes

from netgen.capture.names.client_hello import LOOK_AHEAD, hello_name
from netgen.capture.names.quic import QuicFinder, client_keys, crypto_frames, decrypt, initial_packets

V1, V2, DRAFT_29 = handshakes.V1, handshakes.V2, handshakes.DRAFT_29
crypto, initial, message = handshakes.crypto, handshakes.initial, handshakes.message
NAME = "www.example.org"
CHOSEN = bytes(range(8))
MESSAGE = message(before=[(51, bytes(1600))])  # larger than a packet

#: The ClientHello of RFC 9001, Appendix A.2, in its CRYPTO frame.
EXAMPLE = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c0000000"
    "10000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e0005000501000000000033"
    "00260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e040305"
    "0306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff08011001048000"
    "75300901100f088394c8f03e51570806048000ffff"
)
EXAMPLE_CHOSEN = bytes.fromhex("8394c8f03e515708")


def sent(payload: Any, **options: Any) -> Any:
    return handshakes.Sent(payload, protocol=handshakes.UDP, **options)


def find(*datagrams: Any, finder: Any = None) -> Any:
    """Find the names in datagrams of one client; return them, and whether the finder waits for more."""
    finder = finder or QuicFinder()
    packets = [packet if isinstance(packet, handshakes.Sent) else sent(packet) for packet in datagrams]
    return finder.find(*handshakes.columns(packets)), finder.waiting


# -- the RFCs' examples ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "key", "nonce", "header"),
    [
        # RFC 9001, A.1, and RFC 9369, A.1
        (V1, "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2"),
        (V2, "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9"),
    ],
)
def test_keys_are_those_of_the_rfcs(version: Any, key: str, nonce: str, header: str) -> None:
    keys = client_keys(version, EXAMPLE_CHOSEN)
    assert (keys.packet.hex(), keys.nonce.hex(), keys.header.hex()) == (key, nonce, header)


@pytest.mark.parametrize(
    ("version", "begin", "end"),
    [
        # RFC 9001, A.2, and RFC 9369, A.2
        (
            V1,
            "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9bd8bab936b47d92ec356c",
            "e221af44860018ab0856972e194cd934",
        ),
        (
            V2,
            "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485dd04de806071bf03dceebfa162e75d6c",
            "a745b6fe189cf772a9f84cbfc",
        ),
    ],
)
def test_the_rfcs_client_initial_is_read(version: Any, begin: str, end: str) -> None:
    """The generated packet equals the RFC's, and the RFC's ClientHello is read from it."""
    packet = initial(EXAMPLE, EXAMPLE_CHOSEN, version, number=b"\0\0\0\2")
    assert packet.hex().startswith(begin)
    assert packet.hex().endswith(end)
    (parsed,) = initial_packets(packet)
    frames = decrypt(packet, parsed, client_keys(version, EXAMPLE_CHOSEN))
    assert frames == EXAMPLE.ljust(1162, b"\0")
    ((at, content),) = crypto_frames(frames)
    assert (at, hello_name(content)) == (0, "example.com")
    assert find(packet) == ([(1, "example.com")], False)


# -- one packet ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V1, V2, DRAFT_29])
@pytest.mark.parametrize("number", [b"\0", b"\1\2", b"\0\0\3", b"\0\0\0\4"])
@pytest.mark.parametrize(("size", "token"), [(8, b""), (13, b"t" * 80), (20, b"")])
def test_an_initial_packet_of_every_form_is_read(version: Any, number: bytes, size: int, token: Any) -> None:
    datagram = initial(crypto(0, message()), bytes(size), version, number=number, token=token, source=b"source")
    assert find(datagram) == ([(1, NAME)], False)


@pytest.mark.parametrize(
    "frames",
    [
        b"\x01\x01" + crypto(0, message()),  # PING
        bytes(40) + crypto(0, message()) + bytes(3) + b"\x01",  # PADDING
        b"\x02\x05\x00\x00\x05" + crypto(0, message()),  # ACK of one range
        b"\x02\x40\x50\x00\x02\x05\x01\x01\x01\x01" + crypto(0, message()),  # of three
        b"\x03\x05\x00\x00\x05\x01\x01\x01" + crypto(0, message()),  # with ECN counts
        crypto(70, message()[70:]) + crypto(0, message()[:30]) + b"\x01" + crypto(30, message()[30:70]),
        crypto(0, message()[:50]) + crypto(20, message()[20:]),
    ],
)
def test_frames_of_every_kind_may_surround_the_hello(frames: Any) -> None:
    assert find(initial(frames)) == ([(1, NAME)], False)


def test_a_frame_that_is_not_allowed_ends_an_initial_packet() -> None:
    assert find(initial(b"\x08" + crypto(0, message()))) == ([], False)


@pytest.mark.parametrize(
    ("version", "kind", "retry"), [(V1, 0xD0, 0xF0), (V1, 0xE0, 0xF0), (V2, 0xE0, 0xC0), (V2, 0xF0, 0xC0)]
)
def test_all_coalesced_packets_are_read(version: Any, kind: int, retry: int) -> None:
    """0-RTT and Handshake packets may come before and after one or two Initial packets."""
    head = version.to_bytes(4, "big") + b"\x08" + CHOSEN + b"\x00"
    other = bytes([kind]) + head + handshakes.integer(50) + bytes(50)
    begin = initial(crypto(0, MESSAGE[:300]), version=version, pad=0)
    end = initial(crypto(300, MESSAGE[300:]), version=version, number=b"\1", pad=0)
    assert find(other + begin + other + end) == ([(1, NAME)], False)
    assert find(begin + end + other) == ([(1, NAME)], False)
    again = bytes([retry]) + head + bytes(50)
    assert find(again + begin + end) == ([], False)


def test_only_packets_that_a_client_may_send_are_read() -> None:
    complete = crypto(0, message())
    assert find(initial(complete, pad=1199)) == ([], False)  # the datagram is too short
    assert find(initial(complete, bytes(7))) == ([], False)  # the ID is too short
    assert find(initial(complete, bytes(21))) == ([], False)  # too long
    assert find(initial(complete)[:-1]) == ([], False)  # cut
    server = handshakes.quic_keys(V1, CHOSEN, "server in")
    assert find(initial(complete, keys=server)) == ([], False)
    other = bytearray(initial(complete))
    other[1:5] = bytes.fromhex("0a0a0a0a")  # an unassigned version
    assert find(bytes(other)) == ([], False)


def test_the_finder_does_not_wait_after_an_initial_packet_without_a_hello() -> None:
    assert find(initial(b"\x02\x05\x00\x00\x05")) == ([], False)
    assert find(initial(crypto(0, message(None)))) == ([], False)


# -- several packets -------------------------------------------------------------------------------


@given(
    cuts=st.sets(st.integers(1, len(MESSAGE) - 1), max_size=20),
    again=st.sets(st.integers(0, 20), max_size=3),
    order=st.randoms(use_true_random=False),
    version=st.sampled_from([V1, V2]),
)
@settings(max_examples=50)
def test_crypto_frames_may_come_in_any_order_and_repeatedly(cuts: Any, again: Any, order: Any, version: Any) -> None:
    ends = [0, *sorted({*cuts, 1000}), len(MESSAGE)]
    pieces = [(a, MESSAGE[a:b]) for a, b in itertools.pairwise(ends)]
    pieces += [pieces[row] for row in again if row < len(pieces)]
    order.shuffle(pieces)
    packets: list[bytes] = []
    while pieces:
        frames = b""
        while pieces and len(frames) + len(pieces[-1][1]) < 1100:
            frames += crypto(*pieces.pop())
        packets.append(initial(frames, version=version, number=bytes([len(packets)])))
    names, waiting = find(*packets)
    assert [name for _, name in names] == [NAME]
    assert not waiting


def test_packets_after_a_known_name_do_not_begin_a_new_hello() -> None:
    """The name is in the first packet, the rest of the hello in the second; then both are repeated."""
    complete = message(after=[(51, bytes(1600))])
    packets = [initial(crypto(0, complete[:900])), initial(crypto(900, complete[900:]), number=b"\1")]
    assert find(*packets, *packets) == ([(1, NAME)], False)


def test_packets_with_the_servers_id_keep_the_keys_of_the_first() -> None:
    """After the server's answer, its ID is the destination."""
    keys = handshakes.quic_keys(V1, CHOSEN)
    for chosen in (b"", b"server", b"the server's"):
        begin = initial(crypto(0, MESSAGE[:900]))
        end = initial(b"\x02\x00\x00\x00\x00" + crypto(900, MESSAGE[900:]), chosen, keys=keys, number=b"\1")
        assert find(begin, end) == ([(2, NAME)], False)


def test_after_a_retry_the_keys_are_new() -> None:
    begin = initial(crypto(0, message()[:50]))
    again = initial(crypto(0, message()), b"retry source", token=b"token")
    assert find(begin, again) == ([(2, NAME)], True)


def test_connections_that_share_their_ports_do_not_mix() -> None:
    """Connection IDs tell connections of one socket apart; ports tell equal IDs apart."""
    other = message(b"other.example.com", before=[(51, bytes(1600))])
    ids = b"first id", b"second id"
    begin = [initial(crypto(0, text[:900]), chosen) for text, chosen in zip((MESSAGE, other), ids, strict=True)]
    end = [initial(crypto(900, text[900:]), chosen) for text, chosen in zip((MESSAGE, other), ids, strict=True)]
    assert find(*begin, *end) == ([(3, NAME), (4, "other.example.com")], False)
    first = sent(initial(crypto(0, MESSAGE[:900]))), sent(initial(crypto(0, other[:900])), src_port=9)
    last = sent(initial(crypto(900, other[900:])), src_port=9), sent(initial(crypto(900, MESSAGE[900:])))
    assert find(*first, *last) == ([(3, "other.example.com"), (4, NAME)], False)


@pytest.mark.parametrize(("later", "expected"), [(LOOK_AHEAD, True), (LOOK_AHEAD + 1, False)])
def test_an_incomplete_hello_is_given_up_in_time(later: Any, expected: bool) -> None:
    begin = sent(initial(crypto(0, MESSAGE[:900])), number=5)
    end = sent(initial(crypto(900, MESSAGE[900:])), number=5 + later)
    names, waiting = find(begin, end)
    assert names == ([(5 + later, NAME)] if expected else [])
    assert waiting is not expected  # the second half waits for its first half
    # the same with the server's ID
    end = initial(crypto(900, MESSAGE[900:]), b"server", keys=handshakes.quic_keys(V1, CHOSEN))
    assert find(begin, sent(end, number=5 + later)) == ([(5 + later, NAME)] if expected else [], False)
    finder = QuicFinder()
    assert find(begin, finder=finder) == ([], True)
    assert find(sent(b"", number=5 + LOOK_AHEAD), finder=finder) == ([], False)
    assert find(finder=finder) == ([], False)


# -- damage ----------------------------------------------------------------------------------------


@given(
    flips=st.lists(st.tuples(st.integers(0, 1250), st.integers(0, 255)), max_size=4),
    first=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 255)), max_size=2),
    end=st.integers(0, 1300),
)
def test_damaged_datagrams_never_raise_nor_give_a_wrong_name(flips: Any, first: Any, end: Any) -> None:
    data = bytearray(initial(crypto(0, message()), pad=1250))
    for at, value in flips + first:
        data[at % len(data)] = value
    assert {name for _, name in find(bytes(data))[0]} <= {NAME}
    for damaged in (bytes(data[:end]), bytes(data) + bytes(data[:end]), bytes(data[:end]) + bytes(data)):
        for packet in initial_packets(damaged):
            decrypt(damaged, packet, client_keys(packet.version, packet.chosen_id))


@given(st.binary(max_size=60))
def test_frames_and_headers_of_any_bytes_never_raise(data: Any) -> None:
    for _, content in crypto_frames(data):
        hello_name(content)
    assert all(packet.end > 0 for packet in initial_packets(b"\xc0\0\0\0\1\x08" + data))
    find(initial(data))
