"""The sampler: noise levels, convergence, seeds and blocks."""

import functools
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.small_network import (
    CPU,
    NOISE,
    SMALL,
    STATISTICS,
    generator,
    random_fields,
    randomised,
    symmetric_noise,
)

from netgen.diffusion.denoiser import Denoiser
from netgen.diffusion.network import BandTransformer
from netgen.diffusion.sampler import karras_sigmas, pack_blocks, sample_block, sample_dpmpp_2m, sample_seed

pytestmark = pytest.mark.usefixtures("one_thread")


@given(st.integers(2, 40), st.floats(1, 1000), st.floats(0.001, 0.9))
def test_noise_levels_fall_from_sigma_max_to_sigma_min_and_then_to_zero(steps: Any, highest: Any, lowest: Any) -> None:
    sigmas = karras_sigmas(steps, highest, lowest)
    assert sigmas.shape == (steps + 1,)
    assert float(sigmas[0]) == pytest.approx(highest, rel=1e-5)
    assert float(sigmas[-2]) == pytest.approx(lowest, rel=1e-5)
    assert float(sigmas[-1]) == 0
    assert (sigmas.diff() < 0).all()


def gaussian(spread: Any) -> Any:
    """Return the best denoiser of Gaussian images of this standard deviation."""
    return lambda x, sigma: x * (spread**2 / (spread**2 + sigma**2))[:, None, None, None]


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_the_sampler_converges_to_the_closed_form_in_second_order(spread: float) -> None:
    """Noise x of sigma_max leads to ``x s / sqrt(s^2 + sigma_max^2)``."""
    start = symmetric_noise((4, 1, 8, 8), generator()).double() * 80
    exact = start * spread / math.sqrt(spread**2 + 80**2)
    distance = []
    for steps in (20, 40, 80):
        out = sample_dpmpp_2m(gaussian(spread), start, karras_sigmas(steps, 80, 0.002).double())
        distance.append(float((out - exact).abs().max() / exact.abs().max()))
    assert distance[2] < 5e-3
    for coarse, fine in itertools.pairwise(distance):
        assert coarse / fine > 3  # twice the steps, a quarter of the error


def test_default_settings_sample_the_right_standard_deviation() -> None:
    """With the default 10 steps from 300 to 0.1 it is about 6 % too small, and at most 7 %."""
    start = symmetric_noise((64, 1, 16, 16), generator()).double() * NOISE.sigma_max
    out = sample_dpmpp_2m(
        gaussian(0.5), start, karras_sigmas(NOISE.sampling_steps, NOISE.sigma_max, NOISE.sigma_min).double()
    )
    assert float(out.std() / (start.std() / NOISE.sigma_max)) == pytest.approx(0.5, rel=0.07)


def test_the_sampler_reports_every_step_and_ends_on_the_clean_image() -> None:
    """The last step returns the denoiser's output."""
    steps: list[int] = []
    clean = random_fields(3)
    sigmas = karras_sigmas(5, 10, 0.1)
    out = sample_dpmpp_2m(
        lambda *_: clean, torch.randn(clean.shape, generator=generator()) * 10, sigmas, callback=steps.append
    )
    assert steps == [1, 2, 3, 4, 5]
    torch.testing.assert_close(out, clean)


def test_no_two_samples_share_a_seed() -> None:
    """Seeds, classes and flow numbers are those in use, and each result fits torch's generator."""
    seeds = {
        sample_seed(seed, label, index)
        for seed in (*range(8), 12345, 2**32, 2**63, -1)
        for label in range(100)
        for index in range(150)
    }
    assert len(seeds) == 12 * 100 * 150
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    bits = np.array(sorted(seeds)[:4096], dtype=np.uint64)
    torch.Generator().manual_seed(max(seeds))
    assert len(np.unique(bits >> np.uint64(8))) > 4000


@pytest.fixture
def sampler() -> Any:
    """Return a function from samples (stratum, index) to their images."""
    denoiser = Denoiser(randomised(BandTransformer(SMALL)), STATISTICS, no_stratum=2)

    def noise(label: Any, index: Any) -> Any:
        shape = (SMALL.channels, SMALL.bins, SMALL.bins)
        return symmetric_noise(shape, generator(sample_seed(0, label, index)))

    def sample(samples: Any) -> Any:
        denoise = functools.partial(denoiser.guided, guidance=1.5)
        images_of: dict[tuple[int, int], torch.Tensor] = {}
        for block in pack_blocks(samples, 4):
            members = [None if row is None else samples[row] for row in block]
            images = sample_block(denoise, noise, members, karras_sigmas(3, 300, 0.1), device=CPU)
            images_of |= dict(zip([member for member in members if member], images, strict=True))
        return images_of

    return sample


def of_class(label: Any, indices: Any) -> Any:
    return [(label, index) for index in indices]


@pytest.mark.parametrize(
    "indices", [range(1), range(3), range(4), range(5), range(9), range(2, 3), range(3, 9)], ids=str
)
@pytest.mark.parametrize("beside", [[], of_class(0, range(5)), [*of_class(0, [7]), *of_class(2, range(3))]], ids=len)
def test_a_sample_does_not_depend_on_the_others(indices: Any, beside: Any, sampler: Any) -> None:
    """It is equal bit for bit alone, in a block, across blocks, and among other classes."""
    everything = sampler(of_class(1, range(12)))
    images = sampler([*beside, *of_class(1, indices)])
    for index in indices:
        assert torch.equal(images[1, index], everything[1, index])


def test_samples_differ_within_and_between_strata(sampler: Any) -> None:
    images = sampler([*of_class(1, range(6)), *of_class(0, range(6))]).values()
    assert len(images) == 12
    for one, other in itertools.combinations(images, 2):
        assert float((one - other).abs().max()) > 1e-3


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 99)), unique=True), st.sampled_from([1, 4, 16]))
def test_the_slot_of_a_sample_depends_on_the_sample_only(samples: Any, block: Any) -> None:
    """Every sample has one slot, in order, which is the one it has alone."""
    blocks = pack_blocks(samples, block)
    assert all(len(slots) == block for slots in blocks)
    assert sorted(row for slots in blocks for row in slots if row is not None) == list(range(len(samples)))
    for slots in blocks:
        for slot, number in enumerate(slots):
            if number is not None:
                (alone,) = pack_blocks([samples[number]], block)
                assert alone.index(0) == slot


@pytest.mark.parametrize("per_stratum", [1, 3, 8, 10])
def test_few_samples_of_many_strata_fill_blocks(per_stratum: int) -> None:
    """Fifty classes need at most a sixth more blocks than the minimum, plus one."""
    samples = [(label, index) for label in range(50) for index in range(per_stratum)]
    assert len(pack_blocks(samples, 16)) <= 1 + len(samples) / 16 * 7 / 6


def test_no_samples_need_no_block() -> None:
    assert pack_blocks([], 4) == []
