"""Chunks of records made by hand, and what the dissector says of one packet; read by `runpy` in the tests."""

from typing import Any

import numpy as np

from netgen.capture.formats.records import RecordBatch
from netgen.capture.layers.dissect import dissect

COLUMNS = (
    *("number", "time_ns", "size", "version", "protocol", "flags", "vlan", "src_high", "src_low", "dst_high"),
    *("dst_low", "src_port", "dst_port", "payload_at", "payload_length", "seq", "fragment", "fragment_id"),
    "fingerprint",
)


def chunk_of(packets: Any, linktype: Any = 1, snaplen: Any = 1 << 18, wire: Any = None) -> Any:
    """A chunk as the reader would give it; `linktype` may be a list."""
    kept = [packet[:snaplen] for packet in packets]
    captured = np.array([len(packet) for packet in kept], np.int64)
    return RecordBatch(
        data=np.frombuffer(b"".join(kept), np.uint8),
        offset=np.cumsum(captured) - captured,
        captured=captured,
        length=np.array(wire or [len(packet) for packet in packets], np.int64),
        time_ns=np.arange(len(packets)),
        linktype=np.zeros(len(packets), np.int64) + linktype,
        number=np.arange(1, len(packets) + 1),
    )


def one(packet: Any, linktype: Any = 1, decapsulate: Any = False, **options: Any) -> Any:
    """The columns of a single packet, which must be in."""
    found = dissect(chunk_of([packet], linktype, **options), decapsulate=decapsulate)
    assert not found.skipped
    return {name: getattr(found, name)[0].item() for name in COLUMNS}


def why(packet: Any, linktype: Any = 1, **options: Any) -> Any:
    """The reason for which a single packet is out."""
    found = dissect(chunk_of([packet], linktype, **options))
    assert len(found) == 0
    ((reason, count),) = found.skipped.items()
    assert count == 1
    return reason


def link(text: Any) -> Any:
    """Bytes from hexadecimal digits; ``N*XX`` stands for N times the byte XX."""
    parts = (part.split("*") for part in text.split())
    return b"".join(bytes.fromhex(part[-1]) * (int(part[0]) if len(part) > 1 else 1) for part in parts)


def is_tcp4(columns: Any, vlan: Any = -1) -> None:
    """Whether the columns are of the packet that the tests put behind every link layer."""
    assert (columns["version"], columns["protocol"], columns["size"]) == (4, 6, 43)
    assert (columns["src_low"], columns["dst_low"]) == (0x0A000001, 0x0A000002)
    assert (columns["src_port"], columns["dst_port"], columns["flags"]) == (1234, 80, 0x18)
    assert columns["payload_length"] == 3
    assert columns["vlan"] == vlan
