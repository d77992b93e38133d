"""Options of a capture: everything that its flows leave open."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from netgen.capture.errors import InputError
from netgen.choices import IpVersion, Payload

_HOST = r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*"  # names as hosts have them; RFC 1123 forbids the underscore


@dataclasses.dataclass(frozen=True)
class CaptureOptions:
    """Options of a capture.

    Parameters
    ----------
    seed : int
        Random seed of addresses, times and everything else that a table does not hold.
    start_ns : int, optional
        Time of the first flow, ns since 1970. By default, flows keep their times, and flows without a time begin at a
        fixed one.
    rate : float, optional
        Flows a second, which arrive as a Poisson process. By default, flows keep their times, and flows without a time
        arrive at 10 a second.
    payload : {"zeros", "tls", "random"}
        ``"zeros"``, ``"tls"`` (TLS records after a handshake) or ``"random"`` (random bytes).
    sni : str, optional
        Server name in the handshakes of ``"tls"``.
    headers_only : bool
        Store the headers only, with the true lengths: for statistics, not for replay.
    ip_version : {"auto", "4", "6"}
        ``"4"``, ``"6"``, or ``"auto"``: IPv6 for flows that had IPv6 addresses, IPv4 for all others.
    """

    seed: int = 0
    start_ns: int | None = None
    rate: float | None = None
    payload: Payload = "zeros"
    sni: str | None = None
    headers_only: bool = False
    ip_version: IpVersion = "auto"

    def __post_init__(self) -> None:
        if not -(2**63) <= self.seed < 2**63:
            raise InputError(f"--seed must have at most 18 digits, got {self.seed}", "Type --seed 1")
        for option, value, choices in (
            ("--payload", self.payload, get_args(Payload)),
            ("--ip-version", self.ip_version, get_args(IpVersion)),
        ):
            if value not in choices:
                raise InputError(f"{option} must be one of {', '.join(choices)}, got {value!r}")
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise InputError(
                f"--rate must be greater than 0, got {self.rate:g}", "Type --rate 10 for 10 flows a second"
            )
        if self.start_ns is not None and not 0 <= self.start_ns < 10**9 << 32:
            raise InputError(
                f"--start must lie between 1970 and 2106, got {self.start_ns / 10**9:.0f} s after 1970",
                "pcap files hold no other times. Type --start 2026-01-31",
            )
        if self.sni is not None and self.payload != "tls":
            raise InputError("--sni needs TLS handshakes to stand in", "Add --payload tls")
        if self.sni is not None and (len(self.sni) > 253 or not re.fullmatch(_HOST, self.sni)):
            raise InputError(f"--sni must be a host name, got {self.sni!r}", "Type --sni www.example.org")
        if self.headers_only and self.payload != "zeros":
            raise InputError(f"--headers-only stores no payload, got --payload {self.payload}", "Leave one of them out")


def capture_options(
    path: str | os.PathLike[str],
    *,
    start: str | None = None,
    seed: int = 0,
    **choices: Any,
) -> CaptureOptions:
    """Make the options of a capture from what the user typed.

    Parameters
    ----------
    path : path
        The file to be written. If it is a table, options that apply to captures only are errors.
    start : str, optional
        Date and time in ISO 8601, in UTC unless it names a zone, or seconds since 1970.
    seed, **choices
        As in `CaptureOptions`.

    Raises
    ------
    InputError
        If a value is not allowed.
    """
    options = CaptureOptions(seed, _parse_time(start), **choices)
    if Path(path).suffix.lower() in (".parquet", ".csv"):
        defaults = CaptureOptions(seed)
        given = [name for name, value in vars(options).items() if value != getattr(defaults, name)]
        if given:
            words = ", ".join("--" + name.removesuffix("_ns").replace("_", "-") for name in given)
            raise InputError(
                f"{words}: only for captures, and {path} is a table", "Type -o FILE.pcap, or leave them out"
            )
    return options


def _parse_time(text: str | None) -> int | None:
    """Parse a time to ns since 1970."""
    if text is None:
        return None
    try:
        if text.replace(".", "", 1).isdecimal():
            seconds, _, fraction = text.partition(".")
            return int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--start must be a date and time, got {text!r}", "Type --start 2026-01-31T12:00:00") from None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return int(time.replace(microsecond=0).timestamp()) * 10**9 + time.microsecond * 1000
