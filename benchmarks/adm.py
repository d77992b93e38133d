"""The UNet of Dhariwal & Nichol (arXiv 2105.05233), which the NetDiffus paper trains, in as much of it as that needs.

Residual blocks whose second normalisation is scaled and shifted by noise level and class, attention
where the image is small, and twice as many outputs as channels: the noise, and where between its
two bounds the variance lies.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class Shape:
    """Size of a network.

    Parameters
    ----------
    width : int
        Channels of the first level.
    blocks : int
        Residual blocks a level.
    widths : tuple of int
        Channels of each level, in multiples of `width`; each level has half the pixels a side.
    attention : tuple of int
        Pixels a side of the levels with attention.
    heads : int
    patch : int
        Pixels a side that are put together to one, before all else and apart after it: 1 for none.
    """

    width: int = 128
    blocks: int = 3
    widths: tuple[int, ...] = (1, 1, 2, 3, 4)
    attention: tuple[int, ...] = (16, 8)
    heads: int = 4
    patch: int = 1


class UNet(nn.Module):
    """Noisy images, time steps and class numbers into noise and variance.

    Shapes: (batch, channels, side, side), (batch,), (batch,) to (batch, 2 * channels, side, side).
    """

    def __init__(self, channels: int, side: int, classes: int, shape: Shape) -> None:
        super().__init__()
        self.width = width = shape.width
        inside = 4 * width
        pixels = channels * shape.patch**2
        self.fold, self.unfold = nn.PixelUnshuffle(shape.patch), nn.PixelShuffle(shape.patch)
        self.time = nn.Sequential(nn.Linear(width, inside), nn.SiLU(), nn.Linear(inside, inside))
        self.label = nn.Embedding(classes, inside)
        side //= shape.patch
        now = shape.widths[0] * width
        self.first = nn.Conv2d(pixels, now, 3, padding=1)
        kept, self.down, self.up = [now], nn.ModuleList(), nn.ModuleList()
        for level, factor in enumerate(shape.widths):
            for _ in range(shape.blocks):
                self.down.append(_Stage(now, factor * width, inside, shape.heads if side in shape.attention else 0))
                now = factor * width
                kept.append(now)
            if level < len(shape.widths) - 1:
                self.down.append(_Smaller(now))
                kept.append(now)
                side //= 2
        self.middle = nn.ModuleList([_Stage(now, now, inside, shape.heads), _Stage(now, now, inside, 0)])
        for level, factor in reversed(list(enumerate(shape.widths))):
            for block in range(shape.blocks + 1):
                heads = shape.heads if side in shape.attention else 0
                last = level > 0 and block == shape.blocks
                self.up.append(_Stage(now + kept.pop(), factor * width, inside, heads, larger=last))
                now = factor * width
            side *= 2
        self.last = nn.Sequential(_norm(now), nn.SiLU(), _zero(nn.Conv2d(now, 2 * pixels, 3, padding=1)))

    def forward(self, image: Tensor, time: Tensor, label: Tensor) -> Tensor:
        condition = functional.silu(self.time(_waves(time, self.width)) + self.label(label))
        x = self.first(self.fold(image))
        kept = [x]
        for stage in self.down:
            x = stage(x, condition)
            kept.append(x)
        for stage in self.middle:
            x = stage(x, condition)
        for stage in self.up:
            x = stage(torch.cat([x, kept.pop()], dim=1), condition)
        noise, variance = self.last(x).chunk(2, dim=1)
        return torch.cat([self.unfold(noise), self.unfold(variance)], dim=1)


class _Stage(nn.Module):
    """A residual block, attention where it has heads, and twice the pixels a side where it is `larger`."""

    def __init__(self, inward: int, outward: int, condition: int, heads: int, *, larger: bool = False) -> None:
        super().__init__()
        self.before = nn.Sequential(_norm(inward), nn.SiLU(), nn.Conv2d(inward, outward, 3, padding=1))
        self.modulate = nn.Linear(condition, 2 * outward)
        self.norm = _norm(outward)
        self.after = nn.Sequential(nn.SiLU(), _zero(nn.Conv2d(outward, outward, 3, padding=1)))
        self.skip = nn.Identity() if inward == outward else nn.Conv2d(inward, outward, 1)
        self.attention = _Attention(outward, heads) if heads else nn.Identity()
        self.larger = nn.Conv2d(outward, outward, 3, padding=1) if larger else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulate(condition)[:, :, None, None].chunk(2, dim=1)
        y = self.norm(self.before(x)) * (1 + scale) + shift
        x = self.attention(self.skip(x) + self.after(y))
        if self.larger is None:
            return x
        return self.larger(functional.interpolate(x, scale_factor=2, mode="nearest"))


class _Smaller(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, _condition: Tensor) -> Tensor:
        return self.conv(x)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, _norm(width)
        self.qkv, self.merge = nn.Conv1d(width, 3 * width, 1), _zero(nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, width, height, _ = x.shape
        qkv = self.qkv(self.norm(x).flatten(2)).view(batch, 3, self.heads, width // self.heads, -1)
        q, k, v = qkv.mT.unbind(1)
        weight = (q @ k.mT / math.sqrt(width // self.heads)).softmax(-1)
        return x + self.merge((weight @ v).mT.reshape(batch, width, -1)).view(batch, width, height, -1)


def _norm(width: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(32, width), width)


def _zero(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _waves(time: Tensor, width: int) -> Tensor:
    """Sines and cosines of the time step, (batch, width)."""
    rates = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=time.device) / (width // 2))
    angle = time[:, None].float() * rates
    return torch.cat([angle.cos(), angle.sin()], dim=1)
