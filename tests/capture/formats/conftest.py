"""A capture whose bytes hardly compress, for the tests of streams."""

import random
from typing import Any

import pytest
from support.streams import ShortBytes

NS = 1_000_000_000
START_NS = 1_700_000_000 * NS


@pytest.fixture(scope="module")
def frames(packet: Any) -> Any:
    """400 packets of 7 flows, whose bytes hardly compress."""
    rng = random.Random(1)
    return tuple(
        (START_NS + i * NS // 50, ShortBytes(packet.udp4(1000 + i % 7, 53, rng.randbytes(rng.randrange(20, 1000)))))
        for i in range(400)
    )


@pytest.fixture(scope="module")
def plain(pcap_bytes: Any, frames: Any) -> Any:
    return ShortBytes(pcap_bytes(frames))
