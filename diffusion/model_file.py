"""Model files and checkpoints: safetensors with JSON metadata, so that loading runs no code."""

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


def save(path: str | os.PathLike[str], tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and a JSON object.

    Raises OSError if the file cannot be written; the writer of safetensors would raise an error of its own type.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    Path(path).write_bytes(to_bytes(contiguous, metadata={METADATA_KEY: json.dumps(metadata)}))


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON object; a ValueError if the file is not a safetensors file with such an object."""
    try:
        with safe_open(str(path), framework="pt") as stream:
            text = (stream.metadata() or {}).get(METADATA_KEY, "")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"not a safetensors file ({error})") from error
    try:
        metadata = json.loads(text)
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        raise ValueError("a safetensors file without netgen's metadata")
    return metadata


def load_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors, onto the CPU."""
    with safe_open(str(path), framework="pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping


def load_network(config: dict[str, Any], tensors: dict[str, Tensor]) -> BandTransformer:
    """Build the network of a model file; a ValueError if weights and configuration do not match."""
    try:
        network = BandTransformer(NetworkConfig(**config))
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"its weights do not match its configuration ({str(error).splitlines()[0]})") from error
    return network.eval().requires_grad_(False)


def state_tensors(state: TrainState) -> dict[str, Tensor]:
    """Return every tensor of a training state, by name."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in state.ema.state_dict().items()}
    tensors["level_weights"] = state.level_weights.mean_error
    for parameter, values in state.optimizer.state_dict()["state"].items():
        for name, tensor in values.items():
            tensors[f"optimizer.{parameter}.{name}"] = torch.as_tensor(tensor)
    return tensors


def restore_state(state: TrainState, tensors: dict[str, Tensor]) -> None:
    """Load what `state_tensors` returned into a new state of the same configuration; else a ValueError."""
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "ema": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        if group in groups:
            groups[group][rest] = tensor
    try:
        state.network.load_state_dict(groups["network"])
        state.ema.load_state_dict(groups["ema"])
        state.level_weights = LevelWeights(tensors["level_weights"])
    except (RuntimeError, KeyError) as error:
        raise ValueError("its network has another shape, as of another --preset") from error
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in groups["optimizer"].items():
        parameter, _, field = name.partition(".")
        moments.setdefault(int(parameter), {})[field] = tensor
    param_groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": param_groups})
