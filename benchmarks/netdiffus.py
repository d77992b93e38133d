"""The NetDiffus paper's recipe (Sivaroopan et al., arXiv 2310.04429), written anew: a peer to measure beside netgen.

Each channel of a trace is scaled by its own least and largest value, becomes a Gramian angular
summation field, whose gray values get a gamma of 0.25; the UNet of `adm` learns them by denoising
diffusion with a cosine schedule of 1000 steps, learnt variances and classes.

What the paper leaves open is settled in the recipe's favour: values are scaled to [0, 1], since the
diagonal could not be inverted of [-1, 1]; four channels are four planes of one image; and, since a
picture scaled by itself says nothing of volume, what is read from its diagonal takes the range of a
random training trace of the class.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from adm import Shape, UNet
from torch import Tensor

Network = Callable[[Tensor, Tensor, Tensor], Tensor]  # noisy image, time, label -> noise and variance

GAMMA = 0.25
STEPS = 1000


# --- traces and pictures ---


def picture(series: np.ndarray) -> np.ndarray:
    """Pictures of series (flows, channels, bins), float32 in [-1, 1], (flows, channels, bins, bins)."""
    low, high = series.min(-1, keepdims=True), series.max(-1, keepdims=True)
    x = (series - low) / np.maximum(high - low, 1)
    s = np.sqrt(1 - x**2)
    field = x[..., :, None] * x[..., None, :] - s[..., :, None] * s[..., None, :]
    return (2 * np.clip((field + 1) / 2, 0, 1) ** GAMMA - 1).astype(np.float32)


def trace(pictures: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Series read from the diagonals: its gray values are ``x^2`` to the power of gamma; int64."""
    gray = np.clip((np.diagonal(pictures, axis1=-2, axis2=-1) + 1) / 2, 0, 1)
    return np.rint(gray ** (1 / (2 * GAMMA)) * (high - low) + low).astype(np.int64)


# --- diffusion ---


def left(steps: int = STEPS) -> np.ndarray:
    """Share of the picture's power that is left after each step (Nichol & Dhariwal, arXiv 2102.09672, eq. 17)."""

    def at(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    beta = [min(1 - at((step + 1) / steps) / at(step / steps), 0.999) for step in range(steps)]
    return np.cumprod(1 - np.array(beta))


@dataclasses.dataclass(frozen=True)
class Schedule:
    """All steps, or some of them: eq. numbers of arXiv 2102.09672.

    Parameters
    ----------
    times : Tensor of int64, shape (steps,)
        Which of the `STEPS` steps, rising.
    alpha : Tensor of float64, shape (steps,)
        What is left after each of them.
    """

    times: Tensor
    alpha: Tensor

    @classmethod
    def of(cls, steps: int, device: torch.device) -> Schedule:
        times = np.unique(np.rint(np.linspace(0, STEPS - 1, steps)).astype(np.int64))
        return cls(torch.from_numpy(times).to(device), torch.from_numpy(left()[times]).to(device))

    def noisy(self, clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """Eq. 8."""
        alpha = _wide(self.alpha[step])
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    def before(self, step: Tensor) -> Tensor:
        """Return the signal left after the previous step."""
        return torch.where(step > 0, self.alpha[(step - 1).clamp_min(0)], 1.0)

    def posterior(self, clean: Tensor, noisy: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the step before, given the clean picture (eq. 10 and 11)."""
        alpha, before = _wide(self.alpha[step]), _wide(self.before(step))
        beta = 1 - alpha / before
        mean = (before.sqrt() * beta * clean + (1 - beta).sqrt() * (1 - before) * noisy) / (1 - alpha)
        return mean, self.lowest(step)

    def lowest(self, step: Tensor) -> Tensor:
        """Logarithm of the lower bound of the variance; the first step has that of the second."""
        step = step.clamp_min(1)
        alpha, before = self.alpha[step], self.before(step)
        return _wide(((1 - before) / (1 - alpha) * (1 - alpha / before)).log())

    def predicted(self, out: Tensor, noisy: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior of an output: noise, and a position between both bounds of the variance (eq. 15)."""
        noise, position = out.double().chunk(2, dim=1)
        alpha = _wide(self.alpha[step])
        clean = ((noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()).clamp(-1, 1)
        share = (position + 1) / 2
        highest = _wide((1 - self.alpha[step] / self.before(step)).log())
        return self.posterior(clean, noisy, step)[0], share * highest + (1 - share) * self.lowest(step)

    def loss(self, network: Network, clean: Tensor, label: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """Error of the noise, and the bound that the variances alone learn from, in bits (eq. 14, 16)."""
        noisy = self.noisy(clean.double(), noise.double(), step)
        out = network(noisy.float(), self.times[step], label).float()
        simple = (out.chunk(2, dim=1)[0] - noise).square().mean((1, 2, 3))
        frozen = torch.cat([out.chunk(2, dim=1)[0].detach(), out.chunk(2, dim=1)[1]], dim=1)
        mean, log_variance = self.predicted(frozen, noisy, step)
        wanted, least = self.posterior(clean.double(), noisy, step)
        apart = log_variance - least + (least - log_variance).exp() + (wanted - mean).square() / log_variance.exp() - 1
        last = _surprise(clean.double(), mean, log_variance)  # the last step gives gray values
        bound = torch.where(_wide(step) == 0, last, apart / 2).mean((1, 2, 3)) / math.log(2)
        return (simple + bound).mean()

    @torch.no_grad()
    def sample(self, network: Network, shape: tuple[int, ...], label: Tensor, generator: torch.Generator) -> Tensor:
        """Pictures of the classes in `label`, float32 (labels, *shape)."""
        x = torch.randn((len(label), *shape), generator=generator).to(label.device).double()
        for number in reversed(range(len(self.times))):
            step = torch.full((len(label),), number, device=label.device)
            mean, log_variance = self.predicted(network(x.float(), self.times[step], label), x, step)
            noise = torch.randn(x.shape, generator=generator).to(x.device)
            x = mean + (log_variance / 2).exp() * noise * (number > 0)
        return x.clamp(-1, 1).float()


def _wide(weight: Tensor) -> Tensor:
    return weight.view(-1, 1, 1, 1)


def _surprise(clean: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Minus the logarithm of the chance of the nearest of 256 gray values."""
    deviation = (log_variance / 2).exp()
    above = torch.special.ndtr((clean - mean + 1 / 255) / deviation)
    below = torch.special.ndtr((clean - mean - 1 / 255) / deviation)
    chance = torch.where(clean < -0.999, above, torch.where(clean > 0.999, 1 - below, above - below))
    return -chance.clamp_min(1e-12).log()


# --- training and drawing ---


@dataclasses.dataclass(frozen=True)
class Size:
    """Settings of a machine: what the paper trains, or what a CPU can in minutes."""

    shape: Shape
    batch: int
    rate: float
    sampling_steps: int
    description: str


FULL = Size(Shape(), 32, 1e-4, STEPS, "full size: 125 M parameters, 1000 steps a sample")
REDUCED = Size(
    Shape(width=32, blocks=1, widths=(1, 2, 3), attention=(8,), patch=4), 16, 5e-4, 25,
    "REDUCED for a CPU: width 32 of 128, 1 residual block of 3, 3 levels of 5 on patches of 4 x 4 pixels, "
    "25 of 1000 steps a sample, learning rate 5e-4 of 1e-4",
)  # fmt: skip


class Recipe:
    """Pictures of a set, and a network that learns them."""

    def __init__(
        self, series: np.ndarray, labels: np.ndarray, classes: int, size: Size, seed: int, device: str
    ) -> None:
        self.series, self.size, self.device = series, size, torch.device(device)
        self.labels = torch.from_numpy(labels)
        torch.manual_seed(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.network = UNet(series.shape[1], series.shape[2], classes, size.shape).to(self.device)
        self.average = {name: weight.clone() for name, weight in self.network.state_dict().items()}

    def train(self, minutes: float) -> tuple[int, float]:
        """Until the time is up; the steps done, and the minutes."""
        schedule = Schedule.of(STEPS, self.device)
        optimizer = torch.optim.AdamW(self.network.parameters(), self.size.rate, weight_decay=0.0)
        begun, step = time.monotonic(), 0
        while time.monotonic() - begun < 60 * minutes:
            rows = torch.randint(len(self.labels), (self.size.batch,), generator=self.generator)
            clean = torch.from_numpy(picture(self.series[rows.numpy()])).to(self.device)
            noise = torch.randn(clean.shape, generator=self.generator).to(self.device)
            times = torch.randint(STEPS, (len(rows),), generator=self.generator).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                loss = schedule.loss(self.network, clean, self.labels[rows].to(self.device), times, noise)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            keep = min(0.9999, (1 + step) / (10 + step))  # 0.9999 alone would keep the first weights for hours
            for name, weight in self.network.state_dict().items():
                self.average[name].lerp_(weight.detach(), 1 - keep)
        self.network.load_state_dict(self.average)
        self.network.eval()
        return step, (time.monotonic() - begun) / 60

    def sample(self, wanted: np.ndarray, *, steps: int | None = None) -> np.ndarray:
        """Series of the classes in `wanted`, int64 (wanted, channels, bins)."""
        schedule = Schedule.of(steps or self.size.sampling_steps, self.device)
        channels, bins = self.series.shape[1:]
        block, images = (16 if self.device.type == "cpu" else 128), []
        for first in range(0, len(wanted), block):
            label = torch.from_numpy(wanted[first : first + block]).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                images.append(
                    schedule.sample(self.network, (channels, bins, bins), label, self.generator).cpu().numpy()
                )
        known = self.labels.numpy()
        rows = np.array([self.random.choice(np.flatnonzero(known == label)) for label in wanted])
        ranges = self.series[rows]
        return trace(np.concatenate(images), ranges.min(-1, keepdims=True), ranges.max(-1, keepdims=True))
