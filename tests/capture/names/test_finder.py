"""netgen.capture.names.finder: names of flows in captures; netgen.capture.names.class_table: classes out of names."""

import dataclasses
import ipaddress
import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import handshakes
from support.examples import examples

from netgen.capture.errors import InputError
from netgen.capture.formats.reader import CaptureFile
from netgen.capture.layers.dissect import dissect
from netgen.capture.names.class_table import ClassTable
from netgen.capture.names.finder import LOOK_AHEAD, LOOK_BACK, NameFinder, ServerName

pytestmark = pytest.mark.usefixtures("either_reader")

Sent = handshakes.Sent
CLIENT = (4, 0, 0x0A000002)
ADDRESS = (4, 0, 0xC0000207)


def answer(name: Any) -> Any:
    return handshakes.dns(name, [handshakes.record(b"\xc0\x0c", 1, bytes([192, 0, 2, 7]))])


def find(sent: Any, cuts: Any = ()) -> Any:
    """Find names chunk by chunk; return them, and after which packets the finder waits for more."""
    finder = NameFinder()
    names, waiting = [], {}
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(sent)]):
        data, packets = handshakes.columns(sent[begin:end], first=begin + 1)
        names += finder.find(data, packets)
        data[:] = 0xFF
        waiting[end] = finder.waiting
    return names, waiting


def test_names_of_all_kinds_come_in_the_files_order() -> None:
    complete = handshakes.hello()
    sent = [
        Sent(complete[:60]),
        Sent(answer("WWW.Example.NET"), handshakes.UDP, 53, 40_000),
        Sent(handshakes.initial(handshakes.crypto(0, handshakes.message(b"quic.example.com"))), handshakes.UDP),
        Sent(complete[60:], seq=61),
        Sent(answer("www.example.net"), handshakes.UDP, 53, 40_000),
    ]
    dns_answers = ServerName(2, "dns", "www.example.net", CLIENT, (ADDRESS,))
    expected = [
        dns_answers,
        ServerName(3, "quic", "quic.example.com"),
        ServerName(4, "tls", "www.example.org"),
        dataclasses.replace(dns_answers, number=5),
    ]
    assert find(sent) == (expected, {5: False})
    assert find([]) == ([], {0: False})


def test_addresses_of_ipv6_clients_are_complete() -> None:
    data, packets = handshakes.columns([Sent(answer("a.org"), handshakes.UDP, 53, 40_000)])
    packets.version[0], packets.dst_high[0] = 6, 0x20010DB8 << 32
    (name,) = NameFinder().find(data, packets)
    assert name.client == (6, 0x20010DB8 << 32, 0x0A000002)


# -- chunks ----------------------------------------------------------------------------------------


def tls(host: Any, ports: Any, seq: Any, cuts: Any, size: Any) -> Any:
    complete = handshakes.records(handshakes.message(host, [(51, bytes(400))]), size)
    ends = [0, *sorted({cut % len(complete) for cut in cuts} - {0}), len(complete)]
    return [Sent(complete[a:b], src_port=ports, seq=seq + a) for a, b in itertools.pairwise(ends)]


def quic(host: Any, ports: Any, chosen: Any, cuts: Any) -> Any:
    complete = handshakes.message(host, [(51, bytes(400))])
    ends = [0, *sorted({cut % len(complete) for cut in cuts} - {0}), len(complete)]
    frames = [handshakes.crypto(a, complete[a:b]) for a, b in itertools.pairwise(ends)]
    return [Sent(handshakes.initial(frame, chosen), handshakes.UDP, ports) for frame in frames]


CUTS = st.lists(st.integers(0, 2000), max_size=3)
HOSTS = st.sampled_from([b"a.example.org", b"b.example.org", b"c.example.com"])


@given(
    secure=st.lists(st.tuples(HOSTS, CUTS, st.sampled_from([64, 16_384])), max_size=4),
    quick=st.lists(st.tuples(HOSTS, CUTS), max_size=2),
    queries=st.lists(st.sampled_from(["d.example.org", "e.example.org"]), max_size=2),
    order=st.randoms(use_true_random=False),
    cuts=st.sets(st.integers(0, 40)),
)
@settings(max_examples=examples(60))
def test_names_do_not_depend_on_the_cuts_of_packets_and_batches(
    secure: Any, quick: Any, queries: Any, order: Any, cuts: Any
) -> None:
    """Segments may come in any order within `LOOK_BACK` packets, in chunks of any size."""
    sent = [x for row, (host, at, size) in enumerate(secure) for x in tls(host, 1000 + row, 2**32 - 99, at, size)]
    sent += [x for row, (host, at) in enumerate(quick) for x in quic(host, 2000 + row, bytes([row] * 9), at)]
    sent += [Sent(answer(host), handshakes.UDP, 53, 40_000) for host in queries]
    assert len(sent) <= LOOK_BACK
    order.shuffle(sent)
    names, _ = find(sent, {cut for cut in cuts if cut < len(sent)})
    expected = [("tls", host.decode()) for host, *_ in secure] + [("quic", host.decode()) for host, _ in quick]
    expected += [("dns", host) for host in queries]
    assert sorted((name.kind, name.text) for name in names) == sorted(expected)
    assert [name.number for name in names] == sorted(name.number for name in names)


#: Overlapping segments of a few connections, some of which look like the beginning of a hello.
COMPLETE = handshakes.records(handshakes.message(before=[(51, bytes(90))]), 70)
PIECE = st.builds(
    lambda at, size, shift, port, flags: Sent(COMPLETE[at : at + size], src_port=port, seq=7 + at + shift, flags=flags),
    st.one_of(st.just(0), st.sampled_from([1, 60, 75, 80, 150]), st.integers(0, len(COMPLETE))),
    st.one_of(st.integers(1, 5), st.integers(40, 250)),
    st.sampled_from([0, 0, 0, 75, 5000, 40_000, 2**31]),
    st.sampled_from([1000, 1000, 1001]),
    st.sampled_from([0x18, 0x18, 0x02]),
)
FIRST_KEYS = handshakes.quic_keys(handshakes.V1, bytes(8))
FRAME = st.builds(
    lambda at, size, chosen, port: Sent(
        handshakes.initial(handshakes.crypto(at, COMPLETE[5:][at : at + size]), chosen, keys=FIRST_KEYS),
        handshakes.UDP,
        port,
    ),
    st.sampled_from([0, 0, 30, 60]),
    st.integers(20, 70),
    st.sampled_from([bytes(8), bytes(8), b"other id", b""]),
    st.sampled_from([1000, 1001]),
)


@given(
    sent=st.lists(st.one_of(PIECE, PIECE, FRAME), max_size=14),
    gaps=st.lists(st.sampled_from([1, 1, 1, 2, LOOK_BACK - 1, LOOK_BACK, LOOK_AHEAD // 2, LOOK_AHEAD]), min_size=14),
    cuts=st.sets(st.integers(0, 13)),
)
@settings(max_examples=examples(200))
def test_names_and_waiting_do_not_depend_on_the_batches(sent: Any, gaps: Any, cuts: Any) -> None:
    """Hellos may overlap, be given up, or not be hellos at all."""
    numbers = itertools.accumulate(gaps)
    sent = [dataclasses.replace(packet, number=number) for packet, number in zip(sent, numbers, strict=False)]
    names, waiting = find(sent)
    single_names, single_waiting = find(sent, range(1, len(sent)))
    assert single_names == names
    assert single_waiting[len(sent)] == waiting[len(sent)]
    cut_names, cut_waiting = find(sent, {cut for cut in cuts if cut < len(sent)})
    assert cut_names == names
    assert cut_waiting.items() <= single_waiting.items() | {(0, False)}


@given(
    secure=st.lists(st.tuples(HOSTS, CUTS, st.sampled_from([64, 16_384])), max_size=4),
    quick=st.lists(st.tuples(HOSTS, CUTS), max_size=2),
    order=st.randoms(use_true_random=False),
    middle=st.integers(0, 30),
)
def test_two_finders_of_one_capture_give_the_names_of_a_single_one(
    secure: Any, quick: Any, order: Any, middle: Any
) -> None:
    """The first reads on to complete hellos of its part, and adds no others; the second begins early."""
    sent = [x for row, (host, at, size) in enumerate(secure) for x in tls(host, 1000 + row, 99, at, size)]
    sent += [x for row, (host, at) in enumerate(quick) for x in quic(host, 2000 + row, bytes([row] * 9), at)]
    sent += [Sent(answer("d.example.org"), handshakes.UDP, 53, 40_000)] * 3
    order.shuffle(sent)
    middle = min(middle, len(sent))
    first, second = NameFinder(), NameFinder()
    names = first.find(*handshakes.columns(sent[:middle]))
    row = middle
    while first.waiting and row < len(sent):
        names += first.find(*handshakes.columns([sent[row]], first=row + 1), new=False)
        row += 1
    names += [name for name in second.find(*handshakes.columns(sent)) if name.number > middle]
    expected, _ = find(sent)
    assert set(names) == set(expected)
    assert sorted(name.number for name in names if name.kind == "dns") == [
        name.number for name in expected if name.kind == "dns"
    ]


def test_reading_on_ends_although_hellos_never_end() -> None:
    """The finder does not wait for hellos that begin after its part, or it would never end in a busy capture."""
    complete = handshakes.hello()
    finder = NameFinder()
    finder.find(*handshakes.columns([Sent(complete[:80])]))
    for number in range(2, LOOK_AHEAD + 2, 64):
        assert finder.waiting
        ports = range(number, number + 64)
        sent = [Sent(complete[:80] if port % 2 else complete, src_port=port) for port in ports]
        sent[0] = Sent(
            handshakes.initial(handshakes.crypto(0, handshakes.message()[: 50 + number])), handshakes.UDP, number
        )
        assert finder.find(*handshakes.columns(sent, first=number), new=False) == []
    assert not finder.waiting


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 300), st.integers(0, 255)), max_size=12),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 300)), max_size=3),
    st.sets(st.integers(1, 6)),
)
def test_damaged_packets_never_raise(flips: Any, ends: Any, cuts: Any) -> None:
    sent = [*tls(b"a.example.org", 1000, 5, [100, 300], 90), Sent(handshakes.hello(), src_port=9)]
    sent += [*quic(b"b.example.org", 2000, bytes(8), [200]), Sent(answer("c.example.org"), handshakes.UDP, 53)]
    payloads = [bytearray(packet.payload) for packet in sent]
    for row, at, value in flips:
        payloads[row][at % len(payloads[row])] = value
    for row, end in ends:
        del payloads[row][end + 1 :]
    sent = [dataclasses.replace(packet, payload=bytes(new)) for packet, new in zip(sent, payloads, strict=True)]
    names, _ = find(sent, cuts)
    assert all(name.text.isascii() and name.text == name.text.lower() for name in names)


def test_many_incomplete_hellos_are_all_given_up() -> None:
    """Each is forgotten after `LOOK_AHEAD` packets, in one chunk and in many."""
    complete = handshakes.hello()
    count = LOOK_AHEAD + 900
    ports = range(1024, 1024 + count)
    sent = [Sent(complete[:80], src_port=port, seq=port) for port in ports]
    finder = NameFinder()
    data, packets = handshakes.columns(sent)
    assert finder.find(data, packets) == []
    # the hello of the first segment is just too old, that of the second just not
    rest = [Sent(complete[80:], src_port=port, seq=port + 80) for port in ports]
    names = finder.find(*handshakes.columns([rest[899], rest[901]], first=count + 1))
    assert names == [ServerName(count + 2, "tls", "www.example.org")]
    assert finder.waiting
    finder.find(*handshakes.columns([Sent(b"x", number=count + LOOK_AHEAD)]))
    assert not finder.waiting


# -- real captures, against tshark -----------------------------------------------------------------

#: Captures in which tshark finds names that netgen does not, and why.
ONLY_TSHARK = {
    "haproxy.pcap": "a proxy's line comes before the hello, in the same segment",
    "quic_interop_V.pcapng": "an unassigned version, sent to be refused; the keys are a guess",
    "quic_t50.pcap": "Google's QUIC with frames of its own",
    "quic_t51.pcap": "Google's QUIC with frames of its own",
    "rdp2.pcap": "TLS over RDP's own UDP transport",
}
#: Captures in which netgen finds names that tshark does not, and why.
ONLY_NETGEN = {
    "heuristic_tcp_ack_payload.pcap": "bytes of padding in front lead tshark's reassembly astray",
    "ookla.pcap": "TLS on port 8080, which tshark takes for HTTP",
    "rdp.pcap": "TLS on RDP's port, which tshark takes for RDP",
    "tls_missing_ch_frag.pcap": "the end of the hello was not captured; the name is in the beginning",
}
ONLY_TSHARK_DNS = {
    "dns-invalid-chars.pcap": "not a valid host name",
}


#: A capture that ends within a packet.
CUT = "fuzz-2021-10-13.pcap"
FIELDS = (
    *("frame.number", "frame.protocols", "udp.srcport", "tls.handshake.extensions_server_name"),
    *("dns.qry.name", "dns.count.answers", "dns.resp.type", "dns.a", "dns.aaaa"),
)


def address_text(address: Any) -> Any:
    version, high, low = address
    return str(ipaddress.IPv4Address(low) if version == 4 else ipaddress.IPv6Address(high << 64 | low))


def tshark_dns_answers(protocols: Any, row: Any) -> Iterator[Any]:
    """Yield name and address of each answer; tshark lists the records of all sections in one row."""
    if row["udp.srcport"] != ["53"] or "mdns" in protocols or len(row["dns.qry.name"]) != 1:
        return
    kinds = row["dns.resp.type"][: int(row["dns.count.answers"][0])]
    for field, kind in (("dns.a", "1"), ("dns.aaaa", "28")):
        for address in row[field][: kinds.count(kind)]:
            yield row["dns.qry.name"][0].lower(), address


def by_tshark(files: Any, counts: Any, path: Any) -> Any:
    """Return (capture, name) of servers and (capture, name, address) of DNS answers, outside tunnels.

    mergecap joins the captures into one file, because each start of tshark is slow.
    """
    subprocess.run(["mergecap", "-a", "-F", "pcapng", "-w", path, *files], check=True, capture_output=True)
    words = ["tshark", "-n", "-r", path, "-o", "tcp.reassemble_out_of_order:TRUE", "-T", "fields"]
    words += ["-Y", "tls.handshake.extensions_server_name or dns.flags.response == 1", "-E", "aggregator=|"]
    words += [word for field in FIELDS for word in ("-e", field)]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    ends = np.cumsum(counts)
    servers, dns_answers = set(), set()
    for line in lines:
        row = {name: cell.split("|") if cell else [] for name, cell in zip(FIELDS, line.split("\t"), strict=True)}
        file = files[np.searchsorted(ends, int(row["frame.number"][0]))].name
        protocols = row["frame.protocols"][0].split(":")
        if protocols.count("ip") + protocols.count("ipv6") > 1:
            continue  # netgen counts the outer packet by default
        servers |= {(file, name.lower()) for name in row["tls.handshake.extensions_server_name"]}
        dns_answers |= {(file, *pair) for pair in tshark_dns_answers(protocols, row)}
    return servers, dns_answers


@pytest.mark.external
def test_names_in_real_captures_are_those_of_tshark(shared_data: Path, tmp_path: Path) -> None:
    for tool in ("mergecap", "tshark"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    # mergecap stops at a capture that ends within a packet
    files = [file for file in sorted((shared_data / "captures" / "ndpi").iterdir()) if file.name != CUT]
    counts, servers, dns_answers = [], set(), set()
    for file in files:
        finder = NameFinder()
        counts.append(0)
        for batch in CaptureFile(file).chunks():
            counts[-1] += len(batch)
            for name in finder.find(batch.data, dissect(batch)):
                if name.kind == "dns":
                    dns_answers |= {(file.name, name.text, address_text(address)) for address in name.answers}
                else:
                    servers.add((file.name, name.text))
    expected, expected_dns_answers = by_tshark(files, counts, tmp_path / "all.pcapng")
    assert len(expected & servers) > 400
    assert {file for file, *_ in expected - servers} == set(ONLY_TSHARK)
    assert {file for file, *_ in servers - expected} == set(ONLY_NETGEN)
    assert len(expected_dns_answers & dns_answers) > 400
    assert {file for file, *_ in expected_dns_answers - dns_answers} == set(ONLY_TSHARK_DNS)
    assert dns_answers - expected_dns_answers == set()


# -- classes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ipv4-c001-fra001-ix.1.oca.nflxvideo.net", "netflix"),
        ("nflxvideo.net", "netflix"),
        ("rr3---sn-4g5e6nze.googlevideo.com", "youtube"),
        ("video-edge-1.fra02.abs.hls.ttvnw.net", "twitch"),
        ("upos-sz-mirrorcos.bilivideo.com", "bilibili"),
        ("notnflxvideo.net", None),  # not at a label boundary
        ("nflxvideo.net.evil.org", None),
        ("www.example.org", None),
        ("", None),
        (None, None),
    ],
)
def test_shipped_suffixes_match_at_the_borders_of_labels(name: str | None, expected: str | None) -> None:
    assert ClassTable().class_of(name) == expected


def test_the_users_rows_and_the_longest_suffix_take_precedence(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("suffix,class\n# comment\n\nexample.org,all\n*.cdn.example.org, cdn\nnflxvideo.net,films\n")
    table = ClassTable(path)
    assert table.class_of("a.example.org") == "all"
    assert table.class_of("x.cdn.example.org") == "cdn"
    assert table.class_of("a.nflxvideo.net") == "films"
    assert table.class_of("a.googlevideo.com") == "youtube"


@pytest.mark.parametrize("row", ["example.org", "example.org,", ",video", "a.org,b,c"])
def test_a_bad_row_of_the_users_table_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"suffix,class\na.org,b\n{row}\n")
    with pytest.raises(InputError, match=r"table\.csv, line 3"):
        ClassTable(path)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv"):
        ClassTable(tmp_path / "none.csv")
