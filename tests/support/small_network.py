"""A network small enough to train in a test, and images for it."""

import functools
from typing import Any

import torch

from netgen.diffusion import model_file
from netgen.diffusion.denoiser import NoiseConfig, Statistics, image_noise
from netgen.diffusion.network import BandTransformer, NetworkConfig
from netgen.diffusion.train import Hooks, TrainConfig, TrainingData, TrainState, new_state, train

CPU = torch.device("cpu")
SMALL = NetworkConfig(channels=2, bins=8, strata=2, rows=4, rank=2, width=32, depth=2, heads=2)
STATISTICS = Statistics(0.1, 0.5)
NOISE = NoiseConfig()
symmetric_noise = functools.partial(image_noise, symmetry=1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_fields(flows: int, seed: int = 0) -> torch.Tensor:
    """Build images like Gramian fields: cosines of sums of angles."""
    angle = torch.rand((flows, SMALL.channels, SMALL.bins), generator=generator(seed)) * 1.3
    return torch.cos(angle[..., None] + angle[..., None, :])


def randomised(network: BandTransformer, seed: int = 1) -> BandTransformer:
    """Give a network random weights: a new one returns 0 for every input."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(seed)) * 0.1)
    return network


def inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return random images, noise levels and strata."""
    image = symmetric_noise((batch, SMALL.channels, SMALL.bins, SMALL.bins), generator())
    return image, torch.linspace(0.2, 3, batch), torch.arange(batch) % (SMALL.strata + 1)


def small_training(
    config: TrainConfig, *, examples: int = 6, state: TrainState | None = None, images: Any = None, **hooks: Any
) -> TrainState:
    """Train on a few random fields."""
    images = random_fields(examples, 5) if images is None else images
    data = TrainingData(
        lambda index, _: (images[index], None), torch.arange(examples) % SMALL.strata, NOISE, Statistics.of(images), CPU
    )
    return train(state or new_state(SMALL, config, CPU), data, config, Hooks(**hooks))


def equal_states(first: TrainState, second: TrainState) -> bool:
    """Tell whether two trainings hold the same numbers, bit for bit."""
    one, other = model_file.state_tensors(first), model_file.state_tensors(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
