"""Ctrl-C and kill: one line on stderr, exit code 1, no half-written file; a training keeps a checkpoint."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.commands import files, one_error_line

import netgen
from netgen.diffusion import model_file

COMMAND = Path(sys.executable).with_name("netgen")
TRAIN = ("--threads", 1, "--precision", "float32")
pytestmark = pytest.mark.usefixtures("one_thread")


def start(*words: Any) -> Any:
    """Start a command in a process that handles Ctrl-C as in a terminal."""
    return subprocess.Popen(
        [COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background job ignores Ctrl-C, and its children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def interrupt_training(words: Any, metrics: Any, number: Any) -> Any:
    """Start a training, interrupt it after its first logged steps; return exit code, stdout and stderr."""
    with start(*words) as process:
        while process.poll() is None and not (metrics.is_file() and metrics.read_text().count("\n") > 1):
            time.sleep(0.01)
        process.send_signal(number)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, out, err


def interrupted(words: Any, folder: Any, number: Any) -> Any:
    """Interrupt a training, check that it leaves one line, a checkpoint and no model; return its last step."""
    code, out, err = interrupt_training(words, folder / "m.metrics.jsonl", number)
    assert code == 1
    assert out.startswith("Training will end after ")
    assert out.count("\n") == 1
    message = one_error_line(err)
    assert message.startswith("interrupted at step ")
    assert message.endswith("Continue with the same command and --resume, from m.checkpoint.safetensors")
    assert files(folder) == ["m.checkpoint.safetensors", "m.metrics.jsonl", "t.parquet"]
    step = model_file.load_metadata(folder / "m.checkpoint.safetensors")["step"]
    assert f"at step {step}," in message
    assert step >= 20
    return step


@pytest.mark.slow
def test_a_terminated_training_keeps_a_checkpoint(tiny_flows: Any, folder: Any) -> None:
    """`kill` and a shutdown send SIGTERM."""
    tiny_flows.write("t.parquet")
    interrupted(("train", "t.parquet", "-o", "m.safetensors", *TRAIN), folder, signal.SIGTERM)


@pytest.mark.slow
def test_an_interrupted_training_resumes_where_it_stopped(tiny_flows: Any, folder: Any, netgen_command: Any) -> None:
    """Ctrl-C writes a checkpoint and no model; --resume gives the same model as an uninterrupted training."""
    steps = 150
    tiny_flows.write("t.parquet")
    words = ("train", "t.parquet", "-o", "m.safetensors", "--training-steps", steps, *TRAIN)
    step = interrupted(words, folder, signal.SIGINT)
    assert step < steps

    refused = netgen_command(*words)
    assert refused.code == 1
    assert "holds an unfinished training. Continue with --resume, or begin anew with --force" in refused.err

    with (folder / "m.metrics.jsonl").open("a") as stream:  # like a crash after the checkpoint
        stream.write('{"step": 100000, "error": 0}\n{"step": 1')
    outcome = netgen_command(*words, "--resume")
    assert (outcome.code, outcome.err) == (0, "")
    assert files(folder) == ["m.metrics.jsonl", "m.safetensors", "t.parquet"]
    lines = [json.loads(line) for line in (folder / "m.metrics.jsonl").read_text().splitlines()]
    assert [line["begin_at_step"] for line in lines if "begin_at_step" in line] == [0, step]
    noted = [line["step"] for line in lines if "step" in line]
    assert noted == sorted(set(noted))
    assert noted[-1] == steps

    complete = netgen.train(tiny_flows, training_steps=steps, threads=1, precision="float32")
    assert netgen.load("m.safetensors").weights_sha256() == complete.weights_sha256()


@pytest.mark.slow
def test_resuming_needs_the_same_flows_and_scale_and_a_checkpoint(
    tiny_flows: Any, folder: Any, fault: Any, netgen_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_flows.write("t.parquet")
    tiny_flows.take(range(40)).write("other.parquet")
    words = ("train", "t.parquet", "-o", "m.safetensors", "--training-steps", 25, *TRAIN)
    assert "there is no m.checkpoint.safetensors to resume from. Leave out --resume" in fault(*words, "--resume")
    with pytest.raises(netgen.NetgenError, match="interrupted at step 20"):
        netgen.train(
            tiny_flows, out="m.safetensors", training_steps=40, threads=1, precision="float32",
            progress=lambda _: signal.raise_signal(signal.SIGINT),
        )  # fmt: skip
    assert "belongs to other flows, another --seed or another netgen" in fault(
        "train", "other.parquet", *words[2:], "--resume"
    )
    assert "belongs to other flows, another --seed or another netgen" in fault(*words, "--seed", 1, "--resume")
    with monkeypatch.context() as patch:
        patch.setattr("netgen.encoders.decoding.sizes.REMEMBERED", 64)  # like another version
        assert "belongs to other flows, another --seed or another netgen" in fault(*words, "--resume")
    (folder / "m.checkpoint.safetensors").write_bytes(b"damaged")
    assert "m.checkpoint.safetensors cannot be resumed from" in fault(*words, "--resume")
    assert files(folder) == ["m.checkpoint.safetensors", "m.metrics.jsonl", "other.parquet", "t.parquet"]
    assert netgen_command(*words, "--force").code == 0  # starts over
    assert files(folder) == ["m.metrics.jsonl", "m.safetensors", "other.parquet", "t.parquet"]


@pytest.mark.parametrize("command", ["synth", "extract"])
def test_ctrl_c_in_any_other_command(command: str, inputs: Any, folder: Any) -> None:
    """One line, exit code 1, and no file; the process sends itself the signal while it works."""
    words = {
        "synth": ["synth", "-m", str(inputs / "m.safetensors"), "-c", "web", "-n", "1000000", "-o", "x.parquet"],
        "extract": ["extract", str(inputs / "a.pcap"), "-o", "x.parquet"],
    }[command]
    program = (
        "import os, signal, sys, threading, netgen.capture.read_batch, netgen.cli.app, netgen.model.model\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def interrupt(): os.kill(os.getpid(), signal.SIGINT)\n"
        f"sys.argv = ['netgen', *{words}]\n"
        "if sys.argv[1] == 'synth': threading.Timer(0.5, interrupt).start()\n"
        "else: netgen.capture.read_batch.dissect = lambda chunk, decapsulate: interrupt()\n"
        "netgen.cli.app.main()"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert one_error_line(ran.stderr) == "interrupted. No file was left half-written; run the command again"
    assert files(folder) == []
