"""Frames of a TCP connection between two hosts, and what a flow table says about them."""

import struct
from typing import Any

from netgen.capture.series.spec import SeriesSpec

NS = 1_000_000_000
T = 1_700_000_000 * NS
FIN, SYN, RST, ACK = 1, 2, 4, 16
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
#: Four bins of 36 years: every packet lies in the first.
ONE_BIN = SeriesSpec(bin_ns=2**60 - 1, length=4)


def tcp_frame(packet: Any, flags: int, seq: int = 1, side: str = "A", payload: bytes = b"", port: int = 1000) -> bytes:
    """Build a frame of one TCP connection, from its client A or its server B."""
    frame: bytes = (
        packet.tcp4(port, 80, flags, payload, A, B) if side == "A" else packet.tcp4(80, port, flags, payload, B, A)
    )
    return frame[:38] + struct.pack(">I", seq) + frame[42:]


def connection(packet: Any, *steps: Any) -> list[tuple[float, bytes]]:
    """Build the frames of a TCP connection from (seconds, "A" or "B", flags[, sequence number[, payload size]])."""
    return [
        (at, tcp_frame(packet, flags, more[0] if more else 1, side, bytes(*more[1:])))
        for at, side, flags, *more in steps
    ]


def rows(table: Any, *names: str) -> list[Any]:
    """Return the values of one column, or tuples of several."""
    columns = [table.table[name].to_pylist() for name in names]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def up_and_down(table: Any) -> list[list[int]]:
    """Count the packets up and down of each flow."""
    counts: list[list[int]] = table.series()[:, 2:].sum(2).tolist()
    return counts


def report_warnings(table: Any) -> dict[str, int]:
    """Return the warnings of a table's read report."""
    warnings: dict[str, int] = table.metadata["read_report"]["warnings"]
    return warnings
