"""Replay: tcpdump in one network namespace records the packets that tcpreplay sends from another."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import external_tools as outside

import netgen
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.write import write

SENDER, RECEIVER = "netgen0", "netgen1"


def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=check, timeout=120)


@pytest.fixture
def wire() -> Iterator[tuple[str, str]]:
    """Make two network namespaces with one pair of interfaces between them; yield their names."""
    lacking = outside.missing("tcpreplay", "tcpdump")
    if lacking:
        pytest.skip(f"not installed: {lacking}")
    tag = uuid.uuid4().hex[:8]
    sender, receiver = f"netgen-a-{tag}", f"netgen-b-{tag}"
    namespaces = []
    try:
        for name in (sender, receiver):
            try:
                done = run("ip", "netns", "add", name, check=False)
            except FileNotFoundError:
                pytest.skip("not installed: apt-get install iproute2")
            if done.returncode:
                pytest.skip(f"no network namespace can be created: {done.stderr.strip()}")
            namespaces.append(name)
        run("ip", "link", "add", SENDER, "netns", sender, "type", "veth", "peer", "name", RECEIVER, "netns", receiver)
        for name, card in ((sender, SENDER), (receiver, RECEIVER)):
            inside = ("ip", "netns", "exec", name)
            for scope in ("all", "default"):  # else router solicitations join the capture
                run(*inside, "sysctl", "-qw", f"net.ipv6.conf.{scope}.disable_ipv6=1", check=False)
            run(*inside, "ip", "link", "set", card, "up")
        yield sender, receiver
    finally:
        for name in namespaces:
            run("ip", "netns", "delete", name, check=False)


@pytest.mark.external
@pytest.mark.parametrize(
    "options", [CaptureOptions(), CaptureOptions(payload="tls", ip_version="6")], ids=["plain", "tls, IPv6"]
)
def test_replayed_packets_arrive(wire: tuple[str, str], tmp_path: Path, options: CaptureOptions) -> None:
    """Every packet arrives, complete and in order. Times depend on the replaying machine and are not compared."""
    sender, receiver = wire
    table = netgen.load("base").sample({"alexa": 4, "iot-setup": 8}, seed=1, sampling_steps=6)
    report = write(table, tmp_path / "x.pcap", options=options)
    assert report.packets
    words = ["tcpdump", "-i", RECEIVER, "-w", str(tmp_path / "y.pcap"), "-B", "65536", "-Z", "root", "-U"]
    words += ["--time-stamp-precision=nano", "-s", "262144"]
    listening = subprocess.Popen(["ip", "netns", "exec", receiver, *words], stderr=subprocess.PIPE, text=True)
    try:
        assert listening.stderr
        assert any("listening on" in line for line in listening.stderr)
        replay = run("ip", "netns", "exec", sender, "tcpreplay", "-i", SENDER, "--pps=20000", str(tmp_path / "x.pcap"))
        assert f"Successful packets:        {report.packets}" in replay.stdout
        before, waited = -1, 0
        while (size := (tmp_path / "y.pcap").stat().st_size) != before and waited < 60:
            before, waited = size, waited + 1
            time.sleep(1)
    finally:
        listening.terminate()
        listening.communicate(timeout=30)
    assert outside.digest(tmp_path / "y.pcap") == outside.digest(tmp_path / "x.pcap")
    again, sent = (netgen.extract(tmp_path / name) for name in ("y.pcap", "x.pcap"))
    # totals of the flow, not of its bins: the clock of the replaying machine decides which packets are in the last bin
    assert sorted(again.table["packets"].to_pylist()) == sorted(sent.table["packets"].to_pylist())
    assert np.isin(again.table["protocol"].to_numpy(), (6, 17)).all()
