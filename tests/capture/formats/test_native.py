"""Compiled code of `netgen.capture.native`: it gives what NumPy gives, stays in its buffers, and may be missing."""

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import synthetic_captures as made
from support.extraction import extract
from support.mutate import mutate
from support.paths import ROOT

from netgen.capture.errors import CaptureError
from netgen.capture.native import compiled

FRAMES = made.frames(5, 300)
CAPTURES = [made.pcap(FRAMES), made.pcap(FRAMES, ">"), made.pcapng(FRAMES), made.hidden(60)[0]]

needs_library = pytest.mark.skipif(
    not compiled.ready(), reason="the compiled part of the reader is not built: install where there is a C compiler"
)


def result_of(path: Any, **options: Any) -> Any:
    """Return all that comes out of a capture."""
    try:
        table = extract([path], name_sources="all", **options)
    except CaptureError as error:
        return str(error)
    return table.table.to_pydict(), table.series().tolist(), table.metadata


def check_both(path: Any, **options: Any) -> Any:
    """Return what compiled code and NumPy both read."""
    expected = result_of(path, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: None)
        assert result_of(path, **options) == expected
    return expected


@needs_library
@settings(max_examples=30)
@given(
    number=st.integers(0, len(CAPTURES) - 1),
    seed=st.integers(0, 1 << 32),
    undamaged=st.booleans(),
    bin_ns=st.sampled_from([None, 1_000, 1_000_000, 1_000_000_000]),
    group_by=st.sampled_from(["flow", "flow", "host"]),
)
def test_a_capture_reads_the_same_damaged_or_not(
    tmp_path_factory: pytest.TempPathFactory, number: Any, seed: int, undamaged: Any, bin_ns: Any, group_by: Any
) -> None:
    path = tmp_path_factory.mktemp("native") / "a.pcap"
    path.write_bytes(CAPTURES[number] if undamaged else mutate(CAPTURES[number], seed, CAPTURES[seed % 4]))
    active = 3_000_000_000 if seed % 2 else None
    check_both(path, active_timeout_ns=active, idle_timeout_ns=1_000_000_000 + seed, bin_ns=bin_ns, group_by=group_by)


@needs_library
@pytest.mark.parametrize("files", [8, pytest.param(150, marks=pytest.mark.slow)])
def test_real_captures_read_the_same(shared_data: Path, files: int) -> None:
    paths = sorted(shared_data.glob("captures/**/*.pcap*"), key=lambda path: (path.stat().st_size, path))
    rows = [check_both(path) for path in paths[:: max(1, len(paths) // files)]]
    assert sum(len(row[0]["flow"]) for row in rows if isinstance(row, tuple)) > 6 * files


def run(script: Any, **environment: Any) -> Any:
    """Run a script in a process of its own; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@needs_library
def test_the_environment_can_leave_it_out() -> None:
    statement = "from netgen.capture import native; print(native.ready())"
    assert run(statement, NETGEN_COMPILED="1") == "True"
    assert run(statement, NETGEN_COMPILED="0") == "False"


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF no library"])
def test_without_a_library_that_can_be_used_numpy_reads(tmp_path: Path, content: bytes | None) -> None:
    path, other = tmp_path / "a.pcap", tmp_path / "reader.so"
    path.write_bytes(CAPTURES[0])
    if content is not None:
        other.write_bytes(content)
    script = (
        "import sys; from pathlib import Path\n"
        "from netgen.capture.native import compiled; compiled.LIBRARY = Path(sys.argv[1])\n"
        "from netgen.capture import native; from netgen.capture.extract import extract\n"
        "print(native.ready(), len(extract(sys.argv[2])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, other, path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NETGEN_COMPILED": "1"},
        check=True,
    )
    assert done.stdout.split() == ["False", str(len(extract(path)))]


def test_a_library_of_other_sources_is_not_called(tmp_path: Path) -> None:
    """As after a pull without an installation: its functions may take other arguments."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not here")
    other = tmp_path / "reader.so"
    command: list[str | Path] = ["gcc", "-shared", "-fPIC", f"-DSOURCES={compiled.fingerprint() ^ 1}u", "-o", other]
    subprocess.run([*command, *compiled.SOURCES], check=True)
    statement = (
        "from pathlib import Path; from netgen.capture.native import compiled\n"
        f"compiled.LIBRARY = Path({str(other)!r}); print(compiled.ready())"
    )
    assert run(statement, NETGEN_COMPILED="1") == "False"


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compile the library with GCC's sanitizers; return it, and the one that must be loaded before it."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not here")
    out = tmp_path_factory.mktemp("watched") / "reader.so"
    command = [gcc, "-g", "-O1", "-shared", "-fPIC", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command.append(f"-DSOURCES={compiled.fingerprint()}u")
    built = subprocess.run(
        [*command, "-o", out, *sorted((ROOT / "capture" / "native").glob("*.c"))], capture_output=True, check=False
    )
    if built.returncode:
        pytest.skip("gcc has no sanitizers here")
    preloaded = subprocess.run([gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return out, preloaded.stdout.strip()


@pytest.mark.parametrize("files", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_no_memory_is_read_or_written_outside_its_buffer(watched: Any, tmp_path: Path, files: int) -> None:
    """Damaged captures with GCC's sanitizers, which see the ends of buffers: of a third of the files' bytes too."""
    paths = []
    for seed in range(files):
        paths.append(tmp_path / f"{seed}.pcap")
        damaged = mutate(CAPTURES[seed % len(CAPTURES)], seed, CAPTURES[seed % 3])
        paths[-1].write_bytes(damaged if seed % 3 else gzip.compress(damaged))
    short = made.pcap(FRAMES[:8])
    for left in range(1, 160, 300 // files):  # cut anywhere in the last packets
        paths.append(tmp_path / f"cut {left}.pcap")
        paths[-1].write_bytes(gzip.compress(short[:-left]))
    script = (
        "import sys; from pathlib import Path\n"
        "from netgen.capture.native import compiled; compiled.LIBRARY = Path(sys.argv[1])\n"
        "from netgen.capture import native; from netgen.capture.formats import pcap; pcap.MIN_SCAN = 64\n"
        "from netgen.capture.native import packets; packets.GUESS_STRIDE = 512\n"
        "from netgen.capture.errors import CaptureError; from netgen.capture.extract import extract\n"
        "assert native.ready()\n"
        "done = 0\n"
        "for path in sys.argv[2:]:\n"
        "    try:\n"
        "        done += len(extract(path))\n"
        "    except CaptureError:\n"
        "        pass\n"
        "print(done)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, watched[0], *paths],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NETGEN_COMPILED": "1",
            "PYTHONMALLOC": "malloc",
            "LD_PRELOAD": watched[1],
            "ASAN_OPTIONS": "detect_leaks=0",
        },
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > files
