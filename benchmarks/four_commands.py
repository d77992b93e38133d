"""Run extract, train and synth on real captures, and measure how useful the synthetic flows are.

    python benchmarks/four_commands.py --minutes 10

After the commands, one random forest learns from the synthetic flows and one from the real ones. Both are tested on
captures that neither saw.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from comparison import count_copies, real_or_fake

import netgen

DATA = Path(os.environ.get("NETGEN_SHARED_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
CAPTURES = DATA / "captures" / "iot_setup"


def run(*words: str) -> None:
    """Run a netgen command, and print the command, its output and its time."""
    start = time.perf_counter()
    print(f"\n$ netgen {' '.join(words)}", flush=True)
    subprocess.run([Path(sys.executable).with_name("netgen"), *words], check=True)
    print(f"({time.perf_counter() - start:.1f} s)", flush=True)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", default="10")
    parser.add_argument("-n", default="300")
    parser.add_argument("--folder", type=Path, help="keep the files here")
    arguments = parser.parse_args()
    if not CAPTURES.is_dir():
        print(f"the shared captures are not at {CAPTURES}: set NETGEN_SHARED_DATA", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(exist_ok=True, parents=True)
        os.chdir(folder)
        run("extract", str(CAPTURES / "train"), "--label-by", "folder", "--group-by", "capture", "-o", "iot.parquet")
        run("train", "iot.parquet", "-o", "iot.safetensors", "--minutes", arguments.minutes,
            "--validation", "0")  # fmt: skip
        run("synth", "--model", "iot.safetensors", "--class", "all", "-n", arguments.n, "-o", "new.parquet")
        run("synth", "--model", "iot.safetensors", "--class", "all", "-n", arguments.n, "-o", "new.pcap")
        run("extract", str(CAPTURES / "test"), "--label-by", "folder", "--group-by", "capture",
            "--spec-from", "iot.parquet", "-o", "test.parquet")  # fmt: skip
        real, new, test = (netgen.FlowTable.read(f"{name}.parquet") for name in ("iot", "new", "test"))
    print(f"\nmachine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print("| random forest trained on | flows | accuracy | macro F1 | real-or-fake AUC | copies of training flows |")
    print("|---|---|---|---|---|---|")
    for name, table, other in (("real captures", real, test), ("synthetic flows", new, new)):
        score = netgen.usefulness(table, test)
        print(f"| {name} | {len(table)} | {score.accuracy:.3f} | {score.macro_f1:.3f} | "
              f"{real_or_fake(real, other):.3f} | {count_copies(real, other)} of {len(other)} |")  # fmt: skip
    print("Both are tested on the test captures. The first row's last two columns compare test and training captures.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
