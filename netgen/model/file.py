"""Model files: what is in them, and reading them with all checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netgen.capture.errors import ModelError
from netgen.capture.series.feasible import PacketLimits
from netgen.capture.series.profile import PROFILE_KEY
from netgen.capture.series.spec import BINS, PACKETS, SeriesSpec
from netgen.diffusion import model_file
from netgen.diffusion.denoiser import NoiseConfig, Statistics
from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.packet_scaler import PacketScaler
from netgen.encoders.decoding.traits import TRAITS
from netgen.encoders.registry import ENCODERS
from netgen.model.state import pop_state
from netgen.model.strata import load_strata

FORMAT = 6  # version of the file format; no other is read

#: View of a series -> the scale on which it is learnt.
SCALERS: dict[str, type[BinScaler] | type[PacketScaler]] = {BINS: BinScaler, PACKETS: PacketScaler}


def read_model_metadata(path: Path) -> dict[str, Any]:
    """Read a model file's metadata; a ModelError if it is not a model, or of another version."""
    if not path.is_file():
        raise ModelError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}",
            "netgen models lists the bundled models; netgen train makes one",
        )
    try:
        metadata = model_file.load_metadata(path)
    except ValueError as error:
        raise ModelError(f"{path} is not a netgen model: {error}", "Make one with netgen train") from error
    if metadata.get("checkpoint"):
        raise ModelError(f"{path} is the checkpoint of an unfinished training", "Finish it with netgen train --resume")
    if metadata.get("format") != FORMAT:
        writer = f", or use netgen {metadata['netgen']}, which wrote it" if "netgen" in metadata else ""
        raise ModelError(
            f"{path} is a model of format {metadata.get('format')}; this netgen reads format {FORMAT}",
            f"Train it again{writer}",
        )
    return metadata


def read_model(path: Path) -> dict[str, Any]:
    """Read the fields of a `netgen.model.model.Model`; runs no code from the file.

    Raises ModelError if it is not a model, of another version, or damaged.
    """
    metadata = read_model_metadata(path)
    try:
        return _fields(path, metadata)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is a damaged model: {error}", "Copy it again, or train it again") from error


def _fields(path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    if metadata["encoder"] not in ENCODERS:
        raise ValueError(f"unknown encoder {metadata['encoder']!r}")
    encoder = ENCODERS[metadata["encoder"]]()
    spec = SeriesSpec.from_json(metadata["series"])
    strata = load_strata(metadata)
    tensors = model_file.load_tensors(path)
    state = pop_state(tensors, len(strata), spec.length)
    network = model_file.load_network(metadata["network"], tensors)
    config = network.config
    limits = PacketLimits.from_json(metadata["limits"])
    for name, value, expected in (
        ("bins", config.bins, spec.length),
        ("channels", config.channels, SCALERS[spec.view].CHANNELS),
        ("columns", network.columns, encoder.columns(config.bins)),
        ("symmetry", config.symmetry, encoder.symmetry),
        ("strata", config.strata, len(strata)),
        ("flow features", config.n_features, TRAITS if len(state.flow_features.real) else 0),
        ("packet limits", (limits.smallest.shape, limits.largest.shape), ((len(strata), 2),) * 2),
    ):
        if value != expected:
            raise ValueError(f"its {name} should be {expected}, not {value}")
    return {
        "name": str(metadata["name"]),
        "spec": spec,
        "strata": strata,
        "network": network,
        "scale": SCALERS[spec.view].from_json(metadata["scale"]),
        "limits": limits,
        "statistics": Statistics(**metadata["statistics"]),
        "noise": NoiseConfig(**metadata["noise"]),
        "encoder": metadata["encoder"],
        "training": metadata["training"],
        "profile": metadata.get(PROFILE_KEY, {}),
        **state._asdict(),
    }
