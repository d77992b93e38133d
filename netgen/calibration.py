"""After training: what a model's flows add up to, measured once and put right (see `encoders.marginals`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from capture.feasible import feasible
from encoders.marginals import Marginals
from netgen.drawing import choose_device, draw_scaled
from netgen.evaluation.realism import FOLDS, told_apart
from netgen.model import Model

#: Flows drawn a class, and in all; fewer than LEAST a class would not show its distribution.
MOST, IN_ALL, LEAST = 128, 2048, 24

#: Flows of either side, and trees, by which it is judged whether the maps are for the better.
JUDGED, TREES = 1000, 50

#: Not a seed that a person would take: flows that are drawn later are others than these.
SEED = 0x6E657467656E


def calibrate(
    model: Model,
    series: np.ndarray,
    labels: np.ndarray,
    *,
    device: str = "auto",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Model:
    """The model with its marginals learnt from flows that it draws, and the real ones it was trained on.

    They are kept where flows are then harder to tell from the real ones. A well-trained model of large flows may do
    better without: maps know nothing of what hangs together within a flow.

    Parameters
    ----------
    model : Model
    series : ndarray of int64, shape (flows, channels, bins)
        Real series.
    labels : ndarray of int, shape (flows,)
        Their class numbers.
    device, workers, progress
        See `Model.sample`.
    """
    number = int(np.clip(IN_ALL // len(model.classes), LEAST, MOST))
    parts = list(
        draw_scaled(
            model, dict.fromkeys(range(len(model.classes)), number), seed=SEED, guidance=1.0,
            steps=model.noise.steps, device=choose_device(device), workers=workers, progress=progress,
        )
    )  # fmt: skip
    drawn_labels = np.repeat([label for label, _, _ in parts], [len(each) for _, each, _ in parts])
    scaled = np.concatenate([each for _, each, _ in parts])
    drawn = model.decoder.drawn(scaled, drawn_labels)
    marginals = Marginals.learn(drawn, drawn_labels, series, labels, model.decoder.limits)
    mapped = dataclasses.replace(model, marginals=marginals)
    plain_auc, mapped_auc = (_told(each, scaled, drawn_labels, series, labels) for each in (model, mapped))
    return mapped if mapped_auc <= plain_auc else model


def _told(model: Model, scaled: np.ndarray, drawn_labels: np.ndarray, series: np.ndarray, labels: np.ndarray) -> float:
    """Real-or-fake AUC of drawn flows beside as many real ones of each class."""
    generator = np.random.default_rng(SEED)
    ours, theirs = [], []
    share = min(1.0, JUDGED / len(labels))
    for label in np.unique(labels):
        mine, real = (generator.permutation(np.flatnonzero(each == label)) for each in (drawn_labels, labels))
        number = max(1, int(share * min(len(mine), len(real))))
        ours.append(mine[:number])
        theirs.append(real[:number])
    rows = np.concatenate(ours)
    new, _ = feasible(model.decoder.decode(scaled[rows], drawn_labels[rows]), drawn_labels[rows], model.limits)
    real = series[np.concatenate(theirs)]
    return told_apart(real, new, trees=TREES).value if len(real) >= 2 * FOLDS else 1.0
