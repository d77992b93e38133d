"""The pages keep their word: commands parse, links lead somewhere, examples run, lists are complete."""

import csv
import importlib.metadata
import re
import runpy
import shlex
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
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
GROUP: Any = typer.main.get_command(app)
SHELLS = ("sh", "bash", "shell", "console")


def page_id(value: Any) -> Any:
    return value.name if isinstance(value, Path) else None


def blocks(text: Any, *languages: Any) -> Any:
    """Bodies of a page's fenced blocks of these languages."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [body for language, body in fenced if language in languages]


def command_lines(text: Any) -> Iterator[Any]:
    """Every netgen command of the shell blocks, as words; of a block with prompts, only what follows one."""
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


def parse(words: Any) -> None:
    """Parse a command line, and run nothing."""
    with GROUP.make_context("netgen", words[1:]) as context:
        if not words[1].startswith("-"):
            GROUP.commands[words[1]].make_context(words[1], words[2:], parent=context)


def constraints() -> Any:
    """Name -> pinned version, of constraints.txt."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def requirements() -> Any:
    """All that pyproject.toml asks for, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    return [Requirement(text) for text in [*project["dependencies"], *extras]]


def test_the_reference_is_the_commands_own_help() -> None:
    """docs/cli.md is what docs/make_cli.py prints."""
    pinned = constraints()["typer"]
    if importlib.metadata.version("typer") != pinned:
        pytest.skip(f"help is worded by typer, and docs/cli.md by typer {pinned} (constraints.txt)")
    made = runpy.run_path(str(ROOT / "docs" / "make_cli.py"))["reference"]()
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == made, "renew it: python docs/make_cli.py > docs/cli.md"


@pytest.mark.parametrize("name", command_names())
def test_every_command_has_help_and_stands_in_the_docs(name: Any) -> None:
    """The command, its options and arguments are described; a page other than the reference uses it."""
    command = GROUP.commands[name]
    assert command.help
    assert [parameter.name for parameter in command.params if not parameter.help] == []
    assert f"## `netgen {name}`" in (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert any(f"netgen {name}" in page.read_text("utf-8") for page in PAGES if page.name != "cli.md")


def test_command_lines_are_extracted_from_pages() -> None:
    """The reader of shell blocks finds what is there."""
    text = "```sh\na '.[b]' && netgen synth \\\n  -n 1 # why\n```\n```console\n$ netgen info x > y\nnetgen out\n```\n"
    assert list(command_lines(text)) == [["netgen", "synth", "-n", "1"], ["netgen", "info", "x"]]
    pages = {page.name for page in PAGES if list(command_lines(page.read_text("utf-8")))}
    assert pages >= {"README.md", "labels.md"}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_line_of_a_page_parses(page: Path) -> None:
    """Commands, options and arguments are those that netgen has."""
    for words in command_lines(page.read_text("utf-8")):
        try:
            parse(words)
        except Exception as error:
            pytest.fail(f"{shlex.join(words)}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_named_in_the_text_exist(page: Any) -> None:
    """`netgen NAME --option` within a sentence names a command and options of it."""
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
def test_a_wrong_command_line_would_be_noticed(words: Any) -> None:
    """What the parser of the docs' commands is worth."""
    with pytest.raises(Exception, match=r"(?i)no such|missing|'sinth'"):
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_relative_link_leads_to_a_file(page: Any) -> None:
    """Links and pictures; what stands in fenced blocks is no link."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)", text)
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in local if target and not (page.parent / target).exists()] == []


def test_ci_runs_the_readmes_commands() -> None:
    """.ci/run takes its commands from marked blocks of the README: the first of each is known."""
    text = (ROOT / "README.md").read_text("utf-8")
    marked: dict[str, list[str]] = {}
    for mark, body in re.findall(r"^<!-- ci: (\w+) -->\n```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        marked.setdefault(mark, []).extend(line[2:] for line in body.splitlines() if line.startswith("$ "))
    assert marked["test"] == ["pip install -c constraints.txt -e '.[test]' && pytest"]
    assert marked["use"][0].startswith("pip install -c constraints.txt . && netgen synth --class netflix -n 5 ")


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


def test_the_version_is_one() -> None:
    """The project takes its version from the package; the change log names the same one."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in pyproject["project"]["dynamic"]
    assert (
        runpy.run_path(str(ROOT / pyproject["tool"]["hatch"]["version"]["path"]))["__version__"] == netgen.__version__
    )
    assert f"\n## [{netgen.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_labels_page_lists_all_known_names() -> None:
    """Every suffix of the built-in table and every known name of a column stands in docs/labels.md."""
    rows = re.findall(r"^\| `?([\w-]+)`? \|(.*)\|$", (ROOT / "docs" / "labels.md").read_text("utf-8"), re.MULTILINE)
    table = {name: {cell.strip() for cell in rest.split("|")[-1].split(",")} for name, rest in rows}
    suffixes: dict[str, set[str]] = {}
    with BUNDLED_TABLE.open(newline="") as stream:
        for row in csv.DictReader(stream):
            suffixes.setdefault(row["class"], set()).add(row["suffix"])
    assert {name: table.get(name) for name in suffixes} == suffixes
    assert {name: table.get(name) for name in COLUMNS} == {name: set(names) for name, names in COLUMNS.items()}


def test_the_flow_tables_examples_run_and_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """netgen, pandas, polars, DuckDB and pyarrow read the same numbers, as docs/flow-table.md has it."""
    monkeypatch.chdir(tmp_path)
    count = np.random.default_rng(0).integers(0, 5, (7, 2, 12))
    spec = SeriesSpec(bin_ns=250_000_000, length=12)
    labels = ["a", "b", "a", None, "b", "a", "c"]
    table = FlowTable.build(np.concatenate([count * 99, count], axis=1), spec, label=labels)
    table.write("flows.parquet")
    space: dict[str, Any] = {}
    seen = []
    for code in blocks((ROOT / "docs" / "flow-table.md").read_text("utf-8"), "python"):
        space.pop("down", None)
        exec(code, space)
        seen.append(np.array_equal(space["down"], table.series()[:, 1]))
    assert seen == [True] * 5
    assert space["seconds"] == 0.25
    assert space["spec"] == spec.to_json()


@pytest.mark.train
@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pcap_bytes: Any, packet: Any) -> None:
    """The API's lines work as they stand, but for a shorter training and fewer flows."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("netflix", "youtube"), start=1):
        folder = tmp_path / "captures" / name
        folder.mkdir(parents=True)
        packets = [(i * 10**8 * number, packet.udp4(1000 + i % 3, 443, bytes(50 * number))) for i in range(30)]
        (folder / "a.pcap").write_bytes(pcap_bytes(packets))
    (code,) = blocks((ROOT / "README.md").read_text("utf-8"), "python")
    for old, new in (("minutes=10", "steps=2, threads=1, precision='float32'"), (", 100,", ", 2,")):
        assert old in code
        code = code.replace(old, new)
    space: dict[str, Any] = {}
    exec(code, space)
    assert space["X"].shape == (2, 4, 128)
    assert space["y"].tolist() == ["netflix"] * 2
    assert (tmp_path / "new.pcap").stat().st_size > 24
