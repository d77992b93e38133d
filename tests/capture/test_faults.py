"""Faults of a user or a disk: one line on stderr with advice, exit code 1, and no half-written file."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from support.commands import files

from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion import model_file
from netgen.model.file import FORMAT

TRAIN = ("--threads", 1, "--precision", "float32")
MISSING = "no_such_folder"
pytestmark = pytest.mark.usefixtures("one_thread")


def commands(inputs: Any, out: Any) -> Any:
    """Return the arguments and the output file of every command that writes, by name."""
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
#: Training is slow; `test_a_disk_with_no_room_at_all_for_a_training` is a quick test of it.
MOSTLY_QUICK = [pytest.param(name, marks=pytest.mark.slow) if name == "train" else name for name in WRITERS]


# --- the input cannot be used ---


@pytest.mark.usefixtures("bundled_folder")
def test_a_class_that_no_model_has(folder: Any, fault: Any) -> None:
    message = fault("synth", "--class", "ssh")
    assert message == (
        "no bundled model has the class ssh. They have tiny: Web-TLS, dns-doh, dns-plain. "
        "Train one on your captures: netgen extract, netgen train; then netgen synth --model FILE"
    )
    message = fault("synth", "--class", "ssh", "--model", "tiny")
    assert message.startswith("model tiny has no class 'ssh'; it has Web-TLS, dns-doh, dns-plain. netgen models lists")
    assert files(folder) == []


@pytest.mark.usefixtures("bundled_folder")
def test_a_class_that_could_be_several(folder: Any, fault: Any) -> None:
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


def test_tables_of_other_series(inputs: Any, folder: Any, fault: Any, netgen_command: Any) -> None:
    netgen_command("extract", inputs / "a.pcap", "--label", "a", "-o", "other.parquet")
    message = fault("train", inputs / "t.parquet", "other.parquet")
    assert "they cannot be compared" in message
    assert "--spec-from" in message
    assert files(folder) == ["other.parquet"]


def test_damage_is_reported_and_readable_packets_are_kept(
    inputs: Any, folder: Any, fault: Any, netgen_command: Any
) -> None:
    """Cut in the middle of a packet: the packets before it are in the table, the damage in the read report."""
    complete = (inputs / "a.pcap").read_bytes()
    (folder / "cut.pcap").write_bytes(complete[:-735])  # a packet is 742 bytes plus 16 of its record header
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


# --- the output cannot be written ---


@pytest.mark.parametrize("writer", WRITERS)
def test_an_output_folder_that_does_not_exist(writer: Any, inputs: Any, folder: Any, fault: Any) -> None:
    """The error comes before any work, with the command that creates the folder."""
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
        assert "." in message.split(". ", 1)[1]  # the advice names a valid ending
    assert files(folder) == []


@pytest.fixture
def disk_that_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report enough free space, as if other programs fill the disk later."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40))


@pytest.mark.usefixtures("disk_that_fills")
@pytest.mark.parametrize("old", [None, "old content"], ids=["new", "over an old one"])
@pytest.mark.parametrize("writer", MOSTLY_QUICK)
def test_a_full_disk(writer: Any, old: str | None, inputs: Any, small_disk: Any, fault: Any) -> None:
    """Nothing is left of a file that did not fit, and a file to be replaced is still there."""
    words, out = commands(inputs, small_disk)[writer]
    before = ["filler"]
    room = 64 - 8
    if old:
        out.write_text(old)
        before.append(out.name)
        room -= 4
    if writer == "train":
        before.append("x.metrics.jsonl")  # a complete log
    else:
        room += 4
    (small_disk / "filler").write_bytes(bytes(room * 1024))
    message = fault(*words, "-o", out, *(["--force"] if old else []))
    assert message.startswith(f"cannot write {out}: ")
    assert "No space left on device" in message
    assert message.endswith(". Free some space or write elsewhere with -o; nothing was left behind")
    assert files(small_disk) == sorted(before)
    assert not old or out.read_text() == old


@pytest.mark.usefixtures("disk_that_fills")
def test_a_disk_with_no_room_at_all_for_a_training(inputs: Any, small_disk: Any, fault: Any) -> None:
    """The error names the log, which is written before the first step."""
    (small_disk / "filler").write_bytes(bytes(64 * 1024))
    message = fault(*commands(inputs, small_disk)["train"][0], "-o", small_disk / "x.safetensors")
    assert message.startswith(f"cannot write {small_disk}/x.metrics.jsonl: No space left on device. Free some space")
    assert files(small_disk) == ["filler"]


@pytest.mark.parametrize("writer", MOSTLY_QUICK)
def test_a_file_that_may_not_grow(writer: Any, inputs: Any, folder: Any, size_limit: Any, fault: Any) -> None:
    """A file size limit acts like a full disk, and needs no root."""
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


def test_a_training_that_the_disk_cannot_hold_is_refused_before_it_begins(
    tiny_flows: Any, folder: Any, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check comes before training, not after."""
    tiny_flows.write("t.parquet")
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=3_000_000))
    message = fault("train", "t.parquet", "-o", "m.safetensors", "--training-steps", 25, *TRAIN)
    assert "m.safetensors cannot be written: the training needs 35 MB" in message
    assert files(folder) == ["t.parquet"]
