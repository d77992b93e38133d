"""Model files and checkpoints: safetensors and nothing else."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.small_network import (
    CPU,
    SMALL,
    randomised,
    small_training,
)

from netgen.diffusion import model_file
from netgen.diffusion.network import BandTransformer
from netgen.diffusion.train import TrainConfig, new_state

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_checkpoint_of_another_shape_is_refused() -> None:
    config = TrainConfig(steps=2, batch=2)
    tensors = model_file.state_tensors(small_training(config))
    for other in (dataclasses.replace(SMALL, width=16), dataclasses.replace(SMALL, strata=3)):
        with pytest.raises(ValueError, match="its network has another shape"):
            model_file.restore_state(new_state(other, config, CPU), tensors)
    for missing in ("level_weights", "ema.pos_embed", "network.out_proj.bias"):
        fewer = {name: tensor for name, tensor in tensors.items() if name != missing}
        with pytest.raises(ValueError, match="its network has another shape"):
            model_file.restore_state(new_state(SMALL, config, CPU), fewer)


def test_level_weights_come_back_from_a_checkpoint() -> None:
    state = small_training(TrainConfig(steps=3, batch=4))
    assert int((state.level_weights.mean_error > 0).sum()) > 1
    again = new_state(SMALL, TrainConfig(steps=3), CPU)
    model_file.restore_state(again, model_file.state_tensors(state))
    assert torch.equal(again.level_weights.mean_error, state.level_weights.mean_error)


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b.c": torch.tensor([1, 2])}
    about = {"format": 1, "classes": ["ä", "b"], "deep": {"x": [1.5, None, True]}}
    model_file.save(tmp_path / "x.safetensors", tensors, about)
    assert model_file.load_metadata(tmp_path / "x.safetensors") == about
    again = model_file.load_tensors(tmp_path / "x.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_a_network_comes_back_with_its_weights_in_float32() -> None:
    network = randomised(BandTransformer(SMALL))
    for dtype in (torch.float32, torch.bfloat16):
        tensors = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
        again = model_file.load_network(dataclasses.asdict(SMALL), tensors)
        assert not any(parameter.requires_grad for parameter in again.parameters())
        for name, tensor in again.state_dict().items():
            assert torch.equal(tensor, tensors[name].float())


def test_weights_that_do_not_match_their_configuration_are_refused() -> None:
    tensors = BandTransformer(SMALL).state_dict()
    for config in (
        {**dataclasses.asdict(SMALL), "depth": 1},
        {**dataclasses.asdict(SMALL), "wide": 3},
        {"channels": 2},
    ):
        with pytest.raises(ValueError, match="its weights do not match its configuration"):
            model_file.load_network(config, tensors)


class PickleTrap:
    """Run a command of its author's choice when it is unpickled."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_loading_a_model_runs_no_code(writer: str, tmp_path: Path) -> None:
    """A pickle file named .safetensors is refused, and its command is not run."""
    sprung = tmp_path / "sprung"
    path = tmp_path / "x.safetensors"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(PickleTrap(sprung)))
    else:
        torch.save({"weights": PickleTrap(sprung)}, path)
    with pytest.raises(ValueError, match="not a safetensors file"):
        model_file.load_metadata(path)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(PickleTrap(sprung))).close()  # the trap does work
    assert sprung.exists()


@pytest.mark.parametrize("content", [b"", b"x", bytes(8), bytes(100), b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}"], ids=repr)
def test_files_that_are_not_models_are_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"safetensors file"):
        model_file.load_metadata(path)


def test_a_safetensors_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for metadata in (None, {"format": "pt"}, {model_file.METADATA_KEY: "no json"}, {model_file.METADATA_KEY: "[1]"}):
        save_file({"a": torch.zeros(2)}, path, metadata=metadata)
        with pytest.raises(ValueError, match="without netgen's metadata"):
            model_file.load_metadata(path)
