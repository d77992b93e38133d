"""Validation while training: flows held back, what is checked on them, and which weights are kept.

Now and then some flows are drawn from the averaged network. A classifier that learns from them is
tested on the held-back flows, and it is counted how many of them lie nearer to a flow that was
learnt from than to one that was held back: a network that begins to memorise is stopped.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion.network import BandTransformer
from netgen.diffusion.train import TrainState
from netgen.evaluation.privacy import closest_record_share
from netgen.evaluation.split import FlowSet, split_by_capture
from netgen.evaluation.usefulness import forest, macro_f1
from netgen.model.model import Model

#: Classes of fewer flows are learnt whole.
LEAST = 10

#: Checks over a training; steps before the first; flows drawn at most; sampling steps; trees.
CHECKS, FIRST, DRAWN, STEPS, TREES = 8, 200, 256, 10, 50

#: Share of the time that checks may take.
COST = 0.15

#: Standard errors of the score by which earlier weights must be better than the last.
BY_CHANCE = 2.0

#: Closest-record share whose lower end, twice in a row, says that the network memorises.
MEMORISED = 0.6


def train_val_split(table: FlowTable, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from, and rows to validate on: a share of each class of at least `LEAST` flows.

    Whole captures are held back where a class has several.
    """
    sources = np.array([each or "" for each in table.table["source"].to_pylist()], str)
    flows = FlowSet(table.series(), table.labels.astype(str), sources)
    names, count = np.unique(flows.labels, return_counts=True)
    large = np.flatnonzero(np.isin(flows.labels, names[count >= LEAST]))
    held = large[split_by_capture(flows.take(large), share, seed)[1]] if share and len(large) else np.zeros(0, np.int64)
    return np.setdiff1d(np.arange(len(table)), held), held


@dataclasses.dataclass(frozen=True)
class Check:
    """What one check found.

    Parameters
    ----------
    step : int
        Of the training.
    macro_f1, real_macro_f1 : float
        Of the held-back flows, by a random forest trained on drawn flows, and on as many real ones.
    closest_share, closest_low : float
        Share of drawn flows nearer to a learnt than to a held-back flow, and the interval's lower end.
    """

    step: int
    macro_f1: float
    real_macro_f1: float
    closest_record_share: float
    closest_low: float

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return dataclasses.asdict(self)


class Validator:
    """Checks a training and remembers its best weights.

    Parameters
    ----------
    learnt, held : FlowTable
        Flows that are learnt from, and those that are held back.
    model_of : callable
        A model that draws with a network.
    seed : int
        Of what is drawn.
    """

    def __init__(
        self, learnt: FlowTable, held: FlowTable, model_of: Callable[[BandTransformer], Model], *, seed: int
    ) -> None:
        self._learnt, self._held = learnt.series(), held.series()
        self._truth = held.labels.astype(str)
        self._model_of, self._seed = model_of, seed
        share = min(1.0, DRAWN / len(held))
        self._numbers = {name: max(1, round(number * share)) for name, number in held.counts().items()}
        generator = np.random.default_rng(seed)
        labels = learnt.labels.astype(str)
        rows = [generator.permutation(np.flatnonzero(labels == name))[:n] for name, n in self._numbers.items()]
        some = np.concatenate(rows)
        self._real = macro_f1(self._truth, forest(self._learnt[some], labels[some], self._held, seed=seed, trees=TREES))
        self.history: list[Check] = []
        self.best: Check | None = None
        self._weights: dict[str, Tensor] = {}
        self.stopped = ""

    def check(self, state: TrainState) -> bool:
        """Look at the averaged network; whether the training is to stop."""
        drawn = self._model_of(copy.deepcopy(state.average)).sample(self._numbers, seed=self._seed, steps=STEPS)
        series = drawn.series()
        said = forest(series, drawn.labels.astype(str), self._held, seed=self._seed, trees=TREES)
        near = closest_record_share(series, self._learnt, self._held)
        found = Check(state.step, macro_f1(self._truth, said), self._real, near.value, near.low)
        self.history.append(found)
        if [each.closest_low > MEMORISED for each in self.history[-2:]] == [True, True]:
            self.stopped = f"it began to memorise: {near.value:.0%} of drawn flows lie nearer to a learnt flow"
            return True
        if near.low <= MEMORISED and (self.best is None or found.macro_f1 >= self.best.macro_f1):
            self.best = found
            self._weights = {name: each.detach().cpu().clone() for name, each in state.average.state_dict().items()}
        return False

    def settle(self, state: TrainState) -> Check | None:
        """Put the best weights into the average, where the last are worse by more than chance, or memorise.

        The best of eight scores lies above the last one by chance alone; and weights from the midst of a training are
        rougher than the last, which ends with small steps.
        """
        if self.best is None:
            return self.history[-1] if self.history else None
        last = self.history[-1]
        error = math.sqrt(max(self.best.macro_f1 * (1 - self.best.macro_f1), 0.01) / len(self._truth))
        if last.closest_low <= MEMORISED and self.best.macro_f1 - last.macro_f1 <= BY_CHANCE * error:
            return last
        state.average.load_state_dict(self._weights)
        return self.best

    # -- with a checkpoint ------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """The best weights, by names that a checkpoint can hold."""
        return {f"best.{name}": each for name, each in self._weights.items()}

    def to_json(self) -> dict[str, Any]:
        """What was found so far, as JSON types."""
        best = None if self.best is None else self.best.step
        return {"best": best, "checks": [each.to_json() for each in self.history]}

    def restore(self, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Go on with what a checkpoint holds."""
        self.history = [Check(**each) for each in metadata.get("checks", [])]
        self.best = next((each for each in self.history if each.step == metadata.get("best")), None)
        self._weights = {name.removeprefix("best."): each for name, each in tensors.items() if name.startswith("best.")}


def due(done: int, share: float, step: int, budget: float | None, seconds: float, spent: float) -> bool:
    """Whether the next check is due.

    Parameters
    ----------
    done : int
        Checks so far.
    share : float
        Of the training's budget.
    step : int
    budget : float or None
        Seconds that the training may take in all; None where steps alone count, so that the same
        checks are made on any machine.
    seconds, spent : float
        How long it took so far, and of that the checks.
    """
    if step < FIRST or share < (done + 1) / CHECKS:
        return False
    return budget is None or not done or share >= 1 or spent * (done + 1) / done <= COST * seconds
