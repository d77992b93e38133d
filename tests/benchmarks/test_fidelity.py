"""The fidelity benchmark: peers follow their papers, finished jobs are skipped, tables agree with the results."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.paths import ROOT
from torch.utils.flop_counter import FlopCounterMode

HOME = ROOT / "benchmarks"
if not HOME.is_dir():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)
sys.path.insert(0, str(HOME))
import fidelity  # noqa: E402
import fidelity_table  # noqa: E402
import generators  # noqa: E402
import netdiffus  # noqa: E402
import resultlines  # noqa: E402
import tracesets  # noqa: E402
import vae  # noqa: E402
from adm import Shape, UNet  # noqa: E402

from netgen import FlowTable, SeriesSpec  # noqa: E402
from netgen.evaluation import usefulness  # noqa: E402

sys.path.remove(str(HOME))

ARGUMENTS = argparse.Namespace(minutes=10.0, threads=2, device="cpu", flows=3000, times=4)


pytestmark = pytest.mark.usefixtures("one_thread")


# --- the paper's recipe ---


@pytest.mark.slow
def test_the_unet_is_the_size_that_the_paper_trains() -> None:
    """125 M parameters and 177 GFLOP a pass, on three planes as released; without computing anything."""
    with torch.device("meta"):
        network = UNet(3, 128, 20, Shape())
        with FlopCounterMode(display=False) as counter:
            out = network(torch.zeros(2, 3, 128, 128), torch.zeros(2), torch.zeros(2, dtype=torch.long))
    assert out.shape == (2, 6, 128, 128)
    assert sum(weights.numel() for weights in network.parameters()) == pytest.approx(125e6, rel=0.005)
    assert counter.get_total_flops() / 2 == pytest.approx(177e9, rel=0.005)


def test_the_reduced_unet_conditions_on_class_and_time() -> None:
    torch.manual_seed(0)
    network = UNet(4, 32, 3, Shape(width=16, blocks=1, widths=(1, 2), attention=(4,), heads=2, patch=4))
    for weights in network.parameters():  # it starts with zero outputs
        if not weights.any():
            torch.nn.init.normal_(weights, std=0.1)
    image, time, label = torch.randn(1, 4, 32, 32), torch.tensor([5]), torch.tensor([1])
    out = network(image, time, label)
    assert out.shape == (1, 8, 32, 32)
    assert not torch.allclose(out, network(image, time, label + 1))
    assert not torch.allclose(out, network(image, time + 500, label))


def test_the_schedule_is_the_cosine_one() -> None:
    """The closed form, before the bound on a single step sets in."""
    time = (np.arange(1, 901) / 1000 + 0.008) / 1.008
    expected = np.cos(time * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    assert netdiffus.left()[:900] == pytest.approx(expected, rel=1e-9)
    assert netdiffus.left()[-1] < 1e-6


@pytest.mark.parametrize("steps", [25, 1000])
def test_a_perfect_network_gives_the_clean_picture(steps: int) -> None:
    """Whichever steps are taken."""

    def perfect(x: torch.Tensor, time: torch.Tensor, _label: torch.Tensor) -> torch.Tensor:
        alpha = schedule.alpha[schedule.times == time[0]]
        noise = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        return torch.cat([noise, torch.zeros_like(noise)], dim=1)

    schedule = netdiffus.Schedule.of(steps, torch.device("cpu"))
    assert len(schedule.times) == steps
    clean = torch.rand((1, 2, 4, 4), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    sample = schedule.sample(perfect, (2, 4, 4), torch.zeros(1, dtype=torch.long), torch.Generator().manual_seed(1))
    assert sample.numpy() == pytest.approx(clean.numpy(), abs=0.02)


def test_variances_stay_within_their_bounds() -> None:
    """-1 is the lower one, 1 the upper one (eq. 15); the loss has a gradient for both halves of the outputs."""
    schedule = netdiffus.Schedule.of(1000, torch.device("cpu"))
    step = torch.tensor([1, 500])
    noisy, alpha, before = torch.zeros(2, 1, 2, 2).double(), schedule.alpha[step], schedule.alpha[step - 1]
    for position, expected in ((1.0, 1 - alpha / before), (-1.0, (1 - before) / (1 - alpha) * (1 - alpha / before))):
        out = torch.cat([torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), position)], dim=1)
        _, log_variance = schedule.predicted(out, noisy, step)
        assert log_variance[:, 0, 0, 0].exp().numpy() == pytest.approx(expected.numpy(), rel=1e-9)
    out = torch.zeros(2, 2, 2, 2, requires_grad=True)
    schedule.loss(lambda *_: out, noisy.float(), step, step, torch.ones(2, 1, 2, 2)).backward()
    assert out.grad is not None
    assert out.grad[:, :1].abs().min() > 0
    assert out.grad[:, 1:].abs().min() > 0


def test_pictures_are_gaf_with_gamma_and_read_back() -> None:
    """Against pyts; given its own range, a trace comes back."""
    from pyts.image import GramianAngularField

    series = np.random.default_rng(0).integers(0, 5000, (3, 4, 16))
    series[0, 0] = 0
    pictures = netdiffus.picture(series)
    field = GramianAngularField(sample_range=(0, 1), method="summation").transform(series[:, 1])
    assert ((pictures[:, 1] + 1) / 2) ** 4 == pytest.approx((field + 1) / 2, abs=1e-5)
    low, high = series.min(-1, keepdims=True), series.max(-1, keepdims=True)
    assert np.abs(netdiffus.trace(pictures, low, high) - series).max() <= 1


def test_the_volume_is_that_of_a_training_trace_of_the_class() -> None:
    series = np.random.default_rng(0).integers(0, 10, (6, 4, 32)) + np.array([0, 0, 0, 900, 900, 900])[:, None, None]
    size = dataclasses.replace(netdiffus.REDUCED, shape=Shape(8, 1, (1, 2), (4,), 2, 4), batch=2)
    recipe = netdiffus.Recipe(series, np.array([0, 0, 0, 1, 1, 1]), 2, size, 0, "cpu")
    assert recipe.train(0.001)[0] >= 1
    samples = recipe.sample(np.array([0, 1, 1, 0]), steps=2)
    assert samples.shape == (4, 4, 32)
    assert [bool((sample >= 900).all()) for sample in samples] == [False, True, True, False]


# --- the autoencoder ---


@pytest.mark.slow
def test_the_autoencoder_learns_its_classes() -> None:
    """Two classes are active at different times: so are their samples."""
    points = np.zeros((40, 4, 32))
    points[:20, :, :8], points[20:, :, 24:] = 0.8, 0.4
    model, steps, _ = vae.fit(points, np.repeat([0, 1], 20), 2, minutes=5, seed=0, steps=100)
    assert steps == 100
    samples = model.sample(torch.tensor([0] * 20 + [1] * 20), torch.Generator().manual_seed(0)).numpy()
    early, late = samples[..., :8].mean((1, 2)), samples[..., 24:].mean((1, 2))
    assert (early > late)[:20].mean() > 0.9
    assert (early < late)[20:].mean() > 0.9
    assert (samples == 0).mean() > 0.5, "idle bins are idle"


def test_flops_are_counted_in_threads_too() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def product(_: int) -> torch.Tensor:
        return torch.ones(8, 4) @ torch.ones(4, 2)

    with ThreadPoolExecutor(2) as pool:
        assert generators.flops(lambda: list(pool.map(product, range(3)))) == 3 * 2 * 8 * 4 * 2


# --- jobs ---


def line(job: fidelity.Job, **values: Any) -> dict[str, Any]:
    metrics = {"forest_accuracy": 0.8, "forest_ratio": 0.9, "real_or_fake_auc": 0.9, "frechet": 6.0}
    base = {
        "metrics": metrics,
        "reference": {"forest_macro_f1": 0.9, "real_or_fake_auc": 0.5, "frechet": 2.0},
        "earth_mover": {"up_bytes": 0.03, "down_bytes": 0.01},
        "reference_earth_mover": {"up_bytes": 0.01, "down_bytes": 0.01},
        "cost": {"train_minutes": 10.05, "flops": 17.7e9, "flows_per_second": 199.0},
        "missing_classes": [],
        "note": "",
        "machine": "a machine, load before 1.0",
        "command": "python benchmarks/fidelity.py",
    }
    return {**dataclasses.asdict(job), **base, **values}


def job(method: str = "netgen", commit: str = "abc", seed: int = 0, **options: Any) -> fidelity.Job:
    return fidelity.Job.of("iot", method, seed, argparse.Namespace(**{**vars(ARGUMENTS), **options}), commit)


def test_a_job_is_skipped_only_if_its_key_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    resultlines.append(path, line(job()))
    lines = resultlines.read(path)
    assert fidelity.is_done(job(), lines)
    others = [
        job("vae"),
        *(job(**dict[str, Any]({name: 1})) for name in ("seed", "minutes", "threads", "flows", "times")),
    ]
    for other in (job(commit="abd"), *others):
        assert not fidelity.is_done(other, lines)
    assert not fidelity.is_done(dataclasses.replace(job(), set="video"), lines)
    assert not fidelity.is_done(job(commit="abd"), lines, reuse_peers=True), "netgen itself has changed"


def test_results_of_peers_outlive_commits_and_those_of_untrained_methods_budgets() -> None:
    assert fidelity.is_done(job("vae", commit="new"), [line(job("vae"))], reuse_peers=True)
    assert not fidelity.is_done(job("vae", commit="new", minutes=5.0), [line(job("vae"))], reuse_peers=True)
    assert fidelity.is_done(job("jitter", minutes=5.0), [line(job("jitter"))])
    assert job("real", times=1) == job("real"), "real flows are not multiplied"


def test_a_cut_line_is_left_out_and_does_not_damage_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.jsonl"
    resultlines.append(path, line(job()))
    with path.open("a") as stream:
        stream.write('{"set": "io')
    resultlines.append(path, line(job(seed=1)))
    assert [result["seed"] for result in resultlines.read(path)] == [0, 1]
    assert "is cut short" in capsys.readouterr().err


def test_absent_data_give_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracesets, "DATA", tmp_path)
    monkeypatch.setattr(sys, "argv", ["fidelity.py", "--results", str(tmp_path / "r"), "--methods", "real"])
    assert fidelity.main() == 1
    assert capsys.readouterr().err.splitlines() == [f"the shared data are not at {tmp_path}: set NETGEN_SHARED_DATA"]


def test_zero_times_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracesets, "missing_data", lambda: None)
    monkeypatch.setattr(fidelity, "commit", lambda: "abc")
    monkeypatch.setattr(
        sys, "argv", ["fidelity.py", "--results", str(tmp_path / "r"), "--methods", "real", "--times", "0"]
    )
    assert fidelity.main() == 1
    assert capsys.readouterr().err == "--times must be at least 1, got 0\n"


@pytest.mark.slow
def test_with_times_classifiers_also_learn_from_all_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other metrics are those of the first flows, as many as there are real ones."""
    monkeypatch.setattr(usefulness, "NETWORK_STEPS", 2)
    monkeypatch.setattr(usefulness, "N_TREES", 10)
    rng = np.random.default_rng(0)
    requests = []

    def flows(number: int, wrong: int = 0) -> FlowTable:
        """Build flows of small and of large packets; the last `wrong` flows of each class have the other label."""
        large = np.tile([False, True], number)
        series = np.zeros((len(large), 4, 32), np.int64)
        series[:, 2] = rng.integers(1, 9, (len(large), 32))
        series[:, 0] = np.where(large, 1400, 100)[:, None] * series[:, 2]
        labelled_large = large != (np.arange(len(large)) >= 2 * (number - wrong))
        return FlowTable.build(series, spec, label=np.where(labelled_large, "large", "small").tolist())

    def generate(_train: FlowTable, counts: dict[str, int], *_: Any) -> generators.Generated:
        requests.append(counts)
        return generators.Generated(flows(60, wrong=40), {})

    spec = SeriesSpec(length=32, bin_ns=10**6)
    monkeypatch.setattr(fidelity, "load", lambda _: (flows(20), flows(20)))
    monkeypatch.setattr(fidelity, "generator_named", lambda _: generate)
    arguments = argparse.Namespace(dgan_python=None, keep=None)
    many = fidelity.run(dataclasses.replace(job(), times=3), arguments)
    assert requests == [{"large": 60, "small": 60}]
    assert many["n_flows"] == 120
    assert many["metrics"]["forest_accuracy"] == 1.0
    assert many["metrics"]["forest_many_accuracy"] < 0.5
    once = fidelity.run(dataclasses.replace(job(), times=1), arguments)
    assert requests[1] == {"large": 20, "small": 20}
    assert "forest_many_ratio" not in once["metrics"]


# --- the tables ---


def test_cells_are_means_and_spreads_over_the_seeds_of_one_budget_and_commit() -> None:
    old = line(job(commit="old"), metrics={"forest_ratio": 0.1})
    new = [line(job(seed=seed), metrics={"forest_ratio": value}) for seed, value in enumerate((0.9, 1.0, 1.1))]
    new[2]["metrics"]["forest_accuracy"] = 0.5
    (row,), left = fidelity_table.rows([old, *new], ["iot"])
    assert left == 1
    assert row.cell(fidelity_table.USEFUL[1]) == "1.000 ± 0.100"
    assert row.cell(fidelity_table.USEFUL[0]) == "0.500 (n=1)"
    assert row.cell(fidelity_table.USEFUL[2]) == "-"


def test_ratios_and_gaps_are_taken_seed_by_seed() -> None:
    (row,), _ = fidelity_table.rows([line(job())], ["iot"])
    cells = {column.head: row.cell(column) for column in fidelity_table.REAL[:5]}
    assert cells["above real"] == "0.400"
    assert cells["earth mover's over real"] == "2.00"
    assert cells["up bytes"] == "3.00"


def test_thresholds_are_checked() -> None:
    own = line(job())
    peers = [
        line(job("doppelganger", minutes=5.0), metrics={"forest_accuracy": 0.7, "frechet": 18.0}),
        line(job("netdiffus"), metrics={"forest_accuracy": 0.8, "frechet": 17.9}),
    ]
    rows, _ = fidelity_table.rows([own, *peers], ["iot"])
    checks = {check.name: check for check in fidelity_table.checks(rows[-1], {row.method: row for row in rows})}
    assert rows[-1].method == "netgen"
    assert checks["forest's accuracy over real"].holds is False
    assert checks["CNN's accuracy over real"].holds is None
    assert checks["forest's accuracy over DoppelGANger's"].holds is False  # 1.143
    assert checks["forest's accuracy over DoppelGANger's"].measured == "1.143 (5 and 10 minutes)"
    assert checks["forest's accuracy over netdiffus's"].holds is False  # not above
    assert checks["Frechet distance over DoppelGANger's"].holds is True  # a third
    assert checks["Frechet distance over netdiffus's"].holds is False
    assert checks["real-or-fake AUC above real"].holds is False
    assert checks["training, minutes"].holds is True
    assert checks["flows a second"].holds is False
    assert checks["177 TFLOP over FLOPs a sample"].holds is True
    text = fidelity_table.report([own, *peers], ["iot"])
    assert "| iot | netgen | 1 | flows a second | at least 200 | 199 | NO |" in text
    assert "Machine: a machine, cpu" in text


def test_results_survive_json() -> None:
    """Keys are compared after a round trip: tuples and numbers must come back as they were."""
    assert fidelity.key_of(json.loads(json.dumps(line(job())))) == job().key()
