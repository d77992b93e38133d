"""netgen: whether flows are put right is decided by what a classifier learns, then by what gives them away."""

import dataclasses

import numpy as np
import pytest

from capture.errors import ModelError
from diffusion import modelfile
from encoders.marginals import Marginals
from encoders.shares import Shares
from netgen import calibration
from netgen.calibration import _Judged, calibrate, measured
from netgen.model import Model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def real(tiny_model):
    """Series of flows, and their class numbers."""
    table = tiny_model.sample("all", 40, seed=9)
    return table.series(), np.searchsorted(np.array(tiny_model.classes), table.labels.astype(str))


@pytest.fixture
def learnt(tiny_model, real, monkeypatch):
    """Function: scores of flows left as drawn, with each total mapped by itself, with shared ones, to the choice."""
    plain = dataclasses.replace(tiny_model, totals=Marginals.none(len(tiny_model.classes)))
    scores = {}
    monkeypatch.setattr(calibration, "_judged", lambda model, *_: _Judged(*scores[form(model)]))

    def decided(*of):
        scores.update(zip(("none", "each", "shared"), of, strict=True))
        return form(calibrate(plain, *real, workers=1))

    return decided


def form(model):
    """How a model puts its flows right."""
    if isinstance(model.totals, Shares):
        return "shared"
    return "each" if model.totals.kind.any() else "none"


@pytest.mark.parametrize(
    ("none", "each", "shared", "chosen"),
    [
        ((0.50, 0.70), (0.60, 0.90), (0.55, 0.60), "each"),  # more is learnt, though they are told apart
        ((0.60, 0.90), (0.50, 0.60), (0.40, 0.60), "none"),
        ((0.50, 0.60), (0.60, 0.60), (0.62, 0.90), "shared"),
        ((0.600, 0.80), (0.605, 0.70), (0.601, 0.75), "each"),  # as much is learnt: the hardest to tell apart
        ((0.600, 0.80), (0.605, 0.70), (0.601, 0.65), "shared"),
        ((0.600, 0.70), (0.605, 0.80), (0.601, 0.75), "none"),
    ],
)
def test_flows_are_put_right_as_is_for_the_better(learnt, none, each, shared, chosen):
    assert learnt(none, each, shared) == chosen


@pytest.fixture
def both(tiny_model, real):
    """The tiny model with its totals put right in either way."""
    found, _, _ = measured(tiny_model, *real, device="cpu", workers=1, progress=None)
    return [dataclasses.replace(tiny_model, totals=each) for each in found]


def test_a_model_keeps_how_its_flows_are_put_right(both, tmp_path):
    """Written and read again, it draws the same flows."""
    for model in both:
        again = Model.load(model.save(tmp_path / "m.safetensors", force=True))
        assert type(again.totals) is type(model.totals)
        assert again.weights_sha256() == model.weights_sha256()
        np.testing.assert_array_equal(again.sample("all", 12).series(), model.sample("all", 12).series())


@pytest.mark.parametrize("left", [set(), {"shares.real"}, {"shares.drawn", "shares.real", "shares.more"}])
def test_a_model_whose_totals_are_not_as_this_netgen_keeps_them_is_refused(both, tmp_path, left):
    path = both[1].save(tmp_path / "m.safetensors")
    tensors, about = modelfile.load_tensors(path), modelfile.load_about(path)
    kept = {name: each for name, each in tensors.items() if not name.startswith("shares.")}
    for name in left:
        kept[name] = tensors["shares.real"].clone()
    modelfile.save(path, kept, about)
    with pytest.raises(ModelError, match="add up to"):
        Model.load(path)


@pytest.mark.parametrize("flows", [1, 4, 13, 16, 17, 27, 40])
def test_flow_i_is_flow_i_whoever_shares_its_totals(both, flows):
    """Flows whose totals are shared out are drawn together, however few of them are asked for."""
    for model in both:
        name = model.classes[0]
        most = model.sample(name, 40, seed=4).series()
        np.testing.assert_array_equal(model.sample(name, flows, seed=4, workers=2).series(), most[:flows])


def test_flows_are_judged_by_both(tiny_model):
    """Real flows as drawn ones: all is learnt from them, and nothing tells them apart but chance."""
    table = tiny_model.sample("all", 60, seed=2)
    labels = np.searchsorted(np.array(tiny_model.classes), table.labels.astype(str))
    model = dataclasses.replace(tiny_model, totals=Marginals.none(len(tiny_model.classes)))
    scaled, series = model.scale.scale(table.series()), table.series()
    same = calibration._judged(model, scaled, labels, series, labels)
    wrong = calibration._judged(model, scaled, labels, series, labels[::-1].copy())
    assert same.macro_f1 > wrong.macro_f1
    noisy = calibration._judged(
        model, scaled + np.random.default_rng(0).normal(0, 0.2, scaled.shape), labels, series, labels
    )
    assert noisy.told > same.told
