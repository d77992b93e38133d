"""A trained model: what is in its file, and drawing flows from it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from capture.errors import InputError, ModelError
from capture.feasible import PacketLimits, feasible
from capture.files import check_output, whole_file
from capture.flows import FlowTable
from capture.profile import KEY, udp_flows
from capture.series import SeriesSpec
from diffusion import modelfile
from diffusion.denoiser import Denoiser, NoiseConfig, Statistics, symmetric_noise
from diffusion.network import BandTransformer
from diffusion.sampler import draw, karras_sigmas, sample_seed
from encoders.gasf import Gasf
from encoders.scale import LogScale

FORMAT = 1
ENCODERS = {"gasf": Gasf}

# Samples drawn together. Fixed for each device: a flow must not depend on how many are asked for.
BLOCK = {"cpu": 16, "cuda": 256}


@dataclasses.dataclass(frozen=True)
class Model:
    """A class-conditional diffusion model of flows.

    Parameters
    ----------
    name : str
        What tables drawn from it name as their source.
    spec : SeriesSpec
        The series it makes.
    classes : tuple of str
        Class names, in the order of the network's labels.
    network : BandTransformer
        With averaged weights.
    scale, limits, statistics, noise : LogScale, PacketLimits, Statistics, NoiseConfig
        What turns images into integers, and how to sample.
    encoder : str
        Name of the encoder.
    training : dict
        JSON-able: flows a class, steps, minutes, seed, sources.
    profile : dict
        Class -> protocol, ports, sizes and gaps of its packets (`capture.profile`).
    """

    name: str
    spec: SeriesSpec
    classes: tuple[str, ...]
    network: BandTransformer
    scale: LogScale
    limits: PacketLimits
    statistics: Statistics
    noise: NoiseConfig
    encoder: str = "gasf"
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    profile: dict[str, Any] = dataclasses.field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """All but the weights, as JSON types: the metadata of the model's file."""
        from netgen import __version__

        return {
            "format": FORMAT,
            "netgen": __version__,
            "name": self.name,
            "series": self.spec.to_json(),
            "classes": list(self.classes),
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
            modelfile.save(temporary, self.network.state_dict(), self.about())
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Model:
        """Read what `save` wrote; runs no code of the file.

        Raises
        ------
        ModelError
            If it is no model, or one of another version.
        """
        path = Path(path)
        about = read_about(path)
        try:
            if about["encoder"] not in ENCODERS:
                raise ValueError(f"its encoder {about['encoder']!r} is not known here")
            return cls(
                name=str(about["name"]),
                spec=SeriesSpec.from_json(about["series"]),
                classes=tuple(about["classes"]),
                network=modelfile.load_network(about["network"], modelfile.load_tensors(path)),
                scale=LogScale.from_json(about["scale"]),
                limits=PacketLimits.from_json(about["limits"]),
                statistics=Statistics(**about["statistics"]),
                noise=NoiseConfig(**about["noise"]),
                encoder=about["encoder"],
                training=about["training"],
                profile=about.get(KEY, {}),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is a damaged model: {error}", "Train it anew, or copy it again") from error

    def find_class(self, wanted: str) -> str:
        """The class that `wanted` names: exactly, without regard to case, or by a part only it has.

        Raises
        ------
        ModelError
            If none does, or several do.
        """
        found = match_class(wanted, self.classes)
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
            Heun steps; otherwise the model's own number.
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
        if not math.isfinite(guidance) or guidance < 0:
            raise InputError(f"guidance {guidance} cannot be drawn with", "Take 1, or somewhat more: --guidance 1.5")
        steps = self.noise.steps if steps is None else steps
        if steps < 2:
            raise InputError(f"{steps} steps are too few to sample with", "Take at least 2; --steps 18 is the default")
        wanted = self._numbers(classes, n)
        where = choose_device(device)
        block = BLOCK[where.type]
        network = self.network.to(where)
        denoiser = Denoiser(network, self.statistics, unlabelled=len(self.classes))
        encoder = ENCODERS[self.encoder]()
        sigmas = karras_sigmas(steps, self.noise.highest, self.noise.lowest)
        shape = (len(self.spec.channels), self.spec.length, self.spec.length)
        total, done = sum(wanted.values()), 0
        # a block at a time: images take 2 N times the memory of the series they become
        blocks = [
            (self.classes.index(name), range(begin, min(begin + block, number)))
            for name, number in wanted.items()
            for begin in range(0, number, block)
        ]

        def noise(label: int, index: int) -> torch.Tensor:
            return symmetric_noise(shape, torch.Generator().manual_seed(sample_seed(seed, label, index)))

        def draw_block(task: tuple[int, range]) -> tuple[np.ndarray, np.ndarray]:
            label, indices = task
            images = draw(
                functools.partial(denoiser.guided, guidance=guidance),
                noise, label, indices, sigmas, block=block, device=where,
            )  # fmt: skip
            scaled, residual = encoder.decode(torch.stack(images))
            return self.scale.unscale(scaled), residual

        drawn: list[np.ndarray] = []
        residuals: list[np.ndarray] = []
        with _one_thread_each(workers if where.type == "cpu" else 1) as pool:
            for series, residual in pool.map(draw_block, blocks):
                drawn.append(series)
                residuals.append(residual)
                done += len(series)
                if progress:
                    progress(done, total)
        labels = np.repeat([label for label, _ in blocks], [len(indices) for _, indices in blocks])
        series, changed = feasible(np.concatenate(drawn), labels, self.limits)
        residual = np.concatenate(residuals)
        profile = {name: self.profile[name] for name in wanted if name in self.profile}
        return FlowTable.build(
            series,
            self.spec,
            label=[self.classes[label] for label in labels],
            source=f"netgen:{self.name}",
            synthetic=True,
            protocol=self._protocols(blocks, seed),
            about={
                "made_by": "synth",
                "model": self.name,
                "weights_sha256": self.weights_sha256(),
                "seed": seed,
                "guidance": guidance,
                "steps": steps,
                "numbers": wanted,
                "changed": changed,
                "distance_from_field_rms": {"mean": float(residual.mean()), "max": float(residual.max())},
                **({KEY: profile} if profile else {}),
            },
        )

    def _protocols(self, blocks: list[tuple[int, range]], seed: int) -> list[int | None]:
        """IP protocol of each flow, as often TCP and UDP as in the class's real flows; None where nobody knows."""
        found: list[int | None] = []
        for label, indices in blocks:
            seeds = [sample_seed(seed, label, index) for index in indices]
            found += udp_flows(self.profile.get(self.classes[label]), seeds)
        return found

    def weights_sha256(self) -> str:
        """A fingerprint of the weights, for the record."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
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


@contextlib.contextmanager
def _one_thread_each(workers: int | None) -> Iterator[ThreadPoolExecutor]:
    """A pool whose workers each compute with one thread.

    Blocks are independent, so this is as fast as many threads a block where the cores are idle, far
    faster where they are busy (threads that wait for each other spin), and sums in the same order
    however many workers there are.
    """
    number = workers or cores()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def match_class(wanted: str, classes: Iterable[str]) -> list[str]:
    """Classes that `wanted` may mean: the exact one, else those equal but for case, else those it is part of."""
    names = list(classes)
    if wanted in names:
        return [wanted]
    folded = wanted.casefold()
    return [name for name in names if name.casefold() == folded] or [
        name for name in names if folded and folded in name.casefold()
    ]


def read_about(path: Path) -> dict[str, Any]:
    """A model file's metadata, checked for its version."""
    if not path.is_file():
        raise ModelError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}",
            "netgen models lists the shipped models; netgen train makes one",
        )
    try:
        about = modelfile.load_about(path)
    except ValueError as error:
        raise ModelError(f"{path} is no netgen model: {error}", "Make one with netgen train") from error
    if about.get("checkpoint"):
        raise ModelError(f"{path} is the checkpoint of an unfinished training", "Finish it with netgen train --resume")
    if about.get("format") != FORMAT:
        raise ModelError(
            f"{path} is a model of format {about.get('format')}; this netgen reads format {FORMAT}",
            "Train it anew, or use the netgen that made it" + (f" ({about['netgen']})" if "netgen" in about else ""),
        )
    return about


def choose_device(device: str) -> torch.device:
    """The device of a name; ``auto`` is the accelerator where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in BLOCK:
        raise InputError(f"device {device!r} is not known", "Take auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here that torch can use", "Take --device cpu")
    return torch.device(device)
