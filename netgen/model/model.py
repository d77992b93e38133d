"""A trained model: what is in its file, and drawing flows from it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netgen.capture.errors import InputError, ModelError
from netgen.capture.files import check_output, whole_file
from netgen.capture.series.feasible import FEASIBLE, PacketLimits
from netgen.capture.series.profile import KEY
from netgen.capture.series.spec import BINS, PACKETS, SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion import model_file
from netgen.diffusion.denoiser import NoiseConfig, Statistics
from netgen.diffusion.network import BandTransformer
from netgen.diffusion.sampler import sample_seed
from netgen.encoders.base import Encoder
from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.decoder import Decoder
from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.packet_scaler import PacketDecoder, PacketScaler
from netgen.encoders.decoding.recurring import Recurring
from netgen.encoders.decoding.repeats import Repeats
from netgen.encoders.decoding.shares import Shares
from netgen.encoders.decoding.traits import TRAITS, Traits
from netgen.encoders.registry import ENCODERS
from netgen.model.sampling import check_sampling, choose_device, sample_scaled
from netgen.model.state import CalibrationState, pop_state
from netgen.model.strata import BEFORE, Stratum, conditions_in, sample_strata

FORMAT = 5  # 4 knew no traits; `BEFORE` had neither conditions

#: Kind of series -> the scale on which it is learnt.
SCALES: dict[str, type[BinScaler] | type[PacketScaler]] = {BINS: BinScaler, PACKETS: PacketScaler}


@dataclasses.dataclass(frozen=True)
class Model:
    """A class-conditional diffusion model of flows.

    Parameters
    ----------
    name : str
        What tables drawn from it name as their source.
    spec : SeriesSpec
        The series it makes.
    conditions : tuple of Condition
        Classes, or their flows of each protocol, in the order of the network's labels.
    network : BandTransformer
        With averaged weights.
    scale, limits, statistics, noise : PacketScale or SequenceScale, PacketLimits, Statistics, NoiseConfig
        What turns images into integers, and how to sample.
    totals : Marginals or Shares
        What flows of the classes add up to, by which drawn flows of bins are put right.
    repeats : Repeats
        What their bins hold again and again.
    recurring : Recurring
        Which flows recur as a whole.
    traits : Traits
        What they are like as wholes, of which the network is told.
    encoder : str
        Name of the encoder.
    training : dict
        JSON-able: flows a class, steps, minutes, seed, sources.
    profile : dict
        Class -> ports, sizes and gaps of its datagrams (`netgen.capture.series.profile`).
    """

    name: str
    spec: SeriesSpec
    conditions: tuple[Stratum, ...]
    network: BandTransformer
    scale: BinScaler | PacketScaler
    limits: PacketLimits
    statistics: Statistics
    noise: NoiseConfig
    totals: Marginals | Shares
    repeats: Repeats = dataclasses.field(default_factory=Repeats.none)
    recurring: Recurring = dataclasses.field(default_factory=Recurring.nothing)
    traits: Traits = dataclasses.field(default_factory=Traits.none)
    encoder: str = "gasf"
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    profile: dict[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return tuple(dict.fromkeys(each.label for each in self.conditions))

    @property
    def imaging(self) -> Encoder:
        """The encoder itself."""
        return ENCODERS[self.encoder]()

    @functools.cached_property
    def decoder(self) -> Decoder | PacketDecoder:
        """What makes integers of scaled series."""
        limits = np.stack([self.limits.smallest, self.limits.largest]).astype(float)
        if isinstance(self.scale, PacketScaler):
            return PacketDecoder(self.scale, limits)
        return Decoder(self.scale, limits, self.totals, self.repeats, self.recurring)

    def store_flows(self) -> bool:
        """Whether it makes flows of numbers of real ones as they are: what recurs, or what single ones add up to."""
        return isinstance(self.totals, Shares) or len(self.repeats.drawn) > 0 or len(self.recurring.label) > 0

    def metadata(self) -> dict[str, Any]:
        """All but the weights, as JSON types: the metadata of the model's file."""
        from netgen._version import __version__

        return {
            "format": FORMAT,
            "netgen": __version__,
            "name": self.name,
            "series": self.spec.to_json(),
            "classes": list(self.classes),
            "conditions": [each.to_json() for each in self.conditions],
            "encoder": self.encoder,
            "scale": self.scale.to_json(),
            "limits": self.limits.to_json(),
            "statistics": self.statistics.to_json(),
            "noise": self.noise.to_json(),
            "network": self.network.config.to_json(),
            "training": self.training,
            **({KEY: self.profile} if self.profile else {}),
        }

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the model as safetensors: whole or not at all."""
        path = check_output(path, force=force)
        with whole_file(path) as temporary:
            model_file.save(temporary, self._tensors(), self.metadata())
        return path

    def _tensors(self) -> dict[str, torch.Tensor]:
        learnt = CalibrationState(self.totals, self.repeats, self.recurring, self.traits)
        return {**self.network.state_dict(), **learnt.tensors()}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Model:
        """Read what `save` wrote; runs no code of the file.

        Raises
        ------
        ModelError
            If it is no model, or one of another version.
        """
        path = Path(path)
        metadata = read_model_metadata(path)
        try:
            if metadata["encoder"] not in ENCODERS:
                raise ValueError(f"its encoder {metadata['encoder']!r} is not known here")
            tensors = model_file.load_tensors(path)
            conditions = conditions_in(metadata)
            learnt = pop_state(tensors, len(conditions), int(metadata["series"]["length"]))
            network, imaging = model_file.load_network(metadata["network"], tensors), ENCODERS[metadata["encoder"]]()
            if (network.config.mirror, network.columns) != (imaging.mirror, imaging.columns(network.config.bins)):
                raise ValueError(f"its network does not make the images of its encoder, {imaging.name}")
            if network.config.classes != len(conditions):
                raise ValueError(f"its network tells {network.config.classes} conditions apart, not {len(conditions)}")
            if network.config.traits != (TRAITS if len(learnt.traits.real) else 0):
                raise ValueError("it does not say what its flows are like, as its network is told")
            limits = PacketLimits.from_json(metadata["limits"])
            if limits.smallest.shape != (len(conditions), 2) or limits.largest.shape != (len(conditions), 2):
                raise ValueError("its limits of packets are not those of its classes")
            spec = SeriesSpec.from_json(metadata["series"])
            if network.config.channels != SCALES[spec.view].CHANNELS:
                raise ValueError(f"its network does not make series of {spec.view}")
            return cls(
                name=str(metadata["name"]),
                spec=spec,
                conditions=conditions,
                network=network,
                scale=SCALES[spec.view].from_json(metadata["scale"]),
                limits=limits,
                statistics=Statistics(**metadata["statistics"]),
                noise=NoiseConfig(**metadata["noise"]),
                **learnt._asdict(),
                encoder=metadata["encoder"],
                training=metadata["training"],
                profile=metadata.get(KEY, {}),
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is a damaged model: {error}", "Train it anew, or copy it again") from error

    def find_class(self, wanted: str) -> str:
        """The class that `wanted` names: exactly, without regard to case, or by a part only it has.

        Raises
        ------
        ModelError
            If none does, or several do.
        """
        found = match_classes(wanted, self.classes)
        if len(found) == 1:
            return found[0]
        if found:
            raise ModelError(f"class {wanted!r} of model {self.name} could be {', '.join(found)}", "Write more of it")
        raise ModelError(
            f"model {self.name} has no class {wanted!r}; it has {', '.join(self.classes)}",
            "netgen models lists the shipped models' classes; netgen train makes a model of your own captures",
        )

    def sample(
        self,
        classes: str | Sequence[str] | Mapping[str, int] = "all",
        n: int = 100,
        *,
        seed: int = 0,
        guidance: float = 1.0,
        steps: int | None = None,
        device: str = "auto",
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> FlowTable:
        """Draw synthetic flows.

        Flow i of a class depends on `seed`, the class and i alone: asking for more, or for other
        classes beside it, changes nothing.

        Parameters
        ----------
        classes : str, sequence of str or mapping
            A class, several (`n` flows of each), or class -> number; ``"all"``: `n` flows in all,
            spread evenly over the model's classes.
        n : int
            Flows a class (in all, for ``"all"``).
        guidance : float
            Classifier-free guidance; 1 draws from the classes as they were learnt, more makes
            flows more typical of their class and less varied.
        steps : int, optional
            Steps, one evaluation of the network each; otherwise the model's own number.
        device : str
            ``"auto"``, ``"cpu"`` or ``"cuda"``.
        workers : int, optional
            Blocks drawn at the same time on a CPU; otherwise one a core. Changes no flow.
        progress : callable, optional
            Told (flows done, flows in all).

        Returns
        -------
        FlowTable
            Integers that packets can make; what had to be changed to get there is counted in
            ``about["changed"]``.
        """
        check_sampling(guidance, steps)
        steps = self.noise.steps if steps is None else steps
        asked = self._numbers(classes, n)
        told = np.concatenate([sample_strata(self.conditions, *each, seed=seed) for each in asked.items()])
        parts = sample_scaled(
            self, dict(zip(*(each.tolist() for each in np.unique(told, return_counts=True)), strict=True)), seed=seed,
            guidance=guidance, steps=steps, device=choose_device(device), workers=workers, progress=progress,
        )  # fmt: skip
        series = np.empty((len(told), *self.spec.shape), np.int64)
        protocols: list[int | None] = [None] * len(told)
        residual = []
        # conditions are drawn one after the other, in the order of their numbers
        place, done = np.argsort(told, kind="stable"), 0
        for part in parts:
            wanted = part.wanted
            rows, done = place[done : done + wanted.sum()], done + wanted.sum()
            series[rows] = self.decoder.decode(part.scaled, part.labels, part.numbers, seed=seed)[wanted]
            residual.append(part.residual[wanted])
            for row, *which in zip(
                rows.tolist(), part.labels[wanted].tolist(), part.numbers[wanted].tolist(), strict=True
            ):
                protocols[row] = self.conditions[which[0]].protocol(sample_seed(seed, *which))
        return self._table(
            series,
            np.concatenate(residual),
            protocols,
            told,
            {
                "seed": seed,
                "guidance": guidance,
                "sampling_steps": steps,
                "n_flows": asked,
            },
        )

    def _table(
        self,
        series: np.ndarray,
        residual: np.ndarray,
        protocols: list[int | None],
        told: np.ndarray,
        asked: dict[str, Any],
    ) -> FlowTable:
        series, changed = FEASIBLE[self.spec.view](series, told, self.limits)
        profile = {name: self.profile[name] for name in asked["n_flows"] if name in self.profile}
        return FlowTable.build(
            series,
            self.spec,
            label=[self.conditions[each].label for each in told.tolist()],
            source=f"netgen:{self.name}",
            synthetic=True,
            protocol=protocols,
            metadata={
                "made_by": "synth",
                "model": self.name,
                "weights_sha256": self.weights_sha256(),
                **asked,
                "changed": changed,
                "distance_from_field_rms": {"mean": float(residual.mean()), "max": float(residual.max())},
                **({KEY: profile} if profile else {}),
            },
        )

    def weights_sha256(self) -> str:
        """A fingerprint of the weights, for the record."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._tensors().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _numbers(self, classes: str | Sequence[str] | Mapping[str, int], n: int) -> dict[str, int]:
        if isinstance(classes, Mapping):
            wanted = {self.find_class(name): int(number) for name, number in classes.items()}
        elif classes == "all":
            share, more = divmod(n, len(self.classes))
            wanted = {name: share + (place < more) for place, name in enumerate(self.classes)}
        else:
            names = [classes] if isinstance(classes, str) else classes
            wanted = {self.find_class(name): n for name in names}
        wanted = {name: number for name, number in wanted.items() if number}
        if not wanted or min(wanted.values()) < 0:
            raise InputError("no flow was asked for", "Take a positive number: -n 100")
        return wanted


def match_classes(wanted: str, classes: Iterable[str]) -> list[str]:
    """Classes that `wanted` may mean: the exact one, else those equal but for case, else those it is part of."""
    names = list(classes)
    if wanted in names:
        return [wanted]
    folded = wanted.casefold()
    return [name for name in names if name.casefold() == folded] or [
        name for name in names if folded and folded in name.casefold()
    ]


def read_model_metadata(path: Path) -> dict[str, Any]:
    """A model file's metadata, checked for its version."""
    if not path.is_file():
        raise ModelError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}",
            "netgen models lists the shipped models; netgen train makes one",
        )
    try:
        metadata = model_file.load_metadata(path)
    except ValueError as error:
        raise ModelError(f"{path} is no netgen model: {error}", "Make one with netgen train") from error
    if metadata.get("checkpoint"):
        raise ModelError(f"{path} is the checkpoint of an unfinished training", "Finish it with netgen train --resume")
    if metadata.get("format") not in range(BEFORE, FORMAT + 1):
        raise ModelError(
            f"{path} is a model of format {metadata.get('format')}; this netgen reads formats {BEFORE} to {FORMAT}",
            "Train it anew, or use the netgen that made it"
            + (f" ({metadata['netgen']})" if "netgen" in metadata else ""),
        )
    return metadata
