"""Captures in, a table of labelled flows out: `extract`."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from capture.assemble import IDLE_TIMEOUT_NS, Assembler, Flows
from capture.dissect import dissect
from capture.errors import CaptureError, InputError
from capture.flows import FlowTable
from capture.labels import LabelFile, LabelOptions, check_label_by, file_stem, first_known, folder_name
from capture.names import ClassTable, server_names
from capture.reader import CaptureFile
from capture.series import DEFAULT_LENGTH, SeriesSpec, auto_bin_ns, bin_packets

_HINT = "Name a pcap or pcapng file, or a folder that holds some"
_TOO_FEW = "in flows under min_packets"
_BATCH = 2048


@dataclasses.dataclass(frozen=True)
class _Input:
    path: Path
    source: str  # as the table shows it
    named: bool  # by itself, not found in a folder


class _Labeller:
    """The ways of labelling that were asked for, in order: labels file, file or server name, fixed."""

    def __init__(
        self,
        by: str,
        label: str | None,
        label_by: str | None,
        labels: str | os.PathLike[str] | None,
        sni_table: str | os.PathLike[str] | None,
        options: LabelOptions,
    ) -> None:
        check_label_by(label_by)
        if labels is not None and by != "flow":
            raise InputError(f"a labels file names flows, so it cannot label a {by}", "Leave out --by, or --labels")
        if sni_table is not None and label_by != "sni":
            raise InputError(f"the table {sni_table} is not used", "Add --label-by sni")
        if labels is None and options != LabelOptions():
            raise InputError("how to read a labels file was said, but none was named", "Add --labels FILE.csv")
        self.label = label
        self.label_by = label_by
        self.file = LabelFile(labels, options) if labels is not None else None
        self.classes = ClassTable(sni_table) if label_by == "sni" else None

    def __call__(self, path: Path, flows: Flows) -> list[str | None]:
        choices: list[list[str | None]] = []
        rows = len(flows)
        if self.file is not None:
            ends = (flows.columns[name] for name in ("src", "src_port", "dst", "dst_port", "protocol"))
            choices.append(self.file.classes_of(*ends, flows.start_ns.tolist(), flows.duration_ns.tolist()))
        if self.label_by == "folder":
            choices.append([folder_name(path)] * rows)
        elif self.label_by == "file":
            choices.append([file_stem(path)] * rows)
        elif self.classes is not None:
            choices.append([self.classes.class_of(name) for name in flows.columns["name"]])  # type: ignore[arg-type]
        return first_known(*choices, [self.label] * rows)

    def notes(self) -> Counter[str]:
        """How the labels file was read, and what of it matched the flows of all calls."""
        return self.file.notes if self.file is not None else Counter()


@dataclasses.dataclass
class _Account:
    """What became of every file and every packet."""

    files: int = 0
    packets: int = 0
    skipped: Counter[str] = dataclasses.field(default_factory=Counter)
    notes: Counter[str] = dataclasses.field(default_factory=Counter)
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)
    damaged: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    not_captures: list[str] = dataclasses.field(default_factory=list)

    def to_json(self, flows: int, in_flows: int) -> dict[str, Any]:
        return {
            "files": self.files,
            "packets": self.packets,
            "in_flows": in_flows,
            "skipped": dict(self.skipped.most_common()),
            "notes": dict((+self.notes).most_common()),
            "flows": flows,
            "flows_dropped": dict(self.dropped),
            "damaged": self.damaged,
            "not_captures": self.not_captures,
        }


def extract(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    spec: SeriesSpec | None = None,
    bin_ns: int | None = None,
    length: int = DEFAULT_LENGTH,
    by: str = "flow",
    label: str | None = None,
    label_by: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    labels_zone: str = "UTC",
    labels_offset_ns: int = 0,
    labels_times: str | None = None,
    labels_column: str | None = None,
    sni_table: str | os.PathLike[str] | None = None,
    min_packets: int = 1,
    idle_timeout_ns: int = IDLE_TIMEOUT_NS,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FlowTable:
    """Flows of captures, with their series and labels.

    Parameters
    ----------
    paths : iterable of str or Path
        Capture files, and folders that are searched for some. A file named here must be a capture;
        one found in a folder that is none is skipped and counted.
    spec : SeriesSpec, optional
        The series to make, as of another table or model; wins over `bin_ns` and `length`.
    bin_ns : int, optional
        Width of a bin in nanoseconds; by default the 95th percentile of the flows' durations fits.
    length : int
        Number of bins.
    by : {"flow", "host", "capture"}
        One row a flow, one a file and initiating address, or one a file.
    label : str, optional
        The class of every row that nothing else labels.
    label_by : {"folder", "file", "sni"}, optional
        The class is the name of the file's folder, the file's name, or the class of the server name.
    labels : str or Path, optional
        A labels file (`capture.labels.LabelFile`); what it says wins.
    labels_zone, labels_offset_ns, labels_times, labels_column
        How it is to be read, see `capture.labels.LabelOptions`.
    sni_table : str or Path, optional
        A file of suffixes and classes (`capture.names.ClassTable`) for ``label_by="sni"``.
    min_packets : int
        Rows of fewer packets are left out, and counted.
    idle_timeout_ns : int
        A flow that is silent for longer has ended.
    strict : bool
        Raise if anything of a capture could not be read.
    progress : callable, optional
        Called with bytes done and bytes in all after each chunk.

    Returns
    -------
    FlowTable
        ``about["account"]`` tells what became of every packet:
        ``packets == in_flows + sum(skipped.values())``.

    Raises
    ------
    CaptureError
        If a named file is no capture, no capture is found at all, or `strict` and one is damaged.
    InputError
        If an option cannot be used.
    """
    if min_packets < 1:
        raise InputError(f"flows of at least {min_packets} packets cannot be asked for", "Take 1 or more")
    if spec is None and bin_ns is not None:
        spec = SeriesSpec(bin_ns=bin_ns, length=length)
    SeriesSpec(bin_ns=1, length=length)  # refuse a bad length before any reading
    reading = LabelOptions(labels_zone, labels_offset_ns, labels_times, labels_column)
    labeller = _Labeller(by, label, label_by, labels, sni_table, reading)
    Assembler(by=by, idle_timeout_ns=idle_timeout_ns)
    account = _Account()
    inputs = _inputs([paths] if isinstance(paths, str | os.PathLike) else list(paths))
    total = sum(each.path.stat().st_size for each in inputs)
    done = 0
    parts: list[Flows] = []
    columns: dict[str, list[Any]] = {"source": [], "label": []}
    binned: list[tuple[np.ndarray, np.ndarray]] = []
    for each in inputs:
        try:
            capture = CaptureFile(each.path)
        except CaptureError:
            if each.named:
                raise
            account.not_captures.append(each.source)
            done += each.path.stat().st_size
            continue
        flows = _flows(capture, Assembler(by=by, idle_timeout_ns=idle_timeout_ns), account, done, total, progress)
        done += capture.size
        account.files += 1
        account.damaged += [
            {"file": each.source, "byte": damage.byte, "reason": damage.reason} for damage in capture.damage
        ]
        if strict and capture.damage:
            raise CaptureError(
                f"{each.path} is damaged at byte {capture.damage[0].byte}: {capture.damage[0].reason}",
                "Leave out --strict to keep what could be read",
            )
        account.notes["captures without a flow"] += not len(flows)
        few = flows.packets < min_packets
        if few.any():
            account.dropped["under min_packets"] += int(few.sum())
            account.skipped[_TOO_FEW] += int(flows.packets[few].sum())
            flows = flows.keep(~few)
        columns["source"] += [each.source] * len(flows)
        columns["label"] += labeller(each.path, flows)
        if spec is not None:  # the packets are not needed any more
            binned.append(_binned(flows, spec))
            none = np.zeros(0, np.int64)
            flows = dataclasses.replace(flows, flow=none, offset_ns=none, size=none, up=none.astype(bool))
        parts.append(flows)
    if not account.files:
        where = ", ".join(str(path) for path in dict.fromkeys(each.path.parent for each in inputs)) or "what was named"
        raise CaptureError(f"no capture was found among {len(inputs)} files in {where}", _HINT)
    account.notes += labeller.notes()
    if spec is None:
        durations = np.concatenate([part.duration_ns for part in parts])
        spec = SeriesSpec(bin_ns=min(auto_bin_ns(durations, length), 2**62 // length - 1), length=length)
    binned = binned or [_binned(part, spec) for part in parts]
    return _table(parts, binned, columns, spec, account)


def _inputs(paths: list[str | os.PathLike[str]]) -> list[_Input]:
    """Every file that was named or lies in a folder that was, in a fixed order."""
    if not paths:
        raise CaptureError("no capture was named", _HINT)
    found: list[_Input] = []
    for given in paths:
        path = Path(given)
        if path.is_dir():
            files = sorted(each for each in path.rglob("*") if each.is_file())
            if not files:
                raise CaptureError(f"the folder {path} is empty", _HINT)
            name = path.absolute().name
            found += [_Input(each, (Path(name) / each.relative_to(path)).as_posix(), named=False) for each in files]
        elif path.is_file():
            found.append(_Input(path, str(given), named=True))
        else:
            what = "is a pipe or a device, not a file" if path.exists() else "does not exist"
            raise CaptureError(f"{path} {what}", _HINT)
    return found


def _flows(
    capture: CaptureFile,
    assembler: Assembler,
    account: _Account,
    done: int,
    total: int,
    progress: Callable[[int, int], None] | None,
) -> Flows:
    """The flows of one capture; what became of its packets goes into the account."""
    for chunk in capture.chunks():
        packets = dissect(chunk)
        assembler.add(packets, server_names(chunk.data, packets))
        account.packets += len(chunk)
        account.skipped += packets.skipped
        account.notes += packets.notes
        if progress is not None:
            progress(done + int(chunk.offset[-1] + chunk.captured[-1]), total)
    account.notes += capture.notes + assembler.notes
    if progress is not None:
        progress(done + capture.size, total)
    return assembler.finish()


def _binned(flows: Flows, spec: SeriesSpec) -> tuple[np.ndarray, np.ndarray]:
    """Series and cut packets of flows, a batch at a time so that the counts stay in the cache."""
    series = np.empty((len(flows), *spec.shape), np.int64)
    cut = np.empty(len(flows), np.int64)
    for first in range(0, len(flows), _BATCH):
        last = min(first + _BATCH, len(flows))
        here = slice(*np.searchsorted(flows.flow, (first, last)))  # packets are in order of flow
        columns = flows.flow[here] - first, flows.offset_ns[here], flows.size[here], flows.up[here]
        series[first:last], cut[first:last] = bin_packets(*columns, last - first, spec)
    return series, cut


def _table(
    parts: list[Flows],
    binned: list[tuple[np.ndarray, np.ndarray]],
    columns: dict[str, list[Any]],
    spec: SeriesSpec,
    account: _Account,
) -> FlowTable:
    for name in parts[0].columns:
        columns[name] = [value for part in parts for value in part.columns[name]]
    totals = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("start_ns", "duration_ns", "packets", "bytes")
    }
    cut = np.concatenate([cut for _, cut in binned])
    account.notes += Counter({"packets after the last bin": int(cut.sum())})
    return FlowTable.build(
        binned[0][0] if len(binned) == 1 else np.concatenate([series for series, _ in binned]),
        spec,
        about={"made_by": "extract", "account": account.to_json(len(cut), int(totals["packets"].sum()))},
        cut_packets=cut,
        **totals,
        **columns,
    )
