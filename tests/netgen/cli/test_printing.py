"""Output of info, models and show; control characters in names are escaped."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from support.commands import done, failed, files, only_object, write_capture

from netgen.capture.table.flow_table import FlowTable

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.usefixtures("bundled_folder")
def test_info_distinguishes_tables_models_and_captures(
    tiny_flows: Any, tiny_model_file: Path, cwd: Any, netgen_command: Any
) -> None:
    """The first bytes decide, not the name."""
    tiny_flows.write("t.parquet")
    (cwd / "t.parquet").rename("table")
    out = done(netgen_command("info", "table"))
    assert "flow table" in out
    assert "Web-TLS" in out
    assert "60" in out
    for name in (tiny_model_file, "tiny"):
        out = done(netgen_command("info", name))
        assert "classes: Web-TLS (20 flows), dns-doh (20 flows), dns-plain (20 flows)" in out
    write_capture(cwd / "capture", 3, 0)
    out = done(netgen_command("info", "capture"))
    assert "read 24 packets in 1 file: 24 in flows" in out
    assert "2023-11-14T22:13:20+00:00" in out
    for words, message in (
        ("nothing", "no model nothing"),
        ("no.pcap", "cannot be read: No such file"),
        (".", "netgen extract"),
    ):
        assert message in failed(netgen_command("info", words))


def test_info_summarises_the_ground_truth_beside_a_capture(tiny_flows: Any, cwd: Any, netgen_command: Any) -> None:
    """Flows, packets and bytes are those that were written; another CSV or Parquet file is refused."""
    tiny_flows.write("t.parquet")
    wrote = only_object(netgen_command("export", "t.parquet", "-o", "x.pcap", "--json"))
    truths = [only_object(netgen_command("info", f"x.labels.{ending}", "--json")) for ending in ("csv", "parquet")]
    assert truths[0] | {"file": ""} == truths[1] | {"file": ""}
    capture = only_object(netgen_command("info", "x.pcap", "--json"))
    for name in ("flows", "packets", "ip_bytes", "first_packet"):
        assert truths[0][name] == capture[name]
    assert truths[0]["packets"] == wrote["packets"]
    assert truths[0]["labels"] == tiny_flows.counts()
    assert sum(truths[0]["connections"].values()) <= len(tiny_flows)
    out = " ".join(done(netgen_command("info", "x.labels.csv")).split())
    assert "labels dns-doh" in out or "labels Web-TLS" in out
    words = pa.parquet.read_table("x.labels.parquet").to_pydict()
    words["up_packets"] = ["many"] * len(tiny_flows)
    pa.parquet.write_table(pa.table(words), "words.labels.parquet")
    assert "words.labels.parquet is not the ground truth of a capture" in failed(
        netgen_command("info", "words.labels.parquet")
    )
    (cwd / "other.csv").write_text("a,b\n1,2\n")
    assert "other.csv: not a pcap or pcapng file" in failed(netgen_command("info", "other.csv"))


@pytest.mark.usefixtures("cwd")
@pytest.mark.parametrize("forced", [False, True])
def test_control_characters_in_names_are_escaped(
    forced: bool, tiny_flows: Any, netgen_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names come from captures and label files, so they may hold terminal escapes; these are printed as text."""
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
    assert "Did you mean 'tiny'?" in failed(netgen_command("models", "tony"))
    (bundled_folder / "tiny.md").unlink()
    assert "model tiny has no card. netgen info tiny" in failed(netgen_command("models", "tiny"))


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_show_plots_real_beside_synthetic(
    ending: str, tiny_flows: Any, tiny_model_file: Path, cwd: Any, netgen_command: Any
) -> None:
    tiny_flows.write("t.parquet")
    words = ("show", "t.parquet", tiny_model_file, "-o", f"x.{ending}", "--class", "doh", "--channel", "up_bytes")
    assert done(netgen_command(*words)) == f"wrote x.{ending}\n"
    head = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert (cwd / f"x.{ending}").read_bytes().startswith(head)
    assert files(cwd) == ["t.parquet", f"x.{ending}"]


def test_show_refuses_unknown_formats_channels_and_classes(tiny_flows: Any, cwd: Any, netgen_command: Any) -> None:
    tiny_flows.write("t.parquet")
    for more, message in (
        (["-o", "x.bmp"], "a picture cannot be written to x.bmp"),
        (["--channel", "sideways"], "there is no channel 'sideways'"),
        (["--class", "ssh"], "has no class 'ssh'"),
        (["t.parquet", "t.parquet"], "3 files do not fit"),
    ):
        assert message in failed(netgen_command("show", "t.parquet", *more))
    assert files(cwd) == ["t.parquet"]


@pytest.mark.parametrize("name", ["c[red]", "a[/]b", ":warning:", "with space"])
def test_names_are_printed_as_they_are(name: str, cwd: Any, netgen_command: Any) -> None:
    """Brackets and colons in the name of a class or file are not markup."""
    file = name.replace("/", "-")
    write_capture(cwd / f"{file}.pcap", 1, 0)
    out = done(netgen_command("extract", f"{file}.pcap", "--label", name))
    assert f"wrote {file}.flows.parquet: 1 flow" in out
    assert f"│ {name} │" in " ".join(out.split())
    assert f"│ {name} │" in " ".join(done(netgen_command("info", f"{file}.flows.parquet")).split())


def test_a_long_path_is_printed_on_one_line(cwd: Any, netgen_command: Any) -> None:
    """It can be copied from a narrow terminal."""
    folder = cwd / ("long" * 30)
    folder.mkdir()
    write_capture(cwd / "a.pcap", 1, 0)
    out = done(netgen_command("extract", "a.pcap", "-o", folder / "x.parquet"))
    assert f"wrote {folder}/x.parquet: 1 flow" in out


@pytest.mark.parametrize(("late", "lost"), [(10, "web \\(50%\\)"), (0, None)])
def test_extract_warns_of_classes_that_lose_packets_beyond_the_series(
    late: int, lost: str | None, pcap_file: Any, packet: Any, cwd: Any, netgen_command: Any
) -> None:
    times = [*range(10), *range(1000, 1000 + late)]
    capture = pcap_file([(1 + t * 10**8, packet.udp4(1000, 443, b"x")) for t in times])
    outcome = netgen_command(
        "extract", capture, "--label", "web", "--bin-width", "0.1s", "--length", 16, "-o", cwd / "t.parquet"
    )
    assert outcome.code == 0, outcome.err
    warned = re.search(r"warning: packets lost beyond the end of the series: (.*); a larger --bin-width", outcome.out)
    assert (warned is not None) == (lost is not None)
    if warned and lost:
        assert re.fullmatch(lost, warned[1])
