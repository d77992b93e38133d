"""The network: a transformer whose tokens are bands of rows.

A token is a few rows of the image, all columns and channels: a moment in time, which a square patch
is not. Row i of a Gramian angular field relates bin i to every other bin, so a band holds all that
the image shows of its bins.

For images with a symmetry the output is not pixels but a few vectors per bin, whose products are
the pixels: a Gramian field is ``x x^T - s s^T``, a matrix of rank 2, which a linear layer from
`width` numbers to a band's pixels could only approximate. This head represents it exactly, is
symmetric (or antisymmetric) by construction, and costs less. Other images use a linear layer.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Shape of a network."""

    channels: int  # images are (channels, bins, columns); 0 columns: as many as bins
    bins: int
    strata: int  # number of strata; one more embedding stands for "any" (classifier-free guidance)
    rows: int = 8  # rows of a token
    rank: int = 8  # vectors per bin from which a symmetric image is made; a Gramian field needs 1
    width: int = 128  # width, depth and heads are those of the transformer
    depth: int = 4
    heads: int = 4
    columns: int = 0
    symmetry: int = 1  # 1: images are symmetric; -1: antisymmetric but for the diagonal; 0: neither
    n_augmentations: int = 0  # numbers that describe how an image was augmented
    n_features: int = 0  # numbers that describe the flow


class BandTransformer(nn.Module):
    """Noisy images to clean images.

    Shapes: ``image`` (batch, channels, bins, columns), ``noise_level`` (batch,), ``stratum`` (batch,) long.
    """

    frequencies: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        if config.bins % config.rows:
            raise ValueError(f"{config.bins} bins cannot be divided into bands of {config.rows} rows")
        self.config = config
        self.tokens = config.bins // config.rows
        self.columns = config.columns or config.bins
        if config.symmetry and self.columns != config.bins:
            raise ValueError(f"an image of {config.bins} x {self.columns} pixels has no symmetry")
        width = config.width
        self.in_proj = nn.Linear(config.channels * config.rows * self.columns, width)
        self.pos_embed = nn.Parameter(torch.randn(self.tokens, width) * 0.02)
        self.noise_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.stratum_embed = nn.Embedding(config.strata + 1, width)
        # strata often differ in a few tokens only; modulation, the same for all tokens, learns that slowly
        self.stratum_pos_embed = nn.Embedding(config.strata + 1, self.tokens * width)
        n_cond = config.n_augmentations + config.n_features
        self.cond_proj = nn.Linear(n_cond, width, bias=False) if n_cond else None
        # one modulation for all blocks, and a learnt offset per block, cost a quarter of one modulation per block
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.final_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        out_columns = 2 * config.rank + 1 if config.symmetry else self.columns
        self.out_proj = nn.Linear(width, config.channels * config.rows * out_columns)
        frequencies = torch.exp(torch.linspace(math.log(0.1), math.log(100.0), width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self._init_weights()

    def _init_weights(self) -> None:
        config = self.config
        for embedding in (self.stratum_embed, self.stratum_pos_embed):
            nn.init.normal_(embedding.weight, std=0.02)
        zeroed = [self.modulation, self.final_modulation, *([self.cond_proj] if self.cond_proj else [])]
        for parameter in (parameter for module in zeroed for parameter in module.parameters()):
            nn.init.zeros_(parameter)
        if not config.symmetry:
            nn.init.zeros_(self.out_proj.weight)
            nn.init.zeros_(self.out_proj.bias)
            return
        # P = 0 makes the first image 0, Q random lets its gradient through
        nn.init.normal_(self.out_proj.weight, std=0.02)
        with torch.no_grad():
            bias = self.out_proj.bias.view(config.rows, config.channels, 2 * config.rank + 1).zero_()
            bias[..., config.rank : 2 * config.rank].normal_()
            self.out_proj.weight.view(config.rows, config.channels, -1, config.width)[:, :, : config.rank].zero_()

    def forward(self, image: Tensor, noise_level: Tensor, stratum: Tensor, cond: Tensor | None = None) -> Tensor:
        """Predict the clean image; ``noise_level`` is a function of log sigma.

        ``cond`` (batch, n_augmentations + n_features) says how the image was augmented, then what the flow is like;
        None stands for zeros.
        """
        config = self.config
        batch = image.shape[0]
        bands = image.reshape(batch, config.channels, self.tokens, config.rows * self.columns)
        x = self.in_proj(bands.transpose(1, 2).flatten(2)) + self.pos_embed  # (batch, tokens, width)
        embedded = stratum
        if cond is not None:  # the positions of a stratum mean nothing in a flow that was shifted or reversed
            embedded = torch.where(cond[:, : config.n_augmentations].any(1), config.strata, stratum)
        x = x + self.stratum_pos_embed(embedded).view(batch, self.tokens, config.width)
        angle = noise_level[:, None] * self.frequencies
        embedding = self.noise_embed(torch.cat([angle.cos(), angle.sin()], dim=1)) + self.stratum_embed(stratum)
        if self.cond_proj is not None and cond is not None:
            embedding = embedding + self.cond_proj(cond)
        modulation = self.modulation(embedding).view(batch, 6, 1, config.width)
        for block in self.blocks:
            x = block(x, modulation)
        shift, scale = self.final_modulation(embedding).view(batch, 2, 1, config.width).unbind(1)
        x = functional.layer_norm(x, (config.width,)) * (1 + scale) + shift
        out = self.out_proj(x).float()
        if config.symmetry:
            return self._symmetric(out)
        return out.view(batch, config.bins, config.channels, self.columns).transpose(1, 2)

    def _symmetric(self, out: Tensor) -> Tensor:
        """Return ``P Q^T + Q P^T + diag(d)`` per channel, or ``P Q^T - Q P^T + diag(d)``.

        From (batch, tokens, rows * channels * (2 rank + 1)).
        """
        config = self.config
        factors = out.view(len(out), config.bins, config.channels, 2 * config.rank + 1).transpose(1, 2)
        p, q, d = factors.split([config.rank, config.rank, 1], dim=-1)
        p = p / math.sqrt(config.rank)
        image = torch.cat([p, q], dim=-1) @ torch.cat([q, config.symmetry * p], dim=-1).mT
        return image + torch.diag_embed(d.squeeze(-1))


class Block(nn.Module):
    """Attention and a feed-forward layer, both modulated by noise level and stratum (adaLN-zero)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation_offset = nn.Parameter(torch.zeros(6, 1, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.attn_proj = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Transform ``x`` (batch, tokens, width); ``modulation`` is (batch, 6, 1, width)."""
        batch, tokens, width = x.shape
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = (modulation + self.modulation_offset).unbind(1)
        y = functional.layer_norm(x, (width,)) * (1 + scale_a) + shift_a
        q, k, v = self.qkv(y).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        # torch's fused attention is several times slower backwards at this size in bfloat16
        weight = (q * (width // self.heads) ** -0.5 @ k.mT).softmax(-1)
        y = (weight.to(v.dtype) @ v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + gate_a * self.attn_proj(y)
        y = functional.layer_norm(x, (width,)) * (1 + scale_f) + shift_f
        return x + gate_f * self.fc2(functional.gelu(self.fc1(y), approximate="tanh"))
