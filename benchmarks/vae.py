"""A small class-conditional variational autoencoder of series: a peer to measure beside netgen.

Convolutions over the logarithms of the series. A bin's value is a chance of being busy times a
normal distribution whose spread is learnt with the rest (Rybkin et al., arXiv 2006.13202), so that
idle bins can be exactly idle.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

LATENT, BATCH = 32, 64


class Vae(nn.Module):
    """Points (batch, channels, bins), bins a multiple of 8, and class numbers (batch,)."""

    def __init__(self, channels: int, bins: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.classes, self.short = classes, (2 * width, bins // 8)
        deep = self.short[0] * self.short[1]
        self.look = nn.Sequential(
            nn.Conv1d(channels, width, 5, 2, 2), nn.SiLU(),
            nn.Conv1d(width, width, 5, 2, 2), nn.SiLU(),
            nn.Conv1d(width, 2 * width, 5, 2, 2), nn.SiLU(), nn.Flatten(),
        )  # fmt: skip
        self.code = nn.Sequential(nn.Linear(deep + classes, 256), nn.SiLU(), nn.Linear(256, 2 * LATENT))
        self.begin = nn.Sequential(nn.Linear(LATENT + classes, 256), nn.SiLU(), nn.Linear(256, deep), nn.SiLU())
        self.build = nn.Sequential(
            nn.ConvTranspose1d(2 * width, width, 4, 2, 1), nn.SiLU(),
            nn.ConvTranspose1d(width, width, 4, 2, 1), nn.SiLU(),
            nn.ConvTranspose1d(width, width, 4, 2, 1), nn.SiLU(),
            nn.Conv1d(width, 2 * channels, 5, 1, 2),
        )  # fmt: skip
        self.log_spread = nn.Parameter(torch.full((channels, 1), -1.0))

    def encode(self, points: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the code."""
        mean, log_variance = self.code(torch.cat([self.look(points), self._one(label)], 1)).chunk(2, 1)
        return mean, log_variance.clamp(-10, 10)

    def decode(self, code: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Log odds of each bin being busy, and its value if it is."""
        begun = self.begin(torch.cat([code, self._one(label)], 1)).view(-1, *self.short)
        busy, value = self.build(begun).chunk(2, 1)
        return busy, value

    def loss(self, points: Tensor, label: Tensor) -> Tensor:
        """Minus the evidence lower bound, a flow."""
        mean, log_variance = self.encode(points, label)
        busy, value = self.decode(mean + torch.randn_like(mean) * (log_variance / 2).exp(), label)
        real = (points > 0).float()
        log_spread = self.log_spread.clamp(-5, 1)
        missed = ((value - points) / log_spread.exp()).square() / 2 + log_spread
        busy_loss = functional.binary_cross_entropy_with_logits(busy, real, reduction="none")
        apart = (mean.square() + log_variance.exp() - log_variance - 1) / 2
        return (busy_loss + real * missed).sum((1, 2)).mean() + apart.sum(1).mean()

    @torch.no_grad()
    def sample(self, label: Tensor, generator: torch.Generator) -> Tensor:
        """Sample points of the classes in `label`: busy bins at random, with their likeliest values."""
        busy, value = self.decode(torch.randn((len(label), LATENT), generator=generator), label)
        is_busy = torch.rand(busy.shape, generator=generator) < busy.sigmoid()
        return value.clamp(0, 1) * is_busy

    def _one(self, label: Tensor) -> Tensor:
        return functional.one_hot(label, self.classes).float()


def fit(
    points: np.ndarray, labels: np.ndarray, classes: int, *, minutes: float, seed: int, steps: float = math.inf
) -> tuple[Vae, int, float]:
    """Train until the time is up, or so many steps are done; the model, the steps done, and the minutes.

    A tenth of the flows is held back: the weights that are kept are those of the least loss on it,
    so that a budget longer than the set needs does no harm.
    """
    torch.manual_seed(seed)
    model = Vae(points.shape[1], points.shape[2], classes)
    data, target = torch.from_numpy(points.astype(np.float32)), torch.from_numpy(labels)
    held = torch.zeros(len(data), dtype=torch.bool)
    held[torch.randperm(len(data))[: len(data) // 10]] = True
    rows = torch.nonzero(~held)[:, 0]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01)
    begun, step, least, best = time.monotonic(), 0, math.inf, model.state_dict()
    while step < steps and time.monotonic() - begun < 60 * minutes:
        batch = rows[torch.randint(len(rows), (BATCH,))]
        loss = model.loss(data[batch], target[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 200 == 0 and held.any():
            with torch.no_grad():
                now = float(np.mean([float(model.loss(data[held], target[held])) for _ in range(4)]))
            if now < least:
                least, best = now, {name: weight.clone() for name, weight in model.state_dict().items()}
    model.load_state_dict(best)
    return model.eval(), step, (time.monotonic() - begun) / 60
