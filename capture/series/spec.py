"""The specification of a series: view, length, bin width, channels and units.

A series is a small integer matrix, one row a channel and one column a bin (or, in a series of packets,
a packet). A model learns from nothing else. Two series can be compared only if their `SeriesSpec` is
equal, so every table and every model carries it.
"""

from __future__ import annotations

import dataclasses
import re
from decimal import Decimal
from typing import Any

import numpy as np

from netgen.capture.errors import InputError, SpecMismatchError

CHANNELS = ("up_bytes", "down_bytes", "up_packets", "down_packets")
UNITS = {
    "up_bytes": "IP bytes from the initiator",
    "down_bytes": "IP bytes to the initiator",
    "up_packets": "packets from the initiator",
    "down_packets": "packets to the initiator",
    "size": "IP bytes of a packet, positive from the initiator, negative to it; 0: no packet",
    "gap": "microseconds since the packet before",
}

#: View of a flow -> channels of its series.
BINS, PACKETS = "bins", "packets"
VIEWS = {BINS: CHANNELS, PACKETS: ("size", "gap")}

#: Unit of the gaps between packets, in nanoseconds.
GAP_NS = 1_000
DEFAULT_LENGTH = 128
NS = 1_000_000_000
LONGEST_NS = 2**62  # 146 years: can be added to a time without overflow

_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]{1,4})?)\s*(ns|us|ms|s|m|h)?\s*", re.IGNORECASE)
_UNIT_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": NS, "m": 60 * NS, "h": 3600 * NS}


def parse_duration(text: str | float) -> int:
    """Return ``"0.25s"``, ``"250ms"``, ``"2m"`` or a number of seconds, all positive, as ns, or raise an InputError."""
    match = _DURATION.fullmatch(str(text))
    # decimal, because a float of nanoseconds is not exact after 104 days
    value = Decimal(match[1]) * _UNIT_NS[(match[2] or "s").lower()] if match else Decimal(0)
    if not Decimal("0.5") < value < LONGEST_NS:
        raise InputError(f"{text!r} is not a duration", "Write it like 0.25s, 250ms or 2m")
    return round(value)


def format_duration(ns: int) -> str:
    """Format nanoseconds for people and for `parse_duration`: ``0.25s``, ``40ms``."""
    for unit in ("s", "ms", "us"):
        # the largest unit in which at most three decimals are needed
        if ns * 1000 % _UNIT_NS[unit] == 0 and ns * 10 >= _UNIT_NS[unit]:
            return f"{Decimal(ns) / _UNIT_NS[unit]:.3f}".rstrip("0").rstrip(".") + unit
    return f"{ns}ns"


@dataclasses.dataclass(frozen=True)
class SeriesSpec:
    """The meaning of the numbers in a series.

    Parameters
    ----------
    bin_ns : int
        Width of a bin in nanoseconds; bin 0 begins with the flow's first packet. 0 for packets.
    length : int
        Number of bins, or of packets, N.
    view : {"bins", "packets"}
        Equal bins in time, or the first N packets in order of time.
    channels : tuple of str
        Rows of the series, in order: those of the view.
    """

    bin_ns: int
    length: int = DEFAULT_LENGTH
    view: str = "bins"
    channels: tuple[str, ...] = CHANNELS

    def __post_init__(self) -> None:
        if VIEWS.get(self.view) != tuple(self.channels):
            raise InputError(
                f"unknown series: view {self.view!r} with channels {', '.join(self.channels)}",
                "Make the file again with this version of netgen",
            )
        if not 4 <= self.length <= 4096 or self.length % 4:
            raise InputError(f"--length must be a multiple of 4 from 4 to 4096, got {self.length}")
        if self.view == PACKETS and self.bin_ns:
            raise InputError("a series of packets has no bin width", "Leave it out")
        if self.view == BINS and not 0 < self.bin_ns < LONGEST_NS // self.length:
            raise InputError(
                f"--bin-width must be positive, and all bins together below 146 years, got {self.bin_ns} ns",
                "Try --bin-width 0.25s",
            )

    @classmethod
    def packets(cls, length: int = DEFAULT_LENGTH) -> SeriesSpec:
        """Make the specification of the first packets of a flow."""
        return cls(0, length, PACKETS, VIEWS[PACKETS])

    @classmethod
    def fitting(cls, durations_ns: np.ndarray, length: int = DEFAULT_LENGTH) -> SeriesSpec:
        """Make the specification of bins whose width `auto_bin_ns` chooses."""
        return cls(min(auto_bin_ns(durations_ns, length), LONGEST_NS // length - 1), length)

    @property
    def span_ns(self) -> int:
        """Time that a series of bins covers, in nanoseconds; 0 for packets."""
        return self.bin_ns * self.length

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one series: (channels, bins), or (channels, packets)."""
        return len(self.channels), self.length

    def to_json(self) -> dict[str, Any]:
        """Return the specification as JSON types, with the unit of each channel."""
        return {
            "view": self.view,
            "length": self.length,
            **({"bin_ns": self.bin_ns} if self.view == BINS else {}),
            "channels": list(self.channels),
            "units": {channel: UNITS[channel] for channel in self.channels},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SeriesSpec:
        """Read what `to_json` made."""
        view = data["view"] if "view" in data else data["kind"]  # models of format 5 and before say "kind"
        return cls(
            bin_ns=int(data["bin_ns"]) if view == BINS else 0,
            length=int(data["length"]),
            view=view,
            channels=tuple(data["channels"]),
        )

    def __str__(self) -> str:
        if self.view == PACKETS:
            return f"the first {self.length} packets, channels {', '.join(self.channels)}"
        return f"{self.length} bins of {format_duration(self.bin_ns)}, channels {', '.join(self.channels)}"

    def require_equal(self, other: SeriesSpec, name: str, other_name: str, hint: str | None = None) -> None:
        """Raise `SpecMismatchError`, naming both sides, unless `other` is the same specification."""
        if self != other:
            raise SpecMismatchError(
                f"{name} has {self} but {other_name} has {other}: they cannot be compared",
                hint or f"Give both the same series: --spec-from {name}",
            )


def spec_from_options(view: str, bin_ns: int | None, length: int) -> SeriesSpec | None:
    """Return the specification of these options; None if the bin width depends on the flows; refuse what conflicts."""
    if view not in VIEWS:
        raise InputError(f"--view must be {' or '.join(VIEWS)}, got {view!r}")
    if view == PACKETS:
        if bin_ns is not None:
            raise InputError("a series of packets has no bins", "Leave the bin width out, or choose --view bins")
        return SeriesSpec.packets(length)
    spec = SeriesSpec(NS if bin_ns is None else bin_ns, length)  # refuses a bad length before anything is read
    return None if bin_ns is None else spec


def auto_bin_ns(durations_ns: np.ndarray, length: int = DEFAULT_LENGTH) -> int:
    """Return the bin width at which the 95th percentile of the durations fits into `length` bins.

    It is rounded up to two significant digits, so that it can be read, typed and compared. If that
    percentile is 0 (single packets), it is a millisecond.
    """
    durations_ns = np.asarray(durations_ns)
    ranks = np.arange(durations_ns.size)
    # as np.quantile, which would import numpy.ma: 3 % of the time that a small capture takes
    longest = float(np.interp(0.95 * ranks[-1], ranks, np.sort(durations_ns))) if ranks.size else 0.0
    if longest <= 0:
        return 1_000_000
    width = longest / length * (1 + 1e-9) + 1
    step = 10 ** max(int(np.floor(np.log10(width))) - 1, 0)
    return int(np.ceil(width / step) * step)
