"""The data card beside a table: metadata for Hugging Face, and a description of the flows."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from netgen.capture.errors import OutputError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.capture.table.schema import FLOW_COLUMNS
from netgen.exporters.tables.data_card import COLUMNS, SIZE_CATEGORIES, data_card, data_card_path
from netgen.exporters.write import write

ABOUT_SYNTH = {
    "made_by": "synth",
    "model": "tiny",
    "weights_sha256": "ab" * 32,
    "seed": 7,
    "guidance": 1.5,
    "sampling_steps": 18,
    "n_flows": {"a b": 2, "c|d": 1},
    "changed": {"bytes and packets of a bin made to agree": 2},
}


def make(labels: Any, **options: Any) -> Any:
    series = np.ones((len(labels), 4, 8), np.int64)
    return FlowTable.build(series, SeriesSpec(bin_ns=250_000_000, length=8), label=labels, **options)


@pytest.fixture
def table() -> Any:
    return make(["a b", "a b", "c|d"], synthetic=True, source="netgen:tiny", metadata=ABOUT_SYNTH)


def halves(text: str) -> tuple[dict[str, Any], str]:
    """Split a card into its parsed front matter and its text."""
    empty, head, body = text.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(head), body


def rows(body: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading."""
    section = body.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [re.split(r" (?<!\\)\| ", line) for line in lines[2:]]


def test_the_front_matter_is_that_of_hugging_face(table: Any) -> None:
    """Licence left open, task, tags, size and the file, in YAML."""
    head, _ = halves(data_card(table, "new.parquet"))
    assert head == {
        "pretty_name": "Synthetic network flows: a b, c|d",
        "license": "unknown",
        "task_categories": ["tabular-classification"],
        "tags": ["network-traffic", "traffic-classification", "time-series", "synthetic"],
        "size_categories": ["n<1K"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "new.parquet"}]}],
    }


def test_the_text_describes_the_origin_of_the_flows(table: Any) -> None:
    """Model, weights, seed, guidance, steps, changes, classes, series: all of the table's metadata."""
    _, body = halves(data_card(table, "new.parquet"))
    assert "3 flows of network traffic, all of them synthetic, in `new.parquet`" in body
    origin = dict(rows(body, "How it was made"))
    assert origin == {
        "model": "tiny",
        "sha256 of its weights": "ab" * 32,
        "seed": "7",
        "guidance": "1.5",
        "sampling steps": "18",
        "repair": "flows",
        "---": "---",
        "bytes and packets of a bin made to agree": "2",
    }
    assert rows(body, "Classes") == [["a b", "2"], [r"c\|d", "1"]]
    assert "4 series of 8 bins of 0.25s, 2s in total" in body
    assert rows(body, "Series")[0] == ["`up_bytes`", "IP bytes from the initiator"]
    assert "They are not evidence" in body
    assert "does not guarantee privacy" in body
    assert "come from real traffic" not in body


def test_every_column_is_described(table: Any) -> None:
    """With its type; those of the series too."""
    _, body = halves(data_card(table, "new.parquet"))
    names = [row[0].strip("`") for row in rows(body, "Columns")]
    assert names == table.table.column_names
    assert list(COLUMNS) == FLOW_COLUMNS.names
    assert rows(body, "Columns")[0] == ["`flow`", "int64", "number of the flow when the table was made"]
    assert rows(body, "Columns")[-1] == ["`down_packets`", "list of 8 int64", "one number a bin"]


def test_the_command_of_the_card_samples_the_same_flows(
    tiny_model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, netgen_command: Any
) -> None:
    """Running the card's command writes the same bytes."""
    monkeypatch.chdir(tmp_path)
    words = ("synth", "-m", tiny_model_file, "-c", "web=2", "-c", "doh=1", "--seed", 3, "--guidance", 1.5)
    assert netgen_command(*words, "--sampling-steps", 2, "-o", "a.parquet").code == 0
    (line,) = re.findall(r"^netgen synth .*$", (tmp_path / "a.card.md").read_text("utf-8"), re.MULTILINE)
    typed = shlex.split(line)[1:]
    assert typed[typed.index("--model") + 1] == "tiny"
    typed = [{"tiny": str(tiny_model_file), "a.parquet": "b.parquet"}.get(word, word) for word in typed]
    assert netgen_command(*typed).code == 0
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_cards_python_runs(table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines load the file, even if the name needs quoting."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install 'netgen[test]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write(table, 'a "b".parquet', card=True)
    (code,) = re.findall(r"^```python\n(.*?)^```", (tmp_path / 'a "b".card.md').read_text(), re.MULTILINE | re.DOTALL)
    space: dict[str, Any] = {}
    exec(code, space)
    assert space["rows"]["label"] == space["frame"]["label"].tolist() == space["y"].tolist() == ["a b", "a b", "c|d"]


@pytest.mark.parametrize("name", ["new.parquet", "a[1].parquet", 'b*? "ü\n😀\x7f.parquet', "c.d.parquet"])
def test_a_folder_with_file_and_card_is_a_data_set(
    name: str, table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the card says: the file in a folder, the card as its README.md; Hugging Face's own library loads it."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install 'netgen[test]'")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "set"
    folder.mkdir()
    path = write(table, folder / name, card=True).card
    assert path is not None
    path.rename(folder / "README.md")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"]["label"] == ["a b", "a b", "c|d"]


def test_no_name_of_a_class_breaks_the_card() -> None:
    """Quotes, line breaks, dashes, control characters; and a file name that is no UTF-8."""
    names = ['"', "\\", "a\nb", "---", "c\x00\x85d", "😀", "# x", "'{[: "]
    table = make(names, synthetic=True)
    for subset in (table, table.take([0, 2, 5]), table.take([3])):
        text = data_card(subset, "x\udcff.parquet").encode("utf-8", "backslashreplace").decode()
        head, body = halves(text)
        assert head["license"] == "unknown"
        assert len(rows(body, "Classes")) == len(subset)
        assert head["configs"][0]["data_files"][0]["path"] == "x\udcff.parquet"


def test_the_size_is_that_of_the_table() -> None:
    """The largest category below which the number of rows lies."""
    assert SIZE_CATEGORIES[:2] == ("n<1K", "1K<n<10K")
    for number, size in ((0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10_000, "10K<n<100K")):
        head, _ = halves(data_card(make(["a"] * number), "x.parquet"))
        assert head["size_categories"] == [size]


def test_real_flows_are_not_called_synthetic(table: Any) -> None:
    """A card of real or mixed flows warns about private data, and names every origin."""
    real = make(["a b", None], metadata={"made_by": "extract"}, src="10.0.0.1")
    head, body = halves(data_card(real, "flows.parquet"))
    assert head["pretty_name"] == "Network flows: a b"
    assert "synthetic" not in head["tags"]
    assert "come from real traffic" in body
    assert "They are not evidence" not in body
    assert "1 flows have no class" in body
    assert "Made by `netgen extract`" in body

    head, body = halves(data_card(concat([real, table]), "both.parquet"))
    assert head["pretty_name"] == "Network flows: a b, c|d"
    assert "synthetic" in head["tags"]
    assert "5 flows of network traffic, 3 of them synthetic" in body
    assert "come from real traffic" in body
    assert "They are not evidence" in body
    assert "* made by `netgen extract`\n" in body
    assert f"* made by `netgen synth`, model tiny, sha256 of its weights {'ab' * 32}, seed 7" in body
    assert "Origin unknown" in halves(data_card(make(["a"]), "x.parquet"))[1]


def test_a_card_is_written_on_request(table: Any, tmp_path: Path) -> None:
    """`write(..., card=True)` names it in the report; without, there is none."""
    assert write(table, tmp_path / "a.parquet").card is None
    report = write(table, tmp_path / "b.c.parquet", card=True)
    assert report.card == data_card_path(report.path) == tmp_path / "b.c.card.md"
    assert report.to_json()["card"] == str(report.card)
    assert report.card.read_text("utf-8") == data_card(table, "b.c.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.c.card.md", "b.c.parquet"]


@pytest.mark.parametrize("ending", [".csv", ".pcap"])
def test_only_parquet_has_a_card(ending: str, table: Any, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="only Parquet files have one"):
        write(table, tmp_path / f"x{ending}", card=True)
    assert list(tmp_path.iterdir()) == []


def test_a_card_that_exists_is_kept_unless_forced(table: Any, tmp_path: Path) -> None:
    """It may have been filled in; the table is not written either."""
    path = tmp_path / "x.card.md"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"x\.card\.md exists already"):
        write(table, tmp_path / "x.parquet", card=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.card.md"]
    assert path.read_text() == "mine"
    write(table, tmp_path / "x.parquet", card=True, force=True)
    assert path.read_text("utf-8") == data_card(table, "x.parquet")


def test_a_table_that_cannot_be_written_leaves_no_card(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither file is written without the other."""

    def full(*_: Any, **__: Any) -> None:
        raise OutputError("no room", "Make some")

    monkeypatch.setattr(FlowTable, "write", full)
    with pytest.raises(OutputError, match="no room"):
        write(table, tmp_path / "x.parquet", card=True)
    assert list(tmp_path.iterdir()) == []


def test_synth_writes_a_card_beside_a_table_only(
    tiny_model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, netgen_command: Any
) -> None:
    """The output and the JSON name it; `--no-card` omits it."""
    monkeypatch.chdir(tmp_path)
    words = ("synth", "-m", tiny_model_file, "-c", "web=2", "--sampling-steps", 2)
    assert "data card: a.card.md\n" in netgen_command(*words, "-o", "a.parquet").out
    printed = netgen_command(*words, "-o", "b.parquet", "--json").out
    assert '"card": "b.card.md"' in printed
    for name in ("c.parquet", "d.pcap", "e.csv"):
        outcome = netgen_command(*words, "-o", name, *["--no-card"] * (name == "c.parquet"))
        assert outcome.code == 0
        assert "card" not in outcome.out
    assert sorted(path.name for path in tmp_path.glob("*.card.md")) == ["a.card.md", "b.card.md"]
    outcome = netgen_command(*words, "-o", "c.parquet", "--force")
    assert outcome.code == 0
    assert (tmp_path / "c.card.md").is_file()
    (tmp_path / "a.parquet").unlink()
    outcome = netgen_command(*words, "-o", "a.parquet")
    assert (outcome.code, outcome.out) == (1, "")
    assert "a.card.md exists already" in outcome.err
