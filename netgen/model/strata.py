"""What a network is told of a flow: its class, and, where it is known and there are enough such flows, its protocol.

A class's questions to name servers and its TCP connections have little in common. Told apart, each is drawn as what it
is; else a flow's protocol could only be guessed, and a question would be written as a connection with a handshake.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netgen.capture.errors import InputError
from netgen.capture.headers import PROTOCOL_TCP, PROTOCOL_UDP
from netgen.capture.series.profile import KEY
from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion.sampler import GOLDEN, sample_seed

#: Format of models that tell classes alone apart.
BEFORE = 3

#: A protocol of fewer flows of a class has no condition of its own.
FEWEST = 8

#: Stands for no protocol.
UNKNOWN = -1

_CONDITION, _PROTOCOL = 3, 17  # streams of random numbers


@dataclasses.dataclass(frozen=True)
class Stratum:
    """Some flows of a class.

    Parameters
    ----------
    label : str
        The class.
    flows : int
        Real flows that were learnt from.
    protocols : dict of int to int
        IP protocol -> how many of them have it; of the others none is known.
    """

    label: str
    flows: int
    protocols: dict[int, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        known = self.protocols.items()
        if not all(isinstance(number, int) for number in (self.flows, *self.protocols.values())):
            raise ValueError(f"a condition of no whole flows: {self.flows}, {self.protocols}")
        if self.flows < 1 or not all(0 <= name < 256 and number > 0 for name, number in known):
            raise ValueError(f"a condition of {self.flows} flows of protocols {self.protocols}")
        if sum(self.protocols.values()) > self.flows:
            raise ValueError(f"more protocols than the {self.flows} flows of a condition")

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        known = {str(name): number for name, number in self.protocols.items()}
        return {"class": self.label, "flows": self.flows, "protocols": known}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stratum:
        """The condition that `to_json` wrote."""
        known = {int(name): number for name, number in dict(data["protocols"]).items()}
        return cls(str(data["class"]), data["flows"], known)

    def protocol(self, seed: int) -> int | None:
        """IP protocol of a drawn flow, as often each as among real ones; None where nobody knows."""
        if len(self.protocols) == 1 and self.flows in self.protocols.values():
            return next(iter(self.protocols))
        names = sorted(self.protocols, reverse=True)
        reached = np.cumsum([self.protocols[name] for name in names]) / self.flows
        place = int(np.searchsorted(reached, np.random.default_rng([seed, _PROTOCOL]).random(), side="right"))
        return names[place] if place < len(names) else None

    def known(self, protocol: int) -> bool:
        """Whether flows of a protocol are among its own; UNKNOWN: such as have none."""
        return protocol in self.protocols if protocol != UNKNOWN else sum(self.protocols.values()) < self.flows


def fit_strata(table: FlowTable) -> tuple[Stratum, ...]:
    """The conditions of labelled flows, by class.

    Protocols of few flows of a class go with each other, or with its most frequent one if they are few together, too.
    """
    labels, protocols = table.labels.astype(str), _protocols(table)
    found = []
    for label in table.classes:
        names, count = np.unique(protocols[labels == label], return_counts=True)
        enough = count >= FEWEST
        # with each other: a number of its own, that of no protocol
        part = np.where(enough, np.arange(len(names)), len(names))
        if enough.any() and count[~enough].sum() < FEWEST:
            part[~enough] = count.argmax()
        for each in np.unique(part).tolist():
            mine = part == each
            known = zip(names[mine].tolist(), count[mine].tolist(), strict=True)
            found.append(Stratum(label, int(count[mine].sum()), {name: n for name, n in known if name != UNKNOWN}))
    return tuple(found)


def assign_strata(table: FlowTable, conditions: Sequence[Stratum]) -> np.ndarray:
    """The number of each labelled flow's condition, int64 (flows,); that of most flows, where its protocol is new.

    Raises
    ------
    InputError
        If a class has no condition.
    """
    of_class: dict[str, list[int]] = {}
    for number, each in enumerate(conditions):
        of_class.setdefault(each.label, []).append(number)
    if lacking := sorted(set(table.classes) - set(of_class)):
        raise InputError(f"the model has no class {', '.join(lacking)}")

    @functools.cache
    def number_of(label: str, protocol: int) -> int:
        mine = sorted(of_class[label], key=lambda each: -conditions[each].flows)
        return next((each for each in mine if conditions[each].known(protocol)), mine[0])

    rows = zip(table.labels.tolist(), _protocols(table).tolist(), strict=True)
    return np.array([number_of(*row) for row in rows], np.int64)


def sample_strata(conditions: Sequence[Stratum], label: str, flows: int, *, seed: int) -> np.ndarray:
    """Numbers of the conditions of a class's first so many drawn flows, int64 (flows,): each as often as it was learnt.

    Flow i's does not depend on how many there are; rare ones come evenly, not by chance side by side.
    """
    mine = np.array([number for number, each in enumerate(conditions) if each.label == label])
    reached = np.cumsum([conditions[number].flows for number in mine])
    begin = np.random.default_rng([sample_seed(seed, int(mine[0]), 0), _CONDITION]).random()
    place = (begin + np.arange(flows) * GOLDEN) % 1  # shares are met by the first few flows already
    found: np.ndarray = mine[np.searchsorted(reached, place * reached[-1], side="right").clip(max=len(mine) - 1)]
    return found


def conditions_in(metadata: Mapping[str, Any]) -> tuple[Stratum, ...]:
    """The conditions in a model's metadata; of one that tells classes alone apart, by their profiles.

    Raises
    ------
    KeyError, TypeError, ValueError
        If there are none.
    """
    if metadata["format"] != BEFORE:
        found = tuple(Stratum.from_json(each) for each in metadata["conditions"])
        if list(dict.fromkeys(each.label for each in found)) != metadata["classes"]:
            raise ValueError("its conditions are not those of its classes")
        return found
    made = []
    for name in metadata["classes"]:
        profile = metadata.get(KEY, {}).get(name, {})
        known = {number: int(profile.get(key, 0)) for key, number in (("tcp", PROTOCOL_TCP), ("udp", PROTOCOL_UDP))}
        known = {number: flows for number, flows in known.items() if flows}
        made.append(Stratum(name, sum(known.values()) or metadata["training"]["flows"][name], known))
    return tuple(made)


def _protocols(table: FlowTable) -> np.ndarray:
    """IP protocols, int64 (flows,); UNKNOWN where there is none."""
    found: np.ndarray = table.table["protocol"].cast("int64").fill_null(UNKNOWN).to_numpy()
    return found
