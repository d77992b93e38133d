"""Models and checkpoints as files: safetensors with JSON metadata, so that loading runs no code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from netgen.diffusion.denoiser import LevelWeights
from netgen.diffusion.network import BandTransformer, NetworkConfig
from netgen.diffusion.train import TrainState

METADATA_KEY = "netgen"


def save(path: str | os.PathLike[str], tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and a JSON object.

    Raises
    ------
    OSError
        If the file system refuses; safetensors' own writer would raise an error of its own kind.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    Path(path).write_bytes(to_bytes(contiguous, metadata={METADATA_KEY: json.dumps(about)}))


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object alone.

    Raises
    ------
    ValueError
        If the file is no safetensors file, or has none.
    """
    try:
        with safe_open(str(path), framework="pt") as stream:
            metadata = stream.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"no safetensors file ({error})") from error
    try:
        about: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        if not isinstance(about, dict):
            raise ValueError("no JSON object")
    except (KeyError, ValueError) as error:
        raise ValueError("a safetensors file without netgen's metadata") from error
    return about


def load_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors alone, on the CPU."""
    with safe_open(str(path), framework="pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping


def load_network(config: dict[str, Any], tensors: dict[str, Tensor]) -> BandTransformer:
    """A network with the weights of a model file.

    Raises
    ------
    ValueError
        If weights and configuration do not fit.
    """
    try:
        network = BandTransformer(NetworkConfig(**config))
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"weights that do not fit its configuration ({str(error).splitlines()[0]})") from error
    return network.eval().requires_grad_(False)


def state_tensors(state: TrainState) -> dict[str, Tensor]:
    """All numbers of a training, by name."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.state_dict().items()}
    tensors["weights"] = state.weights.table
    for number, values in state.optimizer.state_dict()["state"].items():
        for name, tensor in values.items():
            tensors[f"optimizer.{number}.{name}"] = torch.as_tensor(tensor)
    return tensors


def restore_state(state: TrainState, tensors: dict[str, Tensor]) -> None:
    """Put back what `state_tensors` gave, into a fresh state of the same configuration.

    Raises
    ------
    ValueError
        If they do not fit.
    """
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part in parts:
            parts[part][rest] = tensor
    try:
        state.network.load_state_dict(parts["network"])
        state.average.load_state_dict(parts["average"])
        state.weights = LevelWeights(tensors["weights"])
    except (RuntimeError, KeyError) as error:
        raise ValueError("a checkpoint that does not fit: of another shape, as of another --preset") from error
    numbers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        number, _, field = name.partition(".")
        numbers.setdefault(int(number), {})[field] = tensor
    template = state.optimizer.state_dict()
    state.optimizer.load_state_dict({"state": numbers, "param_groups": template["param_groups"]})
