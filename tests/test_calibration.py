"""netgen: whether flows are put right is decided by what a classifier learns, then by what gives them away."""

import dataclasses

import numpy as np
import pytest

from encoders.marginals import Marginals
from netgen import calibration
from netgen.calibration import _Judged, calibrate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def learnt(tiny_model, monkeypatch):
    """A model without maps, real flows (drawn by another seed), and scores to be set for (plain, put right)."""
    real = tiny_model.sample("all", 40, seed=9)
    labels = np.searchsorted(np.array(tiny_model.classes), real.labels.astype(str))
    plain = dataclasses.replace(tiny_model, marginals=Marginals.none(len(tiny_model.classes)))
    scores = {}
    monkeypatch.setattr(calibration, "_judged", lambda model, *_: scores[bool(model.marginals.kind.any())])

    def decided(before, after):
        scores.update({False: _Judged(*before), True: _Judged(*after)})
        return calibrate(plain, real.series(), labels, workers=1)

    return decided


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ((0.50, 0.70), (0.60, 0.90), True),  # more is learnt, though they are told apart
        ((0.60, 0.90), (0.50, 0.60), False),
        ((0.600, 0.80), (0.605, 0.70), True),  # as much is learnt: the harder to tell apart
        ((0.600, 0.70), (0.605, 0.80), False),
    ],
)
def test_maps_are_kept_where_they_are_for_the_better(learnt, before, after, kept):
    assert bool(learnt(before, after).marginals.kind.any()) is kept


def test_flows_are_judged_by_both(tiny_model):
    """Real flows as drawn ones: all is learnt from them, and nothing tells them apart but chance."""
    table = tiny_model.sample("all", 60, seed=2)
    labels = np.searchsorted(np.array(tiny_model.classes), table.labels.astype(str))
    model = dataclasses.replace(tiny_model, marginals=Marginals.none(len(tiny_model.classes)))
    scaled, series = model.scale.scale(table.series()), table.series()
    same = calibration._judged(model, scaled, labels, series, labels)
    wrong = calibration._judged(model, scaled, labels, series, labels[::-1].copy())
    assert same.macro_f1 > wrong.macro_f1
    noisy = calibration._judged(
        model, scaled + np.random.default_rng(0).normal(0, 0.2, scaled.shape), labels, series, labels
    )
    assert noisy.told > same.told
