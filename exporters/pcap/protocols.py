"""Which IP protocol a flow is written as, and what of it stands where others have ports."""

from __future__ import annotations

import numpy as np

from netgen.capture.headers import (
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    PROTOCOL_IGMP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    protocol_mask,
)
from netgen.exporters.pcap.constants import Bools, Ints

OTHER_PROTOCOL = "a protocol of which no packets are made over this IP version: written as UDP"
OTHER_ICMP = "ICMP of the other IP version"

#: Echoes in IPv4 and IPv6 (RFC 792, RFC 4443).
ECHOES = protocol_mask(PROTOCOL_ICMP, PROTOCOL_ICMPV6)

#: Written without ports. All have headers as long as UDP's.
PORTLESS = ECHOES | protocol_mask(PROTOCOL_IGMP)


def export_protocol(protocol: Ints, v6: Bools) -> tuple[Ints, dict[str, Bools]]:
    """The IP protocol that each flow is written as, shape (flows,), and why it is another than its own.

    Parameters
    ----------
    protocol : ndarray of int64, shape (flows,)
        The flows' own.
    v6 : ndarray of bool, shape (flows,)
        Whether a flow is written over IPv6.
    """
    # IGMP is of IPv4: in IPv6, ICMPv6 does the same
    kept = np.isin(protocol, (PROTOCOL_TCP, PROTOCOL_UDP)) | ((protocol == PROTOCOL_IGMP) & ~v6)
    echo = ECHOES[protocol]
    out = np.where(kept, protocol, np.where(echo, np.where(v6, PROTOCOL_ICMPV6, PROTOCOL_ICMP), PROTOCOL_UDP))
    return out, {OTHER_PROTOCOL: ~kept & ~echo, OTHER_ICMP: echo & (out != protocol)}
