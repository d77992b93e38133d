"""Fixtures shared by the tests: real data, small captures, tables and models, and the command line."""

import dataclasses
import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from support.examples import ALL_EXAMPLES
from support.packets import Packet, write_pcap
from support.real_data import SIZE_UNITS

# shared machines are slow at times, so there is no deadline; pytest-timeout ends tests that hang
settings.register_profile("netgen", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("netgen")


def pytest_configure(config: pytest.Config) -> None:
    """Try all hypothesis examples where slow tests run too."""
    if not config.option.markexpr:
        os.environ[ALL_EXAMPLES] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that read the shared data with `real_data`."""
    for test in items:
        if "shared_data" in getattr(test, "fixturenames", ()):
            test.add_marker("real_data")


if TYPE_CHECKING:
    from netgen.capture.table.flow_table import FlowTable
    from netgen.model.model import Model

NS = 1_000_000_000

# importing pyts compiles its functions for 20 s; without compilation they give the same numbers
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real traffic beside the checkout, or the one that NETGEN_SHARED_DATA names."""
    given = os.environ.get("NETGEN_SHARED_DATA")
    path = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"the shared data are not at {path}; NETGEN_SHARED_DATA can name the folder")
    return path


@pytest.fixture(scope="session")
def pcap_bytes() -> Callable[..., bytes]:
    """Return a function from (time_ns, packet) pairs to the bytes of a pcap file."""
    return write_pcap


@pytest.fixture
def pcap_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes (time_ns, packet) pairs to a pcap file in the test's folder."""

    def write(packets: Iterable[tuple[int, bytes]], name: str = "a.pcap", **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(write_pcap(packets, **options))  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture(scope="session")
def packet() -> type[Packet]:
    """Return the builder of packets: `packet.tcp4(1234, 80, flags)`, `packet.ether(payload, kind)` ..."""
    return Packet


@pytest.fixture(scope="session")
def real_table(shared_data: Path) -> "Callable[[str], FlowTable]":
    """Return a cached function from the name of a real data set to its flow table, with the automatic bin width."""
    from netgen.capture.importers.traces import import_traces

    return functools.cache(
        lambda name: import_traces(shared_data / "series" / f"{name}.parquet", size_unit=SIZE_UNITS[name])
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, so that sums are added in the same order on every machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quick_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrate on few samples with few trees, for tests of trainings whose quality does not matter."""
    from netgen.training import calibration

    for name, value in {"MOST": 24, "IN_ALL": 48, "LEAST": 6, "JUDGED": 60, "TREES": 5}.items():
        monkeypatch.setattr(calibration, name, value)


@pytest.fixture(scope="session")
def tiny_flows() -> "FlowTable":
    """Build three classes that differ in volume and direction: 20 flows each, 16 bins of 0.1 s."""
    import numpy as np

    from netgen.capture.series.spec import SeriesSpec
    from netgen.capture.table.flow_table import FlowTable

    rng = np.random.default_rng(0)
    count = rng.integers(0, 3, (60, 2, 16))
    count[:, 0, 0] = 1  # the first packet
    labels = np.repeat(["Web-TLS", "dns-doh", "dns-plain"], 20)
    count[labels == "Web-TLS", 1] *= 20
    size = rng.integers(60, 1500, count.shape)
    series = np.concatenate([count * size, count], axis=1)
    return FlowTable.build(series, SeriesSpec(bin_ns=NS // 10, length=16), label=labels.tolist())


@pytest.fixture(scope="session")
def tiny_model_file(tiny_flows: "FlowTable", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model for 30 steps: enough to know the names of the classes, not to be good."""
    pytest.importorskip("torch")
    from netgen import train

    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    train(tiny_flows, out=path, training_steps=30, threads=1, precision="float32", validation=0)
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_model_file: Path) -> "Model":
    """Load the model of `tiny_model_file`."""
    from netgen import load

    return load(tiny_model_file)


@pytest.fixture
def bundled_folder(tiny_model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a package folder in which the tiny model is the only bundled one."""
    import netgen.model.registry

    folder = tmp_path / "bundled"
    folder.mkdir()
    shutil.copy(tiny_model_file, folder)
    (folder / "tiny.md").write_text("# tiny\nWhere it comes from.\n")
    monkeypatch.setattr(netgen.model.registry, "FOLDER", folder)
    return folder


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def netgen_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return a function that runs `netgen` with these arguments in this process."""
    from netgen.cli.app import main

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["netgen", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run
