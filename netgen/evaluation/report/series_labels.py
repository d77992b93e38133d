"""What of a series is drawn, and what it is called: bytes down of bins, sizes of packets."""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.capture.series.spec import PACKETS, SeriesSpec


@dataclasses.dataclass(frozen=True)
class SeriesLabels:
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
    dark : str
        When a pixel of a field is dark, and when bright.
    unsigned : str
        What to add to the name of a field, which knows no sign.
    """

    channel: int
    places: np.ndarray
    place: str
    across: str
    value: str
    total: str
    said: str
    dark: str
    unsigned: str

    @classmethod
    def of(cls, spec: SeriesSpec) -> SeriesLabels:
        """Of series of a kind."""
        if spec.view == PACKETS:
            number = np.arange(1, spec.length + 1)
            size = "IP bytes of a packet, negative down"
            dark = "dark where two packets are both small, bright where both are large, whichever way they go"
            total = "IP bytes, a flow"
            return cls(0, number, "packet", "packets", size, total, "Sizes of packets", dark, ", unsigned")
        seconds = np.arange(spec.length) * spec.bin_ns / 1e9
        dark = "dark where two moments are both idle, bright where both are busy"
        value, total = "IP bytes down, a bin", "IP bytes down, a flow"
        return cls(1, seconds, "second", "seconds", value, total, "Bytes down", dark, "")

    def of_flows(self, series: np.ndarray) -> np.ndarray:
        """What is drawn of series (flows, channels, length); int64 (flows, length)."""
        return series[:, self.channel]

    def totals(self, series: np.ndarray) -> np.ndarray:
        """What it adds up to in each flow, (flows,); packets down count like packets up."""
        whole: np.ndarray = np.abs(self.of_flows(series)).sum(1)
        return whole
