"""What can be chosen of a capture beside its flows."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from netgen.capture.errors import InputError

PAYLOADS = ("zeros", "tls", "random")
IP_VERSIONS = ("auto", "4", "6")

_HOST = r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*"  # names that hosts have, not those that RFC 1123 allows them


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
    ip_version : str
        ``"4"``, ``"6"``, or ``"auto"``: IPv6 for flows whose own addresses were, else IPv4.
    """

    seed: int = 0
    start_ns: int | None = None
    rate: float | None = None
    payload: str = "zeros"
    sni: str | None = None
    headers_only: bool = False
    ip_version: str = "auto"

    def __post_init__(self) -> None:
        if not -(2**63) <= self.seed < 2**63:
            raise InputError(f"seed {self.seed} is too large", "Take one of at most 18 digits: --seed 1")
        if self.payload not in PAYLOADS:
            raise InputError(f"payload {self.payload!r} is not known", f"Take one of {', '.join(PAYLOADS)}")
        if self.ip_version not in IP_VERSIONS:
            raise InputError(f"IP version {self.ip_version!r} is not known", f"Take one of {', '.join(IP_VERSIONS)}")
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise InputError(f"a rate of {self.rate} flows a second is none", "Take a positive number: --rate 10")
        if self.start_ns is not None and not 0 <= self.start_ns < 10**9 << 32:
            raise InputError(
                f"a start {self.start_ns / 10**9:g} s after 1970 is one which a pcap file cannot hold",
                "Take a time from 1970 to 2106: --start 2026-01-31",
            )
        if self.sni is not None:
            if self.payload != "tls":
                raise InputError("a server name stands in TLS hellos only", "Add --payload tls")
            if len(self.sni) > 253 or not re.fullmatch(_HOST, self.sni):
                raise InputError(
                    f"server name {self.sni!r} cannot stand in a TLS hello", "Take a host name: --sni www.example.org"
                )
        if self.headers_only and self.payload != "zeros":
            raise InputError("with headers only there is no payload to choose", "Leave --payload out")


def capture_options(path: str | os.PathLike[str], *, seed: int, start: str | None, **chosen: Any) -> CaptureOptions:
    """Options of a capture as they are typed.

    Parameters
    ----------
    path : path
        What will be written; where it is no capture, options that only a capture has are refused.
    start : str, optional
        Date and time in ISO 8601, UTC where it names no zone, or seconds since 1970.
    **chosen
        See `CaptureOptions`.
    """
    table = Path(path).suffix.lower() in (".parquet", ".csv")
    usual = {field.name: field.default for field in dataclasses.fields(CaptureOptions)}
    given = [name for name, value in chosen.items() if value != usual[name]] + ["start"] * (start is not None)
    if table and given:
        words = ", ".join("--" + name.replace("_", "-") for name in given)
        raise InputError(f"{words}: {path} is no capture", "Name a capture (-o FILE.pcap), or leave these options out")
    return CaptureOptions(seed=seed, start_ns=None if start is None else _parse_time(start), **chosen)


def _parse_time(text: str) -> int:
    """ns since 1970."""
    try:
        if text.replace(".", "", 1).isdecimal():
            seconds, _, part = text.partition(".")
            return int(seconds) * 10**9 + int(part[:9].ljust(9, "0"))
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--start {text!r} is no time", "Write it like 2026-01-31T12:00:00") from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    whole = when.replace(microsecond=0)
    return int(whole.timestamp()) * 10**9 + when.microsecond * 1000
