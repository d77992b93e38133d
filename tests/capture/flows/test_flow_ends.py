"""assemble: timeouts, FIN, RST and SYN that end a flow, and keys that are used again."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.connections import ACK, FIN, NS, ONE_BIN, RST, SYN, A, B, connection, rows
from support.extraction import extract

from netgen.capture.errors import InputError
from netgen.capture.flows.assemble import Assembler
from netgen.capture.formats import reader

pytestmark = pytest.mark.usefixtures("either_reader")


def test_an_idle_timeout_ends_a_flow(packet: Any, flows_of: Any) -> None:
    steps = connection(packet, (0, "A", ACK), (120, "B", ACK), (240.5, "A", ACK))
    assert rows(flows_of(steps), "packets") == [2, 1]
    assert rows(flows_of(steps, idle_timeout_ns=121 * NS), "packets") == [3]
    assert rows(flows_of(steps, idle_timeout_ns=NS), "packets") == [1, 1, 1]


def test_an_active_timeout_ends_a_flow_that_goes_on(packet: Any, flows_of: Any) -> None:
    """It counts from the first packet of each new flow; by default there is none."""
    steps = [(at * 50, packet.udp4(1, 2)) for at in range(10)]
    assert rows(flows_of(steps), "packets") == [10]
    assert rows(flows_of(steps, active_timeout_ns=100 * NS), "packets") == [3, 3, 3, 1]
    assert rows(flows_of(steps, active_timeout_ns=149 * NS), "packets") == [3, 3, 3, 1]
    assert rows(flows_of(steps, active_timeout_ns=10**6 * NS), "packets") == [10]


def test_the_active_timeout_restarts_with_every_new_flow(packet: Any, flows_of: Any) -> None:
    """A flow may begin after an idle timeout, or with a SYN."""
    steps = connection(
        packet, (0, "A", SYN, 1), (60, "A", FIN, 2), (70, "A", SYN, 9), (160, "A", ACK, 10), (171, "A", ACK)
    )
    assert rows(flows_of(steps, active_timeout_ns=100 * NS), "packets") == [2, 2, 1]
    steps = connection(packet, (0, "A", ACK), (90, "A", ACK), (211, "A", ACK), (310, "A", ACK), (312, "A", ACK))
    assert rows(flows_of(steps, active_timeout_ns=100 * NS), "packets") == [2, 2, 1]
    # a repeated SYN after the active timeout begins a flow; the SYN after it repeats that one
    steps = connection(packet, (0, "A", SYN), (101, "A", SYN), (102, "A", SYN))
    assert rows(flows_of(steps, active_timeout_ns=100 * NS), "packets") == [1, 2]


@pytest.mark.parametrize("end", [FIN | ACK, RST])
def test_a_syn_after_fin_or_rst_is_a_new_flow_and_trailing_acks_stay_with_the_old(
    packet: Any, flows_of: Any, end: Any
) -> None:
    steps = [(0, "A", SYN), (1, "A", end), (2, "B", ACK), (3, "A", ACK), (4, "B", SYN), (5, "A", SYN | ACK)]
    assert rows(flows_of(connection(packet, *steps)), "packets", "src") == [(4, A), (2, B)]


def test_a_syn_with_another_sequence_number_is_a_new_flow_even_without_a_fin(packet: Any, flows_of: Any) -> None:
    steps = [(0, "A", SYN, 1), (1, "B", SYN | ACK), (2, "A", SYN, 2), (3, "B", SYN | ACK), (4, "A", SYN, 3)]
    assert rows(flows_of(connection(packet, *steps)), "packets") == [2, 2, 1]


def test_a_repeated_syn_does_not_begin_a_new_flow(packet: Any, flows_of: Any) -> None:
    """Neither does one after a reset that refused it, nor the first SYN of the other side."""
    steps = [(0, "A", SYN), (1, "A", SYN), (3, "A", SYN), (4, "B", SYN | ACK)]
    assert rows(flows_of(connection(packet, *steps)), "packets") == [4]
    again = [(0, "A", SYN), (1, "B", RST), (2, "A", SYN), (3, "A", SYN), (4, "B", RST), (5, "A", SYN)]
    assert rows(flows_of(connection(packet, *again)), "packets") == [6]
    both = [(0, "A", SYN, 1), (1, "B", SYN, 7), (2, "A", SYN, 1), (3, "B", SYN, 7), (4, "A", SYN, 2)]
    assert rows(flows_of(connection(packet, *both)), "packets") == [4, 1]


def test_only_the_last_syn_of_the_same_flow_is_repeated(packet: Any, flows_of: Any) -> None:
    """A sequence number of 0 is not special, and the numbers of earlier flows do not count."""
    steps = [(0, "A", SYN, 0), (1, "A", SYN, 0), (2, "B", RST), (200, "A", ACK, 5), (201, "A", SYN, 0)]
    assert rows(flows_of(connection(packet, *steps)), "packets") == [3, 1, 1]
    steps = [(0, "A", SYN, 2**32 - 1), (1, "A", SYN, 2**32 - 1), (2, "A", SYN, 0), (3, "A", SYN, 2**32 - 1)]
    assert rows(flows_of(connection(packet, *steps)), "packets") == [2, 1, 1]


def test_a_key_that_returns_after_its_flow_ended_begins_a_new_flow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Read a quarter of a million keys in nine minutes of a capture; two of them have packets in every round."""
    monkeypatch.setattr(reader, "SEGMENT", 1 << 20)
    rng = np.random.default_rng(0)
    rounds, keys = 4, 70_000
    # rounds 130 s apart: half of the keys of the round before, and new ones
    key = np.concatenate([rng.permutation(keys) + start for start in (0, keys // 2, 3 * keys, 4 * keys)])
    seconds = np.arange(len(key)) // keys * 130 + np.arange(len(key)) % keys / 20_000
    steady = np.arange(0, len(key), 20_000)
    key[steady] = 10**6 + np.arange(len(steady)) % 2
    record = np.zeros(len(key), [("seconds", "<u4"), ("us", "<u4"), ("captured", "<u4"), ("length", "<u4"),
                                 ("head", "V42")])  # fmt: skip
    frame = np.zeros((len(key), 42), np.uint8)
    frame[:, 12:14] = 8, 0
    frame[:, 14:24] = 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17
    frame[:, 26:30] = (10 << 24 | key >> 8).astype(">u4").view(np.uint8).reshape(-1, 4)
    frame[:, 30:34] = 10, 255, 0, 1
    frame[:, 34:36] = (key & 0xFF).astype(">u2").view(np.uint8).reshape(-1, 2)
    frame[:, 36:40] = 0, 53, 0, 8
    record["head"] = frame.view("V42").ravel()
    record["seconds"], record["us"] = 1000 + seconds.astype(int), (seconds % 1 * 1e6).astype(int)
    record["captured"] = record["length"] = 42
    path = tmp_path / "a.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1) + record.tobytes())
    expected: list[list[int]] = []
    newest: dict[int, list[int]] = {}
    stamps = record["seconds"].astype(np.int64) * 10**6 + record["us"]
    for number, stamp in zip(key.tolist(), stamps.tolist(), strict=True):
        flow = newest.get(number)
        if flow is None or stamp - flow[2] > 120 * 10**6:
            flow = newest[number] = [stamp * 1000, 0, stamp]
            expected.append(flow)
        flow[1:] = flow[1] + 1, stamp
    table = extract(path, spec=ONE_BIN)
    assert len(table) == len(expected) > 3 * keys
    assert rows(table, "start_ns", "packets") == [(start, count) for start, count, _ in expected]
    assert rounds * keys == sum(rows(table, "packets"))


def test_timeouts_that_cannot_be_used_are_refused() -> None:
    for options in ({"idle_timeout_ns": 0}, {"active_timeout_ns": -1}):
        option = next(iter(options)).removesuffix("_ns").replace("_", "-")
        with pytest.raises(InputError, match=f"--{option} must be between 1 ns and 146 years, got -?[01] ns"):
            Assembler(**options)
