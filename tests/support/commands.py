"""Running netgen's commands: small captures, and what a command printed."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

COMMAND = Path(sys.executable).with_name("netgen")  # what pip puts on the PATH
TRAIN = ("--training-steps", 5, "--threads", 1, "--precision", "float32")


def write_capture(path: Any, flows: Any, seed: Any) -> Any:
    """Write a capture of TCP flows by scapy: handshake, requests up, larger answers down."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw
    from scapy.utils import wrpcap

    rng = np.random.default_rng(seed)
    packets = []
    for flow in range(flows):
        ports = 40000 + flow, 443
        time = 1_700_000_000 + flow
        for step in range(8):
            up = step % 3 != 2
            src, dst = ("10.0.0.1", "10.0.0.2") if up else ("10.0.0.2", "10.0.0.1")
            sport, dport = ports if up else ports[::-1]
            flags = {0: "S", 2: "SA"}.get(step, "PA")
            data = b"" if step in (0, 2) else bytes(int(rng.integers(10, 100 if up else 1400)))
            segment = TCP(sport=sport, dport=dport, flags=flags) / Raw(data)
            packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src=src, dst=dst) / segment
            packet.time = time + 0.02 * step
            packets.append(packet)
    wrpcap(str(path), packets)
    return path


def files(folder: Path) -> list[str]:
    """List the names in a folder, hidden temporary files included."""
    return sorted(path.name for path in folder.iterdir())


def one_error_line(err: str) -> str:
    """Check that stderr is one line with advice after the first sentence; return it."""
    assert err.startswith("netgen: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert ". " in err
    assert "Traceback" not in err
    return err.removeprefix("netgen: ").removesuffix("\n")


def done(outcome: Any) -> Any:
    """Check that a command succeeded without a word on stderr; return its stdout."""
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


def failed(outcome: Any) -> Any:
    """Check that a command failed with exit code 1 and one line on stderr, which is returned."""
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.startswith("netgen: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    return outcome.err


def only_object(outcome: Any) -> Any:
    """Return the one JSON object on stdout."""
    out = done(outcome)
    assert out.count("\n") == 1
    report = json.loads(out)
    assert isinstance(report, dict)
    return report
