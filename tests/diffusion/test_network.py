"""The network: shapes, symmetry and what changes its output."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_network import (
    SMALL,
    generator,
    inputs,
    randomised,
)

from netgen.diffusion.denoiser import image_noise
from netgen.diffusion.network import BandTransformer, NetworkConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@given(
    st.integers(1, 4),
    st.sampled_from([(4, 4), (8, 4), (16, 8), (12, 2), (8, 1)]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 4),
)
@settings(max_examples=25)
def test_outputs_are_symmetric_and_have_the_shape_of_the_input(
    channels: Any, sizes: Any, classes: Any, rank: Any, batch: Any
) -> None:
    bins, rows = sizes
    config = NetworkConfig(channels, bins, classes, rows=rows, rank=rank, width=16, depth=1, heads=2)
    network = randomised(BandTransformer(config))
    image = torch.randn((batch, channels, bins, bins), generator=generator())
    out = network(image, torch.linspace(-1, 1, batch), torch.arange(batch) % (classes + 1))
    assert out.shape == image.shape
    assert out.dtype == torch.float32
    assert float(out.detach().abs().max()) > 0
    torch.testing.assert_close(out, out.mT, rtol=0, atol=1e-5)


def test_bins_that_do_not_divide_into_bands_are_refused() -> None:
    with pytest.raises(ValueError, match="10 bins cannot be divided into bands of 4 rows"):
        BandTransformer(dataclasses.replace(SMALL, bins=10))


def test_a_new_network_returns_almost_zero_and_still_learns() -> None:
    """Its first output is 0 off the diagonal and the first loss is the images' variance, but the gradient is not 0."""
    network = BandTransformer(SMALL)
    image, noise, label = inputs()
    out = network(image, noise, label)
    diagonal = torch.diag_embed(out.diagonal(dim1=-2, dim2=-1))
    assert torch.equal(out, diagonal)
    assert float(diagonal.detach().abs().max()) < 1
    (out - image).square().mean().backward()
    gradient = network.out_proj.weight.grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize("changed_input", ["image", "noise_level", "stratum"])
def test_every_input_changes_the_output(changed_input: str) -> None:
    """With random weights, the image, the noise level and the class change the output."""
    network = randomised(BandTransformer(SMALL))
    image, noise, label = inputs()
    other = {"image": image.flip(0), "noise_level": noise.flip(0), "stratum": (label + 1) % 3}
    changed = network(**{"image": image, "noise_level": noise, "stratum": label, changed_input: other[changed_input]})
    assert float((changed - network(image, noise, label)).detach().abs().max()) > 1e-3


@pytest.mark.parametrize(("columns", "mirror"), [(8, 1), (8, -1), (8, 0), (3, 0), (1, 0)])
def test_images_have_the_symmetry_of_the_configuration(columns: int, mirror: int) -> None:
    config = dataclasses.replace(SMALL, columns=columns, symmetry=mirror)
    network = randomised(BandTransformer(config))
    image = image_noise((3, 2, 8, columns), generator(), mirror)
    out = network(image, torch.zeros(3), torch.zeros(3).long())
    assert out.shape == image.shape
    if mirror:
        away = ~torch.eye(8, dtype=torch.bool)
        torch.testing.assert_close(out[..., away], mirror * out.mT[..., away])


def test_an_image_that_is_not_square_has_no_symmetry() -> None:
    with pytest.raises(ValueError, match="has no symmetry"):
        BandTransformer(dataclasses.replace(SMALL, columns=3))


def test_positional_embeddings_of_a_stratum_change_single_tokens() -> None:
    """Modulation is the same for all tokens; these embeddings differ by token and stratum."""
    network = BandTransformer(dataclasses.replace(SMALL, bins=16, symmetry=0, depth=0))
    randomised(network)
    with torch.no_grad():
        network.stratum_embed.weight.zero_()
        network.stratum_pos_embed.weight.zero_()
        network.stratum_pos_embed.weight[1, SMALL.width : 2 * SMALL.width] = torch.linspace(-1, 1, SMALL.width)
    image, noise = torch.randn(1, SMALL.channels, 16, 16, generator=generator()), torch.zeros(1)
    first, second = (network(image, noise, torch.tensor([label])).detach() for label in (0, 1))
    moved = (first - second).abs().amax((0, 1, 3)) > 1e-6
    assert moved.tolist() == [4 <= row < 8 for row in range(16)]


def test_positional_embeddings_of_a_stratum_do_not_apply_to_augmented_images() -> None:
    """The positions of a class say nothing about a shifted flow; without augmentation the output is the same."""
    network = BandTransformer(dataclasses.replace(SMALL, bins=16, symmetry=0, n_augmentations=2))
    randomised(network)
    image, noise = torch.randn(3, SMALL.channels, 16, 16, generator=generator()), torch.zeros(3)
    label, cond = torch.tensor([0, 0, 1]), torch.tensor([[0.0, 0.0], [0.0, -0.5], [1.0, 0.0]])
    before = network(image, noise, label, cond).detach()
    torch.testing.assert_close(before[:1], network(image[:1], noise[:1], label[:1]).detach())
    with torch.no_grad():
        network.stratum_pos_embed.weight[:2] += torch.randn(
            network.stratum_pos_embed.weight[:2].shape, generator=generator()
        )
    moved = (network(image, noise, label, cond).detach() - before).abs().amax((1, 2, 3)) > 1e-6
    assert moved.tolist() == [True, False, False]


def test_flow_features_are_not_augmentations() -> None:
    """Flow features do not turn off the positional embeddings of a stratum."""
    network = BandTransformer(dataclasses.replace(SMALL, bins=16, symmetry=0, n_augmentations=2, n_features=1))
    randomised(network)
    image, noise = torch.randn(3, SMALL.channels, 16, 16, generator=generator()), torch.zeros(3)
    label, cond = torch.zeros(3, dtype=torch.long), torch.tensor([[0, 0, 0.7], [0, -0.5, 0.7], [0, 0, -0.3]])
    before = network(image[:1].expand_as(image), noise, label, cond).detach()
    assert not torch.equal(before[0], before[2])
    with torch.no_grad():
        network.stratum_pos_embed.weight[0] += torch.randn(
            network.stratum_pos_embed.weight[0].shape, generator=generator()
        )
    moved = (network(image[:1].expand_as(image), noise, label, cond).detach() - before).abs().amax((1, 2, 3)) > 1e-6
    assert moved.tolist() == [True, False, True]
