"""netgen: whether flows are put right is decided by what a classifier learns, then by what gives them away."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netgen.capture.errors import ModelError
from netgen.diffusion import model_file
from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.recurring import Recurring
from netgen.encoders.decoding.repeats import Repeats
from netgen.encoders.decoding.shares import Shares
from netgen.model.model import Model
from netgen.training import calibration
from netgen.training.calibration import calibrate, candidates, drawn_once

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def real(tiny_model: Model) -> Any:
    """Series of flows, and their class numbers."""
    table = tiny_model.sample("all", 40, seed=9)
    return table.series(), np.searchsorted(np.array(tiny_model.classes), table.labels.astype(str))


@dataclasses.dataclass(frozen=True)
class _Scored:
    """What is said of sampled flows beside real ones, whatever they are."""

    macro_f1: float
    auc: float

    def learnt(self) -> Any:
        return self.macro_f1

    def c2st_auc(self) -> Any:
        return self.auc


@pytest.fixture(scope="module")
def plain(tiny_model: Model, real: Any) -> Any:
    """Return the tiny model without calibration, its samples, and the candidates of calibration."""
    model = dataclasses.replace(tiny_model, totals=Marginals.none(len(tiny_model.classes)))
    sampled = drawn_once(model, *real, device="cpu", threads=1)
    return model, sampled, candidates(model, *sampled, *real)


@pytest.fixture
def learnt(plain: Any, real: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function from the scores of the candidates to the form of the chosen one."""
    model, sampled, tried = plain
    scores: dict[str, Any] = {}
    monkeypatch.setattr(calibration, "drawn_once", lambda *_, **__: sampled)
    monkeypatch.setattr(calibration, "candidates", lambda *_: list(tried))
    monkeypatch.setattr(calibration, "_beside", lambda model, *_: _Scored(*scores[form(model)]))

    def decided(*of: Any, repeats: Any = False, store_flows: Any = True) -> Any:
        worst = (0.0, 1.0)
        for name, score in zip(("none", "each", "shared"), of, strict=True):
            scores[name] = worst if repeats else score
            scores[f"{name} and repeats"] = score if repeats else worst
        return form(calibrate(model, *real, store_flows=store_flows, threads=1))

    return decided


def form(model: Any) -> Any:
    """How a model puts its flows right."""
    again = " and repeats" if len(model.repeats.drawn) else ""
    if isinstance(model.totals, Shares):
        return f"shared{again}"
    return f"{'each' if model.totals.kind.any() else 'none'}{again}"


@pytest.mark.parametrize(
    ("none", "single", "shared", "chosen"),
    [
        ((0.50, 0.70), (0.60, 0.90), (0.55, 0.60), "each"),  # more is learnt, though they are told apart
        ((0.60, 0.90), (0.50, 0.60), (0.40, 0.60), "none"),
        ((0.50, 0.60), (0.60, 0.60), (0.62, 0.90), "shared"),
        ((0.600, 0.80), (0.605, 0.70), (0.601, 0.75), "each"),  # as much is learnt: the hardest to tell apart
        ((0.600, 0.80), (0.605, 0.70), (0.601, 0.65), "shared"),
        ((0.600, 0.700), (0.605, 0.705), (0.601, 0.750), "each"),  # as hard to tell: the one from which most is learnt
        ((0.600, 0.70), (0.605, 0.80), (0.601, 0.75), "none"),
    ],
)
def test_the_better_calibration_is_chosen(learnt: Any, none: Any, single: Any, shared: Any, chosen: str) -> None:
    assert learnt(none, single, shared) == chosen
    assert learnt(none, single, shared, repeats=True) == f"{chosen} and repeats"


def test_without_store_flows_only_distributions_are_chosen_from(learnt: Any) -> None:
    """Then distributions alone are chosen from, however much more would be learnt."""
    assert learnt((0.1, 0.9), (0.2, 0.9), (0.9, 0.5), store_flows=False) == "each"
    assert learnt((0.3, 0.9), (0.2, 0.9), (0.9, 0.5), store_flows=False) == "none"
    assert learnt((0.1, 0.9), (0.2, 0.9), (0.9, 0.5), repeats=True, store_flows=False) in ("each", "none")


@pytest.fixture(scope="module")
def ways(tiny_model: Model, real: Any) -> Any:
    """Return the tiny model with its flows put right in each way, by the name of its form."""
    sampled = drawn_once(tiny_model, *real, device="cpu", threads=1)
    return {form(way): way for way in candidates(tiny_model, *sampled, *real)}


def test_a_model_file_keeps_the_calibration(ways: Any, tmp_path: Path) -> None:
    """Written and read again, it draws the same flows."""
    for model in ways.values():
        again = Model.load(model.save(tmp_path / "m.safetensors", force=True))
        assert form(again) == form(model)
        assert again.weights_sha256() == model.weights_sha256()
        np.testing.assert_array_equal(again.sample("all", 12).series(), model.sample("all", 12).series())


@pytest.fixture(scope="module")
def often(tiny_model: Model, real: Any) -> Any:
    """Return candidates, samples and labels for real flows of which every other one of a class is the same."""
    series, labels = real[0].copy(), real[1]
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        series[rows[::2]] = series[rows[0]]
    sampled = drawn_once(tiny_model, series, labels, device="cpu", threads=1)
    return candidates(tiny_model, *sampled, series, labels), sampled, (series, labels)


def test_recurring_flows_are_learnt_separately(often: Any) -> None:
    """Flows that recur are sampled as often as they are real, and lend nothing to others."""
    tried, sampled, (series, labels) = often
    for model in tried[:3]:
        assert len(model.recurring.label) == len(model.classes)
        again = model.recurring.members(model.decoder.decode(*sampled, seed=calibration.SEED), sampled[1])
        assert again.mean() == pytest.approx(0.5, abs=0.1)
    shared, every = tried[1].totals, tried[4].totals
    for label in np.unique(labels):
        once = series[labels == label][0].sum(1)[[2, 3, 0, 1]].astype(np.float32)
        assert (shared.real[label] != once).any(1).all()
        assert (every.real[label] == once).all(1).any()
    assert not any(len(model.recurring.label) for model in tried[3:])


def test_more_is_sampled_of_larger_classes_and_of_recurring_ones(tiny_model: Model) -> None:
    """So that enough flows are sampled that do not recur; a few of any class."""
    first, second = (tiny_model.sample({name: 20}, seed=3).series() for name in tiny_model.classes[:2])
    series = np.concatenate([first, np.repeat(second[:1], 20, axis=0)])
    labels = np.repeat([0, 1], 20)

    def numbers(*real: Any) -> Any:
        return np.bincount(drawn_once(tiny_model, *real, device="cpu", threads=1)[1]).tolist()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "IN_ALL", 60)
        patch.setattr(calibration, "LEAST", 6)
        even, others = numbers(series, labels), len(tiny_model.classes) - 2
        assert even == [30, 30] + [6] * others
        patch.setattr(calibration, "IN_ALL", 10)
        assert numbers(series, labels) == [6, 24] + [6] * others
        patch.setattr(calibration, "IN_ALL", 60)
        assert numbers(np.concatenate([first] * 3 + [second[:1]]), np.repeat([0, 1], [60, 1]))[0] == 53


def test_a_model_that_stores_flows_reports_it(often: Any) -> None:
    model = often[0][2]
    assert model.stores_flows()
    assert dataclasses.replace(model, repeats=Repeats.none()).stores_flows()
    nothing = dataclasses.replace(model, repeats=Repeats.none(), recurring=Recurring.nothing())
    assert not nothing.stores_flows()


def test_a_model_keeps_which_flows_recur(often: Any, tmp_path: Path) -> None:
    model = often[0][1]
    again = Model.load(model.save(tmp_path / "m.safetensors"))
    assert again.weights_sha256() == model.weights_sha256()
    np.testing.assert_array_equal(again.sample("all", 12).series(), model.sample("all", 12).series())
    assert len(again.recurring.label) == len(model.recurring.label) > 0


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("label", lambda array: array + 1000),
        ("label", lambda array: array[::-1]),
        ("odds", lambda array: array * np.nan),
        ("none", lambda array: array[:-1]),
        ("flow", lambda array: array + 1),
        ("flow", lambda array: array[::-1]),
        ("at", lambda array: array + 1000),
        ("at", lambda array: array + 1),
        ("at", lambda array: array * 0),
        ("holds", lambda array: array * np.array([0, 0, 1, 1])),
        ("holds", lambda array: array * 2**40),
        ("holds", lambda array: array - 10**6),
        ("holds", lambda array: array * 0.5),
        ("holds", lambda array: array[:, :3]),
        ("odds", None),
    ],
)
def test_a_model_with_damaged_recurring_flows_is_refused(often: Any, tmp_path: Path, field: str, wrong: Any) -> None:
    path = often[0][1].save(tmp_path / "m.safetensors")
    tensors, metadata = model_file.load_tensors(path), model_file.load_metadata(path)
    given = tensors.pop(f"recurring.{field}")
    if wrong is not None:
        tensors[f"recurring.{field}"] = torch.from_numpy(np.ascontiguousarray(wrong(given.numpy())))
    model_file.save(path, tensors, metadata)
    with pytest.raises(ModelError, match="recur"):
        Model.load(path)


@pytest.mark.parametrize("left", [set(), {"shares.real"}, {"shares.drawn", "shares.real", "shares.more"}])
def test_a_model_with_damaged_totals_is_refused(ways: Any, tmp_path: Path, left: Any) -> None:
    path = ways["shared"].save(tmp_path / "m.safetensors")
    tensors, metadata = model_file.load_tensors(path), model_file.load_metadata(path)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("shares.")}
    for name in left:
        kept[name] = tensors["shares.real"].clone()
    model_file.save(path, kept, metadata)
    with pytest.raises(ModelError, match=r"tensors of (shares|marginals)"):
        Model.load(path)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("place", lambda array: array[:-1]),
        ("place", lambda array: array + 1000),
        ("group", lambda array: array + np.array([1000, 0, 0])),
        ("holds", lambda array: array - 10**6),
        ("odds", lambda array: array * np.nan),
        ("other", lambda array: array[:, :3]),
        ("drawn", lambda array: array[1:]),
        ("drawn", lambda array: array * np.nan),
        ("real", lambda way_: -way_),
        ("group", lambda array: array * np.array([1, -1, 1])),
        ("group", lambda array: array + np.array([0, 0, 3])),
        ("holds", lambda array: array * 0.5),
        ("real", None),
    ],
)
def test_a_model_with_damaged_repeated_bins_is_refused(ways: Any, tmp_path: Path, field: str, wrong: Any) -> None:
    path = ways["none and repeats"].save(tmp_path / "m.safetensors")
    tensors, metadata = model_file.load_tensors(path), model_file.load_metadata(path)
    assert len(tensors["repeats.place"])
    given = tensors.pop(f"repeats.{field}")
    if wrong is not None:
        damaged = wrong(given.numpy())
        kept = damaged if field == "holds" else damaged.astype(given.numpy().dtype)
        tensors[f"repeats.{field}"] = torch.from_numpy(np.ascontiguousarray(kept))
    model_file.save(path, tensors, metadata)
    with pytest.raises(ModelError, match=r"again and again|repeats\.real"):
        Model.load(path)


@pytest.mark.parametrize("flows", [1, 4, 13, 16, 17, 27, 40])
def test_flow_i_is_flow_i_with_shared_totals(ways: Any, flows: int) -> None:
    """Flows whose totals are shared out are sampled together, however few of them are asked for."""
    for model in ways.values():
        name = model.classes[0]
        most = model.sample(name, 40, seed=4).series()
        np.testing.assert_array_equal(model.sample(name, flows, seed=4, threads=2).series(), most[:flows])


def test_the_comparison_gives_both_scores(tiny_model: Model) -> None:
    """Real flows as sampled ones: all is learnt from them, and nothing tells them apart but chance."""
    table = tiny_model.sample("all", 60, seed=2)
    labels = np.searchsorted(np.array(tiny_model.classes), table.labels.astype(str))
    model = dataclasses.replace(tiny_model, totals=Marginals.none(len(tiny_model.classes)))
    scaled, series = model.scale.scale(table.series()), table.series()
    same = calibration._beside(model, scaled, labels, series, labels)
    wrong = calibration._beside(model, scaled, labels, series, labels[::-1].copy())
    assert same.learnt() > wrong.learnt()
    noise = np.random.default_rng(0).normal(0, 0.2, scaled.shape)
    assert calibration._beside(model, scaled + noise, labels, series, labels).c2st_auc() > same.c2st_auc()


def test_from_flows_of_one_class_all_is_learnt(tiny_model: Model) -> None:
    table = tiny_model.sample({tiny_model.classes[0]: 30}, seed=2)
    labels = np.zeros(len(table), np.int64)
    beside = calibration._beside(tiny_model, tiny_model.scale.scale(table.series()), labels, table.series(), labels)
    assert beside.learnt() == 1.0
