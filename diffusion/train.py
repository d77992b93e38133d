"""Training: batches, loss, weight averaging, a budget in steps or seconds, and a state that can be resumed."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from netgen.diffusion.denoiser import Denoiser, LevelWeights, NoiseConfig, Statistics, denoising_error, image_noise
from netgen.diffusion.network import BandTransformer, NetworkConfig

Choice = TypeVar("Choice")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a training."""

    steps: int | None = None  # stop after this many steps, including earlier sessions
    #: Stop after this much time, including earlier sessions. With both, the first one reached ends the training.
    seconds: float | None = None
    batch: int = 32  # images per step
    lr: float = 2e-3  # peak learning rate of AdamW
    warmup: int = 200  # steps of the linear warm-up; after it the rate falls along a cosine over the budget
    label_dropout: float = 0.1  # fraction of strata hidden from the network, for classifier-free guidance
    ema_decay: float = 0.999  # decay of the moving average of the weights, with which models sample
    bfloat16: bool = False  # Matrix products in bfloat16; weights, sums and sampling stay in float32
    seed: int = 0  # random seed of weights, batches and noise: step k sees the same batch in any session
    log_every: int = 20
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise ValueError("a training needs a budget: steps or seconds")


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Examples and their noise levels."""

    #: Indices (batch,) on `device` and a generator -> clean images (batch, channels, bins, columns) and how they were
    #: augmented and what the flows are like, (batch, n_augmentations + n_features), or None
    images: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor | None]]
    strata: Tensor  # long (examples,): on the CPU
    noise: NoiseConfig
    statistics: Statistics
    device: torch.device
    #: long (examples,), optional: classes, whose sizes decide how often an example is used; otherwise the strata
    classes: Tensor | None = None


@dataclasses.dataclass
class TrainState:
    """Everything that changes during training."""

    network: BandTransformer
    ema: BandTransformer
    optimizer: torch.optim.AdamW
    level_weights: LevelWeights = dataclasses.field(default_factory=LevelWeights)
    step: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of a training: means since the last report.

    `error` is the mean squared error of the clean images over their variance: 1 is a guess. The
    weighted loss that is minimised stays near 1 by construction and says nothing.
    """

    step: int
    seconds: float
    error: float
    gradient: float
    lr: float
    samples_per_second: float
    share_done: float


@dataclasses.dataclass(frozen=True)
class Hooks:
    """Functions that a training calls."""

    stop: Callable[[], bool] = lambda: False  # called after every step; True ends the training
    #: Called with the `Progress` every `TrainConfig.log_every` steps
    on_log: Callable[[Progress], None] = lambda _: None
    on_checkpoint: Callable[[TrainState], None] = lambda _: None  # called with the state to save
    #: Called after every step with the state and the spent fraction of the budget; True ends the training
    on_step: Callable[[TrainState, float], bool] = lambda *_: False


def new_state(network_config: NetworkConfig, config: TrainConfig, device: torch.device) -> TrainState:
    """Create a network, its average, and an optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = BandTransformer(network_config)
    network.to(device)
    ema = copy.deepcopy(network).requires_grad_(False)
    # fused: a third of the time on small tensors
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    return TrainState(network, ema, optimizer)


def train(state: TrainState, data: TrainingData, config: TrainConfig, hooks: Hooks | None = None) -> TrainState:
    """Train `state`, in place, until the budget is spent; an ArithmeticError if the loss is not finite."""
    hooks = hooks or Hooks()
    denoiser = Denoiser(state.network, data.statistics, no_stratum=state.network.config.strata)
    weights = class_weights(data.strata if data.classes is None else data.classes)
    start, earlier = time.monotonic(), state.seconds
    last_log, last_checkpoint = start, start
    errors: list[Tensor] = []
    gradients: list[Tensor] = []
    while (share := share_done(config, state)) < 1 and not hooks.stop():
        lr = learning_rate(config, state.step, share)
        error, gradient = _step(state, denoiser, data, weights, config, lr)
        errors.append(error)
        gradients.append(gradient)

        now = time.monotonic()
        state.seconds = earlier + now - start
        if state.step % config.log_every == 0 or share_done(config, state) >= 1:
            mean = float(torch.stack(errors).mean())
            if not math.isfinite(mean):
                raise ArithmeticError(f"the loss is {mean} at step {state.step}")
            speed = config.batch * len(errors) / max(now - last_log, 1e-9)
            gradient_mean = float(torch.stack(gradients).mean())
            hooks.on_log(Progress(state.step, state.seconds, mean, gradient_mean, lr, speed, share_done(config, state)))
            errors, gradients, last_log = [], [], now
        if hooks.on_step(state, share_done(config, state)):
            break
        if now - last_checkpoint > config.checkpoint_seconds:
            hooks.on_checkpoint(state)
            last_checkpoint = time.monotonic()
    return state


def _step(
    state: TrainState, denoiser: Denoiser, data: TrainingData, weights: Tensor, config: TrainConfig, lr: float
) -> tuple[Tensor, Tensor]:
    """Update the weights once; return the mean error and the norm of the gradient."""
    # a generator per step: a resumed training sees the batches of an uninterrupted one
    generator = torch.Generator().manual_seed((config.seed << 32) + state.step)
    index = torch.multinomial(weights, config.batch, replacement=True, generator=generator)
    stratum = data.strata[index].clone()
    stratum[torch.rand(config.batch, generator=generator) < config.label_dropout] = denoiser.no_stratum
    sigma = data.noise.sample(config.batch, generator).to(data.device)
    image, cond = data.images(index.to(data.device), generator)
    noise = image_noise(tuple(image.shape), generator, state.network.config.symmetry).to(data.device)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    with torch.autocast(data.device.type, dtype=torch.bfloat16, enabled=config.bfloat16):
        error = denoising_error(denoiser, image, noise, sigma, stratum.to(data.device), cond)
    state.optimizer.zero_grad(set_to_none=True)
    (error * state.level_weights(sigma, error)).mean().backward()
    gradient = torch.nn.utils.clip_grad_norm_(list(state.network.parameters()), 1.0)
    state.optimizer.step()
    _update_ema(state, config)
    state.step += 1
    return error.detach().mean(), gradient


def class_weights(classes: Tensor) -> Tensor:
    """Return the probability of each example: classes by the square root of their size.

    Equal weights of examples would starve rare classes; equal weights of classes would repeat the few
    examples of a rare class too often.
    """
    weights: Tensor = torch.bincount(classes).double()[classes].rsqrt()
    return weights / weights.sum()


def learning_rate(config: TrainConfig, step: int, share: float) -> float:
    """Return the rate of a step: linear warm-up, then a cosine that reaches 0 at the end of the budget."""
    return config.lr * min((step + 1) / config.warmup, 1.0) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def share_done(config: TrainConfig, state: TrainState) -> float:
    """Return the fraction of the budget that is spent."""
    by_steps = state.step / config.steps if config.steps else 0.0
    by_time = state.seconds / config.seconds if config.seconds else 0.0
    return max(by_steps, by_time)


@torch.no_grad()
def _update_ema(state: TrainState, config: TrainConfig) -> None:
    # a short training must not be averaged with its random start
    decay = min(config.ema_decay, (1 + state.step) / (10 + state.step))
    torch._foreach_lerp_(list(state.ema.parameters()), list(state.network.parameters()), 1 - decay)


def fastest(choices: Sequence[Choice], trial: Callable[[Choice], None]) -> tuple[Choice, float]:
    """Return the choice with which `trial` is fastest, and its seconds: the median of three runs after a warm-up.

    On small networks neither more threads nor bfloat16 is sure to be faster, and with the cores busy
    elsewhere two threads can be ten times slower than one.
    """
    seconds = []
    for choice in choices:
        trial(choice)
        runs = []
        for _ in range(3):
            start = time.perf_counter()
            trial(choice)
            runs.append(time.perf_counter() - start)
        seconds.append(sorted(runs)[1])
    return choices[seconds.index(min(seconds))], min(seconds)
