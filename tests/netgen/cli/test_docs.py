"""The documentation: its commands parse, links resolve, examples run, and lists are complete."""

import csv
import importlib.metadata
import json
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

import netgen
from netgen.capture.labels.csv_file import COLUMNS
from netgen.capture.names.class_table import BUNDLED_TABLE
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.cli.app import app, command_names

DOCS = sorted((ROOT / "docs").glob("*.md"))
TOP = ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY", "BENCHMARKS")
PAGES = [*(ROOT / f"{name}.md" for name in TOP), *DOCS]
GROUP: Any = typer.main.get_command(app)
SHELLS = ("sh", "bash", "shell", "console")


def page_id(page: Path) -> str:
    return page.name


def blocks(text: str, *languages: str) -> list[str]:
    """Return the contents of a page's fenced blocks in these languages."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [body for language, body in fenced if language in languages]


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the netgen commands of shell blocks, split into words; with prompts, only lines that have one."""
    for body in blocks(text, *SHELLS):
        lines = body.replace("\\\n", " ").splitlines()
        for line in [line[2:] for line in lines if line.startswith("$ ")] or lines:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            command: list[str] = []
            for word in [*lexer, ";"]:
                if word and set(word) <= set("&|;<>()"):
                    if command[:1] == ["netgen"]:
                        yield command
                    command = []
                else:
                    command.append(word)


def parse(words: list[str]) -> None:
    """Parse a command line without running it."""
    with GROUP.make_context("netgen", words[1:]) as context:
        if not words[1].startswith("-"):
            GROUP.commands[words[1]].make_context(words[1], words[2:], parent=context)


def constraints() -> dict[str, str]:
    """Read constraints.txt as name -> pinned version."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==", 1) for line in lines)


def requirements() -> list[Requirement]:
    """List the requirements in pyproject.toml, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    return [Requirement(text) for text in [*project["dependencies"], *extras]]


def test_the_command_reference_is_up_to_date() -> None:
    """docs/cli.md is what docs/make_cli.py prints."""
    pinned = constraints()["typer"]
    if importlib.metadata.version("typer") != pinned:
        pytest.skip(f"docs/cli.md was made with typer {pinned} (constraints.txt), and another version is installed")
    reference = runpy.run_path(str(ROOT / "docs" / "make_cli.py"))["reference"]()
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == reference, (
        "update it: python docs/make_cli.py > docs/cli.md"
    )


@pytest.mark.parametrize("name", command_names())
def test_every_command_has_help_and_is_documented(name: str) -> None:
    """Its options and arguments are described, and a page other than the reference uses it."""
    command = GROUP.commands[name]
    assert command.help
    assert [parameter.name for parameter in command.params if not parameter.help] == []
    assert f"## `netgen {name}`" in (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert any(f"netgen {name}" in page.read_text("utf-8") for page in PAGES if page.name != "cli.md")


def test_command_lines_are_extracted_from_pages() -> None:
    """Continued lines, comments, pipes and prompts are understood."""
    text = "```sh\na '.[b]' && netgen synth \\\n  -n 1 # why\n```\n```console\n$ netgen info x > y\nnetgen out\n```\n"
    assert list(command_lines(text)) == [["netgen", "synth", "-n", "1"], ["netgen", "info", "x"]]
    pages = {page.name for page in PAGES if list(command_lines(page.read_text("utf-8")))}
    assert pages >= {"README.md", "labels.md"}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_line_of_a_page_parses(page: Path) -> None:
    """Commands, options and arguments exist."""
    for words in command_lines(page.read_text("utf-8")):
        try:
            parse(words)
        except Exception as error:
            pytest.fail(f"{shlex.join(words)}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_named_in_the_text_exist(page: Path) -> None:
    """`netgen NAME --option` within a sentence names an existing command and its options."""
    for code in re.findall(r"`(netgen\s[^`]+)`", page.read_text("utf-8")):
        words = code.split()[1:]
        options = {"-h", "--help", *(option for parameter in GROUP.params for option in parameter.opts)}
        if not words[0].startswith("-"):
            assert words[0] in GROUP.commands, code
            options = {"-h", "--help"} | {
                option
                for parameter in GROUP.commands[words[0]].params
                for option in [*parameter.opts, *parameter.secondary_opts]
            }
        unknown = [word for word in words if word.startswith("-") and word not in options]
        assert not unknown, f"{code}: {unknown}"


@pytest.mark.parametrize("words", [["netgen", "synth", "--clas", "a"], ["netgen", "sinth"], ["netgen", "info"]])
def test_a_wrong_command_line_is_detected(words: list[str]) -> None:
    """The test of the pages' command lines would fail for it."""
    with pytest.raises(Exception, match=r"(?i)no such|missing|'sinth'"):
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_relative_link_resolves(page: Path) -> None:
    """Links and images outside of fenced blocks lead to existing files."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)", text)
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in local if target and not (page.parent / target).exists()] == []


def test_the_readme_has_the_blocks_that_ci_runs() -> None:
    """.ci/run takes its commands from the marked blocks of README.md."""
    text = (ROOT / "README.md").read_text("utf-8")
    marked: dict[str, list[str]] = {}
    for mark, body in re.findall(r"^<!-- ci: (\w+) -->\n```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        marked.setdefault(mark, []).extend(line[2:] for line in body.splitlines() if line.startswith("$ "))
    assert marked["test"] == ["pip install -c constraints.txt -e '.[test]' && pytest"]
    install = "pip install -c constraints.txt . && netgen synth --class netflix -n 5 -o netflix.pcap"
    assert marked["use"][0] == install


def test_every_dependency_is_pinned_and_explained() -> None:
    """constraints.txt pins what pyproject.toml allows, and docs/dependencies.md says what each is for."""
    pins = constraints()
    assert list(pins) == sorted(pins)
    page = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    named = {word.strip() for row in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE) for word in row.split(",")}
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        assert requirement.specifier.contains(pins[name]), f"{requirement} but {pins[name]}"
        assert name in named, name


def test_the_version_is_stated_once() -> None:
    """pyproject.toml reads it from netgen/_version.py; CITATION.cff omits it; the change log has an entry for it."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in pyproject["project"]["dynamic"]
    assert pyproject["tool"]["hatch"]["version"]["path"] == "netgen/_version.py"
    assert runpy.run_path(str(ROOT / "netgen" / "_version.py"))["__version__"] == netgen.__version__
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert f"\n## [{netgen.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_labels_page_lists_all_known_suffixes_and_columns() -> None:
    """docs/labels.md has every suffix of the bundled table and every known column name."""
    rows = re.findall(r"^\| `?([\w-]+)`? \|(.*)\|$", (ROOT / "docs" / "labels.md").read_text("utf-8"), re.MULTILINE)
    table = {name: {cell.strip() for cell in rest.split("|")[-1].split(",")} for name, rest in rows}
    suffixes: dict[str, set[str]] = {}
    with BUNDLED_TABLE.open(newline="") as stream:
        for row in csv.DictReader(stream):
            suffixes.setdefault(row["class"], set()).add(row["suffix"])
    assert {name: table.get(name) for name in suffixes} == suffixes
    assert {name: table.get(name) for name in COLUMNS} == {name: set(names) for name, names in COLUMNS.items()}


def test_the_examples_of_reading_a_flow_table_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code in docs/flow-table.md reads the same numbers by netgen, pandas, polars, DuckDB and pyarrow."""
    monkeypatch.chdir(tmp_path)
    count = np.random.default_rng(0).integers(0, 5, (7, 2, 12))
    spec = SeriesSpec(bin_ns=250_000_000, length=12)
    labels = ["a", "b", "a", None, "b", "a", "c"]
    table = FlowTable.build(np.concatenate([count * 99, count], axis=1), spec, label=labels)
    table.write("flows.parquet")
    space: dict[str, Any] = {}
    agree = []
    for code in blocks((ROOT / "docs" / "flow-table.md").read_text("utf-8"), "python"):
        space.pop("down", None)
        exec(code, space)
        agree.append(np.array_equal(space["down"], table.series()[:, 1]))
    assert agree == [True] * 5
    assert space["seconds"] == 0.25
    assert space["spec"] == spec.to_json()


@pytest.mark.parametrize(("name", "limit"), [("README.md", 1000), ("docs/figures.md", 1500)])
def test_long_pages_keep_to_their_limit_of_words(name: str, limit: int) -> None:
    assert len((ROOT / name).read_text("utf-8").split()) <= limit


def test_the_glossary_explains_at_least_60_terms() -> None:
    """Every term has a row of its own, with an explanation."""
    rows = re.findall(r"^\| \*\*.+\*\*.* \| (.+) \|$", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) >= 60
    assert all(len(row.split()) >= 3 for row in rows)


@pytest.mark.train
@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pcap_bytes: Any, packet: Any) -> None:
    """It runs unchanged, except for a shorter training and fewer flows."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("netflix", "youtube"), start=1):
        folder = tmp_path / "captures" / name
        folder.mkdir(parents=True)
        packets = [(i * 10**8 * number, packet.udp4(1000 + i % 3, 443, bytes(50 * number))) for i in range(30)]
        (folder / "a.pcap").write_bytes(pcap_bytes(packets))
    (code,) = blocks((ROOT / "README.md").read_text("utf-8"), "python")
    for old, new in (("minutes=10", "training_steps=2, threads=1, precision='float32'"), (", 100,", ", 2,")):
        assert old in code
        code = code.replace(old, new)
    space: dict[str, Any] = {}
    exec(code, space)
    assert space["X"].shape == (2, 4, 128)
    assert space["y"].tolist() == ["netflix"] * 2
    assert (tmp_path / "new.pcap").stat().st_size > 24


@pytest.mark.train
@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    """Its code cells run one after the other in a fresh process, without the lines for IPython."""
    notebook = ROOT / "docs" / "notebook.ipynb"
    if not notebook.is_file():
        pytest.skip("docs/notebook.ipynb does not exist yet")
    cells = [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in cells for line in [*"".join(cell["source"]).splitlines(), ""]]
    program = "\n".join(line for line in lines if not line.startswith("%"))
    (tmp_path / "notebook.py").write_text(f"import matplotlib\nmatplotlib.use('Agg')\n{program}")
    ran = subprocess.run([sys.executable, "notebook.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
