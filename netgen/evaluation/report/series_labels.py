"""Which channel of a series is plotted, and its axis labels."""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.capture.series.spec import PACKETS, SeriesSpec


@dataclasses.dataclass(frozen=True)
class SeriesLabels:
    """The plotted channel of a series: bytes down of each bin, or the size of each packet."""

    channel: int  # index of the channel
    x: np.ndarray  # float (length,): seconds, or packet numbers
    unit: str  # "second" or "packet"
    x_label: str  # its plural
    y_label: str  # label of a value
    total_label: str  # label of the total of a flow
    title: str  # the same at the beginning of a sentence
    dark: str  # when a pixel of a Gramian field is dark, and when bright
    unsigned: str  # suffix of a field's title, where the field does not show the sign

    @classmethod
    def of(cls, spec: SeriesSpec) -> SeriesLabels:
        """Choose the channel and labels of a series."""
        if spec.view == PACKETS:
            return cls(
                channel=0,
                x=np.arange(1, spec.length + 1),
                unit="packet",
                x_label="packets",
                y_label="IP bytes of a packet, negative down",
                total_label="IP bytes, a flow",
                title="Packet sizes",
                dark="dark where two packets are both small, bright where both are large, in either direction",
                unsigned=", unsigned",
            )
        return cls(
            channel=1,
            x=np.arange(spec.length) * spec.bin_ns / 1e9,
            unit="second",
            x_label="seconds",
            y_label="IP bytes down, a bin",
            total_label="IP bytes down, a flow",
            title="Bytes down",
            dark="dark where two moments are both idle, bright where both are active",
            unsigned="",
        )

    def of_flows(self, series: np.ndarray) -> np.ndarray:
        """Select the plotted channel of (flows, channels, length); int64 (flows, length)."""
        return series[:, self.channel]

    def totals(self, series: np.ndarray) -> np.ndarray:
        """Add up its absolute values in each flow, (flows,)."""
        return np.asarray(np.abs(self.of_flows(series)).sum(1))
