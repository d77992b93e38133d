"""Model files: their contents, and files that are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

import netgen
from netgen.capture.errors import ModelError, OutputError
from netgen.diffusion import model_file
from netgen.model.file import FORMAT
from netgen.model.model import Model

QUICK: dict[str, Any] = {"training_steps": 5, "preset": "tiny", "threads": 1, "precision": "float32"}
pytestmark = pytest.mark.usefixtures("one_thread", "quick_calibration")


def rewritten(source: Any, path: Any, **changed: Any) -> Any:
    """Write a model file with other metadata; None removes an entry."""
    metadata = {**model_file.load_metadata(source), **changed}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    model_file.save(path, model_file.load_tensors(source), metadata)
    return path


def equal(one: Any, other: Any) -> Any:
    return one.table.equals(other.table) and one.spec == other.spec


def test_a_saved_model_loads_unchanged(tiny_model: Model, tiny_model_file: Path, tmp_path: Path) -> None:
    """Metadata, weights and samples are the same."""
    loaded = Model.load(tiny_model.save(tmp_path / "m.safetensors"))
    assert loaded.metadata() == tiny_model.metadata() == model_file.load_metadata(tiny_model_file)
    assert loaded.weights_sha256() == tiny_model.weights_sha256()
    assert equal(loaded.sample("all", 6), tiny_model.sample("all", 6))


def test_train_returns_the_model_that_it_writes(tiny_flows: Any, tmp_path: Path) -> None:
    model = netgen.train(tiny_flows, out=tmp_path / "m.safetensors", **QUICK)
    loaded = netgen.load(tmp_path / "m.safetensors")
    assert loaded.weights_sha256() == model.weights_sha256()
    assert loaded.metadata() == model.metadata()
    assert loaded.name == "m"
    assert equal(loaded.sample("Web", 3), model.sample("Web", 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.metrics.jsonl", "m.safetensors"]


def test_the_metadata_describe_the_model_as_json(tiny_model: Model, tiny_flows: Any, tiny_model_file: Path) -> None:
    metadata = model_file.load_metadata(tiny_model_file)
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata["format"] == FORMAT
    assert metadata["netgen"] == netgen.__version__
    assert metadata["classes"] == ["Web-TLS", "dns-doh", "dns-plain"]
    assert metadata["series"] == tiny_flows.spec.to_json()
    training = metadata["training"]
    assert training["flows"] == tiny_flows.counts()
    assert (training["steps"], training["seed"], training["threads"], training["precision"]) == (30, 0, 1, "float32")
    assert training["parameters"] == sum(tensor.numel() for tensor in tiny_model.network.state_dict().values())


def test_a_model_of_another_version_is_refused(tiny_model_file: Path, tmp_path: Path) -> None:
    path = rewritten(tiny_model_file, tmp_path / "new.safetensors", format=FORMAT + 1, netgen="9.9.9")
    with pytest.raises(
        ModelError, match=rf"of format {FORMAT + 1}; this netgen reads format {FORMAT}.*use netgen 9\.9\.9"
    ):
        Model.load(path)


def test_the_checkpoint_of_an_unfinished_training_is_refused(tiny_model_file: Path, tmp_path: Path) -> None:
    path = rewritten(tiny_model_file, tmp_path / "m.checkpoint.safetensors", checkpoint=True)
    with pytest.raises(
        ModelError, match=r"checkpoint of an unfinished training\. Finish it with netgen train --resume"
    ):
        Model.load(path)


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.5, 0.999])
def test_a_truncated_model_is_refused(share: float | int, tiny_model_file: Path, tmp_path: Path) -> None:
    data = tiny_model_file.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match=r"cut\.safetensors is not a netgen model: not a safetensors file"):
        Model.load(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"series": None},
        {"series": {"length": 16}},
        {"classes": None},
        {"classes": 3},
        {"network": {"channels": 4, "bins": 16, "strata": 9}},
        {"network": {"channels": 4}},
        {"scale": {}},
        {"limits": {"smallest": [[1]]}},
        {"limits": {"smallest": [], "largest": []}},
        {"noise": {"loud": 1}},
        {"statistics": {"mean": 0}},
        {"encoder": None},
        {"encoder": "gadf"},
        {"training": None},
        {"name": None},
    ],
    ids=str,
)
def test_a_model_with_damaged_metadata_is_refused(changed: Any, tiny_model_file: Path, tmp_path: Path) -> None:
    """The error names the file, for any entry that is missing or does not fit."""
    path = rewritten(tiny_model_file, tmp_path / "damaged.safetensors", **changed)
    with pytest.raises(ModelError, match=r"damaged\.safetensors is a damaged model"):
        Model.load(path)


def test_a_model_that_lacks_weights_is_refused(tiny_model_file: Path, tmp_path: Path) -> None:
    tensors = model_file.load_tensors(tiny_model_file)
    tensors.pop("pos_embed")
    model_file.save(tmp_path / "x.safetensors", tensors, model_file.load_metadata(tiny_model_file))
    with pytest.raises(ModelError, match="is a damaged model: its weights do not match its configuration"):
        Model.load(tmp_path / "x.safetensors")


def test_other_files_are_refused(tiny_flows: Any, tmp_path: Path) -> None:
    table = tiny_flows.write(tmp_path / "t.parquet")
    with pytest.raises(ModelError, match=r"t\.parquet is not a netgen model"):
        Model.load(table)
    with pytest.raises(ModelError, match="does not exist"):
        Model.load(tmp_path / "no.safetensors")
    with pytest.raises(ModelError, match="is a folder"):
        Model.load(tmp_path)


def test_an_existing_model_is_kept_unless_forced(tiny_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        tiny_model.save(path)
    assert path.read_text() == "mine"
    tiny_model.save(path, force=True)
    assert Model.load(path).classes == tiny_model.classes


@pytest.mark.parametrize("encoder", ["gasf", "gadf", "delay"])
def test_a_model_of_another_encoder_is_trained_saved_read_and_sampled(
    encoder: str, tiny_flows: Any, tmp_path: Path
) -> None:
    """Its file names the encoder, and the loaded model samples the same flows."""
    out = tmp_path / "other.safetensors"
    model = netgen.train(tiny_flows, out=out, encoder=encoder, **QUICK)
    loaded = netgen.load(out)
    assert loaded.encoder == model.encoder == encoder
    assert model_file.load_metadata(out)["training"]["preset"] == "tiny"
    samples = loaded.sample({"Web-TLS": 3}, sampling_steps=3)
    assert equal(samples, model.sample({"Web-TLS": 3}, sampling_steps=3))
    assert samples.series().any((1, 2)).all()
