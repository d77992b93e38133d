"""Strata: classes, split by IP protocol where a protocol has at least 8 flows.

DNS queries and TCP connections of one class have little in common. As strata of their own they are sampled as
what they are; otherwise the protocol could only be guessed, and a query would be written as a connection.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netgen.capture.errors import InputError
from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion.sampler import INV_PHI, sample_seed

MIN_STRATUM_FLOWS = 8  # flows of a protocol and class below which they have no stratum of their own
UNKNOWN = -1  # stands for no protocol

_STRATUM_STREAM, _PROTOCOL_STREAM = 3, 17  # streams of random numbers


@dataclasses.dataclass(frozen=True)
class Stratum:
    """A class, or its flows of some protocols."""

    label: str  # the class
    flows: int  # number of training flows
    #: IP protocol -> number of flows; the protocol of the remaining flows is unknown
    protocols: dict[int, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(isinstance(count, int) for count in (self.flows, *self.protocols.values())):
            raise ValueError(f"flows of a stratum must be integers, got {self.flows}, {self.protocols}")
        known = self.protocols.items()
        if self.flows < 1 or not all(0 <= protocol < 256 and count > 0 for protocol, count in known):
            raise ValueError(f"a stratum of {self.flows} flows of protocols {self.protocols}")
        if sum(self.protocols.values()) > self.flows:
            raise ValueError(f"a stratum of {self.flows} flows has more of them by protocol: {self.protocols}")

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types."""
        protocols = {str(protocol): count for protocol, count in self.protocols.items()}
        return {"class": self.label, "flows": self.flows, "protocols": protocols}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stratum:
        """Read what `to_json` wrote."""
        protocols = {int(protocol): count for protocol, count in dict(data["protocols"]).items()}
        return cls(str(data["class"]), data["flows"], protocols)

    def protocol(self, seed: int) -> int | None:
        """Sample the IP protocol of a flow, at the frequencies of training flows; None: unknown."""
        if len(self.protocols) == 1 and self.flows in self.protocols.values():
            return next(iter(self.protocols))
        protocols = sorted(self.protocols, reverse=True)
        cumulative = np.cumsum([self.protocols[protocol] for protocol in protocols]) / self.flows
        u = np.random.default_rng([seed, _PROTOCOL_STREAM]).random()
        index = int(np.searchsorted(cumulative, u, side="right"))
        return protocols[index] if index < len(protocols) else None

    def covers(self, protocol: int) -> bool:
        """Return whether it has flows of a protocol, or UNKNOWN ones."""
        return protocol in self.protocols if protocol != UNKNOWN else sum(self.protocols.values()) < self.flows


def fit_strata(table: FlowTable) -> tuple[Stratum, ...]:
    """Return the strata of labelled flows, by class.

    Rare protocols of a class share a stratum, or join its most frequent protocol if they are few even together.
    """
    labels, protocols = table.labels.astype(str), _protocols(table)
    strata = []
    for label in table.classes:
        names, counts = np.unique(protocols[labels == label], return_counts=True)
        frequent = counts >= MIN_STRATUM_FLOWS
        group = np.where(frequent, np.arange(len(names)), len(names))
        if frequent.any() and counts[~frequent].sum() < MIN_STRATUM_FLOWS:
            group[~frequent] = counts.argmax()
        for index in np.unique(group).tolist():
            members = group == index
            by_protocol = dict(zip(names[members].tolist(), counts[members].tolist(), strict=True))
            by_protocol.pop(UNKNOWN, None)
            strata.append(Stratum(label, int(counts[members].sum()), by_protocol))
    return tuple(strata)


def assign_strata(table: FlowTable, strata: Sequence[Stratum]) -> np.ndarray:
    """Return the stratum of each labelled flow, int64 (flows,); the largest of its class if its protocol is new.

    Raises InputError if a class has no stratum.
    """
    of_class: dict[str, list[int]] = {}
    for index in sorted(range(len(strata)), key=lambda index: -strata[index].flows):
        of_class.setdefault(strata[index].label, []).append(index)
    if missing := sorted(set(table.classes) - set(of_class)):
        raise InputError(f"the model has no class {', '.join(missing)}", f"It has {', '.join(sorted(of_class))}")

    @functools.cache
    def assign(label: str, protocol: int) -> int:
        candidates = of_class[label]
        return next((index for index in candidates if strata[index].covers(protocol)), candidates[0])

    rows = zip(table.labels.tolist(), _protocols(table).tolist(), strict=True)
    return np.array([assign(*row) for row in rows], np.int64)


def sample_strata(strata: Sequence[Stratum], label: str, flows: int, *, seed: int) -> np.ndarray:
    """Return the strata of the first `flows` samples of a class, int64 (flows,), in proportion to training flows.

    That of flow i does not depend on `flows`; the sequence is evenly spread, not random.
    """
    candidates = np.array([index for index, stratum in enumerate(strata) if stratum.label == label])
    cumulative = np.cumsum([strata[index].flows for index in candidates])
    start = np.random.default_rng([sample_seed(seed, int(candidates[0]), 0), _STRATUM_STREAM]).random()
    u = (start + np.arange(flows) * INV_PHI) % 1  # low-discrepancy: proportions hold from the first few flows on
    return candidates[np.searchsorted(cumulative, u * cumulative[-1], side="right").clip(max=len(candidates) - 1)]


def load_strata(metadata: Mapping[str, Any]) -> tuple[Stratum, ...]:
    """Read the strata in a model's metadata; KeyError, TypeError or ValueError if they are missing or damaged."""
    strata = tuple(Stratum.from_json(stratum) for stratum in metadata["strata"])
    if list(dict.fromkeys(stratum.label for stratum in strata)) != metadata["classes"]:
        raise ValueError("its strata do not belong to its classes")
    return strata


def _protocols(table: FlowTable) -> np.ndarray:
    """Return IP protocols, int64 (flows,), or UNKNOWN."""
    return table.table["protocol"].cast("int64").fill_null(UNKNOWN).to_numpy()
