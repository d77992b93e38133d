"""A trained model: its fields, its file, and sampling from it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import html
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netgen.capture.errors import InputError
from netgen.capture.files import atomic_file, check_output
from netgen.capture.series.feasible import FEASIBLE, PacketLimits
from netgen.capture.series.profile import PROFILE_KEY
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion import model_file
from netgen.diffusion.denoiser import NoiseConfig, Statistics
from netgen.diffusion.network import BandTransformer
from netgen.diffusion.sampler import sample_seed
from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.decoder import Decoder
from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.packet_scaler import PacketDecoder, PacketScaler
from netgen.encoders.decoding.recurring import Recurring
from netgen.encoders.decoding.repeats import Repeats
from netgen.encoders.decoding.shares import Shares
from netgen.encoders.decoding.traits import Traits
from netgen.encoders.registry import ENCODERS
from netgen.model.class_names import resolve_class
from netgen.model.file import FORMAT, read_model
from netgen.model.sampling import SampleBatch, Sampler, batch_requests, check_sampling, choose_device
from netgen.model.state import CalibrationState
from netgen.model.strata import Stratum, sample_strata
from netgen.progress import flows_bar, reporting


@dataclasses.dataclass(frozen=True, repr=False)
class Model:
    """A class-conditional diffusion model of flows.

    Parameters
    ----------
    name : str
        Its name in the column `source` of synthetic flows.
    spec : SeriesSpec
        Of the series it samples.
    strata : tuple of Stratum
        In the order of the network's embeddings.
    network : BandTransformer
        With averaged weights.
    scale, limits, statistics, noise : BinScaler or PacketScaler, PacketLimits, Statistics, NoiseConfig
        How to sample images and turn them into integers.
    totals : Marginals or Shares
        Totals that flows of bins are adjusted to.
    repeats : Repeats
        Codebook of bins.
    recurring : Recurring
        Codebook of flows.
    flow_features : Traits
        Features of training flows that the network is conditioned on.
    encoder : str
        Name of the encoder.
    training : dict
        As JSON types: flows per class, steps, minutes, seed ...
    profile : dict
        Class -> ports, sizes and gaps of its datagrams (`netgen.capture.series.profile`).
    """

    name: str
    spec: SeriesSpec
    strata: tuple[Stratum, ...]
    network: BandTransformer
    scale: BinScaler | PacketScaler
    limits: PacketLimits
    statistics: Statistics
    noise: NoiseConfig
    totals: Marginals | Shares
    repeats: Repeats = dataclasses.field(default_factory=Repeats.none)
    recurring: Recurring = dataclasses.field(default_factory=Recurring.nothing)
    flow_features: Traits = dataclasses.field(default_factory=Traits.none)
    encoder: str = "gasf"
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    profile: dict[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(dict.fromkeys(stratum.label for stratum in self.strata))

    @functools.cached_property
    def decoder(self) -> Decoder | PacketDecoder:
        """Turns scaled series into integers."""
        limits = np.stack([self.limits.smallest, self.limits.largest]).astype(float)
        if isinstance(self.scale, PacketScaler):
            return PacketDecoder(self.scale, limits)
        return Decoder(self.scale, limits, self.totals, self.repeats, self.recurring)

    def stores_flows(self) -> bool:
        """Return whether the file holds series or totals of real flows."""
        return isinstance(self.totals, Shares) or len(self.repeats.drawn) > 0 or len(self.recurring.label) > 0

    def parameters(self) -> int:
        """Return the number of weights."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def metadata(self) -> dict[str, Any]:
        """Return everything but the tensors, as JSON types: the metadata of the model file."""
        from netgen._version import __version__

        return {
            "format": FORMAT,
            "netgen": __version__,
            "name": self.name,
            "series": self.spec.to_json(),
            "classes": list(self.classes),
            "strata": [stratum.to_json() for stratum in self.strata],
            "encoder": self.encoder,
            "scale": self.scale.to_json(),
            "limits": self.limits.to_json(),
            "statistics": dataclasses.asdict(self.statistics),
            "noise": dataclasses.asdict(self.noise),
            "network": dataclasses.asdict(self.network.config),
            "training": self.training,
            **({PROFILE_KEY: self.profile} if self.profile else {}),
        }

    def __repr__(self) -> str:
        series = str(self.spec).partition(", ")[0]
        sizes = f"{len(self.classes)} classes, encoder {self.encoder}, {series}, {self.parameters():,} parameters"
        return f"Model({self.name!r}, {sizes})"

    def _repr_html_(self) -> str:
        flows = self.training.get("flows", {})
        rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{flows.get(name, '')}</td></tr>" for name in self.classes)
        return f"<p>{html.escape(repr(self))}</p><table><tr><th>class</th><th>training flows</th></tr>{rows}</table>"

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the model file, completely or not at all."""
        path = check_output(path, force=force)
        with atomic_file(path) as temporary:
            model_file.save(temporary, self._tensors(), self.metadata())
        return path

    def _tensors(self) -> dict[str, torch.Tensor]:
        state = CalibrationState(self.totals, self.repeats, self.recurring, self.flow_features)
        return {**self.network.state_dict(), **state.tensors()}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Model:
        """Read a model file; runs no code from it.

        Raises
        ------
        ModelError
            If it is not a model, of another version, or damaged.
        """
        return cls(**read_model(Path(path)))

    def resolve_class(self, name: str) -> str:
        """Return the class that `name` means: exactly, ignoring case, or as the only one that contains it."""
        return resolve_class(name, self.classes, f"model {self.name}")

    def sample(
        self,
        classes: str | Sequence[str] | Mapping[str, int] = "all",
        n_flows: int = 100,
        *,
        seed: int = 0,
        guidance: float = 1.0,
        sampling_steps: int | None = None,
        device: str = "auto",
        threads: int | None = None,
        progress: bool | Callable[[int, int], None] = True,
    ) -> FlowTable:
        """Sample synthetic flows.

        Flow i of a class depends on `seed`, the class and i only, not on how many flows or which
        other classes are sampled.

        Parameters
        ----------
        classes : str, sequence of str or mapping
            A class, several (`n_flows` of each), or class -> number of flows; ``"all"``: `n_flows` in total,
            spread evenly over the classes.
        n_flows : int
            Flows per class (in total for ``"all"``).
        guidance : float
            Classifier-free guidance; 1 is none, more makes flows more typical of their class and less varied.
        sampling_steps : int, optional
            Evaluations of the network per flow; by default the model's own.
        device : {"auto", "cpu", "cuda"}
        threads : int, optional
            CPU threads; by default one per core. Changes no flow.
        progress : bool or callable
            True shows a bar in terminals and notebooks. A callable gets flows done and flows in total.

        Returns
        -------
        FlowTable
            Flows that packets can make; ``metadata["changed"]`` counts what had to be changed for that.
        """
        sampling_steps = self.noise.sampling_steps if sampling_steps is None else sampling_steps
        counts = self.class_counts(classes, n_flows)
        strata = np.concatenate([sample_strata(self.strata, *count, seed=seed) for count in counts.items()])
        series = np.empty((len(strata), *self.spec.shape), np.int64)
        protocols: list[int | None] = [None] * len(strata)
        residuals = []
        order, done = np.argsort(strata, kind="stable"), 0  # batches come in the order of strata
        by_stratum = dict(zip(*(values.tolist() for values in np.unique(strata, return_counts=True)), strict=True))
        with reporting(progress, flows_bar) as update:
            for batch in self.sample_scaled(
                by_stratum, seed=seed, guidance=guidance, sampling_steps=sampling_steps, device=device,
                threads=threads, progress=update,
            ):  # fmt: skip
                wanted = batch.wanted
                rows = order[done : done + wanted.sum()]
                done += len(rows)
                series[rows] = self.decoder.decode(batch.scaled, batch.strata, batch.indices, seed=seed)[wanted]
                residuals.append(batch.residual[wanted])
                for row, stratum, index in zip(rows, batch.strata[wanted], batch.indices[wanted], strict=True):
                    protocols[row] = self.strata[stratum].protocol(sample_seed(seed, int(stratum), int(index)))
        residual = np.concatenate(residuals)
        metadata = {
            "seed": seed,
            "guidance": guidance,
            "sampling_steps": sampling_steps,
            "n_flows": counts,
            "distance_from_field_rms": {"mean": float(residual.mean()), "max": float(residual.max())},
        }
        return self._table(series, strata, protocols, metadata)

    def sample_scaled(
        self,
        counts: Mapping[int, int],
        *,
        seed: int,
        guidance: float,
        sampling_steps: int,
        device: str = "auto",
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[SampleBatch]:
        """Sample scaled series of strata, in batches; `counts` maps strata to numbers of flows (see `sample`)."""
        check_sampling(guidance, sampling_steps)
        total, done = sum(counts.values()), 0

        def report(n: int) -> None:
            nonlocal done
            done += n
            if progress:
                progress(done, total)

        sampler = Sampler(self.network, self.statistics, self.noise, ENCODERS[self.encoder](), self.flow_features)
        return sampler.sample(
            batch_requests(counts, self.decoder.group), seed=seed, guidance=guidance, sampling_steps=sampling_steps,
            device=choose_device(device), threads=threads, progress=report,
        )  # fmt: skip

    def _table(
        self, series: np.ndarray, strata: np.ndarray, protocols: list[int | None], metadata: dict[str, Any]
    ) -> FlowTable:
        series, changed = FEASIBLE[self.spec.view](series, strata, self.limits)
        profile = {name: self.profile[name] for name in metadata["n_flows"] if name in self.profile}
        return FlowTable.build(
            series,
            self.spec,
            label=[self.strata[stratum].label for stratum in strata],
            source=f"netgen:{self.name}",
            synthetic=True,
            protocol=protocols,
            metadata={
                "made_by": "synth",
                "model": self.name,
                "weights_sha256": self.weights_sha256(),
                **metadata,
                "changed": changed,
                **({PROFILE_KEY: profile} if profile else {}),
            },
        )

    def weights_sha256(self) -> str:
        """Return a fingerprint of all tensors."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._tensors().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def class_counts(self, classes: str | Sequence[str] | Mapping[str, int], n_flows: int) -> dict[str, int]:
        """Return class -> number of flows; parameters as of `sample`."""
        if isinstance(classes, Mapping):
            counts = {self.resolve_class(name): int(count) for name, count in classes.items()}
        elif classes == "all":
            quotient, remainder = divmod(n_flows, len(self.classes))
            counts = {name: quotient + (index < remainder) for index, name in enumerate(self.classes)}
        else:
            counts = {
                self.resolve_class(name): n_flows for name in ([classes] if isinstance(classes, str) else classes)
            }
        counts = {name: count for name, count in counts.items() if count}
        if not counts or min(counts.values()) < 0:
            raise InputError("the number of flows must be greater than 0", "Give it: -n 100, or --class NAME=100")
        return counts
