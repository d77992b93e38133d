"""Validation during training: held-out flows, checks on them, and which weights are kept.

A check samples some flows from the averaged network. A classifier trained on them is tested on the held-out
flows, and the closest-record share says how many of them are nearer to a training flow than to a held-out one:
a network that begins to memorise is stopped.
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
from netgen.evaluation.usefulness import macro_f1, predict_forest
from netgen.model.model import Model

MIN_CLASS_FLOWS = 10  # no flow of a smaller class is held out
N_CHECKS = 8  # checks in a training
FIRST_CHECK_STEP = 200  # steps before the first check
MAX_SAMPLES = 256  # flows of a check, at most
SAMPLING_STEPS = 10  # sampling steps of a check
N_TREES = 50  # trees of its classifier
MAX_TIME_FRACTION = 0.15  # fraction of the training time that checks may take
MIN_STANDARD_ERRORS = 2.0  # standard errors of the score by which earlier weights must be better than the last
MEMORISATION_SHARE = 0.6  # a network memorises if the lower end of the closest-record share exceeds this twice in a row


def train_val_split(table: FlowTable, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on, and the rows held out: a fraction of each class of at least `MIN_CLASS_FLOWS`.

    If a class has several captures, complete captures are held out.
    """
    sources = np.array([source or "" for source in table.table["source"].to_pylist()], str)
    flows = FlowSet(table.series(), table.labels.astype(str), sources)
    names, counts = np.unique(flows.labels, return_counts=True)
    large = np.flatnonzero(np.isin(flows.labels, names[counts >= MIN_CLASS_FLOWS]))
    held_out = np.zeros(0, np.int64)
    if fraction and len(large):
        held_out = large[split_by_capture(flows.take(large), fraction, seed)[1]]
    return np.setdiff1d(np.arange(len(table)), held_out), held_out


@dataclasses.dataclass(frozen=True)
class Check:
    """Result of one check."""

    step: int  # of the training
    macro_f1: float  # Of the held-out flows, by a random forest trained on samples
    real_macro_f1: float  # By one trained on as many training flows
    closest_record_share: float
    closest_low: float  # lower end of its interval


class Validator:
    """Checks a training and remembers its best weights; `build_model` makes a model to sample with of a network."""

    def __init__(
        self, train: FlowTable, held_out: FlowTable, build_model: Callable[[BandTransformer], Model], *, seed: int
    ) -> None:
        self._train, self._held_out = train.series(), held_out.series()
        self._labels = held_out.labels.astype(str)
        self._build_model, self._seed = build_model, seed
        fraction = min(1.0, MAX_SAMPLES / len(held_out))
        self._counts = {name: max(1, round(count * fraction)) for name, count in held_out.counts().items()}
        rng = np.random.default_rng(seed)
        labels = train.labels.astype(str)
        rows = np.concatenate(
            [rng.permutation(np.flatnonzero(labels == name))[:count] for name, count in self._counts.items()]
        )
        self._real_macro_f1 = self._macro_f1(self._train[rows], labels[rows])
        self.history: list[Check] = []
        self.best: Check | None = None
        self._weights: dict[str, Tensor] = {}
        self.stopped = ""

    def _macro_f1(self, series: np.ndarray, labels: np.ndarray) -> float:
        predicted = predict_forest(series, labels, self._held_out, seed=self._seed, n_trees=N_TREES)
        return macro_f1(self._labels, predicted)

    def check(self, state: TrainState) -> bool:
        """Check the averaged network; return True if the training must stop."""
        model = self._build_model(copy.deepcopy(state.ema))
        samples = model.sample(self._counts, seed=self._seed, sampling_steps=SAMPLING_STEPS, progress=False)
        score = self._macro_f1(samples.series(), samples.labels.astype(str))
        closest = closest_record_share(samples.series(), self._train, self._held_out)
        check = Check(state.step, score, self._real_macro_f1, closest.value, closest.low)
        self.history.append(check)
        if [previous.closest_low > MEMORISATION_SHARE for previous in self.history[-2:]] == [True, True]:
            self.stopped = f"it began to memorise: {closest.value:.0%} of samples are nearer to a training flow"
            return True
        if closest.low <= MEMORISATION_SHARE and (self.best is None or score >= self.best.macro_f1):
            self.best = check
            self._weights = {name: tensor.detach().cpu().clone() for name, tensor in state.ema.state_dict().items()}
        return False

    def select_weights(self, state: TrainState) -> Check | None:
        """Restore the best weights if the last ones are worse by more than chance, or memorise.

        The best of eight scores exceeds the last one by chance alone, and weights from the middle of a training are
        noisier than the last, which follow small steps.
        """
        if self.best is None:
            return self.history[-1] if self.history else None
        last = self.history[-1]
        error = math.sqrt(max(self.best.macro_f1 * (1 - self.best.macro_f1), 0.01) / len(self._labels))
        if last.closest_low <= MEMORISATION_SHARE and self.best.macro_f1 - last.macro_f1 <= MIN_STANDARD_ERRORS * error:
            return last
        state.ema.load_state_dict(self._weights)
        return self.best

    # -- in a checkpoint ------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return the best weights by their names in a checkpoint."""
        return {f"best.{name}": tensor for name, tensor in self._weights.items()}

    def to_json(self) -> dict[str, Any]:
        """Convert the checks to JSON types."""
        best = None if self.best is None else self.best.step
        return {"best": best, "checks": [dataclasses.asdict(check) for check in self.history]}

    def restore(self, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Continue from a checkpoint."""
        self.history = [Check(**check) for check in metadata.get("checks", [])]
        self.best = next((check for check in self.history if check.step == metadata.get("best")), None)
        prefix = "best."
        self._weights = {
            name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)
        }


def check_is_due(
    n_checks: int, share_done: float, step: int, limit_seconds: float | None, seconds: float, check_seconds: float
) -> bool:
    """Return whether the next check is due, after `n_checks`, which took `check_seconds` of the `seconds` so far.

    `share_done` is the spent fraction of the budget. Without a time limit (`limit_seconds` None) any machine makes the
    same checks.
    """
    if step < FIRST_CHECK_STEP or share_done < (n_checks + 1) / N_CHECKS:
        return False
    if limit_seconds is None or not n_checks or share_done >= 1:
        return True
    return check_seconds * (n_checks + 1) / n_checks <= MAX_TIME_FRACTION * seconds
