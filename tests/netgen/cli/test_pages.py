"""docs/use.md and docs/ids.md: their commands and Python blocks run, and their figures agree with docs/figures.md."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support.paths import ROOT

from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable

pytestmark = [pytest.mark.slow, pytest.mark.train]

USE, IDS = (ROOT / "docs" / name for name in ("use.md", "ids.md"))

#: Options of the pages that take long, and what the tests run instead.
SHORTER = {
    "--minutes 6": "--training-steps 2 --precision float32 --sampling-steps 2",
    "-n 400": "-n 24 --sampling-steps 2",
    "-n 200": "-n 12 --sampling-steps 2",
}


def sections(page: Path) -> dict[str, list[str]]:
    """Return the Python blocks under each heading that has any."""
    pieces = re.split(r"^## (.*)\n", page.read_text("utf-8"), flags=re.MULTILINE)[1:]
    blocks = {
        heading: re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for heading, text in zip(pieces[::2], pieces[1::2], strict=True)
    }
    return {heading: bodies for heading, bodies in blocks.items() if bodies}


def shell_blocks(page: Path) -> list[str]:
    """Return the shell blocks of a page."""
    return re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def run_python(code: str, folder: Path, *checks: str) -> str:
    """Run a block, then `checks`, in a process where warnings are errors; return its stdout."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-W", "error", "-c", "\n".join([code, *checks])]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_shell(block: str, folder: Path) -> None:
    """Run the netgen commands of a block with `SHORTER` options."""
    for old, new in SHORTER.items():
        block = block.replace(old, new)
    command = Path(sys.executable).with_name("netgen")
    for line in block.splitlines():
        words = [str(command) if word == "netgen" else word for word in shlex.split(line, comments=True)]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


# --- docs/use.md ---

#: Heading -> what must hold after its last block; `flows` is the table read by netgen.
CHECKS = {
    "scikit-learn": "assert len(predicted) == len(X_test) == 12",
    "PyTorch": "assert len(predicted) == 12 and list(train.classes) == list(test.classes) == flows.classes",
    "pandas": "assert np.array_equal(down, flows.series()[:, 1]) and frame['peak'].max() == down.max()",
    "polars": "assert down.tolist() == flows.series()[:, 1].tolist() and by_class['flows'].sum() == 24",
    "DuckDB": (
        "down = flows.series()[:, 1]\n"
        "assert [(name, number) for name, number, *_ in by_class] == list(flows.counts().items())\n"
        "assert [number for _, number in busiest] == sorted(down.sum(0).tolist())[:-4:-1]"
    ),
    "Hugging Face datasets": (
        "assert rows.num_rows == {'train': 24}\n"
        "assert rows['train']['label'] == flows.labels.tolist()\n"
        "import json, pathlib\n"
        "assert 'license: unknown' in pathlib.Path('video-flows/README.md').read_text()"
    ),
}


@pytest.fixture(scope="module")
def use_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the tables of docs/use.md with its own commands."""
    folder = tmp_path_factory.mktemp("use")
    run_shell(shell_blocks(USE)[0], folder)
    return folder


@pytest.mark.parametrize("heading", CHECKS)
def test_every_section_runs_and_agrees_with_netgen(heading: str, use_folder: Path) -> None:
    """Every block runs by itself, unchanged."""
    if heading.startswith("Hugging Face") and not find_spec("datasets"):
        pytest.skip("datasets is not installed; the test extra has it")
    *first, last = sections(USE)[heading]
    for block in first:
        run_python(block, use_folder)
    run_python(last, use_folder, "import netgen", "flows = netgen.FlowTable.read('new.parquet')", CHECKS[heading])


def test_every_section_is_tested() -> None:
    assert list(sections(USE)) == list(CHECKS)


# --- docs/ids.md ---


@pytest.fixture
def random_tables(tmp_path: Path) -> Path:
    """Write random tables with the classes that docs/ids.md expects."""
    match = re.search(r"^BENIGN = \((.*)\)$", IDS.read_text("utf-8"), re.MULTILINE)
    assert match is not None
    names = match[1].replace('"', "").split(", ")
    labels = np.repeat([*names, "Attack-1", "Attack-2"], [20, 12, 12, 12, 12])
    for number, name in enumerate(("all", "test")):
        count = np.random.default_rng(number).integers(0, 3, (len(labels), 2, 16))
        count[:, 0, 0] = 1
        count[labels == "Attack-1", 1] *= 20
        series = np.concatenate([count * 500, count], axis=1)
        FlowTable.build(series, SeriesSpec(bin_ns=10**8, length=16), label=labels.tolist()).write(
            tmp_path / f"{name}.parquet"
        )
    return tmp_path


def run_ids_page(folder: Path) -> str:
    """Run the steps of docs/ids.md after the import; return what its blocks print."""
    (imbalance,), _, (classify,) = sections(IDS).values()
    message = run_python(imbalance, folder)
    run_shell(next(block for block in shell_blocks(IDS) if "netgen augment" in block), folder)
    return message + run_python(classify, folder)


def test_the_ids_page_runs(random_tables: Path) -> None:
    """Balance random flows with a model trained for two steps, and classify."""
    message = run_ids_page(random_tables)
    assert FlowTable.read(random_tables / "flows.parquet").counts()["Attack-1"] == 8
    balanced = FlowTable.read(random_tables / "balanced.parquet")
    assert set(balanced.counts().values()) == {20}
    assert sum(balanced.table["synthetic"].to_pylist()) == 12 + 12 + 8 + 8
    assert message.count("macro F1") == 2
    assert "of them synthetic" in (random_tables / "balanced.card.md").read_text("utf-8")
    (fill,) = sections(IDS)["2. Fill up the classes"]
    assert 'target="balance", minutes=6' in fill
    run_python(fill.replace("minutes=6", "training_steps=2, precision='float32'"), random_tables)
    assert set(FlowTable.read(random_tables / "balanced.parquet").counts().values()) == {20}


def test_the_ids_page_runs_on_the_real_flows(shared_data: Path, tmp_path: Path) -> None:
    """Balance certta_flows with a shorter training: the page names the right classes and numbers."""
    (tmp_path / "certta_flows.parquet").symlink_to(shared_data / "series" / "certta_flows.parquet")
    run_shell(next(block for block in shell_blocks(IDS) if "netgen import" in block), tmp_path)
    message = run_ids_page(tmp_path)
    assert list(FlowTable.read(tmp_path / "flows.parquet").counts().values()) == [210, 8, 8, 8, 84, 8, 8, 8, 84]
    assert set(FlowTable.read(tmp_path / "balanced.parquet").counts().values()) == {210}
    assert "macro avg" in message


def test_the_benchmark_of_the_ids_page_prints_its_rows(shared_data: Path) -> None:
    """benchmarks/ids.py prints the rows of the page's table, here after two training steps."""
    words = shlex.split("--steps 2 --sampling-steps 2 --seeds 0 --keep 80 --forests 1 --trees 10")
    environment = {**os.environ, "NETGEN_SHARED_DATA": str(shared_data)}
    words = [sys.executable, str(ROOT / "benchmarks" / "ids.py"), *words]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [row.split(" | ")[0] for row in done.stdout.splitlines() if row.startswith("| ")]
    (page,) = re.findall(r"^\| random forest trained on .*\n(?:\|.*\n)+", IDS.read_text("utf-8"), re.MULTILINE)
    on_page = [row.split(" | ")[0].partition(" (what")[0] for row in page.splitlines() if row.startswith("| ")]
    assert on_page == rows[: len(on_page)]


def test_the_figures_of_the_ids_page_are_those_of_the_figures_page() -> None:
    rows = re.findall(r"^\|.*\d\.\d\d.*$", IDS.read_text("utf-8"), re.MULTILINE)
    assert len(rows) >= 7
    figures = (ROOT / "docs" / "figures.md").read_text("utf-8").splitlines()
    assert [row for row in rows if row not in figures] == []
