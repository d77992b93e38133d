"""Errors of the command line: one line on stderr, exit codes, pipes and full disks."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.commands import COMMAND, failed, files, write_capture

import netgen.cli.app

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "words",
    [
        ["extract"],
        ["synth"],
        ["train"],
        ["nonsense"],
        ["synth", "--class", "x", "--seed", "one"],
        ["synth", "--class", "x", "--device", "tpu"],
        ["extract", "a.pcap", "--colour"],
        ["show", "--class"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_an_error_on_stderr_with_code_2(words: Any, cwd: Any, netgen_command: Any) -> None:
    outcome = netgen_command(*words)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Error" in outcome.err
    assert files(cwd) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["synth", "-c", "web", "-n", 0], "-n must be at least 1, got 0"),
        (["synth", "-c", "web=x"], "'x' is not a number of flows"),
        (["synth", "-c", "=3"], "'=3' names no class"),
        (["synth", "-c", ""], "'' names no class"),
        (["synth", "-c", "web", "-m", "tiny", "-o", "x.pcap", "--seed", 10**30], "at most 18 digits"),
        (["extract", "a.pcap", "--label", " "], "' ' is not a class name"),
        (["import", "a.csv", "--label", ""], "'' is not a class name"),
        (["extract", "a.pcap", "--labels", "a.pcap"], "a.pcap is not text in UTF-8"),
        (["synth", "-c", "all", "-c", "web"], "--class all"),
        (["synth", "-c", "all"], "--class all needs --model"),
        (["synth", "-c", "web", "--model", "no.safetensors"], "no model no.safetensors"),
        (["synth", "-c", "web", "--sampling-steps", 1, "-m", "tiny"], "--sampling-steps must be at least 2, got 1"),
        (["synth", "-c", "web", "--sampling-steps", 0, "-m", "tiny"], "--sampling-steps must be at least 2, got 0"),
        (["synth", "-c", "web", "--guidance", "nan", "-m", "tiny"], "--guidance must be 0 or greater, got nan"),
        (["synth", "-c", "web", "-c", "web=2", "-m", "tiny"], "--class web was given twice"),
        (["extract", "a.pcap", "./a.pcap"], "a.pcap was named twice"),
        (["extract", "a.pcap", "--bin-width", "soon"], "'soon' is not a duration"),
        (["extract", "a.pcap", "--bin-width", "1e999s"], "'1e999s' is not a duration"),
        (["extract", "a.pcap", "--length", 7], "--length must be a multiple of 4 from 4 to 4096, got 7"),
        (["extract", "a.pcap", "--spec-from", "tiny", "--bin-width", "1s"], "--spec-from already sets view"),
        (["extract", "a.pcap", "--spec-from", "b.parquet"], "b.parquet does not exist"),
        (["extract", "a.pcap", "--min-packets", 99], "no flow in 8 packets of 1 file"),
        (["extract", "a.pcap", "-o", "no/such/x.parquet"], "the folder no/such does not exist"),
        (["extract", "a.pcap", "-o", "a.csv"], "a flow table cannot be written to a.csv"),
        (["train", "a.pcap", "-o", "m.bin"], "a model cannot be written to m.bin"),
        (["train", "a.pcap"], "a.pcap is not a flow table"),
        (["import", "a.pcap"], "neither Parquet nor CSV"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("bundled_folder")
def test_an_error_is_one_line_on_stderr_and_code_1(words: Any, message: str, cwd: Any, netgen_command: Any) -> None:
    """It begins with `netgen:`, names the option or file, and leaves no output file."""
    write_capture(cwd / "a.pcap", 1, 0)
    assert message in failed(netgen_command(*words))
    assert files(cwd) == ["a.pcap"]


def test_control_characters_of_a_file_are_escaped(cwd: Any, netgen_command: Any) -> None:
    write_capture(cwd / "a.pcap", 1, 0)
    (cwd / "labels.csv").write_text("s\x1b[31mrc,dst\x07\n")
    message = failed(netgen_command("extract", "a.pcap", "--labels", "labels.csv"))
    assert r"it has s\x1b[31mrc, dst\x07" in message


@pytest.mark.usefixtures("cwd")
def test_the_installed_command_runs_main() -> None:
    """Version on stdout, errors on stderr, exit codes to the shell."""
    ran = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"netgen {netgen.__version__}\n", "")
    ran = subprocess.run([COMMAND, "extract", "no.pcap"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("netgen: no.pcap does not exist. ")
    assert ran.stderr.count("\n") == 1


def test_a_closed_pipe_causes_no_traceback(cwd: Any, captures: Any) -> None:
    """As in `netgen extract ... --json | head -0`."""
    words = [COMMAND, "extract", captures, "-o", "x.parquet", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        message = process.stderr.read()
    assert "Traceback" not in message
    assert files(cwd) == ["x.parquet"]


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_all_output_is_flushed_before_the_process_exits(tmp_path: Path, netgen_command: Any, form: Any) -> None:
    """The process skips the interpreter's shutdown, so it must flush its output first, into a pipe too."""
    capture = write_capture(tmp_path / "a.pcap", 3, 0)
    words = ["extract", capture, "-o", tmp_path / "a.parquet", "--force", *form]
    outcome = netgen_command(*words)
    ran = subprocess.run([COMMAND, *map(str, words)], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == (outcome.out, "")
    assert ran.stdout.count("\n") >= (1 if form else 4)


def test_a_full_disk_behind_stdout_is_an_error_and_a_closed_stdout_is_not(tmp_path: Path) -> None:
    """A full disk gives one line on stderr and exit code 1."""
    words = [COMMAND, "extract", write_capture(tmp_path / "a.pcap", 3, 0), "-o", tmp_path / "a.parquet", "--force"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered)
    assert (ran.returncode, ran.stderr) == (1, "netgen: standard output: No space left on device\n")
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *words], capture_output=True, text=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, "")
