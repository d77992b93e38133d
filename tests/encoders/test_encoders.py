"""Encoders: what all of them promise, and what the Gramian angular field is."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.paths import ROOT
from support.real_data import REAL_SETS

from netgen.diffusion.denoiser import image_noise
from netgen.encoders.delay import DelayEncoder
from netgen.encoders.gadf import GadfEncoder
from netgen.encoders.gasf import GasfEncoder, _gauss_newton
from netgen.encoders.log_scale import IDLE, LogScale
from netgen.encoders.registry import ENCODERS

#: Integers up to these survive encoding and decoding; float32 pixels round larger ones.
LARGEST_EXACT = {"gasf": 2**19, "gadf": 2**16, "delay": 2**16, "series": 2**16}

#: The same for scaled series that are float32 before encoding, whose neighbours are 6e-8 apart.
LARGEST_FLOAT32 = 2**16

ROWS = 200  # of the larger sets

every_encoder = pytest.mark.parametrize("encoder", [kind() for kind in ENCODERS.values()], ids=list(ENCODERS))
pytestmark = pytest.mark.usefixtures("one_thread")


@st.composite
def integers(draw: Any, largest: Any) -> Any:
    """Generate series with idle bins, small and large numbers, and some at the maximum."""
    shape = draw(st.tuples(st.integers(1, 2), st.just(4), st.sampled_from([4, 8, 16, 32])))
    cell = st.one_of(
        st.just(0), st.integers(0, 3), st.integers(0, 3000), st.integers(0, largest), st.integers(largest - 9, largest)
    )
    return draw(hnp.arrays(np.int64, shape, elements=cell))


def by_pyts(scaled: Any) -> Any:
    """Encode series one at a time with pyts, as its documentation shows."""
    from pyts.image import GramianAngularField

    field = GramianAngularField(image_size=scaled.shape[-1], method="summation", sample_range=None)
    return np.stack([[field.fit_transform(row[None])[0] for row in flow] for flow in scaled])


def unscale(scale: LogScale, scaled: np.ndarray) -> np.ndarray:
    """Return the integers nearest to scaled values."""
    return np.rint(np.expm1((scaled - IDLE) / (1 - IDLE) * np.log1p(scale.top)[:, None])).astype(np.int64)


# --- what every encoder promises ---


@every_encoder
@given(data=st.data(), wide=st.booleans())
def test_integers_survive_the_image(encoder: Any, data: Any, wide: Any) -> None:
    """Integers up to the encoder's limit come back exactly, with or without the largest value of the set."""
    series = data.draw(integers(LARGEST_EXACT[encoder.name]))
    scale = LogScale(np.full(4, float(LARGEST_EXACT[encoder.name]))) if wide else LogScale.of(series)
    scaled, residual = encoder.decode(encoder.encode(scale.scale(series)))
    np.testing.assert_array_equal(unscale(scale, scaled), series)
    assert (residual < (1e-5 if encoder.name == "gadf" else 1e-6)).all()


@every_encoder
def test_integers_at_the_ends_survive_the_image(encoder: Any) -> None:
    """Series are at the maximum, idle, alternating, or differ in the last digit."""
    largest = LARGEST_EXACT[encoder.name]
    digits = np.full((1, 4, 16), largest - 1)
    digits[0, 0, 0] = largest - 8
    scale = LogScale(np.full(4, float(largest)))
    for series in (
        np.full((1, 4, 4), largest), np.zeros((1, 4, 4), int), np.array([[[0, largest] * 8] * 4]), digits,
    ):  # fmt: skip
        scaled, _ = encoder.decode(encoder.encode(scale.scale(series)))
        np.testing.assert_array_equal(unscale(scale, scaled), series)


@every_encoder
@given(series=integers(LARGEST_FLOAT32), wide=st.booleans())
def test_integers_survive_the_image_of_float32_series(encoder: Any, series: Any, wide: Any) -> None:
    """Training scales to float32; integers up to 2**16 in a bin come back exactly."""
    scale = LogScale(np.full(4, float(LARGEST_FLOAT32))) if wide else LogScale.of(series)
    images = encoder.encode_tensor(torch.from_numpy(scale.scale(series).astype(np.float32)))
    scaled, _ = encoder.decode(images)
    np.testing.assert_array_equal(unscale(scale, scaled), series)


@every_encoder
@pytest.mark.parametrize("name", REAL_SETS)
def test_integers_of_real_sets_survive_the_image(encoder: Any, name: Any, real_table: Any) -> None:
    """All rows of the small sets are tried, and some hundred of the others, with the largest values."""
    series = real_table(name).series()
    scale = LogScale.of(series)
    if len(series) > 500:
        largest = np.argsort(series.max(axis=(1, 2)))[-ROWS // 4 :]
        sampled = np.random.default_rng(0).choice(len(series), ROWS - len(largest), replace=False)
        by_channel = series.max(axis=2).argmax(axis=0)
        series = series[np.unique(np.concatenate([largest, sampled, by_channel]))]
    assert np.array_equal(series.max(axis=(0, 2)), scale.top)  # the hardest are among them
    for begin in range(0, len(series), 64):
        chunk = series[begin : begin + 64]
        scaled, residual = encoder.decode(encoder.encode(scale.scale(chunk)))
        back, fits = unscale(scale, scaled), chunk <= LARGEST_EXACT[encoder.name]  # the scale goes beyond that
        np.testing.assert_array_equal(back[fits], chunk[fits])
        np.testing.assert_allclose(back, chunk, rtol=5e-6)
        assert residual.max() < 1e-6


@every_encoder
def test_shapes_and_types(encoder: Any) -> None:
    """Images are float32, one a channel; series are float64 in [0.25, 1]; no flows are not an error."""
    for flows in (0, 1, 3):
        scaled = np.random.default_rng(0).uniform(IDLE, 1, (flows, 4, 8))
        images = encoder.encode(scaled)
        assert (images.shape, images.dtype) == ((flows, 4, 8, encoder.columns(8)), np.float32)
        for given_images in (images, torch.from_numpy(images)):
            again, residual = encoder.decode(given_images)
            assert (again.shape, again.dtype, residual.shape) == ((flows, 4, 8), np.float64, (flows, 4))
            assert ((again >= IDLE) & (again <= 1)).all()


@every_encoder
@given(scaled=hnp.arrays(np.float64, (2, 3, 12), elements=st.floats(IDLE, 1)))
def test_encoding_arrays_and_tensors_agrees(encoder: Any, scaled: Any) -> None:
    """The images are equal within float32."""
    images = encoder.encode_tensor(torch.from_numpy(scaled)).numpy()
    np.testing.assert_allclose(encoder.encode(scaled), images, rtol=0, atol=1e-7)


@every_encoder
def test_decoding_does_not_depend_on_the_batch(encoder: Any) -> None:
    """Series i is the same in a batch of any size, so that flow 17 does not depend on the number of flows."""
    rng = np.random.default_rng(0)
    scaled = rng.uniform(IDLE, 1, (20, 4, 16))
    images = encoder.encode(scaled)
    images += 0.1 * rng.standard_normal(images.shape).astype(np.float32)
    together, residual = encoder.decode(images)
    for rows in (slice(0, 1), slice(3, 10), slice(19, 20)):
        alone, alone_residual = encoder.decode(images[rows])
        np.testing.assert_allclose(alone, together[rows], rtol=0, atol=1e-12)
        np.testing.assert_allclose(alone_residual, residual[rows], rtol=0, atol=1e-12)


@every_encoder
@pytest.mark.parametrize("amount", [0.01, 0.1, 0.5])
def test_the_residual_grows_with_the_noise(encoder: Any, amount: float) -> None:
    """The residual is the distance from the image of a series, so it is about as large as the noise."""
    if encoder.pixels_per_value(32) == 1:
        pytest.skip("any image is the image of a series")
    rng = np.random.default_rng(0)
    images = encoder.encode(rng.uniform(0.4, 0.9, (5, 4, 32)))
    noise = image_noise(images.shape, torch.Generator().manual_seed(0), encoder.symmetry).numpy()
    _, residual = encoder.decode(images + amount * noise)
    assert (residual > 0.7 * amount).all()
    assert (residual < 1.2 * amount).all()


# --- the Gramian angular field ---


@given(hnp.arrays(np.float64, (2, 2, 8), elements=st.floats(IDLE, 1)))
@settings(max_examples=30)
def test_the_image_equals_that_of_pyts(scaled: Any) -> None:
    """Pixels are equal within float32."""
    np.testing.assert_allclose(GasfEncoder().encode(scaled), by_pyts(scaled), rtol=0, atol=6e-8)


def test_the_image_is_the_cosine_of_the_sum_of_angles() -> None:
    """See equation 1 of the NetDiffus paper."""
    scaled = np.random.default_rng(0).uniform(IDLE, 1, (1, 1, 7))
    angle = [np.arccos(value) for value in scaled[0, 0]]
    expected = [[np.cos(one + other) for other in angle] for one in angle]
    np.testing.assert_allclose(GasfEncoder().encode(scaled)[0, 0], expected, rtol=0, atol=1e-7)


@given(hnp.arrays(np.float64, (1, 2, 16), elements=st.floats(IDLE, 1)))
def test_images_are_symmetric(scaled: Any) -> None:
    for images in (GasfEncoder().encode(scaled), GasfEncoder().encode_tensor(torch.from_numpy(scaled)).numpy()):
        np.testing.assert_array_equal(images, images.swapaxes(-1, -2))


def test_an_asymmetric_image_is_averaged_with_its_transpose() -> None:
    """A sampled image and its transpose give the same series."""
    images = np.random.default_rng(0).uniform(-0.5, 1, (3, 2, 8, 8))
    for one, other in zip(GasfEncoder().decode(images), GasfEncoder().decode(images.swapaxes(-1, -2)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_decoding_from_all_pixels_beats_the_diagonal() -> None:
    """For noisy images, least squares gives a series nearer to the truth, with an image nearer to the noisy one."""
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.3, 0.95, (20, 1, 64))
    noise = rng.standard_normal((20, 1, 64, 64)) * 0.1
    images = GasfEncoder().encode(truth) + (noise + noise.swapaxes(-1, -2)) / np.sqrt(2)
    decoded, residual = GasfEncoder().decode(images)
    diagonal = np.sqrt(np.clip((np.diagonal(images, axis1=-2, axis2=-1) + 1) / 2, IDLE**2, 1))
    by_diagonal = np.sqrt(((GasfEncoder().encode(diagonal) - images) ** 2).mean((-2, -1)))
    assert (residual < by_diagonal).all()
    error, diagonal_error = (np.sqrt(((estimate - truth) ** 2).mean(-1)) for estimate in (decoded, diagonal))
    assert (error < diagonal_error).all()
    assert np.median(error / diagonal_error) < 0.5


def test_the_decoded_series_is_a_minimum() -> None:
    """A small change of any value increases the distance to the image."""
    rng = np.random.default_rng(2)
    image = GasfEncoder().encode(rng.uniform(0.4, 0.9, (1, 1, 10)))[0, 0].astype(float)
    noise = rng.standard_normal((10, 10)) * 0.05
    image += noise + noise.T
    best, residual = GasfEncoder().decode(image)
    assert ((best > IDLE) & (best < 1)).all()
    for bin_ in range(10):
        for step in (-1e-3, 1e-3):
            moved = best.copy()
            moved[bin_] += step
            distance = np.sqrt(np.mean((GasfEncoder().encode_tensor(torch.from_numpy(moved)).numpy() - image) ** 2))
            assert distance > residual


def test_a_gauss_newton_step_solves_the_normal_equations() -> None:
    """Dense least squares with the full Jacobian of all N*N pixels gives the same step."""
    rng = np.random.default_rng(3)
    bins = 9
    angles = rng.uniform(0.1, 1.3, (4, bins))
    noise = rng.standard_normal((4, bins, bins)) * 0.2
    fields = np.cos(angles[:, :, None] + angles[:, None]) + noise + noise.swapaxes(1, 2)
    steps = _gauss_newton(torch.from_numpy(fields), torch.from_numpy(angles + 0.05)).numpy()
    for angle, field, step in zip(angles + 0.05, fields, steps, strict=True):
        jacobian = np.zeros((bins, bins, bins))
        for i in range(bins):
            for j in range(bins):
                slope = -np.sin(angle[i] + angle[j])
                jacobian[i, j, i] += slope
                jacobian[i, j, j] += slope
        missing = (field - np.cos(angle[:, None] + angle)).ravel()
        expected, *_ = np.linalg.lstsq(jacobian.reshape(-1, bins), missing, rcond=None)
        np.testing.assert_allclose(step, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bins", [4, 16, 32, 128])
def test_wild_images_give_finite_series(bins: int) -> None:
    """Pixels far outside of [-1, 1], or all equal, give a series in range and no error."""
    rng = np.random.default_rng(4)
    square = (bins, bins)
    flat = [np.full(square, value) for value in (9.0, 1.0, 1 - 1e-9, 0.0, -0.875, -9.0)]
    images = np.stack([rng.normal(0, 50, square), *flat])
    scaled, residual = GasfEncoder().decode(images)
    assert np.isfinite(residual).all()
    assert ((scaled >= IDLE) & (scaled <= 1)).all()


# --- the other encoders ---


@given(hnp.arrays(np.float64, (2, 2, 8), elements=st.floats(IDLE, 1)))
@settings(max_examples=30)
def test_the_difference_field_equals_that_of_pyts_except_on_the_diagonal(scaled: Any) -> None:
    from pyts.image import GramianAngularField

    field = GramianAngularField(image_size=8, method="difference", sample_range=None)
    by_pyts_field = np.stack([[field.fit_transform(row[None])[0] for row in flow] for flow in scaled])
    images = GadfEncoder().encode(scaled)
    away = ~np.eye(8, dtype=bool)
    np.testing.assert_allclose(images[..., away], by_pyts_field[..., away], rtol=0, atol=1e-7)
    np.testing.assert_allclose(np.diagonal(images, axis1=-2, axis2=-1), scaled, rtol=0, atol=1e-7)


def test_rows_of_a_delay_embedding_are_the_following_bins() -> None:
    scaled = np.linspace(0.3, 0.9, 20)[None, None]
    image = DelayEncoder().encode(scaled)[0, 0]
    for row in range(20):
        ahead = np.append(scaled[0, 0], np.full(16, IDLE))[row : row + 16]
        np.testing.assert_allclose(image[row], ahead, atol=1e-7)


@every_encoder
def test_images_have_the_symmetry_that_the_encoder_declares(encoder: Any) -> None:
    images = encoder.encode(np.random.default_rng(0).uniform(IDLE, 1, (2, 4, 8)))
    if encoder.symmetry == 0:
        return
    away = ~np.eye(8, dtype=bool)
    np.testing.assert_array_equal(images[..., away], encoder.symmetry * images.swapaxes(-1, -2)[..., away])


@every_encoder
def test_more_pixels_per_value_average_more_noise_away(encoder: Any) -> None:
    """Noise of ``sqrt(pixels_per_value)`` gives about the same error for every encoder."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 0.8, (20, 1, 64))
    images = torch.from_numpy(encoder.encode(truth))
    noise = image_noise(tuple(images.shape), torch.Generator().manual_seed(0), encoder.symmetry)
    decoded, _ = encoder.decode(images + 0.02 * encoder.pixels_per_value(64) ** 0.5 * noise)
    assert 0.01 < np.sqrt(np.square(decoded - truth).mean()) < 0.05


# --- the scale ---


@given(integers(2**40))
def test_scaled_values_lie_between_idle_and_one(series: Any) -> None:
    """0 becomes 0.25, the largest value of a channel 1, and the scale is monotonic."""
    scale = LogScale.of(series)
    scaled = scale.scale(series)
    assert ((scaled >= IDLE) & (scaled <= 1)).all()
    assert (scaled[series == 0] == IDLE).all()
    for channel in range(4):
        order = np.argsort(series[:, channel].ravel(), kind="stable")
        values, images = series[:, channel].ravel()[order], scaled[:, channel].ravel()[order]
        assert (np.diff(images)[np.diff(values) > 0] > 0).all()
        assert (np.diff(images)[np.diff(values) == 0] == 0).all()
        if values[-1] > 0:
            assert images[-1] == 1.0


@given(integers(2**40), hnp.arrays(np.float64, 4, elements=st.integers(1, 5000).map(float)))
def test_values_over_the_maximum_are_clipped(series: Any, top: Any) -> None:
    scale = LogScale(top)
    assert (scale.scale(series) <= 1).all()  # no cosine is larger
    np.testing.assert_array_equal(scale.scale(series), scale.scale(np.minimum(series, top[:, None].astype(int))))


def test_idle_sets_and_empty_sets_have_a_scale() -> None:
    """A channel without traffic does not cause a division by zero."""
    for series in (np.zeros((3, 4, 8), int), np.zeros((0, 4, 8), int)):
        scale = LogScale.of(series)
        np.testing.assert_array_equal(scale.scale(series), np.full(series.shape, IDLE))


# --- pyts ---


def test_encoders_import_pyts_only_to_make_a_field() -> None:
    """Importing pyts compiles functions for 30 s; sampling and training do not need them."""
    code = (
        "import sys, numpy as np\nfrom netgen.encoders.registry import ENCODERS\n"
        "assert not {'pyts', 'numba'} & set(sys.modules)\n"
        "ENCODERS['gasf']().encode(np.full((1, 1, 4), 0.5))\n"
        "from numba import config\nassert 'pyts' in sys.modules and not config.DISABLE_JIT\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=ROOT)
