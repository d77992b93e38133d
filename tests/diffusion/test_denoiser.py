"""The denoiser: noise, preconditioning, error and loss weights."""

import math
from typing import Any

import pytest
import torch
from support.small_network import SMALL, STATISTICS, generator, inputs, random_fields, randomised, symmetric_noise

from netgen.diffusion.denoiser import Denoiser, LevelWeights, NoiseConfig, Statistics, denoising_error, image_noise
from netgen.diffusion.network import BandTransformer

pytestmark = pytest.mark.usefixtures("one_thread")


def test_noise_of_a_difference_field_is_antisymmetric_with_a_free_diagonal() -> None:
    noise = image_noise((200, 2, 16, 16), generator(), -1)
    eye = torch.eye(16, dtype=torch.bool)
    assert torch.equal(noise[..., ~eye], -noise.mT[..., ~eye])
    assert abs(float(noise[..., ~eye].std()) - 1) < 0.02
    assert abs(float(noise[..., eye].std()) - 1) < 0.03


def test_noise_levels_grow_with_the_pixels_per_value() -> None:
    """A number in one pixel is hidden by a sixteenth of the noise that hides one in 256."""
    field, series = NoiseConfig.of(256), NoiseConfig.of(1)
    assert field == NoiseConfig()
    assert series.sigma_max == pytest.approx(field.sigma_max / 16)
    assert math.exp(series.mean) == pytest.approx(math.exp(field.mean) / 16)


def test_noise_is_symmetric_and_of_unit_variance() -> None:
    noise = symmetric_noise((200, 2, 16, 16), generator())
    assert torch.equal(noise, noise.mT)
    off = noise[..., *torch.triu_indices(16, 16, 1)]
    assert abs(float(off.std()) - 1) < 0.02
    assert abs(float(noise.mean())) < 0.02


def test_noise_levels_are_log_normal() -> None:
    sigma = NoiseConfig(mean=0.7, std=1.5).sample(20_000, generator())
    assert abs(float(sigma.log().mean()) - 0.7) < 0.05
    assert abs(float(sigma.log().std()) - 1.5) < 0.05


def test_statistics_are_mean_and_standard_deviation_and_the_latter_is_never_zero() -> None:
    images = random_fields(20)
    measured = Statistics.of(images)
    assert measured.mean == pytest.approx(float(images.mean()))
    assert measured.sigma_data == pytest.approx(float(images.std(correction=0)), rel=1e-5)
    assert Statistics.of(torch.ones(3, 2, 8, 8)) == Statistics(1.0, 1e-3)


def test_the_network_gets_inputs_of_unit_variance() -> None:
    """EDM's c_in scales the network's input for every noise level."""
    seen = {}

    class Recorder(torch.nn.Module):
        def forward(self, image: Any, noise_level: Any, *_: Any) -> Any:
            seen["image"], seen["noise"] = image, noise_level
            return torch.ones_like(image)

    denoiser = Denoiser(Recorder(), STATISTICS, no_stratum=2)
    clean = STATISTICS.mean + STATISTICS.sigma_data * symmetric_noise((50, 2, 8, 8), generator())
    for sigma in (0.1, 1.0, 300.0):
        level = torch.full((50,), sigma)
        out = denoiser(clean + sigma * symmetric_noise((50, 2, 8, 8), generator(1)), level, torch.zeros(50).long())
        assert float(seen["image"][..., 0, 1:].std()) == pytest.approx(1, abs=0.05)
        torch.testing.assert_close(seen["noise"], level.log() / 4)
        torch.testing.assert_close(out, torch.full_like(out, STATISTICS.mean + STATISTICS.sigma_data))


def test_the_error_is_one_for_a_guess_and_zero_for_the_right_image() -> None:
    images = random_fields(500)
    statistics = Statistics.of(images)
    noise, sigma = symmetric_noise(tuple(images.shape), generator(1)), torch.ones(500)

    class Answer(torch.nn.Module):
        def __init__(self, share: Any) -> None:
            super().__init__()
            self.share = share

        def forward(self, *_: Any) -> Any:
            return self.share * (images - statistics.mean) / statistics.sigma_data

    for share, expected in ((0.0, 1.0), (1.0, 0.0), (0.5, 0.25)):
        denoiser = Denoiser(Answer(share), statistics, no_stratum=2)
        error = denoising_error(denoiser, images, noise, sigma, torch.zeros(500).long())
        assert error.shape == (500,)
        assert float(error.mean()) == pytest.approx(expected, abs=1e-5)


def test_guidance_extrapolates_from_no_class_through_the_class() -> None:
    """1 is the plain denoiser, bit for bit; 0 is the one without a class; other values lie on the line through both."""
    denoiser = Denoiser(randomised(BandTransformer(SMALL)), STATISTICS, no_stratum=SMALL.strata)
    image, sigma, _ = inputs()
    label = torch.tensor([0, 1, 0])
    with torch.no_grad():
        plain = denoiser(image, sigma, label)
        none = denoiser(image, sigma, torch.full_like(label, SMALL.strata))
        assert float((plain - none).abs().max()) > 1e-3
        assert torch.equal(denoiser.guided(image, sigma, label, 1.0), plain)
        torch.testing.assert_close(denoiser.guided(image, sigma, label, 0.0), none)
        for weight in (0.999, 1.001, 2.5):
            guided = denoiser.guided(image, sigma, label, weight)
            torch.testing.assert_close(guided, none + weight * (plain - none), rtol=1e-4, atol=1e-5)


def test_levels_with_a_constant_error_have_equal_weight() -> None:
    """After the first batch each level's weighted error is 1, however large the error there."""
    weights = LevelWeights()
    sigma = torch.tensor([0.05, 0.05, 1.0, 40.0])
    error = torch.tensor([2e-4, 2e-4, 0.3, 1.0])
    for _ in range(3):
        torch.testing.assert_close(weights(sigma, error) * error, torch.ones(4), rtol=1e-5, atol=0)


def test_levels_keep_a_running_mean_of_the_error() -> None:
    """A new error moves a level's mean by a fiftieth; levels without one do not change."""
    weights = LevelWeights()
    weights(torch.tensor([1.0, 40.0]), torch.tensor([1.0, 5.0]))
    seen = weights(torch.tensor([1.0]), torch.tensor([2.0]))
    assert float(1 / seen) == pytest.approx(0.98 * 1 + 0.02 * 2)
    assert float(1 / weights(torch.tensor([40.0]), torch.tensor([5.0]))) == pytest.approx(5)


def test_levels_outside_the_range_count_as_its_ends() -> None:
    weights = LevelWeights()
    out = weights(torch.tensor([1e-9, 1e9]), torch.tensor([0.5, 0.25]))
    torch.testing.assert_close(out, torch.tensor([2.0, 4.0]))
    assert int((weights.mean_error > 0).sum()) == 2
