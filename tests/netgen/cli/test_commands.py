"""The command line: four commands from captures to captures, outputs, JSON and seeds."""

from pathlib import Path
from typing import Any

import pytest
from support.commands import TRAIN, done, failed, files, only_object, write_capture

from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.train
def test_four_commands_lead_from_captures_to_new_captures(captures: Any, cwd: Any, netgen_command: Any) -> None:
    """extract, train, synth to a table and to a capture; extract reads that capture again."""
    out = done(netgen_command("extract", captures, "--label-by", "folder", "--length", 16, "-o", "real.parquet"))
    assert "wrote real.parquet: 15 flows" in out
    assert "read 120 packets in 2 files: 120 in flows" in out
    real = FlowTable.read("real.parquet")
    assert real.counts() == {"chat": 6, "video": 9}

    out = done(netgen_command("train", "real.parquet", "-o", "m.safetensors", *TRAIN))
    assert "wrote m.safetensors" in out
    assert "netgen synth --model m.safetensors --class chat" in out

    out = done(netgen_command("synth", "--model", "m.safetensors", "--class", "all", "-n", 5, "-o", "new.parquet"))
    assert "wrote new.parquet: Parquet flow table, 5 synthetic flows" in out
    new = FlowTable.read("new.parquet")
    assert new.counts() == {"chat": 3, "video": 2}
    assert new.spec == real.spec

    words = ("synth", "-m", "m.safetensors", "-c", "chat", "-c", "video=7", "-n", 4)
    out = done(netgen_command(*words, "-o", "new.pcap"))
    assert "wrote new.pcap: pcap, 11 synthetic flows" in out
    out = done(netgen_command("extract", "new.pcap", "--spec-from", "m.safetensors", "-o", "again.parquet"))
    assert "wrote again.parquet: 11 flow" in out
    assert FlowTable.read("again.parquet").spec == real.spec
    done(netgen_command(*words, "-o", "new.csv"))
    expected = [
        "again.parquet",
        "m.metrics.jsonl",
        "m.safetensors",
        "new.card.md",
        "new.csv",
        "new.labels.csv",
        "new.labels.parquet",
        "new.parquet",
        "new.pcap",
        "real.parquet",
    ]
    assert files(cwd) == expected


def test_extract_names_its_output_after_the_capture(captures: Any, cwd: Any, netgen_command: Any) -> None:
    """`netgen extract file.pcap` writes file.flows.parquet into the current folder and says so."""
    write_capture(cwd.parent / "file.pcap", 2, 0)
    out = done(netgen_command("extract", cwd.parent / "file.pcap"))
    assert "wrote file.flows.parquet: 2 flows" in out
    assert "2 of 2 flows have no label" in out
    assert files(cwd) == ["file.flows.parquet"]
    done(netgen_command("extract", captures))
    done(netgen_command("extract", captures / "chat", captures / "video"))
    assert files(cwd) == sorted(["file.flows.parquet", f"{captures.name}.flows.parquet", "captures.flows.parquet"])


@pytest.mark.usefixtures("bundled_folder")
def test_synth_names_its_output_after_the_class(cwd: Any, netgen_command: Any) -> None:
    """`netgen synth --class web` writes web.parquet, from the bundled model that has the class."""
    out = done(netgen_command("synth", "--class", "web", "-n", 2, "--sampling-steps", 2))
    assert "wrote web.parquet: Parquet flow table, 2 synthetic flows" in out
    assert "model tiny" in out
    done(netgen_command("synth", "--class", "doh", "--class", "plain", "-n", 1, "--sampling-steps", 2))
    done(netgen_command("synth", "--class", "all", "--model", "tiny", "-n", 3, "--sampling-steps", 2))
    tables = ["all.parquet", "synthetic.parquet", "web.parquet"]
    assert files(cwd) == sorted([*tables, "all.card.md", "synthetic.card.md", "web.card.md"])
    assert FlowTable.read("web.parquet").counts() == {"Web-TLS": 2}


@pytest.mark.train
def test_train_and_import_name_their_output_after_their_input(tiny_flows: Any, cwd: Any, netgen_command: Any) -> None:
    tiny_flows.write("mine.flows.parquet")
    report = only_object(netgen_command("train", "mine.flows.parquet", *TRAIN, "--json"))
    assert (report["wrote"], report["training"]["steps"]) == ("mine.safetensors", 5)
    assert report["classes"] == ["Web-TLS", "dns-doh", "dns-plain"]
    (cwd / "trace.csv").write_text("time,size\n0,60\n1,-1500\n")
    assert "wrote trace.flows.parquet: 1 flow" in done(netgen_command("import", "trace.csv"))
    assert files(cwd) == sorted(
        ["mine.flows.parquet", "mine.safetensors", "mine.metrics.jsonl", "trace.csv", "trace.flows.parquet"]
    )


def test_import_selects_a_split_converts_sizes_and_renames_classes(cwd: Any, netgen_command: Any) -> None:
    (cwd / "t.csv").write_text(
        "time,size,trace,label,split\n0,74,1,a-480,train\n1,-1514,1,a-480,train\n0,74,2,b,test\n0,10,3,b,train\n"
    )
    words = ("import", "t.csv", "--size-unit", "frame", "--split", "train", "--relabel", "a-480=a", "--bin-width", "1s")
    out = done(netgen_command(*words, "--length", 4))
    assert "read 4 packets: 2 in flows, 1 skipped (in another split), 1 skipped (smaller than an IP header)" in out
    table = FlowTable.read("t.flows.parquet")
    assert table.counts() == {"a": 1}
    assert table.series()[0, :2].tolist() == [[60, 0, 0, 0], [0, 1500, 0, 0]]
    assert "is not OLD=NEW" in failed(netgen_command("import", "t.csv", "-o", "u.parquet", "--relabel", "a"))


@pytest.mark.parametrize(
    "command",
    [
        "extract",
        "import",
        pytest.param("train", marks=[pytest.mark.slow, pytest.mark.train]),
        "synth",
        "augment",
        "show",
    ],
)
def test_an_output_that_exists_is_refused_unless_forced(
    command: str, captures: Any, tiny_flows: Any, tiny_model_file: Path, cwd: Any, netgen_command: Any
) -> None:
    """The command fails before it does any work, and the file is unchanged."""
    (cwd / "t.csv").write_text("time,size\n0,60\n")
    tiny_flows.write("t.parquet")
    words, out = {
        "extract": (["extract", captures], "x.parquet"),
        "import": (["import", "t.csv"], "x.parquet"),
        "train": (["train", "t.parquet", *TRAIN], "x.safetensors"),
        "synth": (["synth", "-m", tiny_model_file, "-c", "web", "-n", 1, "--sampling-steps", 2], "x.pcap"),
        "augment": (
            ["augment", "t.parquet", "-m", tiny_model_file, "--target", 21, "--sampling-steps", 2],
            "x.parquet",
        ),
        "show": (["show", "t.parquet", "-c", "Web-TLS"], "x.png"),
    }[command]
    (cwd / out).write_text("mine")
    assert "exists already. Name another with -o, or add --force" in failed(netgen_command(*words, "-o", out))
    assert (cwd / out).read_text() == "mine"
    assert f"wrote {out}" in done(netgen_command(*words, "-o", out, "--force"))
    assert (cwd / out).stat().st_size > 100


@pytest.mark.usefixtures("bundled_folder")
def test_json_is_one_object_on_stdout_and_nothing_else(
    captures: Any, tiny_flows: Any, tiny_model_file: Path, cwd: Any, netgen_command: Any
) -> None:
    """Every command with --json prints the numbers of the files that it wrote."""
    (cwd / "t.csv").write_text("time,size\n0,60\n1,-1500\n")
    write_capture(cwd / "c.pcap", 2, 0)
    tiny_flows.write("t.parquet")

    report = only_object(netgen_command("extract", captures, "--label-by", "folder", "-o", "e.parquet", "--json"))
    assert (report["wrote"], report["flows"], report["classes"]["video"]["flows"]) == ("e.parquet", 15, 9)
    read_report = report["read_report"]
    assert read_report["packets"] == read_report["in_flows"] + sum(read_report["skipped"].values())
    assert SeriesSpec.from_json(report["series"]) == FlowTable.read("e.parquet").spec
    assert only_object(netgen_command("import", "t.csv", "--json"))["packets"] == 2
    words = ("synth", "-m", tiny_model_file, "-c", "web=2", "--sampling-steps", 2, "--json")
    report = only_object(netgen_command(*words, "-o", "s.pcap"))
    assert (report["wrote"], report["flows"], report["format"], report["seed"]) == ("s.pcap", 2, "pcap", 0)
    assert report["bytes_written"] == (cwd / "s.pcap").stat().st_size
    assert list(only_object(netgen_command("models", "--json"))) == ["tiny"]
    assert only_object(netgen_command("models", "tiny", "--json"))["card"].startswith("# tiny")
    kinds = {"t.parquet": "flow table", str(tiny_model_file): "model", "c.pcap": "capture"}
    kinds |= dict.fromkeys(("s.labels.csv", "s.labels.parquet"), "ground truth")
    for name, kind in kinds.items():
        report = only_object(netgen_command("info", name, "--json"))
        assert (report["file"], report["kind"]) == (name, kind)
    assert only_object(netgen_command("info", "c.pcap", "--json"))["packets"] == 16


def test_the_same_seed_writes_the_same_bytes(tiny_model_file: Path, cwd: Any, netgen_command: Any) -> None:
    """Tables and captures repeat, and another seed writes other bytes."""
    for ending in ("parquet", "pcap", "csv"):
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            words = ("synth", "-m", tiny_model_file, "-c", "web=3", "--sampling-steps", 2, "--seed", seed)
            done(netgen_command(*words, "-o", f"{name}.{ending}"))
        a, b, c = ((cwd / f"{name}.{ending}").read_bytes() for name in "abc")
        assert a == b
        assert a != c
