"""The network: a transformer whose tokens are bands of rows.

A token is some rows of the image, all columns and channels: it stands for a moment in time, as a
square patch would not. Row i of a Gramian angular field relates bin i to every other bin, so a band
holds all that the image says of its bins.

The output is not pixels but, for each bin, a few vectors whose products are the pixels: a field is
``x x^T - s s^T``, a matrix of rank 2, which a linear layer from `width` numbers to a band's pixels
could only approximate. This head holds it exactly, is symmetric by construction, and costs less. A
difference field is antisymmetric, and made alike; images that are neither come from a linear layer.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Shape of a network.

    Parameters
    ----------
    channels, bins, columns : int
        Images are (channels, bins, columns); 0 columns: as many as bins.
    mirror : int
        What an image is to its transpose: 1 its like, -1 its opposite but for the diagonal, 0 neither.
    classes : int
        Number of classes; one more embedding stands for "no class" (classifier-free guidance).
    rows : int
        Rows of a token.
    rank : int
        Vectors a bin from which a mirrored image is put together; a field itself needs 1.
    width, depth, heads : int
        Of the transformer.
    changes : int
        Numbers that say how an image was changed before it was shown; see `netgen.diffusion.train`.
    traits : int
        Numbers that say what it is like.
    own_places : bool
        Whether each class has a place embedding of its own, which is for images that were not changed. What tells
        classes apart often lies in a few tokens, and modulation, which is the same for all tokens, learns that slowly.
    """

    channels: int
    bins: int
    classes: int
    rows: int = 8
    rank: int = 8
    width: int = 128
    depth: int = 4
    heads: int = 4
    columns: int = 0
    mirror: int = 1
    changes: int = 0
    traits: int = 0
    own_places: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return dataclasses.asdict(self)


class BandTransformer(nn.Module):
    """Noisy images to clean images.

    Shapes: ``image`` (batch, channels, bins, columns), ``noise`` (batch,), ``label`` (batch,) long.
    """

    frequencies: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        if config.bins % config.rows:
            raise ValueError(f"{config.bins} bins do not divide into bands of {config.rows} rows")
        self.config = config
        self.tokens = config.bins // config.rows
        self.columns = config.columns or config.bins
        if config.mirror and self.columns != config.bins:
            raise ValueError(f"an image of {config.bins} x {self.columns} has no mirror image")
        values = config.channels * config.rows * self.columns
        width = config.width
        self.inward = nn.Linear(values, width)
        self.place = nn.Parameter(torch.randn(self.tokens, width) * 0.02)
        self.noise = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(config.classes + 1, width)
        self.own = nn.Embedding(config.classes + 1, self.tokens * width) if config.own_places else None
        told = config.changes + config.traits
        self.change = nn.Linear(told, width, bias=False) if told else None
        # one modulation for all blocks, and a learnt offset a block, cost a quarter of one each
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.last = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        made = 2 * config.rank + 1 if config.mirror else self.columns
        self.outward = nn.Linear(width, config.channels * config.rows * made)
        frequencies = torch.exp(torch.linspace(math.log(0.1), math.log(100.0), width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        for embedding in (self.label, self.own):
            if embedding is not None:
                nn.init.normal_(embedding.weight, std=0.02)
        changed = self.change.parameters() if self.change else ()
        for parameter in (*self.modulate.parameters(), *self.last.parameters(), *changed):
            nn.init.zeros_(parameter)
        if not config.mirror:
            nn.init.zeros_(self.outward.weight)
            nn.init.zeros_(self.outward.bias)
            return
        # P = 0 makes the first image 0, Q random lets its gradient through
        nn.init.normal_(self.outward.weight, std=0.02)
        with torch.no_grad():
            bias = self.outward.bias.view(config.rows, config.channels, 2 * config.rank + 1).zero_()
            bias[..., config.rank : 2 * config.rank].normal_()
            self.outward.weight.view(config.rows, config.channels, -1, width)[:, :, : config.rank].zero_()

    def forward(self, image: Tensor, noise: Tensor, label: Tensor, how: Tensor | None = None) -> Tensor:
        """The clean image as the network sees it; ``noise`` is a function of log sigma.

        ``how`` (batch, changes + traits) says how the image was changed, and then what it is like; None: not at all,
        of a network that is told nothing else.
        """
        config = self.config
        batch = image.shape[0]
        bands = image.reshape(batch, config.channels, self.tokens, config.rows * self.columns)
        x = self.inward(bands.transpose(1, 2).flatten(2)) + self.place
        if self.own is not None:
            # a flow that was shifted or reversed says nothing of what stands where in its class
            changed = None if how is None else how[:, : config.changes].any(1)
            owner = label if changed is None else torch.where(changed, config.classes, label)
            x = x + self.own(owner).view(batch, self.tokens, config.width)
        angle = noise[:, None] * self.frequencies
        condition = self.noise(torch.cat([angle.cos(), angle.sin()], dim=1)) + self.label(label)
        if self.change is not None and how is not None:
            condition = condition + self.change(how)
        modulation = self.modulate(condition).view(batch, 6, 1, config.width)
        for block in self.blocks:
            x = block(x, modulation)
        shift, scale = self.last(condition).view(batch, 2, 1, config.width).unbind(1)
        x = functional.layer_norm(x, (config.width,)) * (1 + scale) + shift
        out = self.outward(x).float()
        return self._mirrored(out) if config.mirror else self._plain(out)

    def _plain(self, out: Tensor) -> Tensor:
        """From (batch, tokens, rows * channels * columns)."""
        config = self.config
        return out.view(len(out), config.bins, config.channels, self.columns).transpose(1, 2)

    def _mirrored(self, out: Tensor) -> Tensor:
        """``P Q^T + Q P^T + diag(d)`` a channel, or ``P Q^T - Q P^T + diag(d)``.

        From (batch, tokens, rows * channels * (2 rank + 1)).
        """
        config = self.config
        factors = out.view(len(out), config.bins, config.channels, 2 * config.rank + 1).transpose(1, 2)
        p, q, d = factors.split([config.rank, config.rank, 1], dim=-1)
        p = p / math.sqrt(config.rank)
        image = torch.cat([p, q], dim=-1) @ torch.cat([q, config.mirror * p], dim=-1).mT
        return image + torch.diag_embed(d.squeeze(-1))


class Block(nn.Module):
    """Attention and a feed-forward layer, both modulated by noise level and class (adaLN-zero)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.offset = nn.Parameter(torch.zeros(6, 1, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """``x`` (batch, tokens, width), ``modulation`` (batch, 6, 1, width)."""
        batch, tokens, width = x.shape
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = (modulation + self.offset).unbind(1)
        y = functional.layer_norm(x, (width,)) * (1 + scale_a) + shift_a
        q, k, v = self.qkv(y).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        # written out: torch's fused attention is several times slower backwards at this size in bfloat16
        weight = (q * (width // self.heads) ** -0.5 @ k.mT).softmax(-1)
        y = (weight.to(v.dtype) @ v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + gate_a * self.merge(y)
        y = functional.layer_norm(x, (width,)) * (1 + scale_f) + shift_f
        return x + gate_f * self.narrow(functional.gelu(self.widen(y), approximate="tanh"))
