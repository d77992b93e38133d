"""Connections that nobody answers, that are refused, half-open or reset keep their packets and bytes in a capture."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dpkt
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netgen
from capture.flows import FlowTable
from capture.headers import TCP_ACK, TCP_RST, TCP_SYN
from capture.series import SeriesSpec
from exporters.attempts import HALF_OPEN, MOST, NONE, REFUSED, UNANSWERED
from exporters.mend import DISAGREE
from exporters.options import CaptureOptions
from exporters.plan import Plan, plan
from exporters.verify.verify import verify
from exporters.write import write

_SPEC = importlib.util.spec_from_file_location("roles", Path(__file__).with_name("roles.py"))
assert _SPEC
assert _SPEC.loader
roles = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(roles)

SECOND, BINS = 10**9, 8
SYN, OPENING, REFUSAL, RST = TCP_SYN, TCP_SYN | TCP_ACK, TCP_RST | TCP_ACK, TCP_RST

#: Name -> (bin, from the client, bytes, flags) of each packet, kind, what the truth calls it.
KINDS = {
    "Linux asks in vain": ([(at, 1, 60, SYN) for at in (0, 1, 3, 7)], UNANSWERED, "unanswered"),
    "a scan of a filtered port": ([(0, 1, 44, SYN)], UNANSWERED, "unanswered"),
    "a scan of a closed port": ([(0, 1, 44, SYN), (0, 0, 40, REFUSAL)], REFUSED, "refused"),
    "Windows asks thrice": (
        [(at, up, size, flags) for at in range(3) for up, size, flags in ((1, 52, SYN), (0, 40, REFUSAL))],
        REFUSED,
        "refused",
    ),
    "thrice in a bin": ([(0, 1, 52, SYN), (0, 0, 40, REFUSAL)] * 3, REFUSED, "refused"),
    "the answer comes a bin later": (
        [(0, 1, 52, SYN), (1, 0, 40, REFUSAL), (1, 1, 52, SYN), (1, 0, 40, REFUSAL)],
        REFUSED,
        "refused",
    ),
    "a scan of an open port": ([(0, 1, 44, SYN), (0, 0, 44, OPENING), (0, 1, 40, RST)], HALF_OPEN, "half-open"),
    "a slow one": ([(0, 1, 60, SYN), (1, 0, 60, OPENING), (2, 1, 40, RST)], HALF_OPEN, "half-open"),
    "a flood's victim": ([(0, 1, 60, SYN), (0, 0, 60, OPENING), (1, 0, 60, OPENING), (3, 0, 60, OPENING)], HALF_OPEN,
                         "half-open"),
    "asked twice before": (
        [(0, 1, 60, SYN), (1, 1, 60, SYN), (2, 0, 60, OPENING), (2, 1, 40, RST)],
        HALF_OPEN,
        "half-open",
    ),
}  # fmt: skip


def series_of(packets: list[tuple[int, int, int, int]]) -> np.ndarray:
    """The series of packets (bin, from the client, bytes, flags)."""
    out = np.zeros((4, BINS), dtype=np.int64)
    for where, up, size, _ in packets:
        out[1 - up, where] += size
        out[3 - up, where] += 1
    return out


def table(*series: np.ndarray, **columns: object) -> FlowTable:
    return FlowTable.build(np.stack(series), SeriesSpec(bin_ns=SECOND, length=BINS), **columns)


def flags(planned: Plan, flow: int = 0) -> list[int]:
    return list(planned.packets(np.array([flow])).flags)


@pytest.mark.parametrize("name", KINDS)
def test_an_attempt_is_written_as_it_was(name: str) -> None:
    """Its packets have their flags, sizes and order, its series needs no change, and nothing is added."""
    packets, kind, _ = KINDS[name]
    planned = plan(table(series_of(packets)))
    assert planned.mended == {}
    assert planned.shape.attempt.tolist() == [kind]
    made = planned.packets(np.array([0]))
    found = zip(made.offset_ns // SECOND, made.up, made.size, made.flags, strict=True)
    assert [tuple(map(int, each)) for each in found] == packets


syn_sizes = st.sampled_from([40, 44, 48, 52, 60, 64])
bins = st.lists(st.integers(0, BINS - 1), min_size=0, max_size=MOST - 1)


@st.composite
def attempts(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Packets of a connection that never came about, as (bin, from the client, bytes, flags), in order."""
    syn, asked = draw(syn_sizes), [0, *sorted(draw(bins))]
    kind = draw(st.sampled_from([UNANSWERED, REFUSED, HALF_OPEN]))
    sent = [(where, 1, syn, SYN) for where in asked]
    if kind == REFUSED:
        refused = draw(st.lists(st.sampled_from(asked), min_size=1, max_size=len(asked), unique_by=id))
        times = [draw(st.integers(where, BINS - 1)) for where in sorted(refused)[: len(asked)]]
        sent += [(where, 0, 40, REFUSAL) for where in times]
    if kind == HALF_OPEN:
        accepted = draw(st.integers(0, BINS - 1))
        sent = [each for each in sent if each[0] <= accepted][: MOST - 1]
        answer = draw(st.sampled_from([44, 52, 60]))
        sent += [(accepted, 0, answer, OPENING), (draw(st.integers(accepted, BINS - 1)), 1, 40, RST)]
    return sorted(sent, key=lambda each: each[0])


@settings(max_examples=200, deadline=None)
@given(st.lists(attempts(), min_size=1, max_size=4), st.sampled_from([None, 6]))
def test_attempts_of_any_kind_keep_their_series(drawn: list[list[tuple[int, int, int, int]]], protocol: int) -> None:
    """Whatever SYNs are sent when, and whatever of them is refused or accepted: packets add up to the series."""
    series = [series_of(each) for each in drawn]
    planned = plan(table(*series, protocol=protocol))
    packets = planned.packets(np.arange(len(drawn)))
    assert planned.mended == {}
    np.testing.assert_array_equal(roles.recount(packets, len(drawn), BINS, SECOND), np.stack(series))
    for flow, each in enumerate(drawn):
        roles.check_roles(planned, packets, flow)
        if planned.shape.attempt[flow]:
            assert sorted(flags(planned, flow)) == sorted(number for *_, number in each)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_connection_that_is_reset_needs_no_closing(seed: int, down: bool) -> None:
    """One side goes on alone, and its last packet is bare: an RST, and no packet is added."""
    rng = np.random.default_rng(seed)
    count = np.zeros((2, BINS), dtype=np.int64)
    count[:, :6] = rng.integers(1, 20, (2, 6))
    size = count * 52 + rng.integers(0, 1448, (2, BINS)) * count
    count[0, 0], size[0, 0] = 3, 60 + 52 + 500
    count[1, 0], size[1, 0] = 2, 60 + 1000
    count[int(down), 6:], size[int(down), 6:] = 1, [300, 52]
    planned = plan(table(np.concatenate([size, count])))
    assert planned.mended == {}
    assert planned.shape.reset.tolist() == [True]
    packets = planned.packets(np.array([0]))
    np.testing.assert_array_equal(roles.recount(packets, 1, BINS, SECOND)[0], np.concatenate([size, count]))
    roles.check_roles(planned, packets, 0)
    assert bool(packets.up[-1]) is not down


NOT_ATTEMPTS = {
    "data": [(0, 1, 41, 0)],
    "larger than any SYN": [(0, 1, 84, 0)],
    "more than any kernel repeats": [(at % BINS, 1, 60, 0) for at in range(MOST + 1)],
    "the server speaks first": [(0, 0, 60, 0), (1, 1, 60, 0)],
    "refused before it asks": [(0, 1, 60, 0), (1, 0, 40, 0), (2, 0, 40, 0), (3, 1, 60, 0)],
    "open, and nothing more": [(0, 1, 60, 0), (0, 0, 60, 0), (0, 1, 52, 0)],
    "SYN-ACKs of two sizes": [(0, 1, 60, 0), (0, 0, 60, 0), (1, 0, 52, 0)],
    "a whole connection": [(0, 1, 60, 0), (0, 0, 60, 0), (0, 1, 52, 0), (1, 0, 52, 0), (1, 1, 52, 0)],
}


@pytest.mark.parametrize("name", NOT_ATTEMPTS)
def test_what_is_no_attempt_becomes_a_connection(name: str) -> None:
    """Flows with data, or with packets that no attempt has, still get a handshake and a closing."""
    planned = plan(table(series_of(NOT_ATTEMPTS[name])))
    assert planned.shape.attempt.tolist() == [NONE]
    roles.check_roles(planned, planned.packets(np.array([0])), 0)


def test_datagrams_are_no_attempts() -> None:
    """UDP of the same packets and bytes stays UDP."""
    planned = plan(table(series_of(KINDS["Linux asks in vain"][0]), protocol=17))
    assert planned.shape.attempt.tolist() == [NONE]
    assert flags(planned) == [0] * 4


def test_an_attempt_over_ipv6() -> None:
    """A SYN without room for a longer header gets it, and that is counted; the flow is still unanswered."""
    planned = plan(table(series_of(KINDS["a scan of a filtered port"][0])), ip="6")
    assert planned.mended == {DISAGREE: 1}
    assert planned.shape.attempt.tolist() == [UNANSWERED]
    assert planned.series[0, :, 0].tolist() == [60, 0, 1, 0]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A capture with a flow of each kind."""
    flows = table(*(series_of(packets) for packets, *_ in KINDS.values()), protocol=6)
    report = write(flows, tmp_path / "x.pcap", options=CaptureOptions(rate=2, seed=3))
    assert report.mended == {}
    assert report.connections == Counter(name for *_, name in KINDS.values())
    return tmp_path / "x.pcap"


def test_the_truth_says_what_became_of_it(capture: Path) -> None:
    """The column `connection` names each kind, and extraction gives each series back."""
    rows = pq.read_table(capture.with_name("x.labels.parquet")).to_pylist()
    assert [row["connection"] for row in rows] == [name for *_, name in KINDS.values()]
    flows = table(*(series_of(packets) for packets, *_ in KINDS.values()))
    order = sorted(range(len(rows)), key=lambda row: rows[row]["start_ns"])
    np.testing.assert_array_equal(netgen.extract(capture, like=flows).series(), flows.series()[order])
    assert verify(capture).findings == ()


def test_a_person_is_told(tmp_path: Path) -> None:
    """`netgen export` says what became of the connections, and has it in its JSON."""
    table(*(series_of(packets) for packets, *_ in KINDS.values()), protocol=6).write(tmp_path / "x.parquet")
    command = Path(sys.executable).with_name("netgen")
    for more in ([], ["--json"]):
        words = [command, "export", tmp_path / "x.parquet", "-o", tmp_path / "x.pcap", "--force", *more]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        if more:
            assert json.loads(said)["connections"] == {"unanswered": 2, "refused": 4, "half-open": 4}
        else:
            assert "TCP connections: 2 unanswered, 4 refused, 4 half-open\n" in said


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


def edit(path: Path, wanted: int, at: int, change: bytes, *, nth: int = 0) -> None:
    """Overwrite bytes `at` of the nth packet whose TCP flags are `wanted`; checksums stay as they were."""
    data, place = bytearray(path.read_bytes()), 24
    while True:
        kept = int.from_bytes(data[place + 8 : place + 12], "little")
        if data[place + 16 + 47] == wanted:
            if nth == 0:
                data[place + 16 + at : place + 16 + at + len(change)] = change
                path.write_bytes(data)
                return
            nth -= 1
        place += 16 + kept


@dataclasses.dataclass(frozen=True)
class Fault:
    """Bytes of one packet that make an attempt none."""

    flags: int
    at: int
    change: bytes
    check: str
    nth: int = 0


FAULTS = {
    "a repeated SYN has another number": Fault(SYN, 38, bytes(4), "handshake", 2),
    "a refusal acknowledges another number": Fault(REFUSAL, 42, bytes(4), "acknowledgement", 1),
    "the RST of an accepted SYN has become an ACK": Fault(RST, 47, bytes([TCP_ACK]), "closing"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_attempt_is_found(name: str, capture: Path) -> None:
    """What no host would send in an attempt is found by `netgen verify`."""
    fault = FAULTS[name]
    edit(capture, fault.flags, fault.at, fault.change, nth=fault.nth)
    assert fault.check in {found.check for found in verify(capture).findings}


def test_the_page_lists_the_faults() -> None:
    """docs/replay.md says of each fault which check finds it, as the tests have it."""
    page = (Path(__file__).parent.parent / "docs/replay.md").read_text()
    for name, fault in FAULTS.items():
        assert f"| {name} | {fault.check} |" in page


def test_another_word_in_the_truth_is_found(capture: Path) -> None:
    """A labels file that calls a refused connection closed does not match its capture."""
    labels = capture.with_name("x.labels.csv")
    labels.write_text(labels.read_text().replace('"refused"', '"closed"'))
    said = verify(capture, labels).findings
    assert [found.check for found in said] == ["truth"]
    assert "refused, the labels file says closed" in said[0].what


def test_labels_of_before_are_still_read(capture: Path) -> None:
    """A labels file without the column `connection` is compared in all that it has."""
    labels = capture.with_name("x.labels.parquet")
    pq.write_table(pq.read_table(labels).drop_columns(["connection"]), labels)
    assert verify(capture, labels).findings == ()
