"""diffusion: network, denoiser, sampler, training and files, on numbers without a meaning."""

import dataclasses
import functools
import itertools
import json
import math
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from netgen.diffusion import model_file
from netgen.diffusion.denoiser import Denoiser, LevelWeights, NoiseConfig, Statistics, errors, image_noise
from netgen.diffusion.network import BandTransformer, NetworkConfig
from netgen.diffusion.sampler import draw, karras_sigmas, pack_blocks, sample_dpmpp_2m, sample_seed
from netgen.diffusion.train import TrainConfig, class_weights, fastest, learning_rate, new_state, train

CPU = torch.device("cpu")
SMALL = NetworkConfig(channels=2, bins=8, classes=2, rows=4, rank=2, width=32, depth=2, heads=2)
STATISTICS = Statistics(0.1, 0.5)
NOISE = NoiseConfig()
symmetric_noise = functools.partial(image_noise, mirror=1)

pytestmark = pytest.mark.usefixtures("one_thread")


def field(generator: Any, flows: Any) -> Any:
    """Images like fields: cosines of sums of angles."""
    angle = torch.rand((flows, SMALL.channels, SMALL.bins), generator=generator) * 1.3
    return torch.cos(angle[..., None] + angle[..., None, :])


def generator(seed: Any = 0) -> Any:
    return torch.Generator().manual_seed(seed)


def lively(network: Any, seed: Any = 1) -> Any:
    """The network with all weights random: a fresh one answers 0 whatever it is asked."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(seed)) * 0.1)
    return network


def inputs(batch: Any = 3) -> Any:
    image = symmetric_noise((batch, SMALL.channels, SMALL.bins, SMALL.bins), generator())
    return image, torch.linspace(0.2, 3, batch), torch.arange(batch) % (SMALL.classes + 1)


def run(config: Any, *, seed: Any = 0, examples: Any = 6, state: Any = None, network: Any = SMALL, **more: Any) -> Any:
    """A training on a few random fields."""
    images = field(generator(5), examples)
    labels = torch.arange(examples) % network.classes
    state = state or new_state(network, config, CPU)
    return train(
        state, lambda index, _: (images[index], None), labels, config, NOISE, Statistics.of(images), device=CPU, **more
    )


def same(one: Any, other: Any) -> Any:
    """Whether two trainings hold the same numbers, bit for bit."""
    mine, theirs = model_file.state_tensors(one), model_file.state_tensors(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


# --- the network ---


@given(
    st.integers(1, 4),
    st.sampled_from([(4, 4), (8, 4), (16, 8), (12, 2), (8, 1)]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 4),
)
@settings(max_examples=25)
def test_images_come_out_symmetric_and_of_the_shape_they_went_in(
    channels: Any, sizes: Any, classes: Any, rank: Any, batch: Any
) -> None:
    bins, rows = sizes
    config = NetworkConfig(channels, bins, classes, rows=rows, rank=rank, width=16, depth=1, heads=2)
    network = lively(BandTransformer(config))
    image = torch.randn((batch, channels, bins, bins), generator=generator())
    out = network(image, torch.linspace(-1, 1, batch), torch.arange(batch) % (classes + 1))
    assert out.shape == image.shape
    assert out.dtype == torch.float32
    assert float(out.detach().abs().max()) > 0
    torch.testing.assert_close(out, out.mT, rtol=0, atol=1e-5)


def test_bins_that_do_not_divide_into_bands_are_refused() -> None:
    with pytest.raises(ValueError, match="10 bins do not divide into bands of 4 rows"):
        BandTransformer(dataclasses.replace(SMALL, bins=10))


def test_a_fresh_network_answers_with_next_to_nothing_and_yet_learns() -> None:
    """Its first image is 0 off the diagonal, the first loss the images' own variance; the gradient is not 0."""
    network = BandTransformer(SMALL)
    image, noise, label = inputs()
    out = network(image, noise, label)
    diagonal = torch.diag_embed(out.diagonal(dim1=-2, dim2=-1))
    assert torch.equal(out, diagonal)
    assert float(diagonal.detach().abs().max()) < 1
    (out - image).square().mean().backward()
    assert float(network.outward.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("what", ["image", "noise", "label"])
def test_every_input_matters(what: str) -> None:
    """The image, the noise level and the class each change the answer, once there are weights."""
    network = lively(BandTransformer(SMALL))
    image, noise, label = inputs()
    other = {"image": image.flip(0), "noise": noise.flip(0), "label": (label + 1) % 3}
    changed = network(**{"image": image, "noise": noise, "label": label, what: other[what]})
    assert float((changed - network(image, noise, label)).detach().abs().max()) > 1e-3


# --- the denoiser ---


def test_noise_of_a_difference_field_is_antisymmetric_with_a_diagonal_of_its_own() -> None:
    noise = image_noise((200, 2, 16, 16), generator(), -1)
    eye = torch.eye(16, dtype=bool)
    assert torch.equal(noise[..., ~eye], -noise.mT[..., ~eye])
    assert abs(float(noise[..., ~eye].std()) - 1) < 0.02
    assert abs(float(noise[..., eye].std()) - 1) < 0.03


@pytest.mark.parametrize(("columns", "mirror"), [(8, 1), (8, -1), (8, 0), (3, 0), (1, 0)])
def test_images_of_any_kind_are_made_as_their_mirror_says(columns: int, mirror: int) -> None:
    config = dataclasses.replace(SMALL, columns=columns, mirror=mirror)
    network = lively(BandTransformer(config))
    image = image_noise((3, 2, 8, columns), generator(), mirror)
    out = network(image, torch.zeros(3), torch.zeros(3).long())
    assert out.shape == image.shape
    if mirror:
        away = ~torch.eye(8, dtype=bool)
        torch.testing.assert_close(out[..., away], mirror * out.mT[..., away])


def test_an_image_that_is_not_square_has_no_mirror_image() -> None:
    with pytest.raises(ValueError, match="no mirror image"):
        BandTransformer(dataclasses.replace(SMALL, columns=3))


def test_noise_levels_follow_the_pixels_a_number_stands_in() -> None:
    """A number in one pixel is hidden by a sixteenth of the noise that hides one in 256."""
    field, series = NoiseConfig.of(256), NoiseConfig.of(1)
    assert field == NoiseConfig()
    assert series.highest == pytest.approx(field.highest / 16)
    assert math.exp(series.mean) == pytest.approx(math.exp(field.mean) / 16)


def test_noise_is_symmetric_and_of_unit_variance() -> None:
    noise = symmetric_noise((200, 2, 16, 16), generator())
    assert torch.equal(noise, noise.mT)
    off = noise[..., *torch.triu_indices(16, 16, 1)]
    assert abs(float(off.std()) - 1) < 0.02
    assert abs(float(noise.mean())) < 0.02


def test_noise_levels_are_log_normal() -> None:
    sigma = NoiseConfig(mean=0.7, std=1.5).draw(20_000, generator())
    assert abs(float(sigma.log().mean()) - 0.7) < 0.05
    assert abs(float(sigma.log().std()) - 1.5) < 0.05


def test_statistics_are_mean_and_spread_and_never_no_spread() -> None:
    images = field(generator(), 20)
    found = Statistics.of(images)
    assert found.centre == pytest.approx(float(images.mean()))
    assert found.spread == pytest.approx(float(images.std(correction=0)), rel=1e-5)
    assert Statistics.of(torch.ones(3, 2, 8, 8)) == Statistics(1.0, 1e-3)


def test_the_denoiser_shows_the_network_inputs_of_unit_variance() -> None:
    """EDM's c_in: whatever the noise level, what the network sees has the same size."""
    seen = {}

    class Recorder(torch.nn.Module):
        def forward(self, image: Any, noise: Any, label: Any, how: Any) -> Any:
            seen["image"], seen["noise"] = image, noise
            return torch.ones_like(image)

    denoiser = Denoiser(Recorder(), STATISTICS, unlabelled=2)
    clean = STATISTICS.centre + STATISTICS.spread * symmetric_noise((50, 2, 8, 8), generator())
    for sigma in (0.1, 1.0, 300.0):
        level = torch.full((50,), sigma)
        out = denoiser(clean + sigma * symmetric_noise((50, 2, 8, 8), generator(1)), level, torch.zeros(50).long())
        assert float(seen["image"][..., 0, 1:].std()) == pytest.approx(1, abs=0.05)
        torch.testing.assert_close(seen["noise"], level.log() / 4)
        torch.testing.assert_close(out, torch.full_like(out, STATISTICS.centre + STATISTICS.spread))


def test_the_error_is_one_for_a_guess_and_zero_for_the_truth() -> None:
    images = field(generator(), 500)
    statistics = Statistics.of(images)
    noise, sigma = symmetric_noise(tuple(images.shape), generator(1)), torch.ones(500)

    class Answer(torch.nn.Module):
        def __init__(self, share: Any) -> None:
            super().__init__()
            self.share = share

        def forward(self, image: Any, noise: Any, label: Any, how: Any) -> Any:
            return self.share * (images - statistics.centre) / statistics.spread

    for share, expected in ((0.0, 1.0), (1.0, 0.0), (0.5, 0.25)):
        denoiser = Denoiser(Answer(share), statistics, unlabelled=2)
        error = errors(denoiser, images, noise, sigma, torch.zeros(500).long())
        assert error.shape == (500,)
        assert float(error.mean()) == pytest.approx(expected, abs=1e-5)


def test_guidance_goes_from_no_class_through_the_class_and_on() -> None:
    """1 is the plain denoiser, bit for bit; 0 the one without a class; else on the line through both."""
    denoiser = Denoiser(lively(BandTransformer(SMALL)), STATISTICS, unlabelled=SMALL.classes)
    image, sigma, _ = inputs()
    label = torch.tensor([0, 1, 0])
    with torch.no_grad():
        plain = denoiser(image, sigma, label)
        none = denoiser(image, sigma, torch.full_like(label, SMALL.classes))
        assert float((plain - none).abs().max()) > 1e-3
        assert torch.equal(denoiser.guided(image, sigma, label, 1.0), plain)
        torch.testing.assert_close(denoiser.guided(image, sigma, label, 0.0), none)
        for weight in (0.999, 1.001, 2.5):
            guided = denoiser.guided(image, sigma, label, weight)
            torch.testing.assert_close(guided, none + weight * (plain - none), rtol=1e-4, atol=1e-5)


# --- weights of noise levels ---


def test_levels_of_a_steady_error_count_alike() -> None:
    """After the first batch each level's weighted error is 1, however large the error there."""
    weights = LevelWeights()
    sigma = torch.tensor([0.05, 0.05, 1.0, 40.0])
    error = torch.tensor([2e-4, 2e-4, 0.3, 1.0])
    for _ in range(3):
        torch.testing.assert_close(weights(sigma, error) * error, torch.ones(4), rtol=1e-5, atol=0)


def test_levels_remember_what_was_seen_lately() -> None:
    """A new error moves a level's mean by a fiftieth; levels that saw nothing stay as they were."""
    weights = LevelWeights()
    weights(torch.tensor([1.0, 40.0]), torch.tensor([1.0, 5.0]))
    seen = weights(torch.tensor([1.0]), torch.tensor([2.0]))
    assert float(1 / seen) == pytest.approx(0.98 * 1 + 0.02 * 2)
    assert float(1 / weights(torch.tensor([40.0]), torch.tensor([5.0]))) == pytest.approx(5)


def test_levels_beyond_the_ends_count_with_the_ends() -> None:
    weights = LevelWeights()
    out = weights(torch.tensor([1e-9, 1e9]), torch.tensor([0.5, 0.25]))
    torch.testing.assert_close(out, torch.tensor([2.0, 4.0]))
    assert int((weights.table > 0).sum()) == 2


# --- the sampler ---


@given(st.integers(2, 40), st.floats(1, 1000), st.floats(0.001, 0.9))
def test_noise_levels_fall_from_highest_to_lowest_and_then_to_zero(steps: Any, highest: Any, lowest: Any) -> None:
    sigmas = karras_sigmas(steps, highest, lowest)
    assert sigmas.shape == (steps + 1,)
    assert float(sigmas[0]) == pytest.approx(highest, rel=1e-5)
    assert float(sigmas[-2]) == pytest.approx(lowest, rel=1e-5)
    assert float(sigmas[-1]) == 0
    assert (sigmas.diff() < 0).all()


def gaussian(spread: Any) -> Any:
    """The best denoiser there is for images that are Gaussian noise of this spread."""
    return lambda x, sigma: x * (spread**2 / (spread**2 + sigma**2))[:, None, None, None]


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_steps_turn_noise_into_what_the_denoiser_knows(spread: float) -> None:
    """The closed form: from noise of sigma_max to ``x s / sqrt(s^2 + sigma_max^2)``, in second order."""
    start = symmetric_noise((4, 1, 8, 8), generator()).double() * 80
    exact = start * spread / math.sqrt(spread**2 + 80**2)
    distance = []
    for steps in (20, 40, 80):
        out = sample_dpmpp_2m(gaussian(spread), start, karras_sigmas(steps, 80, 0.002).double())
        distance.append(float((out - exact).abs().max() / exact.abs().max()))
    assert distance[2] < 5e-3
    for coarse, fine in itertools.pairwise(distance):
        assert coarse / fine > 3  # twice the steps, a quarter of the error


def test_steps_at_the_models_own_settings_draw_the_right_spread() -> None:
    """10 steps from 300 to 0.1, as models are sampled: 6 % too narrow, and no more than 7 %."""
    start = symmetric_noise((64, 1, 16, 16), generator()).double() * NOISE.highest
    out = sample_dpmpp_2m(gaussian(0.5), start, karras_sigmas(NOISE.steps, NOISE.highest, NOISE.lowest).double())
    assert float(out.std() / (start.std() / NOISE.highest)) == pytest.approx(0.5, rel=0.07)


def test_the_sampler_tells_of_every_step_and_ends_on_the_clean_image() -> None:
    """The last step takes the denoiser's word for it."""
    told = []
    clean = field(generator(), 3)
    sigmas = karras_sigmas(5, 10, 0.1)
    out = sample_dpmpp_2m(
        lambda x, sigma: clean, torch.randn(clean.shape, generator=generator()) * 10, sigmas, callback=told.append
    )
    assert told == [1, 2, 3, 4, 5]
    torch.testing.assert_close(out, clean)


def test_no_two_samples_share_a_seed() -> None:
    """Over seeds, classes and numbers as they are used; each fits torch's generator."""
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
    """Function: samples (label, index) to their images."""
    denoiser = Denoiser(lively(BandTransformer(SMALL)), STATISTICS, unlabelled=2)

    def noise(label: Any, index: Any) -> Any:
        shape = (SMALL.channels, SMALL.bins, SMALL.bins)
        return symmetric_noise(shape, generator(sample_seed(0, label, index)))

    def sample(samples: Any) -> Any:
        denoise = functools.partial(denoiser.guided, guidance=1.5)
        found = {}
        for block in pack_blocks(samples, 4):
            members = [None if each is None else samples[each] for each in block]
            images = draw(denoise, noise, members, karras_sigmas(3, 300, 0.1), device=CPU)
            found |= dict(zip([each for each in members if each], images, strict=True))
        return found

    return sample


def of_class(label: Any, indices: Any) -> Any:
    return [(label, index) for index in indices]


@pytest.mark.parametrize(
    "indices", [range(1), range(3), range(4), range(5), range(9), range(2, 3), range(3, 9)], ids=str
)
@pytest.mark.parametrize("beside", [[], of_class(0, range(5)), [*of_class(0, [7]), *of_class(2, range(3))]], ids=len)
def test_a_sample_is_the_same_however_many_are_drawn(indices: Any, beside: Any, sampler: Any) -> None:
    """Bit for bit: one alone, a block, a part of several blocks, or among samples of other classes."""
    everything = sampler(of_class(1, range(12)))
    drawn = sampler([*beside, *of_class(1, indices)])
    for index in indices:
        assert torch.equal(drawn[1, index], everything[1, index])


def test_samples_differ_from_each_other_and_between_classes(sampler: Any) -> None:
    images = sampler([*of_class(1, range(6)), *of_class(0, range(6))]).values()
    assert len(images) == 12
    for one, other in itertools.combinations(images, 2):
        assert float((one - other).abs().max()) > 1e-3


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 99)), unique=True), st.sampled_from([1, 4, 16]))
def test_each_sample_has_its_place(samples: Any, block: Any) -> None:
    """All are drawn once, each at a place that nothing but itself decides; in order."""
    blocks = pack_blocks(samples, block)
    assert all(len(each) == block for each in blocks)
    assert sorted(each for row in blocks for each in row if each is not None) == list(range(len(samples)))
    for row in blocks:
        for place, number in enumerate(row):
            if number is not None:
                (alone,) = pack_blocks([samples[number]], block)
                assert alone.index(0) == place


@pytest.mark.parametrize("each", [1, 3, 8, 10])
def test_few_samples_of_many_classes_fill_blocks(each: int) -> None:
    """Of fifty classes: at most one block in six more than there must be, and one."""
    samples = [(label, index) for label in range(50) for index in range(each)]
    assert len(pack_blocks(samples, 16)) <= 1 + len(samples) / 16 * 7 / 6


def test_drawing_nothing_takes_no_block() -> None:
    assert pack_blocks([], 4) == []


# --- training ---


def test_the_denoiser_learns() -> None:
    """Two images of two classes: from a guess (1) to a fraction of it in a hundred steps or so."""
    reports = []
    config = TrainConfig(steps=160, batch=16, rate=5e-3, warmup=10, dropout=0.0, log_every=20)
    run(config, examples=2, on_log=reports.append)
    assert [report.step for report in reports] == list(range(20, 161, 20))
    assert reports[-1].error < 0.1 < 0.4 < reports[0].error
    assert reports[-1].share_done == 1
    assert json.loads(json.dumps(reports[-1].to_json()))["step"] == 160


def test_the_same_seed_makes_the_same_weights() -> None:
    config = TrainConfig(steps=5, batch=4)
    assert same(run(config), run(config))
    assert not same(run(config), run(dataclasses.replace(config, seed=1)))


def test_training_leaves_the_global_generator_alone() -> None:
    """Neither does it depend on it."""
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one = run(TrainConfig(steps=2, batch=4))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(8)
    assert same(one, run(TrainConfig(steps=2, batch=4)))


@pytest.mark.parametrize("at", [1, 7, 11])
def test_a_resumed_training_equals_an_uninterrupted_one(at: int, tmp_path: Path) -> None:
    """Bit for bit, through a checkpoint file: weights, average, optimizer, level weights."""
    config = TrainConfig(steps=12, batch=4, warmup=5)
    whole = run(config)
    asked = itertools.count()
    first = run(config, stop=lambda: next(asked) >= at)
    assert first.step == at
    model_file.save(tmp_path / "x.safetensors", model_file.state_tensors(first), {"step": first.step})
    second = new_state(SMALL, config, CPU)
    model_file.restore_state(second, model_file.load_tensors(tmp_path / "x.safetensors"))
    second.step = model_file.load_metadata(tmp_path / "x.safetensors")["step"]
    assert same(first, second)
    assert same(run(config, state=second), whole)


def test_the_average_follows_the_weights() -> None:
    """It is what sampling uses: neither the last weights nor the first."""
    state = run(TrainConfig(steps=30, batch=4, warmup=1))
    fresh = new_state(SMALL, TrainConfig(steps=30), CPU)
    name = "outward.weight"
    last, mean, first = (network.state_dict()[name] for network in (state.network, state.average, fresh.network))
    assert not torch.equal(mean, last)
    assert float((mean - last).norm()) < float((first - last).norm()) / 2


def test_a_budget_is_needed_and_the_first_to_be_spent_ends_the_training() -> None:
    with pytest.raises(ValueError, match="a budget: steps or seconds"):
        TrainConfig()
    assert run(TrainConfig(steps=3, seconds=1000, batch=2)).step == 3
    begun = time.monotonic()
    state = run(TrainConfig(steps=10**9, seconds=0.3, batch=2))
    assert 1 <= state.step < 10**6
    assert state.seconds >= 0.3
    assert time.monotonic() - begun < 30
    assert run(TrainConfig(steps=3, batch=2), state=state).step == state.step  # it was spent before


def test_checkpoints_are_offered_while_it_trains() -> None:
    steps = []
    run(TrainConfig(steps=4, batch=2, checkpoint_seconds=0.0), on_checkpoint=lambda state: steps.append(state.step))
    assert steps == [1, 2, 3, 4]


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    config = TrainConfig(steps=40, batch=2)
    images = torch.full((2, 2, 8, 8), math.nan)
    with pytest.raises(ArithmeticError, match="the loss is nan at step 20"):
        train(
            new_state(SMALL, config, CPU), lambda index, _: (images[index % 2], None), torch.tensor([0, 1]), config,
            NOISE, STATISTICS, device=CPU,
        )  # fmt: skip


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    config = TrainConfig(steps=1000, rate=1e-2, warmup=100)
    rates = [learning_rate(config, step, step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-2, rel=0.03)
    assert rates.index(max(rates)) in range(95, 105)
    assert all(one > other for one, other in itertools.pairwise(rates[105:]))
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.randoms())
def test_a_class_is_drawn_by_the_square_root_of_its_size(counts: Any, random: Any) -> None:
    """A class of four times the examples is drawn twice as often; within a class all are alike."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    random.shuffle(labels)
    labels = torch.tensor(labels)
    odds = class_weights(labels)
    assert float(odds.sum()) == pytest.approx(1)
    share = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, labels, odds)
    root = torch.tensor(counts, dtype=torch.float64).sqrt()
    torch.testing.assert_close(share, root / root.sum())
    for label in range(len(counts)):
        assert len(odds[labels == label].unique()) == 1


def test_the_fastest_choice_is_measured_after_a_warm_up() -> None:
    """The first run of each does not count."""
    runs = []

    def trial(seconds: Any) -> None:
        time.sleep(seconds if seconds in runs else 0.05 - seconds)
        runs.append(seconds)

    assert fastest([0.04, 0.001, 0.03], trial) == 0.001
    assert runs == [0.04] * 4 + [0.001] * 4 + [0.03] * 4


# --- files ---


def test_a_checkpoint_that_does_not_fit_is_refused() -> None:
    config = TrainConfig(steps=2, batch=2)
    tensors = model_file.state_tensors(run(config))
    for other in (dataclasses.replace(SMALL, width=16), dataclasses.replace(SMALL, classes=3)):
        with pytest.raises(ValueError, match="a checkpoint that does not fit"):
            model_file.restore_state(new_state(other, config, CPU), tensors)
    for missing in ("weights", "average.place", "network.outward.bias"):
        fewer = {name: tensor for name, tensor in tensors.items() if name != missing}
        with pytest.raises(ValueError, match="a checkpoint that does not fit"):
            model_file.restore_state(new_state(SMALL, config, CPU), fewer)


def test_level_weights_come_back_from_a_checkpoint() -> None:
    state = run(TrainConfig(steps=3, batch=4))
    assert int((state.weights.table > 0).sum()) > 1
    again = new_state(SMALL, TrainConfig(steps=3), CPU)
    model_file.restore_state(again, model_file.state_tensors(state))
    assert torch.equal(again.weights.table, state.weights.table)


def test_tensors_and_their_description_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b.c": torch.tensor([1, 2])}
    about = {"format": 1, "classes": ["ä", "b"], "deep": {"x": [1.5, None, True]}}
    model_file.save(tmp_path / "x.safetensors", tensors, about)
    assert model_file.load_metadata(tmp_path / "x.safetensors") == about
    again = model_file.load_tensors(tmp_path / "x.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_a_network_comes_back_with_its_weights_in_float32() -> None:
    network = lively(BandTransformer(SMALL))
    for dtype in (torch.float32, torch.bfloat16):
        tensors = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
        again = model_file.load_network(SMALL.to_json(), tensors)
        assert not any(parameter.requires_grad for parameter in again.parameters())
        for name, tensor in again.state_dict().items():
            assert torch.equal(tensor, tensors[name].float())


def test_weights_that_do_not_fit_their_configuration_are_refused() -> None:
    tensors = BandTransformer(SMALL).state_dict()
    for config in ({**SMALL.to_json(), "depth": 1}, {**SMALL.to_json(), "wide": 3}, {"channels": 2}):
        with pytest.raises(ValueError, match="weights that do not fit its configuration"):
            model_file.load_network(config, tensors)


class Trap:
    """What a pickle file can do: run a command of its author's choice."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_loading_a_model_runs_no_code(writer: str, tmp_path: Path) -> None:
    """A pickle file named .safetensors is refused, and what it wanted to do is not done."""
    sprung = tmp_path / "sprung"
    path = tmp_path / "x.safetensors"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        torch.save({"weights": Trap(sprung)}, path)
    with pytest.raises(ValueError, match="no safetensors file"):
        model_file.load_metadata(path)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung))).close()  # the trap does work
    assert sprung.exists()


@pytest.mark.parametrize("content", [b"", b"x", bytes(8), bytes(100), b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}"], ids=repr)
def test_files_that_are_no_models_are_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"safetensors file"):
        model_file.load_metadata(path)


def test_somebody_elses_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for metadata in (None, {"format": "pt"}, {model_file.METADATA_KEY: "no json"}, {model_file.METADATA_KEY: "[1]"}):
        save_file({"a": torch.zeros(2)}, path, metadata=metadata)
        with pytest.raises(ValueError, match="without netgen's metadata"):
            model_file.load_metadata(path)


def test_a_class_with_places_of_its_own_differs_in_some_tokens_alone() -> None:
    """Modulation is the same for all tokens; these embeddings are not, and no other class has them."""
    network = BandTransformer(dataclasses.replace(SMALL, bins=16, own_places=True, mirror=0, depth=0))
    lively(network)
    with torch.no_grad():
        network.label.weight.zero_()
        network.own.weight.zero_()
        network.own.weight[1, SMALL.width : 2 * SMALL.width] = torch.linspace(-1, 1, SMALL.width)
    image, noise = torch.randn(1, SMALL.channels, 16, 16, generator=generator()), torch.zeros(1)
    first, second = (network(image, noise, torch.tensor([label])).detach() for label in (0, 1))
    moved = (first - second).abs().amax((0, 1, 3)) > 1e-6
    assert moved.tolist() == [4 <= row < 8 for row in range(16)]


def test_places_of_its_own_are_for_images_that_were_not_changed() -> None:
    """What stands where in a class says nothing of a flow that was shifted; with no change, nothing is different."""
    network = BandTransformer(dataclasses.replace(SMALL, bins=16, own_places=True, mirror=0, changes=2))
    lively(network)
    image, noise = torch.randn(3, SMALL.channels, 16, 16, generator=generator()), torch.zeros(3)
    label, how = torch.tensor([0, 0, 1]), torch.tensor([[0.0, 0.0], [0.0, -0.5], [1.0, 0.0]])
    before = network(image, noise, label, how).detach()
    torch.testing.assert_close(before[:1], network(image[:1], noise[:1], label[:1]).detach())
    with torch.no_grad():
        network.own.weight[:2] += torch.randn(network.own.weight[:2].shape, generator=generator())
    moved = (network(image, noise, label, how).detach() - before).abs().amax((1, 2, 3)) > 1e-6
    assert moved.tolist() == [True, False, False]


def test_what_an_image_is_like_is_no_change() -> None:
    """Places of a class's own are there for an image that was not changed, whatever it is like."""
    network = BandTransformer(dataclasses.replace(SMALL, bins=16, own_places=True, mirror=0, changes=2, traits=1))
    lively(network)
    image, noise = torch.randn(3, SMALL.channels, 16, 16, generator=generator()), torch.zeros(3)
    label, how = torch.zeros(3, dtype=torch.long), torch.tensor([[0, 0, 0.7], [0, -0.5, 0.7], [0, 0, -0.3]])
    before = network(image[:1].expand_as(image), noise, label, how).detach()
    assert not torch.equal(before[0], before[2])
    with torch.no_grad():
        network.own.weight[0] += torch.randn(network.own.weight[0].shape, generator=generator())
    moved = (network(image[:1].expand_as(image), noise, label, how).detach() - before).abs().amax((1, 2, 3)) > 1e-6
    assert moved.tolist() == [True, False, True]


def test_a_network_of_before_own_places_is_still_read() -> None:
    """The configuration of an older file says nothing of them."""
    config = SMALL.to_json()
    del config["own_places"]
    network = BandTransformer(NetworkConfig(**config))
    read = model_file.load_network(config, dict(network.state_dict()))
    assert read.own is None
