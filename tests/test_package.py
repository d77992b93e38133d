"""What is installed: packages, models, the command. .ci/run runs this on the wheel, outside the checkout."""

# ci: wheel

import ast
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import capture
import diffusion
import encoders
import exporters
import netgen
from capture import native
from exporters.plan import plan

PACKAGES = (netgen, capture, encoders, diffusion, exporters)

#: What each room may import of the others; `netgen` calls them all.
MAY_IMPORT = {
    "capture": set(),
    "encoders": set(),
    "diffusion": set(),
    "exporters": {"capture"},
    "netgen": {"capture", "encoders", "diffusion", "exporters"},
}
COMMAND = Path(sys.executable).with_name("netgen")


def run(*words, **options):
    """A command, in a fresh process; its stdout."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def home(package):
    return Path(package.__file__).resolve().parent


def test_the_packages_are_siblings_and_typed():
    """All five lie in one folder, each with its py.typed; on CI, in the environment of the wheel."""
    assert len({home(package).parent for package in PACKAGES}) == 1
    assert all((home(package) / "py.typed").is_file() for package in PACKAGES)
    given = os.environ.get("NETGEN_INSTALLED_IN")
    if given:
        assert home(netgen).is_relative_to(Path(given).resolve())


def test_the_distribution_has_the_packages_version():
    assert importlib.metadata.version("netgen") == netgen.__version__
    assert run(COMMAND, "--version") == f"netgen {netgen.__version__}\n"


def test_all_that_the_package_names_is_there():
    """`__all__` is the namespace, and every name in it loads."""
    assert sorted(netgen.__all__) == netgen.__all__
    assert dir(netgen) == sorted([*netgen.__all__, "__version__"])
    assert all(getattr(netgen, name) is not None for name in netgen.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        netgen.nothing  # noqa: B018


def imported(tree):
    """Names of the modules that a file imports, wherever in it, for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "rooms are imported by their own names"
            yield node.module


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_between_the_rooms_run_one_way(room):
    """The house of DESIGN 2: nobody imports netgen, and images know nothing of captures, nor captures of images."""
    folder = home(next(package for package in PACKAGES if package.__name__ == room))
    files = sorted(folder.rglob("*.py"))
    assert len(files) > 1
    found = {file: set(imported(ast.parse(file.read_text("utf-8")))) for file in files}
    wrong = {
        f"{file.relative_to(folder)}: {name}"
        for file, names in found.items()
        for name in names
        if name.split(".")[0] in set(MAY_IMPORT) - MAY_IMPORT[room] - {room}
    }
    assert wrong == set()


def test_imports_within_a_room_make_no_circle():
    """Files too can be read in one order, each after those it builds on."""
    for package in PACKAGES:
        folder = home(package)
        files = {
            ".".join([package.__name__, *file.relative_to(folder).with_suffix("").parts]).removesuffix(
                ".__init__"
            ): file
            for file in folder.rglob("*.py")
        }
        waiting = {}
        for name, file in files.items():
            tree = ast.parse(file.read_text("utf-8"))
            # on the first level only: what waits inside a function is called when all is loaded
            first = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
            waiting[name] = {each for each in imported(first) if each in files} - {name}
        while ready := {name for name, needs in waiting.items() if not needs}:
            waiting = {name: needs - ready for name, needs in waiting.items() if name not in ready}
        assert waiting == {}


def test_type_checkers_see_the_names_that_run():
    """netgen loads its names late; what it tells a type checker is the same."""
    tree = ast.parse((home(netgen) / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    told = {each.name: node.module for node in block.body for each in node.names}
    assert sorted(told) == netgen.__all__
    for name, module in told.items():
        assert getattr(importlib.import_module(module), name) is getattr(netgen, name)


@pytest.mark.parametrize("room", ["capture", "diffusion", "encoders", "exporters"])
def test_a_namesake_of_any_room_is_refused(room, tmp_path):
    """Be it a file or a package."""
    for path in (tmp_path / "file" / f"{room}.py", tmp_path / "package" / room / "__init__.py"):
        path.parent.mkdir(parents=True)
        path.write_text("")
        words = [sys.executable, "-c", "import netgen"]
        where = tmp_path / path.relative_to(tmp_path).parts[0]
        done = subprocess.run(words, cwd=where, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "ImportError: netgen needs its own package" in done.stderr
        assert str(path) in done.stderr


def test_a_namesake_of_a_room_is_refused_by_name(tmp_path):
    """A user's own encoders.py beside a script is named, with what to do."""
    (tmp_path / "encoders.py").write_text("")
    words = [sys.executable, "-c", "import netgen"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{tmp_path / 'encoders.py'} first. Rename that file" in done.stderr


def test_help_loads_nothing_heavy():
    """torch, pyarrow and numpy wait until a command needs them."""
    code = (
        "import sys; from netgen.cli import app; app(['--help'], standalone_mode=False); "
        "print(sorted({'torch', 'pyarrow', 'numpy', 'matplotlib', 'numba'} & set(sys.modules)))"
    )
    assert run(sys.executable, "-c", code).splitlines()[-1] == "[]"


def test_the_shipped_models_are_there_with_their_cards():
    """`video` and `base`, with the classes of the README, at most 12 MB each."""
    models = {model.name: model for model in netgen.shipped_models()}
    assert sorted(models) == ["base", "video"]
    assert set(models["video"].about["classes"]) == {"netflix", "youtube", "twitch", "bilibili"}
    assert {"alexa", "iot-setup", "tor-web"} < set(models["base"].about["classes"])
    for model in models.values():
        assert model.path.stat().st_size <= 12_000_000
        assert "# Model card" in model.card.read_text("utf-8")


def test_netflix_flows_come_out_of_the_box(tmp_path):
    """The command's capture holds, when extracted, the series of the command's table."""
    for name in ("a.parquet", "a.pcap"):
        assert name in run(COMMAND, "synth", "--class", "netflix", "-n", "3", "-o", name, cwd=tmp_path)
    table = netgen.FlowTable.read(tmp_path / "a.parquet")
    assert table.labels.tolist() == ["netflix"] * 3
    again = netgen.extract(tmp_path / "a.pcap", like=table)
    # as the table has them, but for what no packets can carry, which the exporter mends and counts
    assert np.array_equal(again.series(), plan(table, seed=0).series)


def test_the_reader_is_compiled_where_there_is_a_c_compiler():
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler is here")
    assert native.ready(), "install netgen anew: pip install -c constraints.txt -e '.[test]'"
