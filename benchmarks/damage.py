"""Read thousands of damaged captures with `netgen extract`, to find crashes, hangs, memory growth and lost packets.

    python benchmarks/damage.py                  20,000 of them
    python benchmarks/damage.py --only 4711      one of them again, with its traceback; --keep FILE saves it

Each case takes two captures of up to 200 kB (the shared ones, or synthetic ones if these are absent), damages them with
tests/support/mutate.py, and reads the result in one of a few long-lived processes. The memory of a process is limited,
and one that does not answer is killed. A case fails if there is:

* a crash: any exception except NetgenError, warnings included, and any signal
* a hang: over 5 s of CPU time for one file
* memory over the limit
* a wrong read report: packets read = packets in flows + packets skipped, also in the series
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("NETGEN_SHARED_DATA", ROOT.parent / "shared" / "data"))
CPU_SECONDS = 5.0
KILL_SECONDS = 60.0  # of wall time until a process is killed
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Cases:
    """The damaged captures of a seed, by number."""

    seed: int
    paths: tuple[Path, ...]  # none: made captures
    made: tuple[bytes, ...]

    def __getitem__(self, number: int) -> tuple[str, bytes, choices.GroupBy]:
        """Return the sources of a case, the damaged capture, and the row to group by."""
        rng = random.Random(f"{self.seed}/{number}")
        if self.paths:
            one, other = rng.choice(self.paths), rng.choice(self.paths)
            name, data, more = f"{one.parent.name}/{one.name}", one.read_bytes(), other.read_bytes()
        else:
            index = rng.randrange(len(self.made))
            name, data, more = f"made capture {index}", self.made[index], rng.choice(self.made)
        groups: tuple[choices.GroupBy, ...] = ("flow", "flow", "host", "capture")
        group_by = rng.choice(groups)
        return name, mutate.mutate(data, rng.getrandbits(64), more), group_by


sys.path.insert(0, str(ROOT / "tests"))
from support import mutate as mutate  # noqa: E402

from netgen import choices  # noqa: E402


def _memory(field: str) -> int:
    """Bytes of this process, by a name in /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _work(cases: Cases, numbers: list[int], memory: int, pipe: Connection) -> None:
    """Read the cases one after another; tell the parent of each what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.pcap"
        for data in mutate.made_captures():  # load everything before memory is counted
            path.write_bytes(data)
            mutate.examine(path)
        limit = _memory("VmSize") + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number in numbers:
            name, data, group_by = cases[number]
            path.write_bytes(data)
            pipe.send((number, name, "begun", "", 0.0))
            begun = time.process_time()
            why = ""
            try:
                outcome = mutate.examine(path, group_by)
            except MemoryError as error:
                outcome, why = "memory", _where(error)
            except AssertionError as error:
                outcome, why = "account", _where(error)
            except BaseException as error:
                outcome, why = "crash", _where(error)
            spent = time.process_time() - begun
            if spent > CPU_SECONDS:
                outcome, why = "hang", f"{spent:.1f} s for {len(data)} bytes; {outcome} {why}"
            pipe.send((number, name, outcome, why, spent))
        pipe.send((-1, "", "done", "", _memory("VmHWM")))


def _where(error: BaseException) -> str:
    """Describe an exception and the innermost line of netgen in its traceback."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(ROOT) in frame.filename]
    last = frames[-1] if frames else None
    where = f"{Path(last.filename).relative_to(ROOT)}:{last.lineno} {last.name}" if last else "nowhere"
    return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''} [{where}]"


@dataclasses.dataclass
class _Worker:
    """A process, its remaining cases, and the start of the current one."""

    cases: Cases
    todo: list[int]
    memory: int

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child_pipe = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(self.cases, self.todo, self.memory, child_pipe))
        self.process.start()
        child_pipe.close()
        self.since = time.monotonic() + KILL_SECONDS  # to start takes a while
        self.name = ""


def run(cases: Cases, numbers: list[int], workers: int, memory: int) -> Iterator[tuple[int, str, str, str, float]]:
    """Yield number, source, outcome, reason and seconds of each case as it ends."""
    running = [_Worker(cases, numbers[index::workers], memory) for index in range(workers)]
    while running:
        ready = wait([worker.pipe for worker in running], timeout=1.0)
        for worker in list(running):
            gone = ""
            if worker.pipe in ready:
                try:
                    number, worker.name, outcome, why, spent = worker.pipe.recv()
                    worker.since = time.monotonic()
                    if outcome == "begun":
                        continue
                    yield number, worker.name, outcome, why, spent
                    if outcome != "done":
                        worker.todo = worker.todo[1:]
                        continue
                except EOFError:
                    worker.process.join()
                    gone = "crash"
            elif time.monotonic() - worker.since > KILL_SECONDS:
                worker.process.kill()
                gone = "hang"
            else:
                continue
            running.remove(worker)
            if gone:
                why = f"killed after {KILL_SECONDS:.0f} s" if gone == "hang" else f"exit code {worker.process.exitcode}"
                yield worker.todo[0], worker.name, gone, why, 0.0
                running.append(_Worker(cases, worker.todo[1:], memory))


def one(cases: Cases, number: int, keep: Path | None) -> int:
    """Run one case in this process."""
    name, data, group_by = cases[number]
    print(f"case {number} of seed {cases.seed}: {name}, {len(data)} bytes, by {group_by}")
    with tempfile.TemporaryDirectory() as folder:
        path = keep or Path(folder) / "damaged.pcap"
        path.write_bytes(data)
        begun = time.process_time()
        try:
            print(mutate.examine(path, group_by))
        except Exception:
            traceback.print_exc()
            return 1
        finally:
            print(f"{time.process_time() - begun:.2f} s of a processor, at most {_memory('VmHWM') / MIB:.0f} MiB")
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20_000, help="number of cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="K", help="case K alone")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="with --only: write the damaged capture there")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", type=int, default=256, metavar="MIB", help="bound above what a process begins with")
    arguments = parser.parse_args()
    folder = DATA / "captures"
    paths = tuple(mutate.small_captures(folder)) if folder.is_dir() else ()
    cases = Cases(arguments.seed, paths, tuple(mutate.made_captures()))
    if arguments.only is not None:
        return one(cases, arguments.only, arguments.keep)
    outcomes: Counter[str] = Counter()
    fallen: dict[tuple[str, str], list[int]] = {}
    slowest = highest = 0.0
    begun = time.monotonic()
    for number, name, outcome, why, spent in run(
        cases, list(range(arguments.n)), arguments.workers, arguments.memory * MIB
    ):
        if outcome == "done":
            highest = max(highest, spent)
            continue
        outcomes[outcome] += 1
        slowest = max(slowest, spent)
        if outcome not in ("whole", "damaged", "refused"):
            if not (numbers := fallen.setdefault((outcome, why), [])):
                print(f"{outcome} in case {number} ({name}): {why}", flush=True)
            numbers.append(number)
    print(f"\n{arguments.n} damaged captures, made of {len(paths) or len(cases.made)}, seed {arguments.seed}, "
          f"in {time.monotonic() - begun:.0f} s: {dict(outcomes)}")  # fmt: skip
    print(f"slowest: {slowest:.2f} s of a processor; largest process: {highest / MIB:.0f} MiB")
    for (outcome, why), numbers in sorted(fallen.items(), key=lambda item: -len(item[1])):
        print(f"{len(numbers)} x {outcome}: {why}; cases {', '.join(map(str, sorted(numbers)[:5]))}")
    return 1 if fallen else 0


if __name__ == "__main__":
    raise SystemExit(main())
