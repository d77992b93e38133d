"""A data card for a flow table, in the form that Hugging Face reads: YAML between two lines of dashes, then text.

All of it is taken from the table and its notes (`FlowTable.metadata`), so that the card of a file can
be written wherever the file is, without the model.
"""

from __future__ import annotations

import glob
import importlib.metadata
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from netgen.capture.series.spec import BINS, PACKETS, UNITS, SeriesSpec, format_duration
from netgen.capture.table.flow_table import FLOW_COLUMNS, FlowTable

#: Rows below which a size category of Hugging Face ends, and its name.
SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
)

COLUMNS = {
    "flow": "number of the row",
    "label": "the class",
    "source": "what the flow comes from: a capture, a trace, `netgen:` and a model, or `jitter` of real flows",
    "synthetic": "true: drawn from a model, or jittered",
    "start_ns": "time of the first packet, ns since 1970",
    "duration_ns": "first packet to last, ns",
    "protocol": "IP protocol number",
    "src": "address of the initiator",
    "src_port": "its port",
    "dst": "address of the other side",
    "dst_port": "its port",
    "vlan": "VLAN number",
    "server_name": "name of the server",
    "server_name_source": "what said it: tls, quic or dns",
    "packets": "packets of the whole flow",
    "bytes": "IP bytes of the whole flow",
    "truncated_packets": "packets after the last that the series holds",
}

#: Notes of a table drawn from a model, and what they are called here.
FACTS = {
    "model": "model",
    "weights_sha256": "sha256 of its weights",
    "seed": "seed",
    "guidance": "guidance",
    "steps": "sampling steps",
}

SYNTHETIC = """\
* Synthetic flows are for training and testing classifiers and tools. They are not evidence of what anyone did. Nor do
  they tell how common a class is: its number of flows was chosen.
* Test on real flows. A good score on synthetic ones says little.
* Drawing from a model is no guarantee of privacy: a model may remember flows that it learnt from. A synthetic flow has
  no address, port, server name or time of capture; the model never saw any.
* The terms of the data that the model learnt from may bind what is made with it. Fill in `license` above when you know
  them. `netgen models NAME` prints the sources and terms of a model that comes with netgen.
"""

JITTERED = """\
Jittered flows (source `jitter`) are real ones of the class in which each number was changed by about a tenth.
They lie near real flows: pass them on only where you would pass on those.
"""

REAL = """\
* Flows with `synthetic` false come from real traffic. They may hold addresses, ports and server names of people. See
  that you may publish them, or drop these columns.
* Fill in `license` above with the terms of the captures.
"""

LOADING = """\
## Load it

```python
import datasets
import netgen
import pandas

rows = datasets.load_dataset("parquet", data_files={name}, split="train")
frame = pandas.read_parquet({name})
X, y = netgen.FlowTable.read({name}).to_numpy()  # series (flows, channels, bins), labels (flows,)
```

To publish it as a data set, put the file into a folder, and this card beside it as `README.md`.
"""


def data_card_path(path: Path) -> Path:
    """Where the card of a table goes: ``new.card.md`` beside ``new.parquet``."""
    return path.with_suffix(".card.md")


def card(table: FlowTable, name: str) -> str:
    """The card of a table that is written under the file name `name`."""
    made = sum(table.table["synthetic"].to_pylist())
    counts = table.counts()
    title = "Synthetic network flows" if made == len(table) > 0 else "Network flows"
    title += ": " + (", ".join(counts) if 0 < len(counts) <= 4 else Path(name).stem)
    head = _front_matter(title, len(table), made > 0, name)
    return f"---\n{head}---\n\n# {_line(title)}\n\n{_text(table, counts, made, name)}"


def _front_matter(title: str, rows: int, synthetic: bool, name: str) -> str:
    tags = ["network-traffic", "traffic-classification", "time-series", *["synthetic"] * synthetic]
    lines = [
        f"pretty_name: {_quoted(title)}",
        "license: unknown  # yours to fill in",
        "task_categories:",
        "- tabular-classification",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "size_categories:",
        f"- {next((size for below, size in SIZES if rows < below), '1B<n<10B')}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        f"    path: {_quoted(glob.escape(name))}",  # what stands there is a pattern
    ]
    return "".join(f"{line}\n" for line in lines)


def _text(table: FlowTable, counts: dict[str, int], made: int, name: str) -> str:
    spec = table.spec
    place = "bin" if spec.view == BINS else "packet"
    whose = "all of them synthetic" if made == len(table) else f"{made:,} of them synthetic"
    unlabelled = len(table) - sum(counts.values())
    columns = [
        *((f"`{field.name}`", field.type, COLUMNS[field.name]) for field in FLOW_COLUMNS),
        *((f"`{channel}`", f"list of {spec.length} int64", f"one number a {place}") for channel in spec.channels),
    ]
    parts = [
        f"{len(table):,} flows of network traffic, {whose}, in `{_line(name)}`. "
        f"Written by netgen {importlib.metadata.version('netgen')}.\n",
        "## How it was made\n",
        *_making(table.metadata, name),
        "## Classes\n",
        _rows(("class", "flows"), counts.items()),
        *([f"{unlabelled:,} flows have no class.\n"] * (unlabelled > 0)),
        "## Series\n",
        f"{_length(spec)} All numbers are integers.\n",
        _rows(("channel", "what it holds"), [(f"`{channel}`", UNITS[channel]) for channel in spec.channels]),
        "## Columns\n",
        "What is not known is null.\n",
        _rows(("column", "type", "what it is"), columns),
        "## Limits\n",
        *([SYNTHETIC] * (made > 0)),
        *([REAL] * (made < len(table))),
        LOADING.format(name=_quoted(name)),
    ]
    return "\n".join(parts)


def _length(spec: SeriesSpec) -> str:
    if spec.view == PACKETS:
        return f"A flow is its first {spec.length} packets, in order of time: the size and the gap of each."
    return (
        f"A flow has {len(spec.channels)} series of {spec.length} bins of {format_duration(spec.bin_ns)}, "
        f"{format_duration(spec.span_ns)} in all. Bin 0 begins with its first packet."
    )


def _making(metadata: dict[str, Any], name: str) -> list[str]:
    """What the table's notes say of where it comes from."""
    if metadata.get("made_by") == "augment":
        return _topped_up(metadata)
    if "tables" in metadata:
        said = [f"* {_brief(part)}" for part in metadata["tables"]]
        return ["Joined of these tables:\n", *said, ""]
    if metadata.get("made_by") != "synth":
        return [_brief(metadata) + ".\n"]
    parts = [
        "Drawn from a diffusion model of traffic over time.\n",
        _rows(("what", "value"), [(what, metadata[key]) for key, what in FACTS.items() if key in metadata]),
    ]
    if {"numbers", *FACTS} <= set(metadata):
        classes = [word for each, number in metadata["numbers"].items() for word in ("--class", f"{each}={number}")]
        options = [word for key in ("seed", "guidance", "steps") for word in (f"--{key}", str(metadata[key]))]
        words = ["netgen", "synth", "--model", metadata["model"], *classes, *options, "-o", name]
        parts += [
            "The command that draws it; a model that does not come with netgen is named by its file:\n",
            f"```sh\n{shlex.join(words)}\n```\n",
        ]
    return parts + _changed(metadata)


def _topped_up(metadata: dict[str, Any]) -> list[str]:
    """Of a table in which rare classes were topped up; its last part, if there are two, is what was drawn."""
    numbers, left = metadata["numbers"], metadata["left"]
    whose = "" if metadata.get("only_synthetic") else " They follow the flows of that table, which are as they were."
    facts = [(what, metadata[key]) for key, what in FACTS.items() if key in metadata]
    facts += [("steps of training", metadata["training"]["steps"])] if "steps" in metadata.get("training", {}) else []
    origin = (
        _brief(metadata["tables"][0]).replace("Made by", "That table was made by").replace("The table", "That table")
    )
    jitter = metadata.get("jittered", {})
    near, share = jitter.get("flows", {}), f" --jitter {jitter['share']:g}" if jitter and "trial" not in jitter else ""
    rows = [
        (name, there, numbers.get(name, 0) - near.get(name, 0), near.get(name, 0), left.get(name, ""))
        for name, there in metadata["before"].items()
    ]
    return [
        f"Classes with few flows were topped up (`netgen augment --to {metadata['to']}{share}`) by flows drawn from a "
        f"diffusion model{'' if not near else ' and by jittered ones'}.{whose} {origin}.\n",
        *([_rows(("what", "value"), facts)] if facts else []),
        *([JITTERED] * bool(near)),
        _rows(("class", "flows before", "flows drawn", "flows jittered", "why none were added"), rows),
        *_changed(metadata),
    ]


def _changed(metadata: dict[str, Any]) -> list[str]:
    if not metadata.get("changed"):
        return []
    return [
        "Flows that had to be changed before packets could make them:\n",
        _rows(("what was changed", "flows"), metadata["changed"].items()),
    ]


def _brief(metadata: dict[str, Any]) -> str:
    if "made_by" not in metadata and "tables" in metadata:
        return f"The table was joined of {len(metadata['tables'])} tables"
    if "made_by" not in metadata:
        return "The table does not say how it was made"
    facts = [f"{what} {metadata[key]}" for key, what in FACTS.items() if key in metadata]
    return _line(f"Made by `netgen {metadata['made_by']}`" + "".join(f", {fact}" for fact in facts))


def _rows(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(_line(cell).replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def _line(value: Any) -> str:
    """As text without line breaks and other control characters; the name of a class can be anything."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", str(value))


def _quoted(text: str) -> str:
    """As a string of YAML, and of Python."""
    return '"' + "".join(
        f"\\{letter}" if letter in '"\\' else letter if letter.isprintable() else f"\\U{ord(letter):08x}"
        for letter in text
    ) + '"'  # fmt: skip
