"""Fixtures shared by the tests: real captures where they are, and small ones made here."""

import dataclasses
import functools
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# a loaded machine is no failure; pytest-timeout ends what hangs
# shared machines are slow at times, which is no fault of what is tested
settings.register_profile("netgen", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("netgen")

if TYPE_CHECKING:
    from netgen.capture.table.flow_table import FlowTable
    from netgen.model.model import Model

NS = 1_000_000_000

# pyts compiles all its functions when it is imported, 20 s; uncompiled they give the same numbers
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


@pytest.fixture(scope="module", params=["compiled", "numpy"])
def either_reader(request: pytest.FixtureRequest) -> Iterator[None]:
    """The tests of a module once with the compiled part of the reader, and once with NumPy in its place."""
    from netgen.capture.native import compiled

    if request.param == "compiled":
        if not compiled.ready():
            pytest.skip("the compiled part of the reader is not built: install netgen where there is a C compiler")
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: None)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real traffic beside the checkout (NETGEN_SHARED_DATA names another)."""
    given = os.environ.get("NETGEN_SHARED_DATA")
    path = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"the shared data are not at {path}; NETGEN_SHARED_DATA can name the folder")
    return path


def _pcap_bytes(
    packets: Iterable[tuple[int, bytes]],
    *,
    order: str = "<",
    nano: bool = False,
    linktype: int = 1,
    snaplen: int = 262_144,
    kuznetsov: bool = False,
) -> bytes:
    magic = 0xA1B2CD34 if kuznetsov else 0xA1B23C4D if nano else 0xA1B2C3D4
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, linktype)]
    for time_ns, packet in packets:
        seconds, rest = divmod(time_ns, NS)
        kept = packet[:snaplen]
        out.append(struct.pack(order + "4I", seconds, rest if nano else rest // 1000, len(kept), len(packet)))
        if kuznetsov:
            out.append(bytes(8))
        out.append(kept)
    return b"".join(out)


@pytest.fixture(scope="session")
def pcap_bytes() -> Callable[..., bytes]:
    """Function: (time_ns, packet) pairs to the bytes of a pcap file."""
    return _pcap_bytes


@pytest.fixture
def pcap_file(tmp_path: Path) -> Callable[..., Path]:
    """Function: the same, written to a file of the test's own folder."""

    def write(packets: Iterable[tuple[int, bytes]], name: str = "a.pcap", **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_pcap_bytes(packets, **options))  # type: ignore[arg-type]
        return path

    return write


def _ipv4(
    payload: bytes,
    protocol: int,
    src: str = "10.0.0.1",
    dst: str = "10.0.0.2",
    *,
    length: int | None = None,
    fragment: int = 0,
    options: bytes = b"",
    version: int = 4,
) -> bytes:
    header = 20 + len(options)
    total = header + len(payload) if length is None else length
    ends = bytes(int(part) for end in (src, dst) for part in end.split("."))
    first = version << 4 | header // 4
    return struct.pack(">BBHHHBBH", first, 0, total, 1, fragment, 64, protocol, 0) + ends + options + payload


def _tcp(src_port: int, dst_port: int, flags: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHIIBBHHH", src_port, dst_port, 1, 1, 0x50, flags, 1000, 0, 0) + payload


def _udp(src_port: int, dst_port: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHHH", src_port, dst_port, 8 + len(payload), 0) + payload


class Packet:
    """Headers by hand, so that wrong ones can be made as easily as right ones."""

    ipv4 = staticmethod(_ipv4)
    tcp = staticmethod(_tcp)
    udp = staticmethod(_udp)

    @staticmethod
    def ether(payload: bytes, kind: int = 0x0800) -> bytes:
        return bytes(range(12)) + struct.pack(">H", kind) + payload

    @classmethod
    def tcp4(
        cls,
        src_port: int,
        dst_port: int,
        flags: int,
        payload: bytes = b"",
        src: str = "10.0.0.1",
        dst: str = "10.0.0.2",
    ) -> bytes:
        return cls.ether(_ipv4(_tcp(src_port, dst_port, flags, payload), 6, src, dst))

    @classmethod
    def udp4(
        cls, src_port: int, dst_port: int, payload: bytes = b"", src: str = "10.0.0.1", dst: str = "10.0.0.2"
    ) -> bytes:
        return cls.ether(_ipv4(_udp(src_port, dst_port, payload), 17, src, dst))


@pytest.fixture(scope="session")
def packet() -> type[Packet]:
    """Builder of packets byte by byte: `packet.tcp4(1234, 80, flags)`, `packet.ether(payload, kind)` ..."""
    return Packet


#: The six sets of real traces, and what their sizes count.
SIZES = {
    "alexa_voice": "ip",
    "certta_flows": "ip",
    "iot_setup": "frame",
    "netflix_session": "frame",
    "tor_wikipedia": "payload",
    "video_platform": "frame",
}


@pytest.fixture(scope="session")
def real_table(shared_data: Path) -> "Callable[[str], FlowTable]":
    """Function: the name of a real set to its flow table, with the automatic bin width; each read once."""
    from netgen.capture.importers.traces import import_traces

    return functools.cache(
        lambda name: import_traces(shared_data / "series" / f"{name}.parquet", size_unit=SIZES[name])
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One torch thread: the same sums in the same order, and no waiting for a busy core."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quick_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrate on few samples with few trees, for tests of trainings whose quality does not matter."""
    from netgen.training import calibration

    for name, value in {"MOST": 24, "IN_ALL": 48, "LEAST": 6, "JUDGED": 60, "TREES": 5}.items():
        monkeypatch.setattr(calibration, name, value)


@pytest.fixture(scope="session")
def tiny_flows() -> "FlowTable":
    """Three classes that differ in volume and direction, 16 bins of 0.1 s, 20 flows each."""
    import numpy as np

    from netgen.capture.series.spec import SeriesSpec
    from netgen.capture.table.flow_table import FlowTable

    rng = np.random.default_rng(0)
    count = rng.integers(0, 3, (60, 2, 16))
    count[:, 0, 0] = 1  # the first packet
    labels = np.repeat(["Web-TLS", "dns-doh", "dns-plain"], 20)
    count[labels == "Web-TLS", 1] *= 20
    size = rng.integers(60, 1500, count.shape)
    series = np.concatenate([count * size, count], axis=1)
    return FlowTable.build(series, SeriesSpec(bin_ns=NS // 10, length=16), label=labels.tolist())


@pytest.fixture(scope="session")
def tiny_model_file(tiny_flows: "FlowTable", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model trained for a moment: it knows the classes' names and little else."""
    from netgen import train

    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    train(tiny_flows, out=path, training_steps=30, threads=1, precision="float32", validation=0)
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_model_file: Path) -> "Model":
    """The model of `tiny_model_file`."""
    from netgen import load

    return load(tiny_model_file)


@pytest.fixture
def bundled_folder(tiny_model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder in which the tiny model is the only bundled one."""
    import netgen.model.registry

    folder = tmp_path / "bundled"
    folder.mkdir()
    shutil.copy(tiny_model_file, folder)
    (folder / "tiny.md").write_text("# tiny\nWhere it comes from.\n")
    monkeypatch.setattr(netgen.model.registry, "FOLDER", folder)
    return folder


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def netgen_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Function: the words after `netgen` to exit code, stdout and stderr, in this process."""
    from netgen.cli.app import main

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["netgen", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of a file system of its own, of 64 kB; what the kernel says there is what a full disk says."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("there is no mount command here, so no small disk can be had")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small disk takes root: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="session")
def size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """Context: no file of this process may grow over so many bytes; works without root, unlike `small_disk`."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
