"""What of a series is drawn, and what it is called: bytes down of bins, sizes of packets."""

from __future__ import annotations

import dataclasses

import numpy as np

from capture.series import PACKETS, SeriesSpec


@dataclasses.dataclass(frozen=True)
class Shown:
    """One number a place of the series, over time or over packets.

    Parameters
    ----------
    channel : int
        Which channel is drawn.
    places : ndarray of float, shape (length,)
        Seconds, or numbers of packets.
    place, across : str
        What one of them is called, and all of them.
    value, total : str
        What is drawn, and what it adds up to in a flow.
    said : str
        The same at the beginning of a sentence.
    """

    channel: int
    places: np.ndarray
    place: str
    across: str
    value: str
    total: str
    said: str

    @classmethod
    def of(cls, spec: SeriesSpec) -> Shown:
        """Of series of a kind."""
        if spec.kind == PACKETS:
            number = np.arange(1, spec.length + 1)
            size = "IP bytes of a packet, negative down"
            return cls(0, number, "packet", "packets", size, "IP bytes, a flow", "Sizes of packets")
        seconds = np.arange(spec.length) * spec.bin_ns / 1e9
        return cls(1, seconds, "second", "seconds", "IP bytes down, a bin", "IP bytes down, a flow", "Bytes down")

    def of_flows(self, series: np.ndarray) -> np.ndarray:
        """What is drawn of series (flows, channels, length); int64 (flows, length)."""
        return series[:, self.channel]

    def totals(self, series: np.ndarray) -> np.ndarray:
        """What it adds up to in each flow, (flows,); packets down count like packets up."""
        whole: np.ndarray = np.abs(self.of_flows(series)).sum(1)
        return whole
