"""Training: batches, loss, averaging, a budget in steps or in time, and a state that can be resumed."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from netgen.diffusion.denoiser import Denoiser, LevelWeights, NoiseConfig, Statistics, errors, image_noise
from netgen.diffusion.network import BandTransformer, NetworkConfig

#: Indices (batch,) and a generator -> clean images (batch, channels, bins, columns) on the training's device, and
#: how they were changed and what they are like, (batch, changes + traits), or None.
Images = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor | None]]

Choice = TypeVar("Choice")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Parameters
    ----------
    steps : int, optional
        Stop after this many steps in all, earlier sessions counted in.
    seconds : float, optional
        Stop after this much time in all. With both, whichever comes first.
    batch : int
        Images a step.
    rate : float
        Peak learning rate of AdamW; it warms up and falls along a cosine over the budget.
    dropout : float
        Share of labels hidden from the network, for classifier-free guidance.
    averaging : float
        Decay of the moving average of the weights, which is what sampling uses.
    bfloat16 : bool
        Matrix products in bfloat16; weights, sums and sampling stay in float32.
    seed : int
        Of weights, batches and noise: step k sees the same batch in any session.
    """

    steps: int | None = None
    seconds: float | None = None
    batch: int = 32
    rate: float = 2e-3
    warmup: int = 200
    dropout: float = 0.1
    averaging: float = 0.999
    bfloat16: bool = False
    seed: int = 0
    log_every: int = 20
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise ValueError("a training needs a budget: steps or seconds")


@dataclasses.dataclass
class TrainState:
    """All that a training knows between two steps."""

    network: BandTransformer
    average: BandTransformer
    optimizer: torch.optim.AdamW
    weights: LevelWeights = dataclasses.field(default_factory=LevelWeights)
    step: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a training reports, as means since the last report.

    `error` is the mean squared error of the clean images over their variance: 1 is a guess. The
    weighted loss that is minimised stays near 1 by construction and tells nothing.
    """

    step: int
    seconds: float
    error: float
    gradient: float
    rate: float
    samples_per_second: float
    share_done: float

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return dataclasses.asdict(self)


def new_state(network_config: NetworkConfig, config: TrainConfig, device: torch.device) -> TrainState:
    """A fresh network, its average, and an optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = BandTransformer(network_config)
    network.to(device)
    average = copy.deepcopy(network).requires_grad_(False)
    # fused: a third of the time on small tensors
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    return TrainState(network, average, optimizer)


def train(
    state: TrainState,
    images: Images,
    labels: Tensor,
    config: TrainConfig,
    noise_config: NoiseConfig,
    statistics: Statistics,
    *,
    device: torch.device,
    classes: Tensor | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_log: Callable[[Progress], None] | None = None,
    on_checkpoint: Callable[[TrainState], None] | None = None,
    on_step: Callable[[TrainState, float], bool] | None = None,
) -> TrainState:
    """Train until the budget is spent.

    Parameters
    ----------
    state : TrainState
        Where to begin; changed in place.
    images : callable
        See `Images`. The network is told how an image was changed, so that it can learn from changed images
        and yet draw unchanged ones; and what it is like, so that it can be asked for such.
    labels : Tensor of long, shape (examples,)
        Numbers of what the network is told of them.
    classes : Tensor of long, shape (examples,), optional
        Numbers of their classes, by whose sizes they are drawn; otherwise these are the labels.
    stop : callable
        Asked after every step; True ends the training there, with `state` whole.
    on_log, on_checkpoint : callable, optional
        Told of the progress; given the state to save.
    on_step : callable, optional
        Given the state and the share of the budget that is spent, after every step; True ends the
        training. Its time counts as training time.

    Returns
    -------
    TrainState
    """
    denoiser = Denoiser(state.network, statistics, unlabelled=state.network.config.classes)
    parameters = list(state.network.parameters())
    odds = class_weights(labels if classes is None else classes)
    begun, before = time.monotonic(), state.seconds
    last_log, last_checkpoint = begun, begun
    losses: list[Tensor] = []
    norms: list[Tensor] = []
    while (share := _share_done(config, state)) < 1 and not stop():
        # a generator a step: a resumed training sees what the uninterrupted one would have seen
        generator = torch.Generator().manual_seed((config.seed << 32) + state.step)
        index = torch.multinomial(odds, config.batch, replacement=True, generator=generator)
        label = labels[index].clone()
        label[torch.rand(config.batch, generator=generator) < config.dropout] = denoiser.unlabelled
        sigma = noise_config.draw(config.batch, generator).to(device)
        image, how = images(index.to(device), generator)
        noise = image_noise(tuple(image.shape), generator, state.network.config.mirror).to(device)
        rate = learning_rate(config, state.step, share)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bfloat16):
            error = errors(denoiser, image, noise, sigma, label.to(device), how)
        state.optimizer.zero_grad(set_to_none=True)
        (error * state.weights(sigma, error)).mean().backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, 1.0))
        state.optimizer.step()
        _average(state, config)
        state.step += 1
        losses.append(error.detach().mean())

        now = time.monotonic()
        state.seconds = before + now - begun
        if state.step % config.log_every == 0 or _share_done(config, state) >= 1:
            mean = float(torch.stack(losses).mean())
            if not math.isfinite(mean):
                raise ArithmeticError(f"the loss is {mean} at step {state.step}")
            if on_log:
                speed = config.batch * len(losses) / max(now - last_log, 1e-9)
                gradient = float(torch.stack(norms).mean())
                on_log(Progress(state.step, state.seconds, mean, gradient, rate, speed, _share_done(config, state)))
            losses, norms, last_log = [], [], now
        if on_step and on_step(state, _share_done(config, state)):
            break
        if on_checkpoint and now - last_checkpoint > config.checkpoint_seconds:
            on_checkpoint(state)
            last_checkpoint = time.monotonic()
    return state


def class_weights(classes: Tensor) -> Tensor:
    """How likely each example is to be drawn: classes by the square root of their size.

    Equal odds for examples would starve rare classes, equal odds for classes would repeat the few
    examples of a rare one too often.
    """
    counts = torch.bincount(classes).double()
    odds: Tensor = counts[classes].rsqrt()
    return odds / odds.sum()


def learning_rate(config: TrainConfig, step: int, share: float) -> float:
    """Linear warm-up over `warmup` steps, then a cosine that reaches 0 at the end of the budget."""
    return config.rate * min((step + 1) / config.warmup, 1.0) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def _share_done(config: TrainConfig, state: TrainState) -> float:
    by_steps = state.step / config.steps if config.steps else 0.0
    by_time = state.seconds / config.seconds if config.seconds else 0.0
    return max(by_steps, by_time)


@torch.no_grad()
def _average(state: TrainState, config: TrainConfig) -> None:
    # a short training must not be averaged with its random start
    decay = min(config.averaging, (1 + state.step) / (10 + state.step))
    torch._foreach_lerp_(list(state.average.parameters()), list(state.network.parameters()), 1 - decay)


def fastest(choices: Sequence[Choice], trial: Callable[[Choice], None]) -> Choice:
    """The choice at which `trial` runs fastest; the first run of each is a warm-up.

    On small networks neither more threads nor bfloat16 is sure to be faster, and with the cores
    busy elsewhere two threads can be ten times slower than one: measured, not believed.
    """
    times = []
    for choice in choices:
        trial(choice)
        runs = []
        for _ in range(3):
            begun = time.perf_counter()
            trial(choice)
            runs.append(time.perf_counter() - begun)
        times.append(sorted(runs)[1])
    return choices[times.index(min(times))]
