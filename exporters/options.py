"""What can be chosen of a capture beside its flows."""

from __future__ import annotations

import dataclasses
import math

from capture.errors import InputError

PAYLOADS = ("zeros", "tls", "random")
IP_VERSIONS = ("auto", "4", "6")


@dataclasses.dataclass(frozen=True)
class CaptureOptions:
    """How flows become a capture.

    Parameters
    ----------
    seed : int
        Of addresses, times and all else that a capture has and a table has not.
    start_ns : int, optional
        When the first flow begins, ns since 1970; otherwise flows keep the times they have, and
        others begin at a fixed time.
    rate : float, optional
        Flows that arrive in a second, as a Poisson process. If given, the times that flows have are
        not kept; otherwise ten a second for the flows that have none.
    payload : str
        ``"zeros"``; ``"tls"``: TLS records behind hellos; ``"random"``: bytes without a meaning.
    sni : str, optional
        Server name in the hellos of ``"tls"``.
    headers_only : bool
        Keep the headers only, with the true lengths: for statistics, not for replay.
    ip : str
        ``"4"``, ``"6"``, or ``"auto"``: IPv6 for flows whose own addresses were, else IPv4.
    """

    seed: int = 0
    start_ns: int | None = None
    rate: float | None = None
    payload: str = "zeros"
    sni: str | None = None
    headers_only: bool = False
    ip: str = "auto"

    def __post_init__(self) -> None:
        if self.payload not in PAYLOADS:
            raise InputError(f"payload {self.payload!r} is not known", f"Take one of {', '.join(PAYLOADS)}")
        if self.ip not in IP_VERSIONS:
            raise InputError(f"IP version {self.ip!r} is not known", f"Take one of {', '.join(IP_VERSIONS)}")
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise InputError(f"a rate of {self.rate} flows a second is none", "Take a positive number: --rate 10")
        if self.sni is not None:
            if self.payload != "tls":
                raise InputError("a server name stands in TLS hellos only", "Add --payload tls")
            if not (self.sni.isascii() and self.sni.isprintable() and 0 < len(self.sni) <= 253):
                raise InputError(
                    f"server name {self.sni!r} cannot stand in a TLS hello", "Take a host name: --sni www.example.org"
                )
        if self.headers_only and self.payload != "zeros":
            raise InputError("with headers only there is no payload to choose", "Leave --payload out")
