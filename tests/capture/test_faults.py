"""What goes wrong for a user: each fault is one clear line with a way on, exit code 1, and no half-written file."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import netgen
from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion import model_file
from netgen.model.file import FORMAT

COMMAND = Path(sys.executable).with_name("netgen")
TRAIN = ("--threads", 1, "--precision", "float32")
NS = 1_000_000_000
T = 1_700_000_000 * NS
MISSING = "no_such_folder"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def inputs(tmp_path: Path, tiny_flows: Any, tiny_model_file: Path, packet: Any, pcap_file: Any) -> Any:
    """Something to give to every command: a capture, a trace, a flow table, a model."""
    pcap_file([(T + index * NS // 50, packet.udp4(5000, 53, bytes(700))) for index in range(9)], "in/a.pcap")
    folder = tmp_path / "in"
    (folder / "t.csv").write_text("time,size\n0,60\n1,-1500\n")
    tiny_flows.write(folder / "t.parquet")
    shutil.copy(tiny_model_file, folder / "m.safetensors")
    return folder


@pytest.fixture
def fault(netgen_command: Any) -> Any:
    """Function: words of a command that is to fail; the one line it says."""

    def run(*words: Any) -> Any:
        outcome = netgen_command(*words)
        assert outcome.code == 1, outcome
        assert not outcome.out or outcome.out.startswith("Training will end")  # the plan comes before the fault
        return one_line(outcome.err)

    return run


def one_line(err: Any) -> Any:
    """stderr as every error leaves it: one line, with a way on after the first sentence."""
    assert err.startswith("netgen: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert ". " in err
    assert "Traceback" not in err
    return err.removeprefix("netgen: ").removesuffix("\n")


def files(folder: Any) -> Any:
    """All that lies in a folder, hidden temporary files too."""
    return sorted(path.name for path in folder.iterdir())


def commands(inputs: Any, out: Any) -> Any:
    """Each command that writes, and where to: name -> (words, file in `out`)."""
    model = inputs / "m.safetensors"
    synth = ("synth", "-m", model, "-c", "web", "-n", 30, "--sampling-steps", 2)
    return {
        "extract": (("extract", inputs / "a.pcap"), out / "x.parquet"),
        "import": (("import", inputs / "t.csv"), out / "x.parquet"),
        "train": (("train", inputs / "t.parquet", "--training-steps", 3, *TRAIN), out / "x.safetensors"),
        "synth to a table": (synth, out / "x.parquet"),
        "synth to csv": (synth, out / "x.csv"),
        "synth to a capture": (synth, out / "x.pcap"),
        "show": (("show", inputs / "t.parquet"), out / "x.png"),
    }


WRITERS = list(commands(Path(), Path()))


# --- what is given cannot be used ---


def test_a_class_that_no_model_has(bundled_folder: Any, folder: Any, fault: Any) -> None:
    message = fault("synth", "--class", "ssh")
    assert message == (
        "no bundled model has the class ssh. They have tiny: Web-TLS, dns-doh, dns-plain. "
        "Train one on your captures: netgen extract, netgen train; then netgen synth --model FILE"
    )
    message = fault("synth", "--class", "ssh", "--model", "tiny")
    assert message.startswith("model tiny has no class 'ssh'; it has Web-TLS, dns-doh, dns-plain. netgen models lists")
    assert files(folder) == []


def test_a_class_that_could_be_several(bundled_folder: Any, folder: Any, fault: Any) -> None:
    message = fault("synth", "--class", "dns", "--model", "tiny")
    assert message == "class 'dns' of model tiny could be dns-doh, dns-plain. Write more of the name"
    assert files(folder) == []


@pytest.mark.parametrize("content", [b"", b"hello\n", b"%PDF-1.7" + bytes(40)], ids=repr)
def test_a_file_that_is_no_capture(content: Any, folder: Any, fault: Any) -> None:
    (folder / "a.pcap").write_bytes(content)
    message = fault("extract", "a.pcap")
    assert "a.pcap" in message
    assert "Name a pcap or pcapng file" in message
    assert files(folder) == ["a.pcap"]


def test_a_missing_file(folder: Any, fault: Any) -> None:
    assert fault("extract", "a.pcap") == (
        "a.pcap does not exist. Name a pcap or pcapng file, or a folder that holds some"
    )
    for words in (("train", "a.parquet"), ("import", "a.parquet"), ("show", "a.parquet"), ("info", "a.parquet")):
        assert "a.parquet" in fault(*words)
    assert files(folder) == []


def test_an_empty_folder(folder: Any, fault: Any) -> None:
    (folder / "captures").mkdir()
    assert fault("extract", "captures").startswith("the folder captures is empty. Name a pcap or pcapng file")
    (folder / "captures" / "notes.txt").write_text("nothing here")
    assert "none of the 1 files in captures is a capture" in fault("extract", "captures")
    assert files(folder) == ["captures"]


def test_a_flow_table_without_labels(inputs: Any, folder: Any, fault: Any, netgen_command: Any) -> None:
    assert netgen_command("extract", inputs / "a.pcap", "-o", "bare.parquet").code == 0
    message = fault("train", "bare.parquet")
    assert message.startswith(
        "none of the 1 flows has a label. Label them when they are extracted: netgen extract --label"
    )
    assert files(folder) == ["bare.parquet"]


@pytest.mark.parametrize("command", ["synth", "info", "show", "extract"])
def test_a_model_of_another_version(command: str, inputs: Any, folder: Any, fault: Any) -> None:
    metadata = {**model_file.load_metadata(inputs / "m.safetensors"), "format": FORMAT + 1, "netgen": "7.0"}
    model_file.save(folder / "new.safetensors", model_file.load_tensors(inputs / "m.safetensors"), metadata)
    words = {
        "synth": ("synth", "-m", "new.safetensors", "-c", "web"),
        "info": ("info", "new.safetensors"),
        "show": ("show", "new.safetensors"),
        "extract": ("extract", inputs / "a.pcap", "--spec-from", "new.safetensors"),
    }[command]
    message = fault(*words)
    assert f"new.safetensors is a model of format {FORMAT + 1}; this netgen reads format {FORMAT}" in message
    assert "Train it again, or use netgen 7.0, which wrote it" in message
    assert files(folder) == ["new.safetensors"]


def test_a_flow_table_of_another_version(tiny_flows: Any, folder: Any, fault: Any) -> None:
    import pyarrow.parquet as pq

    meta = json.dumps({"format": 99, "series": tiny_flows.spec.to_json()}).encode()
    pq.write_table(tiny_flows.table.replace_schema_metadata({b"netgen": meta}), folder / "t.parquet")
    for words in (("train", "t.parquet"), ("show", "t.parquet"), ("info", "t.parquet")):
        assert "t.parquet is a flow table of format 99" in fault(*words)
    assert files(folder) == ["t.parquet"]


def test_a_damaged_model(inputs: Any, folder: Any, fault: Any) -> None:
    complete = (inputs / "m.safetensors").read_bytes()
    (folder / "m.safetensors").write_bytes(complete[:-1000])
    message = fault("synth", "-m", "m.safetensors", "-c", "web")
    assert message.startswith("m.safetensors is not a netgen model: not a safetensors file")
    assert files(folder) == ["m.safetensors"]


def test_tables_of_other_series(tiny_flows: Any, inputs: Any, folder: Any, fault: Any, netgen_command: Any) -> None:
    netgen_command("extract", inputs / "a.pcap", "--label", "a", "-o", "other.parquet")
    message = fault("train", inputs / "t.parquet", "other.parquet")
    assert "cannot compare" in message
    assert "--like" in message
    assert files(folder) == ["other.parquet"]


def test_damage_is_reported_and_readable_packets_are_kept(
    inputs: Any, folder: Any, fault: Any, netgen_command: Any
) -> None:
    """Cut in the middle of a packet: the packets before it are in the table, the damage in the account."""
    complete = (inputs / "a.pcap").read_bytes()
    (folder / "cut.pcap").write_bytes(complete[:-735])  # a packet is 742 bytes, and 16 of its record
    outcome = netgen_command("extract", "cut.pcap", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    read_report = json.loads(outcome.out)["read_report"]
    assert read_report["packets"] == read_report["in_flows"] + sum(read_report["skipped"].values())
    assert read_report["in_flows"] == sum(FlowTable.read("cut.flows.parquet").table["packets"].to_pylist()) == 8
    assert [damage["file"] for damage in read_report["damaged"]] == ["cut.pcap"]
    outcome = netgen_command("extract", "cut.pcap", "--force")
    assert "damaged: cut.pcap, byte " in outcome.out
    message = fault("extract", "cut.pcap", "--strict", "-o", "strict.parquet")
    assert "cut.pcap is damaged at byte" in message
    assert "Leave out --strict" in message
    assert files(folder) == ["cut.flows.parquet", "cut.pcap"]


# --- what is made cannot be written ---


@pytest.mark.parametrize("writer", WRITERS)
def test_an_output_folder_that_does_not_exist(writer: Any, inputs: Any, folder: Any, fault: Any) -> None:
    """Said before any work, with the command that makes it."""
    words, out = commands(inputs, Path(MISSING))[writer]
    begun = time.process_time()
    message = fault(*words, "-o", out)
    assert message == f"cannot write {out}: the folder {MISSING} does not exist. Make it first: mkdir -p {MISSING}"
    assert time.process_time() - begun < 5
    assert files(folder) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_an_output_with_an_unknown_ending(writer: Any, inputs: Any, folder: Any, fault: Any) -> None:
    words, _ = commands(inputs, folder)[writer]
    for name in ("x.docx", "x"):
        message = fault(*words, "-o", name)
        assert name in message
        assert "cannot be written to" in message or "cannot write" in message
        assert "." in message.split(". ", 1)[1]  # an ending that would do
    assert files(folder) == []


@pytest.fixture
def disk_that_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    """At first there seems to be room enough: others fill the disk later."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40))


@pytest.mark.parametrize("old", [None, "mine"], ids=["new", "over an old one"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk(
    writer: Any, old: str | None, inputs: Any, small_disk: Any, fault: Any, disk_that_fills: Any
) -> None:
    """A real one: nothing is left of what did not fit, and a file that was to be replaced is still there."""
    words, out = commands(inputs, small_disk)[writer]
    before = ["filler"]
    room = 64 - 8
    if old:
        out.write_text(old)
        before.append(out.name)
        room -= 4
    if writer == "train":
        before.append("x.metrics.jsonl")  # a log, whole in itself
    else:
        room += 4
    (small_disk / "filler").write_bytes(bytes(room * 1024))
    message = fault(*words, "-o", out, *(["--force"] if old else []))
    assert message.startswith(f"cannot write {out}: ")
    assert "No space left on device" in message
    assert message.endswith(". Free some space or write elsewhere with -o; nothing was left behind")
    assert files(small_disk) == sorted(before)
    assert not old or out.read_text() == old


def test_a_disk_with_no_room_at_all_for_a_training(
    inputs: Any, small_disk: Any, fault: Any, disk_that_fills: Any
) -> None:
    """It ends at its log, before any step, and names it."""
    (small_disk / "filler").write_bytes(bytes(64 * 1024))
    message = fault(*commands(inputs, small_disk)["train"][0], "-o", small_disk / "x.safetensors")
    assert message.startswith(f"cannot write {small_disk}/x.metrics.jsonl: No space left on device. Free some space")
    assert files(small_disk) == ["filler"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_may_not_grow(writer: Any, inputs: Any, folder: Any, size_limit: Any, fault: Any) -> None:
    """The same as a full disk, where there is no root to make one."""
    words, out = commands(inputs, folder)[writer]
    with size_limit(4000):
        message = fault(*words, "-o", out)
    assert message.startswith(f"cannot write {out}: ")
    assert "ile too large" in message
    assert files(folder) == (["x.metrics.jsonl"] if writer == "train" else [])


def test_a_folder_as_output(inputs: Any, folder: Any, fault: Any) -> None:
    (folder / "x.parquet").mkdir()
    message = fault("extract", inputs / "a.pcap", "-o", "x.parquet", "--force")
    assert message == "cannot write x.parquet: it is a folder. Name a file in it"
    assert files(folder / "x.parquet") == []


# --- Ctrl-C ---


def start(*words: Any) -> Any:
    """A command in a process of its own, which takes Ctrl-C as in a terminal."""
    return subprocess.Popen(
        [COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background job ignores Ctrl-C, and its children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def interrupt_training(words: Any, metrics: Any, number: Any) -> Any:
    """Start a training, interrupt it once it has noted some steps; its exit code, stdout and stderr."""
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
    """An interrupted training, checked: one line and a checkpoint, no model; the step it came to."""
    code, out, err = interrupt_training(words, folder / "m.metrics.jsonl", number)
    assert (code, out) == (1, "")
    message = one_line(err)
    assert message.startswith("interrupted at step ")
    assert message.endswith("Go on with the same command and --resume; m.checkpoint.safetensors holds it")
    assert files(folder) == ["m.checkpoint.safetensors", "m.metrics.jsonl", "t.parquet"]
    step = model_file.load_metadata(folder / "m.checkpoint.safetensors")["step"]
    assert f"at step {step}," in message
    assert step >= 20
    return step


@pytest.mark.slow
def test_a_terminated_training_keeps_a_checkpoint(tiny_flows: Any, folder: Any) -> None:
    """By `kill`, or by a machine that shuts down."""
    tiny_flows.write("t.parquet")
    interrupted(("train", "t.parquet", "-o", "m.safetensors", *TRAIN), folder, signal.SIGTERM)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_where_it_was(tiny_flows: Any, folder: Any, netgen_command: Any) -> None:
    """Ctrl-C keeps a checkpoint and makes no model; --resume finishes it, and the model is the uninterrupted one's."""
    steps = 150
    tiny_flows.write("t.parquet")
    words = ("train", "t.parquet", "-o", "m.safetensors", "--training-steps", steps, *TRAIN)
    step = interrupted(words, folder, signal.SIGINT)
    assert step < steps

    refused = netgen_command(*words)
    assert refused.code == 1
    assert "holds an unfinished training. Go on with --resume, or begin anew with --force" in refused.err

    with (folder / "m.metrics.jsonl").open("a") as stream:  # as a crash after the checkpoint leaves it
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
            progress=lambda report: signal.raise_signal(signal.SIGINT),
        )  # fmt: skip
    assert "belongs to other flows, another --seed or another netgen" in fault(
        "train", "other.parquet", *words[2:], "--resume"
    )
    assert "belongs to other flows, another --seed or another netgen" in fault(*words, "--seed", 1, "--resume")
    with monkeypatch.context() as patch:
        patch.setattr("netgen.encoders.decoding.sizes.REMEMBERED", 64)  # as another version may have it
        assert "belongs to other flows, another --seed or another netgen" in fault(*words, "--resume")
    (folder / "m.checkpoint.safetensors").write_bytes(b"damaged")
    assert "m.checkpoint.safetensors cannot be resumed from" in fault(*words, "--resume")
    assert files(folder) == ["m.checkpoint.safetensors", "m.metrics.jsonl", "other.parquet", "t.parquet"]
    assert netgen_command(*words, "--force").code == 0  # begins anew
    assert files(folder) == ["m.metrics.jsonl", "m.safetensors", "other.parquet", "t.parquet"]


def test_a_training_that_the_disk_cannot_hold_is_refused_before_it_begins(
    tiny_flows: Any, folder: Any, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after the minutes that were asked for."""
    tiny_flows.write("t.parquet")
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=3_000_000))
    message = fault("train", "t.parquet", "-o", "m.safetensors", "--training-steps", 25, *TRAIN)
    assert "m.safetensors cannot be written: the training needs 35 MB" in message
    assert files(folder) == ["t.parquet"]


@pytest.mark.parametrize("command", ["synth", "extract"])
def test_ctrl_c_in_any_other_command(command: str, inputs: Any, folder: Any) -> None:
    """One line, exit code 1, and no file; sent by the process to itself when it is well under way."""
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
    assert one_line(ran.stderr) == "interrupted. Nothing was half-written; type the command again"
    assert files(folder) == []
