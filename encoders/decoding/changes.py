"""Flows changed in ways that the network is told of: more to learn from, nothing of it in what is drawn.

A network that sees the same few hundred flows again and again begins to remember them. So some of
what it sees is changed: more or fewer packets, directions swapped, time reversed, shifted, or run
faster or slower. Beside each flow the network is told how it was changed; when drawing it is told "not at all",
so that changed flows are not what it draws (Karras et al. 2022, EDM, appendix F.2).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from netgen.encoders.log_scale import IDLE

#: Numbers that say how a flow was changed: volume, swapped, reversed, shift, speed.
KINDS = 5

#: How often each flow was seen, and how likely each kind of change is then: at first there is nothing to remember.
SEEN = (0.0, 300.0, 1200.0)
ODDS = (0.0, 0.15, 0.3)

#: Spread of the volume on the scale of packets, of the shift in shares of the bins, of the logarithm of the speed.
VOLUME, SHIFT, SPEED = 0.08, 1 / 8, 0.3

#: A busy bin stays at least so far above an idle one, however few packets are left of it.
STAYS = 0.02


def odds_after(seen: float) -> float:
    """The odds of a change where each flow was seen so often, on the mean."""
    return float(np.interp(seen, SEEN, ODDS))


def change(scaled: Tensor, generator: torch.Generator, odds: float) -> tuple[Tensor, Tensor]:
    """Scaled series, some of them changed, and how.

    Parameters
    ----------
    scaled : Tensor, shape (flows, 4, bins)
        Sizes up and down, packets up and down, as `BinScaler.scale` gives.
    generator : Generator
        On the CPU, so that the changes are the same on any device.
    odds : float
        Of each kind of change.

    Returns
    -------
    changed : Tensor, shape of `scaled`
    how : Tensor, shape (flows, KINDS)
        0 where a kind was not applied.
    """
    flows, _, bins = scaled.shape
    chosen = torch.rand(flows, KINDS, generator=generator) < odds
    amount = torch.randn(flows, KINDS, generator=generator)
    amount[:, 1:3] = 1.0  # swapped and reversed, or not
    amount[:, 3] = (amount[:, 3] * SHIFT * bins).round() / (SHIFT * bins)
    how = torch.where(chosen, amount, 0.0).to(scaled.device)
    volume, swapped, reversed_, shift, speed = how.unbind(1)

    out = torch.where((swapped > 0)[:, None, None], scaled[:, [1, 0, 3, 2]], scaled)
    packets = out[:, 2:]
    more = (packets + VOLUME * volume[:, None, None]).clamp_min(IDLE + STAYS)
    out = torch.cat([out[:, :2], torch.where(packets > IDLE, more, packets)], dim=1)

    place = torch.arange(bins, device=scaled.device)[None]
    source = (place * torch.exp(SPEED * speed)[:, None]).floor() - (shift * SHIFT * bins).round()[:, None]
    source = torch.where((reversed_ > 0)[:, None], bins - 1 - source, source)
    there = (source >= 0) & (source < bins)
    source = source.clamp(0, bins - 1).long()[:, None].expand_as(out)
    return torch.where(there[:, None], out.gather(2, source), IDLE), how
