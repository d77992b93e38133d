"""Options that several commands share: dry runs, quiet runs, versions, suggestions, warnings."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from support.commands import done, failed, files, only_object, write_capture

import netgen
import netgen.exporters.write
from netgen.capture.native import compiled
from netgen.capture.table.flow_table import FlowTable

QUICK = ("--sampling-steps", 2)
pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_dry_run_of_synth_writes_nothing_and_estimates_the_size(
    tiny_model_file: Path, cwd: Path, netgen_command: Any
) -> None:
    words = ("synth", "-m", tiny_model_file, "-c", "web=40", "-c", "plain=2", "-o", "x.pcap")
    plan = only_object(netgen_command(*words, "--dry-run", "--json"))
    assert plan["would_write"] == ["x.pcap", "x.labels.csv", "x.labels.parquet"]
    assert plan["flows"] == 42
    assert files(cwd) == []
    report = only_object(netgen_command(*words, "--json"))
    assert plan["estimated_bytes"] == pytest.approx(report["bytes_written"], rel=0.5)


def test_a_dry_run_of_export_writes_nothing(tiny_flows: FlowTable, cwd: Path, netgen_command: Any) -> None:
    tiny_flows.write("t.parquet")
    out = done(netgen_command("export", "t.parquet", "-o", "x.pcap", "--no-ground-truth", "--dry-run"))
    assert "would write x.pcap: pcap, 60 flows, about" in out
    assert "before compression" not in out
    assert "before compression" in done(netgen_command("export", "t.parquet", "-o", "x.pcap.zst", "--dry-run"))
    assert files(cwd) == ["t.parquet"]


def test_a_dry_run_of_augment_counts_flows_by_class(
    tiny_flows: FlowTable, tiny_model_file: Path, cwd: Path, netgen_command: Any
) -> None:
    tiny_flows.write("t.parquet")
    out = done(netgen_command("augment", "t.parquet", "-m", tiny_model_file, "--target", 25, "--dry-run"))
    assert "│ dns-doh   │           20 │       5 │        0 │          25 │" in out
    assert "would write t.augmented.parquet: Parquet flow table, 75 flows" in out
    assert files(cwd) == ["t.parquet"]


def test_a_quiet_command_prints_nothing_but_errors(tiny_flows: FlowTable, cwd: Path, netgen_command: Any) -> None:
    write_capture(cwd / "a.pcap", 2, 0)
    tiny_flows.write("t.parquet")
    (cwd / "t.csv").write_text("time,size\n0,60\n")
    for words in (
        ("extract", "a.pcap"),
        ("import", "t.csv"),
        ("export", "t.parquet", "-o", "x.pcap"),
        ("verify", "x.pcap"),
        ("show", "t.parquet"),
    ):
        assert done(netgen_command(*words, "-q")) == ""
    assert "exists already" in failed(netgen_command("extract", "a.pcap", "-q"))
    assert only_object(netgen_command("verify", "x.pcap", "-q", "--json"))["issues"] == []


def test_the_version_has_a_short_option_and_a_hint(netgen_command: Any) -> None:
    assert done(netgen_command("-V")) == f"netgen {netgen.__version__}\n"
    outcome = netgen_command("version")
    assert outcome.code == 2
    assert "netgen --version" in outcome.err


def test_python_runs_the_package_as_a_command() -> None:
    ran = subprocess.run([sys.executable, "-m", "netgen", "-V"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"netgen {netgen.__version__}\n"


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["synth", "-c", "dns-dho", "-m", "tiny"], "dns-doh"),
        (["synth", "-c", "web-tsl"], "Web-TLS"),
        (["models", "tinny"], "tiny"),
        (["show", "t.parquet", "--channel", "down_byte"], "down_bytes"),
        (["show", "t.parquet", "-c", "dsn-doh"], "dns-doh"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("bundled_folder", "cwd")
def test_a_misspelt_name_gets_a_suggestion(
    words: list[str], suggestion: str, tiny_flows: FlowTable, netgen_command: Any
) -> None:
    tiny_flows.write("t.parquet")
    assert f"Did you mean {suggestion!r}?" in failed(netgen_command(*words))


@pytest.mark.usefixtures("cwd")
def test_choices_are_listed_in_help_and_errors(netgen_command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "<series|gasf|gadf|delay>" in done(netgen_command("train", "-h"))
    outcome = netgen_command("train", "t.parquet", "--encoder", "image")
    assert outcome.code == 2
    assert all(name in outcome.err for name in ("series", "gasf", "gadf", "delay"))


@pytest.mark.usefixtures("cwd")
def test_the_default_seed_is_printed_with_a_hint(tiny_model_file: Path, netgen_command: Any) -> None:
    words = ("synth", "-m", tiny_model_file, "-c", "web=1", *QUICK, "-o", "x.csv", "--force")
    hint = "seed 0 (choose another with --seed for different flows)"
    assert hint in done(netgen_command(*words))
    assert hint not in done(netgen_command(*words, "--seed", 1))


def test_a_file_of_another_kind_is_named_with_the_command_for_it(
    tiny_model_file: Path, cwd: Path, netgen_command: Any
) -> None:
    write_capture(cwd / "a.pcap", 1, 0)
    assert "netgen extract a.pcap" in failed(netgen_command("show", "a.pcap"))
    for command in ("export", "train", "augment"):
        assert f"netgen synth --model {tiny_model_file}" in failed(netgen_command(command, tiny_model_file))


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("cwd")
def test_a_large_capture_gives_a_warning(
    tiny_flows: FlowTable, netgen_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netgen.exporters.write, "LARGE_CAPTURE_BYTES", 1000)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # restored after the test
    tiny_flows.write("t.parquet")
    outcome = netgen_command("export", "t.parquet", "-o", "x.pcap")
    assert outcome.code == 0
    assert outcome.err.startswith("netgen: x.pcap will take about 0.0 GB")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("is_built", "is_large", "warns"), [(False, True, True), (False, False, False), (True, True, False)]
)
def test_extract_warns_that_the_compiled_reader_is_missing(
    cwd: Path, netgen_command: Any, monkeypatch: pytest.MonkeyPatch, is_built: bool, is_large: bool, warns: bool
) -> None:
    """Only before large captures, and not if NETGEN_COMPILED=0 switched it off or the command is quiet."""
    size = write_capture(cwd / "a.pcap", 2, 0).stat().st_size
    monkeypatch.setattr("netgen.cli.extract.SLOW_BYTES", size if is_large else size + 1)
    if not is_built:
        monkeypatch.setattr(compiled, "library", lambda: None)
    elif not compiled.ready():
        pytest.skip("no C compiler was there when netgen was built")
    monkeypatch.delenv(compiled.SWITCH, raising=False)
    words = ("extract", "a.pcap", "--force", "--threads", 1)
    outcome = netgen_command(*words)
    assert outcome.code == 0
    assert ("the compiled reader is missing" in outcome.err) == warns
    assert done(netgen_command(*words, "-q")) == ""
    monkeypatch.setenv(compiled.SWITCH, "0")
    assert "wrote a.flows.parquet" in done(netgen_command(*words))


@pytest.mark.usefixtures("cwd")
def test_skip_missing_is_not_advised_where_it_does_not_help(tiny_flows: FlowTable, netgen_command: Any) -> None:
    tiny_flows.take([0, 20, 21, 40, 41]).write("t.parquet")
    message = failed(netgen_command("augment", "t.parquet"))
    assert "too few real flows in class Web-TLS" in message
    assert "--skip-missing" not in message
