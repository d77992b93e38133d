"""Write the data card of a flow table, in the format of Hugging Face: YAML front matter, then Markdown.

Everything comes from the table and its metadata, so that the card can be written without the model.
"""

from __future__ import annotations

import glob
import importlib.metadata
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from netgen.capture.series.spec import BINS, UNITS, format_duration
from netgen.capture.table.flow_table import FlowTable
from netgen.capture.table.schema import FLOW_COLUMNS

#: Size categories of Hugging Face: below 1,000 rows, below 10,000, and so on.
SIZE_CATEGORIES = (
    "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B",
)  # fmt: skip

COLUMNS = {
    "flow": "number of the flow when the table was made",
    "label": "the class",
    "source": "origin of the flow: a capture, a trace file, `netgen:` and a model, or `jitter`",
    "synthetic": "true: sampled from a model, or jittered",
    "start_ns": "time of the first packet, ns since 1970",
    "duration_ns": "time from the first packet to the last, ns",
    "protocol": "IP protocol number",
    "src": "address of the initiator",
    "src_port": "port of the initiator",
    "dst": "address of the other host",
    "dst_port": "port of the other host",
    "vlan": "VLAN number",
    "server_name": "name of the server",
    "server_name_source": "where the name comes from: tls, quic or dns",
    "packets": "packets of the flow",
    "bytes": "IP bytes of the flow",
    "truncated_packets": "packets beyond the end of the series",
}

#: Metadata of a sampled table, and how the card names it.
SAMPLING = {
    "model": "model",
    "weights_sha256": "sha256 of its weights",
    "seed": "seed",
    "guidance": "guidance",
    "sampling_steps": "sampling steps",
}

SYNTHETIC = """\
* Use synthetic flows to train and test classifiers and tools. They are not evidence of what anyone did, and they do not
  show how common a class is: somebody chose the number of flows.
* Test on real flows. A good score on synthetic flows says little.
* Sampling from a model does not guarantee privacy: a model may reproduce flows that it was trained on. A sampled flow
  has no address, port, server name or capture time, because models are trained without them.
* The terms of the training data may apply to these flows. Fill in `license` above when you know them. For a model that
  comes with netgen, `netgen models NAME` prints its sources and terms.
"""

JITTERED = """\
Jittered flows (source `jitter`) are copies of real flows of the class with each number changed by about a tenth. They
are close to real flows: share them only where you would share those.
"""

REAL = """\
* Flows with `synthetic` false come from real traffic. They may hold people's addresses, ports and server names. Make
  sure that you may publish them, or drop these columns.
* Fill in `license` above with the terms of the captures.
"""


def data_card_path(path: Path) -> Path:
    """Return where the card of a table goes: ``new.card.md`` beside ``new.parquet``."""
    return path.with_suffix(".card.md")


def data_card(table: FlowTable, name: str) -> str:
    """Write the card of a table that is stored under the file name `name`."""
    n_synthetic, counts, spec = sum(table.table["synthetic"].to_pylist()), table.counts(), table.spec
    all_synthetic = n_synthetic == len(table)
    title = "Synthetic network flows" if all_synthetic and len(table) else "Network flows"
    title += ": " + (", ".join(counts) if 0 < len(counts) <= 4 else Path(name).stem)
    unlabelled = len(table) - sum(counts.values())
    classes = _markdown_table(("class", "flows"), counts.items())
    classes += f"\n{unlabelled:,} flows have no class.\n" if unlabelled else ""
    series = f"A flow is its first {spec.length} packets in order of time: the size and the gap of each."
    if spec.view == BINS:
        series = (
            f"A flow has {len(spec.channels)} series of {spec.length} bins of {format_duration(spec.bin_ns)}, "
            f"{format_duration(spec.span_ns)} in total. Bin 0 begins with its first packet."
        )
    columns = [(f"`{field.name}`", field.type, COLUMNS[field.name]) for field in FLOW_COLUMNS]
    kind, meaning = f"list of {spec.length} int64", f"one number a {'bin' if spec.view == BINS else 'packet'}"
    columns += [(f"`{channel}`", kind, meaning) for channel in spec.channels]
    channels = [(f"`{channel}`", UNITS[channel]) for channel in spec.channels]
    synthetic = "all of them synthetic" if all_synthetic else f"{n_synthetic:,} of them synthetic"
    tag = "\n- synthetic" if n_synthetic else ""
    limits = "".join([SYNTHETIC + "\n"] * (n_synthetic > 0) + [REAL + "\n"] * (not all_synthetic))
    quoted, version = _quoted(name), importlib.metadata.version("netgen")
    return f"""\
---
pretty_name: {_quoted(title)}
license: unknown  # fill in
task_categories:
- tabular-classification
tags:
- network-traffic
- traffic-classification
- time-series{tag}
size_categories:
- {SIZE_CATEGORIES[max(len(str(len(table))) - 3, 0)]}
configs:
- config_name: default
  data_files:
  - split: train
    path: {_quoted(glob.escape(name))}
---

# {_one_line(title)}

{len(table):,} flows of network traffic, {synthetic}, in `{_one_line(name)}`. Written by netgen {version}.

## How it was made

{_origin(table.metadata, name)}
## Classes

{classes}
## Series

{series} All numbers are integers.

{_markdown_table(("channel", "unit"), channels)}
## Columns

Unknown values are null.

{_markdown_table(("column", "type", "meaning"), columns)}
## Limits

{limits}## How to load it

```python
import datasets
import netgen
import pandas

rows = datasets.load_dataset("parquet", data_files={quoted}, split="train")
frame = pandas.read_parquet({quoted})
X, y = netgen.FlowTable.read({quoted}).to_numpy()  # series (flows, channels, bins), labels (flows,)
```

To publish it as a data set, put the file into a folder with this card as its `README.md`.
"""


def _origin(metadata: dict[str, Any], name: str) -> str:
    """Describe how the table was made."""
    made_by = metadata.get("made_by")
    if made_by == "augment":
        return _augmented(metadata)
    if "tables" in metadata:
        return "Joined from these tables:\n\n" + "".join(f"* {_summarize(table)}\n" for table in metadata["tables"])
    if made_by != "synth":
        summary = _summarize(metadata)
        return f"{summary[0].upper()}{summary[1:]}.\n"
    text = "Sampled from a diffusion model of traffic over time.\n\n"
    text += _markdown_table(("setting", "value"), _sampling(metadata))
    if {"n_flows", *SAMPLING} <= set(metadata):
        words = ["netgen", "synth", "--model", metadata["model"]]
        words += [word for label, count in metadata["n_flows"].items() for word in ("--class", f"{label}={count}")]
        for key in ("seed", "guidance", "sampling_steps"):
            words += ["--" + key.replace("_", "-"), str(metadata[key])]
        text += "\nThis command samples it again; give the file of a model that does not come with netgen:\n\n"
        text += f"```sh\n{shlex.join([*words, '-o', name])}\n```\n"
    return text + _repairs(metadata)


def _augmented(metadata: dict[str, Any]) -> str:
    """Describe a table that `netgen augment` made; the first of its tables is the one that it began with."""
    jittered = metadata.get("jittered", {})
    option = f" --jitter {jittered['fraction']:g}" if jittered and "scores" not in jittered else ""
    n_jittered = jittered.get("flows", {})
    kinds = ["flows sampled from a diffusion model"] if "model" in metadata or not n_jittered else []
    kinds += ["jittered flows"] if n_jittered else []
    text = (
        f"`netgen augment --target {metadata['target']}{option}` added flows to classes that had few: "
        f"{' and '.join(kinds)}. "
    )
    text += "" if metadata.get("only_synthetic") else "The flows of the original table come first, unchanged. "
    text += f"Original table: {_summarize(metadata['tables'][0])}.\n\n"
    settings = _sampling(metadata)
    if "steps" in metadata.get("training", {}):
        settings.append(("training steps", metadata["training"]["steps"]))
    text += _markdown_table(("setting", "value"), settings) + "\n" if settings else ""
    text += JITTERED + "\n" if n_jittered else ""
    added, reasons = metadata["added"], metadata["skipped"]
    rows = []
    for label, before in metadata["flows_before"].items():
        copies = n_jittered.get(label, 0)
        rows.append((label, before, added.get(label, 0) - copies, copies, reasons.get(label, "")))
    heads = ("class", "flows before", "flows sampled", "flows jittered", "reason if none were added")
    return text + _markdown_table(heads, rows) + _repairs(metadata)


def _sampling(metadata: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(title, metadata[key]) for key, title in SAMPLING.items() if key in metadata]


def _repairs(metadata: dict[str, Any]) -> str:
    if not metadata.get("changed"):
        return ""
    table = _markdown_table(("repair", "flows"), metadata["changed"].items())
    return f"\nFlows that were repaired so that packets can carry them:\n\n{table}"


def _summarize(metadata: dict[str, Any]) -> str:
    """Summarize a table's metadata in one line."""
    if "made_by" in metadata:
        settings = "".join(f", {title} {value}" for title, value in _sampling(metadata))
        return _one_line(f"made by `netgen {metadata['made_by']}`{settings}")
    return f"joined from {len(metadata['tables'])} tables" if "tables" in metadata else "origin unknown"


def _markdown_table(heads: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join("| " + " | ".join(_one_line(cell).replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def _one_line(value: Any) -> str:
    """Replace line breaks and other control characters, which the name of a class may hold."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", str(value))


def _quoted(text: str) -> str:
    """Quote a string for YAML and Python."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in text) + '"'
