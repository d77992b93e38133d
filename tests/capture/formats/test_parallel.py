"""netgen.capture.parallel: several processes give the table of one, what goes wrong in them is told, and none stays behind."""

import gc
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import synthetic_captures as made
from support.paths import ROOT

from netgen.capture import parallel, spare
from netgen.capture.errors import CaptureError, NetgenError
from netgen.capture.extract import extract, extraction
from netgen.capture.formats import reader
from netgen.capture.native import compiled

COMMAND = Path(sys.executable).with_name("netgen")
SEGMENT = 8192
FRAMES = made.frames(2, 200)
HIDDEN = made.hidden(100)
CAPTURES = {
    "a.pcap": made.pcap(FRAMES),
    "b.pcapng": made.pcapng(FRAMES),
    "c.pcap": made.pcap(FRAMES[:90]) + made.pcap(FRAMES[90:], ">"),
    "d.pcap": made.pcap(FRAMES)[:-40],
    "e.pcap": HIDDEN[0],
    "f.pcapng": HIDDEN[1],
    "g.pcapng": made.pcapng(FRAMES, 3, sections=1),
    "h.txt": b"no capture",
    **{f"small/{number}.pcap": made.pcap(made.frames(number, 5)) for number in range(9)},
    "small/empty.pcap": b"",
}


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    """Captures of several kinds, most larger than a segment."""
    for name, data in CAPTURES.items():
        path = tmp_path / "captures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "captures"


@pytest.fixture
def short_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Function: segments are short, in this process and in those it starts; how many stretches those have read.

    `first` is what a worker does before it reads a stretch.
    """
    log = tmp_path / "log"
    site = tmp_path / "site"
    site.mkdir()

    def prepare(first: Any = "pass") -> Any:
        (site / "sitecustomize.py").write_text(
            "import os, sys, time\n"
            f"sys.path.insert(0, {str(ROOT)!r})\n"
            "from capture import stretches\n"
            "read = stretches.guess_segment\n"
            "def logged(*arguments):\n"
            f"    with open({str(log)!r}, 'a') as stream:\n"
            "        stream.write('x')\n"
            f"    {first}\n"
            "    return read(*arguments)\n"
            "if '-c' in sys.orig_argv[:3]:  # a worker, not the command\n"
            "    stretches.guess_segment = logged\n"
            "from capture import spare, workers\n"
            "spare.threads_here = lambda: 0\n"  # all is read by workers, however late they begin
            "from netgen.capture.formats import reader\n"
            f"reader.SEGMENT = workers.SMALL = {SEGMENT}\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        monkeypatch.setattr(reader, "SEGMENT", SEGMENT)
        monkeypatch.setattr(parallel, "SMALL", SEGMENT)
        monkeypatch.setattr(spare, "threads_here", lambda: 0)
        return lambda: len(log.read_text()) if log.exists() else 0

    return prepare


def digest(path: Any, out: Any, jobs: Any) -> Any:
    extraction(path, threads=jobs, names="all").write(out, force=True)
    return hashlib.sha256(out.read_bytes()).hexdigest()


def children(pid: Any = None) -> Any:
    """Processes that this one, or another, has started and that are still there."""
    tasks = Path(f"/proc/{pid or os.getpid()}/task")
    return [int(each) for task in tasks.iterdir() for each in (task / "children").read_text().split()]


# -- the same table ------------------------------------------------------------------------------


def test_any_number_of_processes_gives_the_same_bytes(folder: Any, short_segments: Any, tmp_path: Path) -> None:
    """Files of many stretches, some of which are guessed wrong, and small files that are handed out together."""
    out = tmp_path / "a.parquet"
    expected = digest(folder, out, 1)
    read_by_others = short_segments()
    assert digest(folder, out, 1) == expected
    assert read_by_others() == 0
    for jobs in (2, 3):
        assert digest(folder, out, jobs) == expected
    assert read_by_others() > 20
    assert not children()


def test_each_file_is_told_of_whoever_read_it(folder: Any, short_segments: Any) -> None:
    read_report = extract(folder, threads=1).metadata["read_report"]
    short_segments()
    seen = []
    several = extract(folder, threads=2, progress=lambda done, total: seen.append(done)).metadata["read_report"]
    assert several == read_report
    assert read_report["not_captures"] == ["captures/h.txt", "captures/small/empty.pcap"]
    assert [each["file"] for each in read_report["damaged"]] == ["captures/d.pcap"]
    assert seen == sorted(seen)
    with pytest.raises(CaptureError, match=r"h\.txt is no capture"):
        extract([folder / "a.pcap", folder / "h.txt"], threads=2)


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_goes_on_with_each_stretch_up_to_the_end(folder: Any, short_segments: Any, jobs: int) -> None:
    short_segments()
    paths = [folder / name for name in ("a.pcap", "b.pcapng", "g.pcapng")]
    seen = []
    extract(paths, threads=jobs, progress=lambda done, total: seen.append((done, total)))
    total = sum(path.stat().st_size for path in paths)
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)
    assert len(set(seen)) >= total // SEGMENT


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Function: so many MB of a capture: long packets of a few flows, and now and then some of all kinds."""
    folder = tmp_path_factory.mktemp("large")

    def write(megabytes: Any) -> Any:
        path = folder / f"{megabytes}.pcap"
        if not path.exists():
            count = 2000
            record = np.zeros(count, [("seconds", "<u4"), ("ns", "<u4"), ("captured", "<u4"), ("length", "<u4"),
                                      ("frame", "V484")])  # fmt: skip
            frames = [made.ip(1, 2, 17, made.udp(1000 + port, 9, bytes(442))) for port in range(50)]
            record["frame"] = np.resize(np.array(frames, "V484"), count)
            record["captured"] = record["length"] = 484
            with path.open("wb") as stream:
                stream.write(made.pcap([])[:24])
                for number in range(megabytes):
                    record["seconds"] = made.T // made.NS + number
                    record["ns"] = np.arange(count) * 400_000
                    stream.write(record.tobytes())
                    others = [(made.T + number * made.NS, frame) for _, frame in FRAMES[number:][:40]]
                    stream.write(made.pcap(others)[24:])
        return path

    return write


def test_segments_of_the_usual_size_give_the_same_bytes(large: Any, tmp_path: Path) -> None:
    """200 MB, which are three whole segments and a rest."""
    assert large(200).stat().st_size > 3 * reader.SEGMENT
    digests = {digest(large(200), tmp_path / "a.parquet", jobs) for jobs in (1, 2, 3)}
    assert len(digests) == 1


# -- memory --------------------------------------------------------------------------------------

MEASURE = """
import sys
sys.path.insert(0, sys.argv[1])
from netgen.capture.extract import extraction
told = extraction(sys.argv[2]).write(sys.argv[3], force=True)
print(told["packets"], *[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


def test_memory_does_not_grow_with_the_capture(large: Any, tmp_path: Path) -> None:
    """A process that extracts 100 MB needs less than 400 MB, with all its libraries; one of 200 MB hardly more."""
    peaks = []
    for megabytes in (100, 200):
        words = [sys.executable, "-c", MEASURE, ROOT, large(megabytes), tmp_path / "a.parquet"]
        ran = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
        packets, peak = map(int, ran.stdout.split())
        assert packets > 2000 * megabytes
        peaks.append(peak)
    assert peaks[0] < 400_000
    assert peaks[1] < 1.15 * peaks[0]


# -- what goes wrong -----------------------------------------------------------------------------


def test_a_process_that_ends_is_told_of_and_the_others_end_too(folder: Any, short_segments: Any) -> None:
    """As when memory is short and the kernel picks one."""
    short_segments("os._exit(7)")
    with pytest.raises(NetgenError, match="a process that read captures ended with code 7") as caught:
        extract(folder / "a.pcap", threads=3)
    assert "-j" in caught.value.hint
    del caught
    gc.collect()
    assert not children()


def test_an_error_in_a_process_is_raised_here(folder: Any, short_segments: Any) -> None:
    short_segments("raise ZeroDivisionError('in a worker')")
    with pytest.raises(ZeroDivisionError, match="in a worker"):
        extract(folder / "a.pcap", threads=2)
    gc.collect()
    assert not children()


def test_no_process_is_left_behind_when_a_capture_is_refused(folder: Any, short_segments: Any) -> None:
    short_segments()
    with pytest.raises(CaptureError, match="is damaged"):
        extract([folder / "d.pcap", folder / "a.pcap"], threads=3, strict=True)
    gc.collect()
    assert not children()


# -- Ctrl-C --------------------------------------------------------------------------------------


def interrupt(words: Any, ready: Any, folder: Any) -> None:
    """Start a command in a terminal of its own, as it were, and press Ctrl-C when it is ready; what it said."""
    with subprocess.Popen(
        [COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
        # a shell's background job ignores Ctrl-C, and its children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            while not ready() and process.poll() is None:
                time.sleep(0.01)
            started = children(process.pid)
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out) == (1, "")
    assert err == "netgen: interrupted. Nothing was half-written; type the command again\n"
    assert len(started) > 0
    assert not [each for each in started if Path(f"/proc/{each}").exists()]


def test_ctrl_c_ends_processes_that_are_at_work(folder: Any, short_segments: Any, tmp_path: Path) -> None:
    """However long they would still have taken."""
    read_by_others = short_segments("time.sleep(600)")
    here = tmp_path / "here"
    here.mkdir()
    interrupt(("extract", folder / "a.pcap", "--threads", 3, "-o", "x.parquet"), lambda: read_by_others() == 3, here)
    assert list(here.iterdir()) == []


def test_ctrl_c_meets_processes_that_have_only_begun(
    folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they have come so far as to ignore it; they say nothing of their own."""
    log = tmp_path / "log"
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if '-c' in sys.orig_argv[:3]:\n"
        f"    print('begun', file=open({str(log)!r}, 'a'), flush=True)\n"
        "    time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv(compiled.SWITCH, "0")  # with compiled code this process would read alone
    here = tmp_path / "here"
    here.mkdir()
    os.mkfifo(here / "pipe")
    words = ("extract", "pipe", folder / "a.pcap", "--threads", 3, "-o", "x.parquet")  # waits for a writer to the pipe
    interrupt(words, lambda: log.exists() and "begun" in log.read_text(), here)
    assert [path.name for path in here.iterdir()] == ["pipe"]


def test_a_process_ends_when_the_one_that_started_it_is_gone(folder: Any, short_segments: Any, tmp_path: Path) -> None:
    """Killed, without a chance to say anything."""
    here = tmp_path / "here"
    here.mkdir()
    os.mkfifo(here / "pipe")
    short_segments()
    words = [COMMAND, "extract", here / "pipe", folder / "a.pcap", "--threads", "3", "-o", here / "x.parquet"]
    with subprocess.Popen(list(map(str, words)), stderr=subprocess.DEVNULL) as process:
        writer = os.open(here / "pipe", os.O_WRONLY)
        started = children(process.pid)
        process.kill()
    os.close(writer)
    assert len(started) == 3
    until = time.monotonic() + 60
    while any(running(each) for each in started) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [each for each in started if running(each)]


def running(pid: Any) -> Any:
    """Whether a process is there, and is not a zombie that nobody asks for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_started_early_are_taken_and_those_that_nobody_took_end(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    with spare.started(2):
        waiting = list(spare._spare)
        taken.append(spare.worker())
        assert taken[0] in waiting
        taken[0].stdin.close()
        assert taken[0].wait(60) == 0  # nothing was asked
    assert [each.poll() is None for each in waiting] == [False, False]
    assert not spare._spare
    spare.close(taken[0])
