"""Train the models that netgen ships, from the public data in ../shared/data, and write their cards.

    python benchmarks/ship.py video --minutes 40 --threads 1
    python benchmarks/ship.py base --minutes 40 --threads 1
    python benchmarks/ship.py --cards        # figures and cards anew, from the weights that are there

Training goes on where it was cut off if it is started again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

import netgen
from capture.flows import FlowTable, concat
from netgen.shipped import FOLDER

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
            SERIES / "video_platform.parquet", sizes="frame", split=split, relabel=relabel, bin=BIN["video"]
        )
    ]
    if split == "train":  # there is no other netflix session to test on
        tables.append(netgen.import_traces(SERIES / "netflix_session.parquet", sizes="frame", bin=BIN["video"]))
    return concat(tables)


def base_flows(split: str) -> FlowTable:
    """Attacks, tunnels and streams (certta), voice commands, devices' set-up, pages over Tor."""
    tor = netgen.import_traces(SERIES / "tor_wikipedia.parquet", sizes="payload", split=split, bin=BIN["base"])
    pages = tor.labels
    keep = np.concatenate([np.flatnonzero(pages == page)[:TOR_LOADS_A_PAGE] for page in tor.classes])
    return concat(
        [
            netgen.import_traces(SERIES / "certta_flows.parquet", sizes="ip", split=split, bin=BIN["base"]),
            named("alexa", "alexa_voice", "ip", split),
            named("iot-setup", "iot_setup", "frame", split),
            relabelled(tor.take(np.sort(keep)), "tor-web"),
        ]
    )


def named(label: str, file: str, sizes: str, split: str) -> FlowTable:
    return netgen.import_traces(SERIES / f"{file}.parquet", sizes=sizes, split=split, label=label, bin=BIN["base"])


def relabelled(table: FlowTable, label: str) -> FlowTable:
    import pyarrow as pa

    place = table.table.column_names.index("label")
    column = pa.repeat(pa.scalar(label), len(table))
    return FlowTable(table.table.set_column(place, "label", column), table.spec, table.about)


FLOWS = {"video": video_flows, "base": base_flows}


def train(name: str, minutes: float, threads: int | None, seed: int) -> None:
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
        progress=progress,
    )  # fmt: skip
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=[*FLOWS, []], help="which to train")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not SERIES.is_dir():
        print(f"the shared data is not at {DATA}: set NETGEN_SHARED_DATA", file=sys.stderr)
        return 1
    for name in arguments.models:
        train(name, arguments.minutes, arguments.threads, arguments.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
