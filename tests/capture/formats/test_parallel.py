"""Any number of threads gives the same table; errors in threads are raised, and no thread stays behind."""

import gc
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import synthetic_captures as made
from support.extraction import extract, extraction
from support.paths import ROOT

from netgen.capture import parallel, segments
from netgen.capture.errors import CaptureError
from netgen.capture.formats import reader
from netgen.capture.formats.reader import CaptureFile
from netgen.capture.native import compiled
from netgen.cli.extract import _warn_if_slow

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
    """Return captures of several kinds, most larger than a segment."""
    for name, data in CAPTURES.items():
        path = tmp_path / "captures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "captures"


@pytest.fixture
def guesses(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make segments short, and list the segments that were guessed."""
    guessed = []
    read = segments.guess_segment

    def logged(capture: CaptureFile, start: int, options: segments.ReadOptions) -> segments.Segment | None:
        guessed.append(start)
        return read(capture, start, options)

    monkeypatch.setattr(reader, "SEGMENT", SEGMENT)
    monkeypatch.setattr(parallel, "SMALL_FILE", SEGMENT)
    monkeypatch.setattr(parallel, "guess_segment", logged)
    return guessed


def digest(path: Any, out: Any, threads: Any) -> Any:
    extraction(path, threads=threads, name_sources="all").write(out, force=True)
    return hashlib.sha256(out.read_bytes()).hexdigest()


# -- the same table ------------------------------------------------------------------------------


def test_any_number_of_threads_gives_the_same_bytes(
    folder: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Files of many segments, some of which are guessed wrong, and small files that are read as a whole."""
    out = tmp_path / "a.parquet"
    expected = digest(folder, out, 1)
    guessed = request.getfixturevalue("guesses")
    for threads in (1, 2, 5):
        assert digest(folder, out, threads) == expected
    assert len(guessed) > 60


@pytest.mark.usefixtures("guesses")
def test_the_read_report_is_the_same_for_any_number_of_threads(folder: Any) -> None:
    read_report = extract(folder, threads=1).metadata["read_report"]
    seen = []
    several = extract(folder, threads=2, progress=lambda done, _: seen.append(done)).metadata["read_report"]
    assert several == read_report
    assert read_report["not_captures"] == ["captures/h.txt", "captures/small/empty.pcap"]
    assert [damaged["file"] for damaged in read_report["damaged"]] == ["captures/d.pcap"]
    assert seen == sorted(seen)
    with pytest.raises(CaptureError, match=r"h\.txt"):
        extract([folder / "a.pcap", folder / "h.txt"], threads=2)


@pytest.mark.usefixtures("guesses")
@pytest.mark.parametrize("threads", [1, 2])
def test_progress_advances_with_every_segment_up_to_the_end(folder: Any, threads: int) -> None:
    paths = [folder / name for name in ("a.pcap", "b.pcapng", "g.pcapng")]
    seen = []
    extract(paths, threads=threads, progress=lambda done, total: seen.append((done, total)))
    total = sum(path.stat().st_size for path in paths)
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)
    assert len(set(seen)) >= total // SEGMENT


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that makes so many MB of a capture: long packets of a few flows, and some of all kinds."""
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


@pytest.mark.slow
def test_segments_of_the_usual_size_give_the_same_bytes(large: Any, tmp_path: Path) -> None:
    """200 MB, which are three whole segments and a rest."""
    assert large(200).stat().st_size > 3 * reader.SEGMENT
    digests = {digest(large(200), tmp_path / "a.parquet", threads) for threads in (1, 2, 3)}
    assert len(digests) == 1


# -- memory --------------------------------------------------------------------------------------

MEASURE = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from support.extraction import extraction
summary = extraction(sys.argv[2]).write(sys.argv[3], force=True)
print(summary["packets"], *[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


@pytest.mark.slow
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


@pytest.mark.usefixtures("guesses")
def test_an_error_in_a_thread_is_raised_and_no_thread_stays(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("in a thread")

    monkeypatch.setattr(parallel, "guess_segment", fail)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError, match="in a thread"):
        extract(folder / "a.pcap", threads=2)
    gc.collect()
    assert threading.active_count() == before


@pytest.mark.usefixtures("guesses")
def test_no_thread_stays_when_a_capture_is_refused(folder: Any) -> None:
    before = threading.active_count()
    with pytest.raises(CaptureError, match="is damaged"):
        extract([folder / "d.pcap", folder / "a.pcap"], threads=3, strict=True)
    gc.collect()
    assert threading.active_count() == before


def test_ctrl_c_ends_the_command_and_leaves_no_file(folder: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    words = ["extract", "pipe", str(folder / "a.pcap"), "--threads", "3", "-o", "x.parquet"]
    with subprocess.Popen(
        [COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
        # a shell's background job ignores Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        writer = None
        try:
            while writer is None and process.poll() is None:
                try:
                    writer = os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK)
                except OSError:  # the command has not opened it yet
                    time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
            if writer is not None:
                os.close(writer)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("netgen: interrupted.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captures", "pipe"]


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("big", [(), ("a",), ("a", "b")])
def test_a_large_capture_without_compiled_code_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], big: Any, built: bool
) -> None:
    """Unless the environment switched it off."""
    monkeypatch.setattr(compiled, "library", lambda: object() if built else None)
    monkeypatch.delenv(compiled.SWITCH, raising=False)
    for name in big:
        with (tmp_path / name).open("wb") as file:
            file.truncate(100 << 20)
    paths = [tmp_path / name for name in (*big, "missing")]
    _warn_if_slow(paths)
    assert ("compiled reader is missing" in capsys.readouterr().err) == (len(big) == 2 and not built)
    monkeypatch.setenv(compiled.SWITCH, "0")
    _warn_if_slow(paths)
    assert capsys.readouterr().err == ""
