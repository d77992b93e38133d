"""Batches of records, and the columns of a single packet."""

from typing import Any

import numpy as np

from netgen.capture.formats.records import RecordBatch
from netgen.capture.layers.dissect import dissect

COLUMNS = (
    *("number", "time_ns", "size", "version", "protocol", "flags", "vlan", "src_high", "src_low", "dst_high"),
    *("dst_low", "src_port", "dst_port", "payload_at", "payload_length", "seq", "fragment", "fragment_id"),
    "fingerprint",
)


def batch_of(packets: Any, linktype: Any = 1, snaplen: Any = 1 << 18, wire: Any = None) -> Any:
    """Make a batch as the reader does; `linktype` may be a list."""
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


def dissect_one(packet: Any, linktype: Any = 1, decapsulate: Any = False, **options: Any) -> Any:
    """Return the columns of a single packet, which must not be skipped."""
    packets = dissect(batch_of([packet], linktype, **options), decapsulate=decapsulate)
    assert not packets.skipped
    return {name: getattr(packets, name)[0].item() for name in COLUMNS}


def skip_reason(packet: Any, linktype: Any = 1, **options: Any) -> Any:
    """Return the reason for which a single packet is skipped."""
    packets = dissect(batch_of([packet], linktype, **options))
    assert len(packets) == 0
    ((reason, count),) = packets.skipped.items()
    assert count == 1
    return reason


def from_hex(text: Any) -> Any:
    """Return bytes from hexadecimal digits; ``N*XX`` is N times the byte XX."""
    words = (word.split("*") for word in text.split())
    return b"".join(bytes.fromhex(word[-1]) * (int(word[0]) if len(word) > 1 else 1) for word in words)


def check_tcp4(columns: Any, vlan: Any = -1) -> None:
    """Check that the columns are those of the packet that the tests put after every link layer."""
    assert (columns["version"], columns["protocol"], columns["size"]) == (4, 6, 43)
    assert (columns["src_low"], columns["dst_low"]) == (0x0A000001, 0x0A000002)
    assert (columns["src_port"], columns["dst_port"], columns["flags"]) == (1234, 80, 0x18)
    assert columns["payload_length"] == 3
    assert columns["vlan"] == vlan
