"""Names of classes, and the bundled models."""

from pathlib import Path
from typing import Any

import pytest

import netgen
from netgen.capture.errors import ModelError
from netgen.capture.series.feasible import feasible
from netgen.diffusion import model_file
from netgen.model.class_names import match_classes
from netgen.model.model import Model
from netgen.model.registry import bundled_models, find_model, find_model_for, load

pytestmark = pytest.mark.usefixtures("one_thread")


def rewritten(source: Any, path: Any, **changed: Any) -> Any:
    """Write a model file with other metadata; None removes an entry."""
    metadata = {**model_file.load_metadata(source), **changed}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    model_file.save(path, model_file.load_tensors(source), metadata)
    return path


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("dns", ["dns"]),
        ("DNS", ["dns"]),
        ("doh", ["dns-doh"]),
        ("DOH", ["dns-doh"]),
        ("ns-", ["dns-doh", "dns-plain"]),
        ("Web", ["Web", "web"]),
        ("web", ["web"]),
        ("WEB", ["Web", "web"]),
        ("", []),
        ("ssh", []),
    ],
)
def test_a_class_is_matched_exactly_then_by_case_then_by_substring(name: str, matches: list[str]) -> None:
    classes = ["dns", "dns-doh", "dns-plain", "Web", "web"]
    expected = ["Web"] if name == "Web" else matches
    assert match_classes(name, classes) == expected


def test_an_unknown_or_ambiguous_class_is_refused_with_the_known_ones(tiny_model: Model) -> None:
    assert tiny_model.resolve_class("WEB") == "Web-TLS"
    with pytest.raises(
        ModelError, match=r"class 'dns' of model tiny could be dns-doh, dns-plain\. Write more of the name"
    ):
        tiny_model.resolve_class("dns")
    with pytest.raises(ModelError, match=r"has no class 'ssh'; it has Web-TLS, dns-doh, dns-plain\. .*netgen train"):
        tiny_model.sample("ssh", 1)
    with pytest.raises(ModelError, match=r"has no class 'dns-dho'; it has .* Did you mean 'dns-doh'\?"):
        tiny_model.resolve_class("dns-dho")


def test_a_model_has_a_short_repr(tiny_model: Model) -> None:
    text = repr(tiny_model)
    assert text == (
        f"Model('tiny', 3 classes, encoder series, {str(tiny_model.spec).partition(', ')[0]}, "
        f"{tiny_model.parameters():,} parameters)"
    )
    assert "<td>dns-doh</td><td>20</td>" in tiny_model._repr_html_()


def test_models_are_located_by_path_name_and_class(
    bundled_folder: Any, tiny_model_file: Path, tiny_model: Model
) -> None:
    (model,) = bundled_models()
    assert (model.name, model.path.parent, model.card.name) == ("tiny", bundled_folder, "tiny.md")
    assert model.metadata == tiny_model.metadata()
    assert find_model("tiny") == model.path
    assert find_model(tiny_model_file) == tiny_model_file
    assert find_model_for(["web", "doh"]) == model.path
    assert load("tiny").weights_sha256() == tiny_model.weights_sha256()


def test_the_checkpoint_of_a_training_is_not_a_bundled_model(bundled_folder: Any, tiny_model_file: Path) -> None:
    """A model that is being trained into the package does not hide the others."""
    rewritten(tiny_model_file, bundled_folder / "a.checkpoint.safetensors", checkpoint=True)
    assert [model.name for model in bundled_models()] == ["tiny"]
    assert find_model_for(["doh"]) == bundled_folder / "tiny.safetensors"


@pytest.mark.usefixtures("bundled_folder")
def test_an_unknown_model_or_class_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"no model vidoe: there is no such file, and the bundled models are tiny"):
        load("vidoe")
    with pytest.raises(
        ModelError, match=r"no bundled model has the class ssh\. They have tiny: Web-TLS, .*netgen train"
    ):
        find_model_for(["ssh"])
    with pytest.raises(ModelError, match="no bundled model has all of the classes doh, ssh"):
        find_model_for(["doh", "ssh"])


@pytest.mark.parametrize(("name", "classes"), [("base", 12), ("video", 4)])
def test_bundled_models_sample_flows(name: str, classes: int) -> None:
    """The file loads in this version and samples feasible flows; its card mentions every class."""
    models = {model.name: model for model in netgen.bundled_models()}
    assert name in models
    card = models[name].card.read_text("utf-8")
    assert len(models[name].metadata["classes"]) == classes
    assert [label for label in models[name].metadata["classes"] if label not in card] == []
    model = netgen.load(name)
    assert model.name == name
    table = model.sample({model.classes[0]: 2}, sampling_steps=2)
    assert len(table) == 2
    assert table.series().shape == (2, 4, 128)
    assert feasible(table.series())[1] == {}
