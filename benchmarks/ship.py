"""Train the models that netgen ships, from the public data in ../shared/data, and write their cards.

    python benchmarks/ship.py video --minutes 40 --threads 1
    python benchmarks/ship.py base --minutes 40 --threads 1
    python benchmarks/ship.py --cards        # measure the weights that are there, write their cards

Training goes on where it was cut off if it is started again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
from comparison import count_copies, real_or_fake

import netgen
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.encoders.registry import ENCODERS
from netgen.model.registry import FOLDER

DATA = Path(os.environ.get("NETGEN_SHARED_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
SERIES = DATA / "series"

#: Bin widths: 32 s hold a video session's 30; 16 s hold an attack, a voice command, most page loads
#: and the first moments of a device's set-up.
BIN = {"video": "0.25s", "base": "0.125s"}

#: Pages of Tor traffic that the class tor-web is learnt from: all 78, so many loads of each.
TOR_LOADS_A_PAGE = 25


def video_flows(split: str) -> FlowTable:
    """Thirty-second sessions of three platforms, and of netflix from one session in windows."""
    relabel = {f"{name}-{lines}": name for name in ("youtube", "twitch", "bilibili") for lines in (480, 720)}
    tables = [
        netgen.import_traces(
            SERIES / "video_platform.parquet", size_unit="frame", split=split, relabel=relabel, bin_width=BIN["video"]
        )
    ]
    if split == "train":  # there is no other netflix session to test on
        tables.append(
            netgen.import_traces(SERIES / "netflix_session.parquet", size_unit="frame", bin_width=BIN["video"])
        )
    return concat(tables)


def base_flows(split: str) -> FlowTable:
    """Attacks, tunnels and streams (certta), voice commands, devices' set-up, pages over Tor."""
    tor = netgen.import_traces(
        SERIES / "tor_wikipedia.parquet", size_unit="payload", split=split, bin_width=BIN["base"]
    )
    pages = tor.labels
    keep = np.concatenate([np.flatnonzero(pages == page)[:TOR_LOADS_A_PAGE] for page in tor.classes])
    return concat(
        [
            netgen.import_traces(SERIES / "certta_flows.parquet", size_unit="ip", split=split, bin_width=BIN["base"]),
            named("alexa", "alexa_voice", "ip", split),
            named("iot-setup", "iot_setup", "frame", split),
            relabelled(tor.take(np.sort(keep)), "tor-web"),
        ]
    )


def named(label: str, file: str, sizes: Literal["ip", "frame", "payload"], split: str) -> FlowTable:
    return netgen.import_traces(
        SERIES / f"{file}.parquet", size_unit=sizes, split=split, label=label, bin_width=BIN["base"]
    )


def relabelled(table: FlowTable, label: str) -> FlowTable:
    import pyarrow as pa

    index_ = table.table.column_names.index("label")
    column = pa.repeat(pa.scalar(label), len(table))
    return FlowTable(table.table.set_column(index_, "label", column), table.spec, table.metadata)


FLOWS = {"video": video_flows, "base": base_flows}


def train(name: str, minutes: float, threads: int | None, seed: int, encoder: str) -> None:
    """One model into the package, resuming if there is a checkpoint."""
    flows = FLOWS[name]("train")
    print(f"{name}: {flows!r} {flows.counts()}", flush=True)
    out = FOLDER / f"{name}.safetensors"

    def progress(report: object) -> None:
        if report.step % 1000 == 0 or report.share_done >= 1:  # type: ignore[attr-defined]
            print(name, report, flush=True)

    waiting = out.with_name(f"{name}.checkpoint.safetensors").is_file()
    netgen.train(
        flows, out=out, minutes=minutes, seed=seed, threads=threads, force=True, resume=waiting, name=name,
        progress=progress, validation=0, store_flows=False, encoder=encoder,
    )  # fmt: skip
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


SOURCES = {
    "video": """\
| classes | real traces | source | terms |
|---|---|---|---|
| youtube, twitch, bilibili | 30 s sessions, all packets, by recording file | UUuUUuUUo/Video-traffic-dataset | no licence; \
"for reproducible research": please cite it |
| netflix | 30 s windows, one every 5 s, of ONE 8-minute session | course data of noise-lab/ml-systems | no licence |""",
    "base": """\
| classes | real traces | source | terms |
|---|---|---|---|
| CICDOH20-*, TIISSRC23-* | flows of at most 100 packets: DNS over HTTPS and its tunnels, audio, video, Mirai, \
brute force | InspiringGroup-Lab/CertTA | MIT |
| alexa | voice commands to an Amazon Echo | SmartHomePrivacyProject/VCFingerprinting | MIT, "research purposes only" |
| iot-setup | devices being set up | andypitcher/IoT_Sentinel (a mirror of Miettinen et al., IoT Sentinel, ICDCS 2017) | \
MIT; please cite the paper |
| tor-web | loads of 78 Wikipedia pages in a simulated Tor network | explainwf-popets2023 (Jansen & Wails, PoPETs 2023) | \
US-DoD public release |""",
}

#: What a model of each encoder draws.
REPRESENTATION = {
    "gasf": "Gramian angular fields",
    "gadf": "Gramian difference fields",
    "delay": "delay embeddings",
    "series": "time series",
}

LIMITS = {
    "video": """\
* **netflix comes from one session** of one person on one day: the class is what that session looked like, its
  windows overlap, and there are no held-out flows to test it on. The accuracies above are without it.
* Sessions are seen whole (all flows together) over 32 s, in bins of 0.25 s.
* Sizes were link-layer lengths: IP bytes are those less 14, so padded short frames count up to 6 bytes too many.""",
    "base": """\
* The series covers the first 16 s in bins of 0.125 s: page loads and set-ups that last longer are truncated, and
  DNS-over-HTTPS flows of 0.1 s fill one bin or two.
* alexa, iot-setup and tor-web are each one class here, of 80 commands, 31 devices and 78 pages.
* TCP acknowledgements are missing from Tor's cells, and the network around them was simulated.""",
}


def card(name: str, per_class: int, seed: int) -> None:
    """Measure a shipped model against real flows it never saw, and write its card."""
    model = netgen.load(name)
    real, held = FLOWS[name]("train"), FLOWS[name]("test")
    tested = held.classes
    numbers = {label_: min(number, per_class) for label_, number in real.counts().items()}
    begun = time.perf_counter()
    new = model.sample(numbers, seed=seed)
    seconds = time.perf_counter() - begun
    alike = balanced(real, numbers)
    by_real = netgen.usefulness(only(alike, tested), held)
    by_new = netgen.usefulness(only(new, tested), held)
    floor, auc = real_or_fake(alike, held), real_or_fake(alike, new)
    training = model.training
    changed = ", ".join(f"{reason}: {number}" for reason, number in new.metadata["changed"].items()) or "nothing"
    rows = "".join(f"| {label_} | {number} | {numbers[label_]} |\n" for label_, number in real.counts().items())
    text = f"""# Model card: {name}

Class-conditional diffusion over {REPRESENTATION[model.encoder]}, made by `netgen train`; {model.spec}.
Weights: {training["parameters"]:,} parameters, {training["steps"]:,} steps of {training["batch"]} in
{training["minutes"]:g} minutes on {training["threads"]} CPU thread, {training["precision"]}, seed {training["seed"]}.

## Data

{SOURCES[name]}

The weights hold no address, port or name: nothing but the series reaches the model.

## How good it is

`python benchmarks/ship.py --cards` samples the flows below (seed {seed}) and prints these figures. "Real" is the
training data, cut to the same number of flows a class; tested on the data's own test split, {len(held)} flows.

| random forest trained on | accuracy | macro F1 | real-or-fake AUC (0.5: cannot be recognised) |
|---|---|---|---|
| real | {by_real.accuracy:.3f} | {by_real.macro_f1:.3f} | {floor:.3f} (training against test split) |
| synthetic | {by_new.accuracy:.3f} | {by_new.macro_f1:.3f} | {auc:.3f} |

Exact copies of a training flow: {count_copies(real, new)} of {len(new)} (among the test split: {count_copies(real, held)} of
{len(held)}). Repaired so that packets can carry it: {changed}. Sampled at {len(new) / seconds:.1f} flows a second.

| class | real flows trained on | sampled here |
|---|---|---|
{rows}
## Limits

{LIMITS[name]}
* For training and testing classifiers and tools. Not evidence of what anyone did, and not a privacy guarantee:
  memorising is measured here by exact copies only.
"""
    path = FOLDER / f"{name}.md"
    path.write_text(text)
    print(text)


def only(table: FlowTable, classes: list[str]) -> FlowTable:
    return table.take(np.isin(table.labels.astype(str), classes))


def balanced(table: FlowTable, numbers: dict[str, int]) -> FlowTable:
    """As many flows a class as `numbers` says, at random."""
    generator = np.random.default_rng(0)
    labels = table.labels
    rows = [generator.permutation(np.flatnonzero(labels == name))[:number] for name, number in numbers.items()]
    return table.take(np.sort(np.concatenate(rows)))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=[*FLOWS, []], help="which to train")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder", default="series", choices=list(ENCODERS))
    parser.add_argument("--cards", action="store_true", help="measure the shipped models and write their cards")
    parser.add_argument("--per-class", type=int, default=150, help="flows a class to draw for a card, at most")
    arguments = parser.parse_args()
    if not SERIES.is_dir():
        print(f"the shared data is not at {DATA}: set NETGEN_SHARED_DATA", file=sys.stderr)
        return 1
    for name in arguments.models:
        train(name, arguments.minutes, arguments.threads, arguments.seed, arguments.encoder)
    if arguments.cards:
        for name in arguments.models or FLOWS:
            card(name, arguments.per_class, arguments.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
