"""The installed package: modules, models, the command. .ci/run also tests the wheel outside the checkout."""

import ast
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import netgen
from netgen.capture import native
from netgen.exporters.pcap.plan import plan

pytestmark = pytest.mark.wheel
COMMAND = Path(sys.executable).with_name("netgen")


def run(*words: object, cwd: Path | None = None) -> str:
    """Run a command in a fresh process; return its stdout."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


HOME = Path(netgen.__file__).resolve().parent
FOLDERS = ("capture", "encoders", "diffusion", "exporters")


def test_one_package_is_installed_and_typed() -> None:
    """site-packages holds `netgen` alone; on CI, in the environment of the wheel."""
    assert (HOME / "py.typed").is_file()
    site_packages = os.environ.get("NETGEN_INSTALLED_IN")
    if site_packages:
        assert HOME.is_relative_to(Path(site_packages).resolve())
        assert not any((HOME.parent / folder).exists() for folder in FOLDERS)


def test_the_distribution_has_the_packages_version() -> None:
    assert importlib.metadata.version("netgen") == netgen.__version__
    assert run(COMMAND, "--version") == f"netgen {netgen.__version__}\n"


def test_every_exported_name_loads() -> None:
    """`dir(netgen)` lists exactly these names."""
    assert sorted(netgen.__all__) == netgen.__all__
    assert dir(netgen) == sorted([*netgen.__all__, "__version__"])
    assert all(getattr(netgen, name) is not None for name in netgen.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        netgen.nothing  # noqa: B018


def test_type_checkers_see_the_names_that_run() -> None:
    """Names are loaded on first use; type checkers see the same names."""
    tree = ast.parse((HOME / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    modules = {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(modules) == netgen.__all__
    for name, module in modules.items():
        assert getattr(importlib.import_module(module), name) is getattr(netgen, name)


def test_folders_of_the_same_names_beside_a_script_do_no_harm(tmp_path: Path) -> None:
    """A user's own capture.py, encoders/, diffusion/ or exporters/ is not imported."""
    (tmp_path / "capture.py").write_text("raise RuntimeError\n")
    for folder in ("encoders", "diffusion", "exporters"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("raise RuntimeError\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, netgen\n"
        "model = netgen.load('video')\n"
        "netgen.write(model.sample('netflix', 2), 'new.pcap')\n"
        "print(len(netgen.extract('new.pcap')))\n"
    )
    assert run(sys.executable, script, cwd=tmp_path) == "2\n"


def test_help_loads_nothing_heavy() -> None:
    """torch, pyarrow and numpy are imported only when a command needs them."""
    code = (
        "import sys; from netgen.cli.app import app; app(['--help'], standalone_mode=False); "
        "print(sorted({'torch', 'pyarrow', 'numpy', 'matplotlib', 'numba'} & set(sys.modules)))"
    )
    assert run(sys.executable, "-c", code).splitlines()[-1] == "[]"


def test_the_bundled_models_have_cards() -> None:
    """`video` and `base`, with the classes of the README, at most 12 MB each."""
    models = {model.name: model for model in netgen.bundled_models()}
    assert sorted(models) == ["base", "video"]
    assert set(models["video"].metadata["classes"]) == {"netflix", "youtube", "twitch", "bilibili"}
    assert {"alexa", "iot-setup", "tor-web"} < set(models["base"].metadata["classes"])
    for model in models.values():
        assert model.path.stat().st_size <= 12_000_000
        assert "# Model card" in model.card.read_text("utf-8")


def test_the_bundled_model_samples_netflix_flows(tmp_path: Path) -> None:
    """Extracting the capture gives the series of the table."""
    for name in ("a.parquet", "a.pcap"):
        assert name in run(COMMAND, "synth", "--class", "netflix", "-n", "3", "-o", name, cwd=tmp_path)
    table = netgen.FlowTable.read(tmp_path / "a.parquet")
    assert table.labels.tolist() == ["netflix"] * 3
    again = netgen.extract(tmp_path / "a.pcap", spec_from=table)
    # as in the table, except for bins that no packets can represent, which the exporter repairs and counts
    assert np.array_equal(again.series(), plan(table, seed=0).series)


def test_the_reader_is_compiled_if_a_c_compiler_exists() -> None:
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler is installed")
    assert native.ready(), "install netgen anew: pip install -c constraints.txt -e '.[test]'"
