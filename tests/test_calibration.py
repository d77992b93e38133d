"""netgen: whether flows are put right is decided by what a classifier learns, then by what gives them away."""

import dataclasses

import numpy as np
import pytest

from encoders.marginals import Marginals
from netgen import calibration
from netgen.calibration import _Judged, calibrate, measured
from netgen.model import Model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def learnt(tiny_model, monkeypatch):
    """Function: scores of flows left as drawn, with each total mapped by itself, with all together, to the choice."""
    real = tiny_model.sample("all", 40, seed=9)
    labels = np.searchsorted(np.array(tiny_model.classes), real.labels.astype(str))
    plain = dataclasses.replace(tiny_model, marginals=Marginals.none(len(tiny_model.classes)))
    scores = {}
    monkeypatch.setattr(calibration, "_judged", lambda model, *_: _Judged(*scores[form(model)]))

    def decided(*of):
        scores.update(zip(("none", "each", "together"), of, strict=True))
        return form(calibrate(plain, real.series(), labels, workers=1))

    return decided


def form(model):
    """How a model puts its flows right."""
    marginals = model.marginals
    return "together" if marginals.pairs.size else "each" if marginals.kind.any() else "none"


@pytest.mark.parametrize(
    ("none", "each", "together", "chosen"),
    [
        ((0.50, 0.70), (0.60, 0.90), (0.55, 0.60), "each"),  # more is learnt, though they are told apart
        ((0.60, 0.90), (0.50, 0.60), (0.40, 0.60), "none"),
        ((0.50, 0.60), (0.60, 0.60), (0.62, 0.90), "together"),
        ((0.600, 0.80), (0.605, 0.70), (0.601, 0.75), "each"),  # as much is learnt: the hardest to tell apart
        ((0.600, 0.80), (0.605, 0.70), (0.601, 0.65), "together"),
        ((0.600, 0.70), (0.605, 0.80), (0.601, 0.75), "none"),
    ],
)
def test_flows_are_put_right_as_is_for_the_better(learnt, none, each, together, chosen):
    assert learnt(none, each, together) == chosen


def test_a_model_keeps_how_its_flows_are_put_right(tiny_model, tmp_path):
    """Written and read again, it draws the same flows; a model of before there were pairs has none."""
    real = tiny_model.sample("all", 40, seed=9)
    labels = np.searchsorted(np.array(tiny_model.classes), real.labels.astype(str))
    (each, together), _, _ = measured(tiny_model, real.series(), labels, device="cpu", workers=1, progress=None)
    for marginals in (each, together):
        model = dataclasses.replace(tiny_model, marginals=marginals)
        again = Model.load(model.save(tmp_path / "m.safetensors", force=True))
        np.testing.assert_array_equal(again.marginals.pairs, marginals.pairs)
        np.testing.assert_array_equal(again.sample("all", 12).series(), model.sample("all", 12).series())
    old = {name: kept for name, kept in vars(each).items() if name != "pairs"}
    assert not Marginals(**old).pairs.size


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
