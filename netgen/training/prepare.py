"""Prepare a training: check the options, split the flows, scale them, and set up the network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from netgen import choices
from netgen.capture.errors import InputError, TableError
from netgen.capture.series.counters import as_bins
from netgen.capture.series.feasible import PacketLimits
from netgen.capture.series.profile import read_profiles
from netgen.capture.series.spec import BINS
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.diffusion.denoiser import NoiseConfig, Statistics
from netgen.diffusion.network import BandTransformer, NetworkConfig
from netgen.diffusion.train import TrainConfig, TrainingData, TrainState, new_state
from netgen.encoders.base import Encoder
from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.changes import KINDS, change, odds_after
from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.packet_scaler import PacketScaler
from netgen.encoders.decoding.traits import TRAITS, Traits, blurred, traits_of
from netgen.encoders.registry import ENCODERS
from netgen.model.file import SCALERS
from netgen.model.model import Model
from netgen.model.sampling import choose_device
from netgen.model.strata import Stratum, assign_strata, fit_strata
from netgen.training.budget import Budget
from netgen.training.checkpoint import TrainingFiles
from netgen.training.presets import PRESETS
from netgen.training.validation import Validator, train_val_split

STATISTICS_IMAGES = 256  # images on which the statistics are measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of `netgen.training.train.train`, checked."""

    out: Path | None
    minutes: float | None
    training_steps: int | None
    seed: int
    device: str
    threads: int | None
    precision: str
    preset: str
    encoder: str
    resume: bool
    force: bool
    name: str | None
    validation: float
    store_flows: bool

    def __post_init__(self) -> None:
        for name in ("minutes", "training_steps", "threads"):
            value = getattr(self, name)
            option = f"--{name.replace('_', '-')}"
            if value is not None and not value > 0:
                raise InputError(f"{option} must be greater than 0, got {value}", f"For example: {option} 10")
        for name, known in (("precision", get_args(choices.Precision)), ("preset", PRESETS), ("encoder", ENCODERS)):
            if getattr(self, name) not in known:
                raise InputError(f"--{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"--seed must be from 0 to 2147483647, got {self.seed}", "For example: --seed 0")
        if not 0 <= self.validation <= 0.5:
            raise InputError(
                f"--validation must be from 0 to 0.5, got {self.validation}", "For example: --validation 0.1"
            )
        if self.resume and self.out is None:
            raise InputError("only a training that writes a file can be resumed", "Name the file: out=FILE")


@dataclasses.dataclass(frozen=True)
class Images:
    """Images of training flows, augmented the more often they were seen (see `netgen.diffusion.train.TrainingData`)."""

    scaled: torch.Tensor
    encoder: Encoder
    state: TrainState
    batch: int
    augmented: bool

    def __call__(self, index: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the images of flows, and the input `cond` of the network."""
        if not self.augmented:
            return self.encoder.encode_tensor(self.scaled[index]), None
        epochs = self.state.step * self.batch / len(self.scaled)
        scaled, augmentation = change(self.scaled[index], generator, odds_after(epochs))
        features = blurred(traits_of(scaled), generator)
        return self.encoder.encode_tensor(scaled), torch.cat([augmentation, features], dim=1)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingJob:
    """A training, ready to start."""

    options: TrainOptions
    labelled: FlowTable
    table: FlowTable  # flows to train on
    held_out: FlowTable
    strata: tuple[Stratum, ...]
    scale: BinScaler | PacketScaler
    budget: Budget
    config: TrainConfig
    data: TrainingData
    state: TrainState
    files: TrainingFiles | None

    @property
    def of_bins(self) -> bool:
        """Whether the flows are series of bins."""
        return self.table.spec.view == BINS

    @property
    def name(self) -> str:
        """Name of the model."""
        out = self.options.out
        return self.options.name or (out.name.removesuffix(".safetensors") if out is not None else "model")

    def measured_on(self, table: FlowTable) -> tuple[np.ndarray, np.ndarray]:
        """Return the series in bins, (flows, 4, bins), and the strata of the flows in a table."""
        return as_bins(table.series(), table.spec), assign_strata(table, self.strata)

    def build_model(self, network: BandTransformer, table: FlowTable, training: dict[str, Any] | None = None) -> Model:
        """Return a model of `network`; limits and features are those of the flows in `table`."""
        series, strata = self.measured_on(table)
        features = Traits.none()
        if self.of_bins:
            scaled = torch.from_numpy(self.scale.scale(series))
            features = Traits.learn(scaled, strata, len(self.strata), exact=self.options.store_flows)
        profiles = read_profiles(self.table.metadata)
        return Model(
            name=self.name,
            spec=self.table.spec,
            strata=self.strata,
            network=network.cpu().eval(),
            scale=self.scale,
            limits=PacketLimits.of(series, strata, len(self.strata)),
            statistics=self.data.statistics,
            noise=self.data.noise,
            totals=Marginals.none(len(self.strata)),
            flow_features=features,
            encoder=self.options.encoder,
            training=training or {},
            profile={name: profile for name, profile in profiles.items() if name in self.table.classes},
        )

    def validator(self) -> Validator | None:
        """Return what checks the training; None without held-out flows or with one class only."""
        if not len(self.held_out) or len(self.table.classes) < 2:
            return None
        return Validator(
            self.table, self.held_out, lambda network: self.build_model(network, self.table), seed=self.options.seed
        )

    def fingerprint(self) -> str:
        """Return a hash of the flows and of all settings that a resumed training must share."""
        spec, options = self.table.spec, self.options
        settings = [spec.to_json(), self.table.classes, options.seed, options.encoder, self.scale.to_json()]
        digest = hashlib.sha256(json.dumps(settings).encode())
        digest.update(np.ascontiguousarray(self.table.series()).tobytes())
        digest.update(self.data.strata.numpy().tobytes())
        return digest.hexdigest()


def prepare(flows: FlowTable | Sequence[FlowTable], options: TrainOptions) -> TrainingJob:
    """Split and scale the flows, and set up network, budget and files; an error if any of these cannot be used."""
    labelled = (flows if isinstance(flows, FlowTable) else concat(flows)).labelled()
    kept, held_out = train_val_split(labelled, options.validation, options.seed)
    table = labelled.take(kept) if len(held_out) else labelled
    files = None
    if options.out is not None:
        files = TrainingFiles(options.out, resume=options.resume, force=options.force)
    device = choose_device(options.device)
    series, spec = table.series(), table.spec
    if not as_bins(series, spec)[:, :2].any():
        raise TableError("the flows hold no bytes: there is nothing to learn", "Extract them with another --bin-width")
    strata = fit_strata(table)
    scale = SCALERS[spec.view].of(series)
    scaled = torch.from_numpy(scale.scale(series).astype(np.float32)).to(device)
    encoder, of_bins, preset = ENCODERS[options.encoder](), spec.view == BINS, PRESETS[options.preset]
    budget = Budget(options.minutes, options.training_steps, len(table), preset.batch, calibrated=of_bins)
    config = TrainConfig(
        steps=budget.max_steps, seconds=budget.seconds, batch=preset.batch, lr=preset.lr, seed=options.seed
    )
    network = NetworkConfig(
        scale.CHANNELS, spec.length, len(strata), rows=_rows(spec.length), columns=encoder.columns(spec.length),
        symmetry=encoder.symmetry, width=preset.width, depth=preset.depth, heads=preset.heads,
        n_augmentations=KINDS if of_bins else 0, n_features=TRAITS if of_bins else 0,
    )  # fmt: skip
    state = new_state(network, config, device)
    rows = np.random.default_rng(options.seed).permutation(len(table))[:STATISTICS_IMAGES]
    data = TrainingData(
        Images(scaled, encoder, state, preset.batch, augmented=of_bins),
        strata=torch.from_numpy(assign_strata(table, strata)),
        noise=NoiseConfig.of(encoder.pixels_per_value(spec.length)),
        statistics=Statistics.of(encoder.encode_tensor(scaled[torch.from_numpy(rows).to(device)])),
        device=device,
        classes=torch.from_numpy(np.searchsorted(np.array(table.classes), table.labels.astype(str))),
    )
    if files:
        files.require_space(sum(parameter.numel() for parameter in state.network.parameters()))
    return TrainingJob(
        options, labelled, table, labelled.take(held_out), strata, scale, budget, config, data, state, files
    )


def _rows(length: int) -> int:
    """Return the rows of a token: at most 8, and a divisor of `length`."""
    return next(rows for rows in (8, 4, 2, 1) if length % rows == 0)
