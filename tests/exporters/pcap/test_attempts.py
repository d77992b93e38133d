"""Connections that are unanswered, refused, half-open or reset keep their packets and bytes in a capture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tcp_roles as roles
from support.tcp_roles import ATTEMPTS, BINS, RST, RST_ACK, SECOND, SYN, SYN_ACK, connection_table, series_of

import netgen
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.layout import lay_out, written_series
from netgen.exporters.pcap.plan import Plan, Repair, plan
from netgen.exporters.pcap.tcp_lifecycle import HALF_OPEN, MAX_ATTEMPT_PACKETS, MIN_SYN_SIZE, NONE, REFUSED, UNANSWERED
from netgen.exporters.verify.verify import verify
from netgen.exporters.write import write


def flags(planned: Plan, flow: int = 0) -> list[int]:
    return list(lay_out(planned, np.array([flow])).flags)


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_keeps_its_packets(name: str) -> None:
    """Its packets have their flags, sizes and order, its series needs no change, and nothing is added."""
    packets, kind, _ = ATTEMPTS[name]
    planned = plan(connection_table(series_of(packets)))
    assert planned.repairs == {}
    assert planned.attempt.tolist() == [kind]
    made = lay_out(planned, np.array([0]))
    columns = (made.offset_ns // SECOND, made.up, made.size, made.flags)
    assert [tuple(map(int, packet)) for packet in zip(*columns, strict=True)] == packets


syn_sizes = st.sampled_from([40, 44, 48, 52, 60, 64])
bins = st.lists(st.integers(0, BINS - 1), min_size=0, max_size=MAX_ATTEMPT_PACKETS - 1)


@st.composite
def connection_attempts(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Make packets of a connection that never opens, as (bin, from the client, bytes, flags), in order."""
    syn, syn_bins = draw(syn_sizes), [0, *sorted(draw(bins))]
    kind = draw(st.sampled_from([UNANSWERED, REFUSED, HALF_OPEN]))
    packets = [(where, 1, syn, SYN) for where in syn_bins]
    if kind == REFUSED:
        refused = draw(st.lists(st.sampled_from(syn_bins), min_size=1, max_size=len(syn_bins), unique_by=id))
        times = [draw(st.integers(where, BINS - 1)) for where in sorted(refused)[: len(syn_bins)]]
        packets += [(where, 0, 40, RST_ACK) for where in times]
    if kind == HALF_OPEN:
        accepted = draw(st.integers(0, BINS - 1))
        packets = [packet for packet in packets if packet[0] <= accepted][: MAX_ATTEMPT_PACKETS - 1]
        answer = draw(st.sampled_from([44, 52, 60]))
        repeats = sorted([accepted, *draw(st.lists(st.integers(accepted, BINS - 1), max_size=3))])
        packets += [(where, 0, answer, SYN_ACK) for where in repeats]
        if syn < MIN_SYN_SIZE or draw(st.booleans()):
            packets.append((draw(st.integers(repeats[-1], BINS - 1)), 1, 40, RST))
    return sorted(packets, key=lambda packet: packet[0])


@settings(max_examples=200, deadline=None)
@given(st.lists(connection_attempts(), min_size=1, max_size=4), st.sampled_from([None, 6]))
def test_attempts_of_any_kind_keep_their_series(sent: list[list[tuple[int, int, int, int]]], protocol: int) -> None:
    """Packets add up to the series, whichever SYNs are sent, refused or accepted at whatever times."""
    series = [series_of(flow) for flow in sent]
    planned = plan(connection_table(*series, protocol=protocol))
    packets = lay_out(planned, np.arange(len(sent)))
    assert planned.repairs == {}
    np.testing.assert_array_equal(roles.recount(packets, len(sent), BINS, SECOND), np.stack(series))
    for flow, packets_sent in enumerate(sent):
        roles.check_roles(planned, packets, flow)
        # two SYNs of 44 bytes that are accepted are one of 48 and an RST as well
        if planned.attempt[flow] in (UNANSWERED, REFUSED):
            assert sorted(flags(planned, flow)) == sorted(number for *_, number in packets_sent)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_connection_that_is_reset_needs_no_closing(seed: int, down: bool) -> None:
    """One side sends on alone, and its last packet is bare: it becomes an RST, and no packet is added."""
    rng = np.random.default_rng(seed)
    count = np.zeros((2, BINS), dtype=np.int64)
    count[:, :6] = rng.integers(1, 20, (2, 6))
    size = count * 52 + rng.integers(0, 1448, (2, BINS)) * count
    count[0, 0], size[0, 0] = 3, 60 + 52 + 500
    count[1, 0], size[1, 0] = 2, 60 + 1000
    count[int(down), 6:], size[int(down), 6:] = 1, [300, 52]
    planned = plan(connection_table(np.concatenate([size, count])))
    assert planned.repairs == {}
    assert planned.reset.tolist() == [True]
    packets = lay_out(planned, np.array([0]))
    np.testing.assert_array_equal(roles.recount(packets, 1, BINS, SECOND)[0], np.concatenate([size, count]))
    roles.check_roles(planned, packets, 0)
    assert bool(packets.up[-1]) is not down


@pytest.mark.parametrize("size", [40, 44, 48])
@pytest.mark.parametrize("beside", [0, 1])
def test_a_reset_needs_no_timestamp(beside: int, size: int, tmp_path: Path) -> None:
    """A small RST has no timestamp where the other packets have, alone in its bin or beside an acknowledgement."""
    opened = [(0, 1, 60), (0, 0, 60), (0, 1, 52), (0, 1, 352), (1, 0, 52), (1, 0, 1500), (1, 1, 52)]
    series = series_of([(*packet, 0) for packet in [*opened, (6, 1, 352), *[(7, 1, 52)] * beside, (7, 1, size)]])
    planned = plan(connection_table(series))
    assert planned.repairs == {}
    assert planned.reset.tolist() == [True]
    assert planned.headers.tolist() == [52]
    made = lay_out(planned, np.array([0]))
    np.testing.assert_array_equal(roles.recount(made, 1, BINS, SECOND)[0], series)
    assert (made.size[-1], made.headers[-1]) == (size, size)
    assert set(made.headers[:-1]) == {52, 60}
    roles.check_roles(planned, made, 0)
    write(connection_table(series), tmp_path / "x.pcap")
    assert verify(tmp_path / "x.pcap").issues == ()
    np.testing.assert_array_equal(
        netgen.extract(tmp_path / "x.pcap", spec_from=connection_table(series)).series()[0], series
    )


NOT_ATTEMPTS = {
    "data": [(0, 1, 41, 0)],
    "larger than any SYN": [(0, 1, 84, 0)],
    "more than any kernel repeats": [(at % BINS, 1, 60, 0) for at in range(MAX_ATTEMPT_PACKETS + 1)],
    "SYNs of two sizes": [(0, 1, 60, 0), (1, 1, 52, 0)],
    "a whole connection with a small answer": [
        *((0, up, 40, 0) for up in (0, 0, 1, 1, 1)),
        (0, 1, 60, 0),
    ],
    "the server speaks first": [(0, 0, 60, 0), (1, 1, 60, 0)],
    "refused before it asks": [(0, 1, 60, 0), (1, 0, 40, 0), (2, 0, 40, 0), (3, 1, 60, 0)],
    "open, and nothing more": [(0, 1, 60, 0), (0, 0, 60, 0), (0, 1, 52, 0)],
    "SYN-ACKs of two sizes": [(0, 1, 60, 0), (0, 0, 60, 0), (1, 0, 52, 0)],
    "a whole connection": [(0, 1, 60, 0), (0, 0, 60, 0), (0, 1, 52, 0), (1, 0, 52, 0), (1, 1, 52, 0)],
}


@pytest.mark.parametrize("name", NOT_ATTEMPTS)
def test_other_flows_become_connections(name: str) -> None:
    """Flows with data, or with packets that no attempt has, still get a handshake and a closing."""
    planned = plan(connection_table(series_of(NOT_ATTEMPTS[name])))
    assert planned.attempt.tolist() == [NONE]
    roles.check_roles(planned, lay_out(planned, np.array([0])), 0)


def test_datagrams_are_not_attempts() -> None:
    """UDP flows with the packets and bytes of an attempt stay UDP."""
    planned = plan(connection_table(series_of(ATTEMPTS["Linux asks in vain"][0]), protocol=17))
    assert planned.attempt.tolist() == [NONE]
    assert flags(planned) == [0] * 4


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_over_another_ip_version(name: str) -> None:
    """An attempt stays one when it is written over the other IP version; packets without room are enlarged."""
    packets, kind, _ = ATTEMPTS[name]
    series = series_of(packets)
    own = series.copy()
    own[:2] += 20 * own[2:]
    was_v6 = connection_table(own, src=["2001:db8::1"], dst=["2001:db8::2"])
    same = np.array([number for *_, number in packets])
    made_v4 = () if packets[-1][-1] == RST else ((was_v6, "4"),)  # no room to tell the RST from the SYN
    for flows, ip in ((connection_table(series), "6"), (was_v6, "auto"), (was_v6, "6"), *made_v4):
        planned = plan(flows, ip_version=ip)
        assert planned.attempt.tolist() == [kind]
        made = lay_out(planned, np.array([0]))
        assert list(made.flags) == list(same)
        np.testing.assert_array_equal(roles.recount(made, 1, BINS, SECOND), planned.series)
        roles.check_roles(planned, made, 0)
        if flows is was_v6:
            assert planned.repairs == {}
            np.testing.assert_array_equal(planned.series[0], own)
        else:
            assert set(planned.repairs) <= {Repair.DISAGREE}
            np.testing.assert_array_equal(planned.series[0, 2:], series[2:])


def test_attempts_in_a_view_of_packets() -> None:
    """In series of packets instead of bins, each attempt keeps its packets and their times."""
    spec = SeriesSpec.packets(12)
    series = np.zeros((len(ATTEMPTS), 2, 12), dtype=np.int64)
    for row, (packets, *_) in zip(series, ATTEMPTS.values(), strict=True):
        row[0, : len(packets)] = [size if up else -size for _, up, size, _ in packets]
        row[1, 1 : len(packets)] = 1000
    planned = plan(FlowTable.build(series, spec, protocol=6))
    assert planned.repairs == {}
    assert planned.attempt.tolist() == [kind for _, kind, _ in ATTEMPTS.values()]
    np.testing.assert_array_equal(written_series(planned), series)
    for flow, (packets, *_) in enumerate(ATTEMPTS.values()):
        assert flags(planned, flow) == [number for *_, number in packets]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A capture with a flow of each kind."""
    flows = table(*(series_of(packets) for packets, *_ in KINDS.values()), protocol=6)
    report = write(flows, tmp_path / "x.pcap", options=CaptureOptions(rate=2, seed=3))
    assert report.repairs == {}
    assert report.connections == Counter(name for *_, name in KINDS.values())
    return tmp_path / "x.pcap"


def test_the_truth_says_what_became_of_it(capture: Path) -> None:
    """The column `connection` names each kind, and extraction gives each series back."""
    rows = pq.read_table(capture.with_name("x.labels.parquet")).to_pylist()
    assert [row["connection"] for row in rows] == [name for *_, name in KINDS.values()]
    flows = table(*(series_of(packets) for packets, *_ in KINDS.values()))
    order = sorted(range(len(rows)), key=lambda row: rows[row]["start_ns"])
    np.testing.assert_array_equal(netgen.extract(capture, spec_from=flows).series(), flows.series()[order])
    assert verify(capture).issues == ()


def test_a_person_is_told(tmp_path: Path) -> None:
    """`netgen export` says what became of the connections, and has it in its JSON."""
    table(*(series_of(packets) for packets, *_ in KINDS.values()), protocol=6).write(tmp_path / "x.parquet")
    command = Path(sys.executable).with_name("netgen")
    for more in ([], ["--json"]):
        words = [command, "export", tmp_path / "x.parquet", "-o", tmp_path / "x.pcap", "--force", *more]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        if more:
            assert json.loads(said)["connections"] == {"unanswered": 2, "refused": 4, "half-open": 6}
        else:
            assert "TCP connections: 2 unanswered, 4 refused, 6 half-open\n" in said


def test_numbers_are_as_rfc_9293_says(capture: Path) -> None:
    """dpkt: a SYN and its repeats have one number, a refusal acknowledges it, and a reset takes the next one."""
    client: dict[tuple[bytes, int], int] = {}
    seen = 0
    with capture.open("rb") as stream:
        for _, frame in dpkt.pcap.Reader(stream):
            ip = dpkt.ethernet.Ethernet(frame).data
            segment = ip.data
            up = ip.src[:2] == b"\xc6\x12"
            ends = (ip.src, segment.sport) if up else (ip.dst, segment.dport)
            first = client.setdefault(ends, segment.seq)
            seen += 1
            if segment.flags == SYN:
                assert (segment.seq, segment.ack) == (first, 0)
            elif segment.flags == RST:
                assert (segment.seq, segment.ack, segment.win) == ((first + 1) % 2**32, 0, 0)
            else:
                assert segment.flags in (REFUSAL, OPENING)
                assert segment.ack == (first + 1) % 2**32
                assert (segment.seq == 0) == (segment.flags == REFUSAL)
            assert len(segment.data) == 0
    assert seen == sum(len(packets) for packets, *_ in KINDS.values())


def edit(path: Path, wanted: int, at: int, change: Callable[[bytes], bytes], *, nth: int = 0) -> None:
    """Change four bytes from `at` of the nth packet whose TCP flags are `wanted`; checksums stay as they were."""
    data, place = bytearray(path.read_bytes()), 24
    while True:
        kept = int.from_bytes(data[place + 8 : place + 12], "little")
        if data[place + 16 + FLAGS] == wanted:
            if nth == 0:
                here = slice(place + 16 + at, place + 20 + at)
                data[here] = change(bytes(data[here]))
                path.write_bytes(data)
                return
            nth -= 1
        place += 16 + kept


@dataclasses.dataclass(frozen=True)
class Fault:
    """Bytes of one packet, the `nth` with such flags, that make an attempt none; `change` is told the packet's own."""

    flags: int
    at: int
    change: Callable[[bytes], bytes]
    check: str
    nth: int = 0


def other(amount: int) -> Callable[[bytes], bytes]:
    """The four-byte number that stands there, and so much."""
    return lambda was: (int.from_bytes(was, "big") + amount & 0xFFFFFFFF).to_bytes(4, "big")


def become(flag: int) -> Callable[[bytes], bytes]:
    return lambda was: bytes([flag]) + was[1:]


SEQ, ACKED, FLAGS = 38, 42, 47

FAULTS = {
    "a repeated SYN has another number": Fault(SYN, SEQ, other(1), "handshake", 1),
    "a refusal has a number of its own": Fault(REFUSAL, SEQ, other(777), "handshake"),
    "a refusal acknowledges another number": Fault(REFUSAL, ACKED, other(-1), "acknowledgement"),
    "a SYN-ACK acknowledges another number": Fault(OPENING, ACKED, other(-500_000), "acknowledgement"),
    "the SYN between two refusals is one, too": Fault(SYN, FLAGS, become(REFUSAL), "handshake", 8),
    "the RST of an accepted SYN has become an ACK": Fault(RST, FLAGS, become(TCP_ACK), "closing"),
    "a SYN-ACK has become a refusal": Fault(OPENING, FLAGS, become(REFUSAL), "handshake", 2),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_attempt_is_found(name: str, seed: int, tmp_path: Path) -> None:
    """What no host would send in an attempt is found by `netgen verify`, whatever the numbers are."""
    fault, path = FAULTS[name], tmp_path / "x.pcap"
    flows = table(*(series_of(packets) for packets, *_ in KINDS.values()), protocol=6)
    write(flows, path, options=CaptureOptions(rate=0.001, seed=seed))  # flow by flow
    edit(path, fault.flags, fault.at, fault.change, nth=fault.nth)
    assert fault.check in {found.check for found in verify(path).issues}


def test_a_reset_that_does_not_end_it_is_found(tmp_path: Path) -> None:
    """An RST within a connection that goes on, and closes by FINs, is none that a host would send."""
    packets = [
        (0, 1, 60, 0),
        (0, 0, 60, 0),
        (0, 1, 152, 0),
        (1, 0, 252, 0),
        (1, 1, 52, 0),
        (2, 1, 52, 0),
        (2, 0, 52, 0),
    ]
    write(table(series_of([*packets, (2, 1, 52, 0)]), protocol=6), tmp_path / "x.pcap")
    assert verify(tmp_path / "x.pcap").issues == ()
    edit(tmp_path / "x.pcap", TCP_ACK, FLAGS, become(TCP_RST | TCP_ACK))
    assert "closing" in {found.check for found in verify(tmp_path / "x.pcap").issues}


def test_the_page_lists_the_faults() -> None:
    """docs/replay.md says of each fault which check finds it, as the tests have it."""
    page = (ROOT / "docs/replay.md").read_text()
    for name, fault in FAULTS.items():
        assert f"| {name} | {fault.check} |" in page


def test_another_word_in_the_truth_is_found(capture: Path) -> None:
    """A labels file that calls a refused connection closed does not match its capture."""
    labels = capture.with_name("x.labels.csv")
    labels.write_text(labels.read_text().replace('"refused"', '"closed"'))
    said = verify(capture, labels).issues
    assert [found.check for found in said] == ["ground truth"]
    assert "is refused, the ground truth says closed" in said[0].message
