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
    """extract, train, synth to a table, synth to a capture; what comes out is read again by the first."""
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


def test_extract_writes_beside_you_under_the_captures_name(captures: Any, cwd: Any, netgen_command: Any) -> None:
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
def test_synth_writes_beside_you_under_the_classes_name(cwd: Any, netgen_command: Any) -> None:
    """`netgen synth --class web` writes web.parquet, from whichever shipped model has the class."""
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


def test_import_takes_splits_sizes_and_new_names(cwd: Any, netgen_command: Any) -> None:
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
    """Before any work is done; the file stays as it was."""
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
    """For every command that has --json; the numbers are those of what was written."""
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
    kinds |= dict.fromkeys(("s.labels.csv", "s.labels.parquet"), "labels of a capture")
    for name, kind in kinds.items():
        report = only_object(netgen_command("info", name, "--json"))
        assert (report["file"], report["kind"]) == (name, kind)
    assert only_object(netgen_command("info", "c.pcap", "--json"))["packets"] == 16


def test_the_same_seed_writes_the_same_bytes(tiny_model_file: Path, cwd: Any, netgen_command: Any) -> None:
    """Of tables and of captures; another seed writes others."""
    for ending in ("parquet", "pcap", "csv"):
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            words = ("synth", "-m", tiny_model_file, "-c", "web=3", "--sampling-steps", 2, "--seed", seed)
            done(netgen_command(*words, "-o", f"{name}.{ending}"))
        a, b, c = ((cwd / f"{name}.{ending}").read_bytes() for name in "abc")
        assert a == b
        assert a != c


def test_info_tells_tables_models_and_captures_apart(
    tiny_flows: Any, tiny_model_file: Path, bundled_folder: Any, here: Any, netgen_command: Any
) -> None:
    """By their first bytes, whatever they are called."""
    tiny_flows.write("t.parquet")
    (here / "t.parquet").rename("table")
    out = done(netgen_command("info", "table"))
    assert "flow table" in out
    assert "Web-TLS" in out
    assert "60" in out
    for name in (tiny_model_file, "tiny"):
        out = done(netgen_command("info", name))
        assert "classes: Web-TLS, dns-doh, dns-plain" in out
    write_capture(here / "capture", 3, 0)
    out = done(netgen_command("info", "capture"))
    assert "read 24 packets in 1 file: 24 in flows" in out
    assert "2023-11-14T22:13:20+00:00" in out
    for words, message in (
        ("nothing", "there is no model nothing"),
        ("no.pcap", "cannot be read: No such file"),
        (".", "netgen extract"),
    ):
        assert message in failed(netgen_command("info", words))


def test_info_sums_up_the_labels_beside_a_capture(tiny_flows: Any, here: Any, netgen_command: Any) -> None:
    """As many flows, packets and bytes as were written; a table of flows in CSV is none of it."""
    tiny_flows.write("t.parquet")
    wrote = only_object(netgen_command("export", "t.parquet", "-o", "x.pcap", "--json"))
    both = [only_object(netgen_command("info", f"x.labels.{ending}", "--json")) for ending in ("csv", "parquet")]
    assert both[0] | {"file": ""} == both[1] | {"file": ""}
    capture = only_object(netgen_command("info", "x.pcap", "--json"))
    for name in ("flows", "packets", "ip_bytes", "first_packet"):
        assert both[0][name] == capture[name]
    assert both[0]["packets"] == wrote["packets"]
    assert both[0]["labels"] == tiny_flows.counts()
    assert sum(both[0]["connections"].values()) <= len(tiny_flows)
    out = " ".join(done(netgen_command("info", "x.labels.csv")).split())
    assert "labels dns-doh" in out or "labels Web-TLS" in out
    words = pa.parquet.read_table("x.labels.parquet").to_pydict()
    words["up_packets"] = ["many"] * len(tiny_flows)
    pa.parquet.write_table(pa.table(words), "words.labels.parquet")
    assert "words.labels.parquet is not the ground truth of a capture" in failed(
        netgen_command("info", "words.labels.parquet")
    )
    (here / "other.csv").write_text("a,b\n1,2\n")
    assert "other.csv: not a pcap or pcapng file" in failed(netgen_command("info", "other.csv"))


@pytest.mark.parametrize("forced", [False, True])
def test_a_name_cannot_steer_the_terminal(
    forced: bool, tiny_flows: Any, here: Any, netgen_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names come from captures and labels files: escapes in them are written out, in tables and in lines."""
    if forced:
        monkeypatch.setenv("FORCE_COLOR", "1")
    labels = ["\x1b[2Jred", "\x07bell", "fine"] * 20
    metadata = {"\x1b[2Jkey": "\x1b[2Jvalue"}
    FlowTable.build(tiny_flows.series(), tiny_flows.spec, label=labels, metadata=metadata).write("t.parquet")
    netgen_command("export", "t.parquet", "-o", "x.pcap")
    for words in (("info", "t.parquet"), ("info", "x.labels.csv"), ("augment", "t.parquet", "--target", "5")):
        out = done(netgen_command(*words))
        assert not {"\x1b[2J", "\x07"} & {out[at : at + size] for at in range(len(out)) for size in (1, 4)}
        assert "\\x1b[2Jred" in out
        assert "\\x07bell" in out


def test_models_are_listed_and_their_cards_printed(bundled_folder: Any, netgen_command: Any) -> None:
    out = done(netgen_command("models"))
    assert all(word in out for word in ("tiny", "Web-TLS", "dns-doh", "20 flows", "16 x 0.1s"))
    assert done(netgen_command("models", "tiny")) == "# tiny\nWhere it comes from.\n\n"
    assert "there is no model tony" in failed(netgen_command("models", "tony"))
    (bundled_folder / "tiny.md").unlink()
    assert "model tiny has no card. netgen info tiny" in failed(netgen_command("models", "tiny"))


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_show_draws_real_beside_synthetic(
    ending: str, tiny_flows: Any, tiny_model_file: Path, here: Any, netgen_command: Any
) -> None:
    tiny_flows.write("t.parquet")
    words = ("show", "t.parquet", tiny_model_file, "-o", f"x.{ending}", "--class", "doh", "--channel", "up_bytes")
    assert done(netgen_command(*words)) == f"wrote x.{ending}\n"
    head = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert (here / f"x.{ending}").read_bytes().startswith(head)
    assert files(here) == ["t.parquet", f"x.{ending}"]


def test_show_refuses_what_it_cannot_draw(tiny_flows: Any, here: Any, netgen_command: Any) -> None:
    tiny_flows.write("t.parquet")
    for more, message in (
        (["-o", "x.bmp"], "a picture cannot be written to x.bmp"),
        (["--channel", "sideways"], "there is no channel 'sideways'"),
        (["--class", "ssh"], "there is no one class 'ssh'"),
        (["t.parquet", "t.parquet"], "3 files cannot be shown"),
    ):
        assert message in failed(netgen_command("show", "t.parquet", *more))
    assert files(here) == ["t.parquet"]


@pytest.mark.parametrize("name", ["c[red]", "a[/]b", ":warning:", "with space"])
def test_names_are_printed_as_they_are(name: str, here: Any, netgen_command: Any) -> None:
    """No part of a class's or file's name is taken for markup."""
    file = name.replace("/", "-")
    write_capture(here / f"{file}.pcap", 1, 0)
    out = done(netgen_command("extract", f"{file}.pcap", "--label", name))
    assert f"wrote {file}.flows.parquet: 1 flow" in out
    assert f"│ {name} │" in " ".join(out.split())
    assert f"│ {name} │" in " ".join(done(netgen_command("info", f"{file}.flows.parquet")).split())


def test_a_long_path_is_printed_in_one_piece(here: Any, netgen_command: Any) -> None:
    """So that it can be copied, however narrow the terminal."""
    folder = here / ("long" * 30)
    folder.mkdir()
    write_capture(here / "a.pcap", 1, 0)
    out = done(netgen_command("extract", "a.pcap", "-o", folder / "x.parquet"))
    assert f"wrote {folder}/x.parquet: 1 flow" in out


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
def test_wrong_usage_ends_with_code_2_and_a_word_on_stderr(words: Any, here: Any, netgen_command: Any) -> None:
    outcome = netgen_command(*words)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Error" in outcome.err
    assert files(here) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["synth", "-c", "web", "-n", 0], "-n must be at least 1, got 0"),
        (["synth", "-c", "web=x"], "'x' is not a number of flows"),
        (["synth", "-c", "=3"], "'=3' names no class"),
        (["synth", "-c", ""], "'' names no class"),
        (["synth", "-c", "web", "-m", "tiny", "-o", "x.pcap", "--seed", 10**30], "is too large"),
        (["extract", "a.pcap", "--label", " "], "' ' is no name of a class"),
        (["import", "a.csv", "--label", ""], "'' is no name of a class"),
        (["extract", "a.pcap", "--labels", "a.pcap"], "a.pcap is no text in UTF-8"),
        (["synth", "-c", "all", "-c", "web"], "--class all"),
        (["synth", "-c", "all"], "--class all needs --model"),
        (["synth", "-c", "web", "--model", "no.safetensors"], "there is no model no.safetensors"),
        (["synth", "-c", "web", "--sampling-steps", 1, "-m", "tiny"], "1 steps are too few"),
        (["synth", "-c", "web", "--sampling-steps", 0, "-m", "tiny"], "0 steps are too few"),
        (["synth", "-c", "web", "--guidance", "nan", "-m", "tiny"], "guidance nan cannot be drawn with"),
        (["synth", "-c", "web", "-c", "web=2", "-m", "tiny"], "--class web was given twice"),
        (["extract", "a.pcap", "./a.pcap"], "a.pcap was named twice"),
        (["extract", "a.pcap", "--bin-width", "soon"], "'soon' is not a duration"),
        (["extract", "a.pcap", "--bin-width", "1e999s"], "'1e999s' is not a duration"),
        (["extract", "a.pcap", "--length", 7], "a series of 7 bins cannot be made"),
        (["extract", "a.pcap", "--spec-from", "tiny", "--bin-width", "1s"], "--spec-from already sets view"),
        (["extract", "a.pcap", "--spec-from", "b.parquet"], "b.parquet does not exist"),
        (["extract", "a.pcap", "--min-packets", 99], "no flow in 8 packets of 1 file"),
        (["extract", "a.pcap", "-o", "a.csv"], "a flow table cannot be written to a.csv"),
        (["train", "a.pcap", "-o", "m.bin"], "a model cannot be written to m.bin"),
        (["train", "a.pcap"], "a.pcap is not a flow table"),
        (["import", "a.pcap"], "neither Parquet nor CSV"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_line_on_stderr_and_code_1(
    words: Any, message: str, bundled_folder: Any, here: Any, netgen_command: Any
) -> None:
    """It begins with `netgen:`, says what and where, and leaves no file behind."""
    write_capture(here / "a.pcap", 1, 0)
    assert message in failed(netgen_command(*words))
    assert files(here) == ["a.pcap"]


def test_what_a_file_holds_does_not_reach_the_terminal_raw(here: Any, netgen_command: Any) -> None:
    write_capture(here / "a.pcap", 1, 0)
    (here / "labels.csv").write_text("s\x1b[31mrc,dst\x07\n")
    said = failed(netgen_command("extract", "a.pcap", "--labels", "labels.csv"))
    assert r"it has s\x1b[31mrc, dst\x07" in said


def every_parameter() -> Iterator[Any]:
    group = typer.main.get_command(app)
    for name, command in sorted(group.commands.items()):
        for parameter in command.params:
            yield name, parameter


def test_every_command_has_help() -> None:
    group = typer.main.get_command(app)
    names = ["augment", "evaluate", "export", "extract", "import", "info", "models", "show", "synth", "train", "verify"]
    assert command_names() == names
    for name, command in group.commands.items():
        assert command.help, name
        assert command.help.splitlines()[0].endswith("."), name


@pytest.mark.parametrize(
    ("command", "parameter"), [pytest.param(*each, id=f"{each[0]}-{each[1].name}") for each in every_parameter()]
)
def test_every_option_has_help(command: Any, parameter: Any) -> None:
    assert getattr(parameter, "help", None), f"netgen {command} {parameter.name}"


@pytest.mark.parametrize("command", ["", *command_names()])
def test_help_names_every_option_on_stdout(command: Any, monkeypatch: pytest.MonkeyPatch, netgen_command: Any) -> None:
    """And ends well."""
    monkeypatch.setenv("COLUMNS", "200")
    outcome = netgen_command(*([command] if command else []), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    for name, parameter in every_parameter():
        if name == command:
            for option in parameter.opts:
                assert option in outcome.out or not option.startswith("-")
    if not command:
        assert all(each in outcome.out for each in command_names())


def test_help_of_every_command_loads_nothing_heavy() -> None:
    """Neither torch nor pyarrow nor numpy: they take seconds."""
    program = (
        "import sys, contextlib, netgen.cli.app\n"
        f"for words in {[[], *([name] for name in command_names())]}:\n"
        "    sys.argv = ['netgen', *words, '--help']\n"
        "    with contextlib.suppress(SystemExit): netgen.cli.app.main()\n"
        "heavy = {'torch', 'pyarrow', 'numpy', 'scipy', 'sklearn', 'matplotlib', 'pyts', 'numba', 'scapy', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"
    assert ran.stdout.count("Usage: netgen") == 1 + len(command_names())


def test_help_takes_less_than_half_a_second() -> None:
    """Of one core's time, so that a busy machine is no failure; the best of three."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = subprocess.run([COMMAND, "--help"], check=True, capture_output=True, text=True)
        assert "Usage: netgen" in ran.stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.5


def test_the_installed_command_runs_main(here: Any) -> None:
    """Version on stdout, errors on stderr, exit codes to the shell."""
    ran = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"netgen {netgen.__version__}\n", "")
    ran = subprocess.run([COMMAND, "extract", "no.pcap"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("netgen: no.pcap does not exist. ")
    assert ran.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_no_traceback(here: Any, captures: Any) -> None:
    """`netgen extract ... --json | head -0`."""
    words = [COMMAND, "extract", captures, "-o", "x.parquet", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert "Traceback" not in said
    assert files(here) == ["x.parquet"]


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_all_is_written_before_the_process_ends(tmp_path: Path, netgen_command: Any, form: Any) -> None:
    """The process leaves without taking itself apart: what it printed must be out by then, into a pipe too."""
    capture = write_capture(tmp_path / "a.pcap", 3, 0)
    words = ["extract", capture, "-o", tmp_path / "a.parquet", "--force", *form]
    here = netgen_command(*words)
    ran = subprocess.run([COMMAND, *map(str, words)], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == (here.out, "")
    assert ran.stdout.count("\n") >= (1 if form else 4)


def test_an_output_that_takes_nothing_is_an_error_not_a_crash(tmp_path: Path) -> None:
    """A full disk behind stdout is told in a line, exit code 1; where stdout is closed nobody wants to know."""
    words = [COMMAND, "extract", write_capture(tmp_path / "a.pcap", 3, 0), "-o", tmp_path / "a.parquet", "--force"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered)
    assert (ran.returncode, ran.stderr) == (1, "netgen: standard output: No space left on device\n")
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *words], capture_output=True, text=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, "")
