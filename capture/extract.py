"""Captures in, a table of labelled flows out: `extract`, or `extraction` for one larger than memory.

Packets go by once, stretch by stretch (`capture.stretches`), and are put by (`capture.assembly.spill`) until
all flows are known; then their bins are counted, a block of flows at a time. So a capture may be
larger than memory, and so may the table, if it is written as it is made (`Extraction.write`).
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from capture.account import Account
from capture.assembly.assemble import IDLE_TIMEOUT_NS, Assembler
from capture.assembly.spill import BLOCK
from capture.assembly.tablerows import Rows, check_by, rows_of
from capture.bins import BinCounter, Cells, dense
from capture.columns import numbers
from capture.errors import CaptureError, InputError
from capture.firstpackets import FirstPackets, counter_of
from capture.flows import FlowTable, TableWriter, Tally, about_columns
from capture.formats.records import Damage
from capture.headers import PROTOCOL_UDP
from capture.inputs import HINT, Input, find_inputs
from capture.labelling.labeller import Labeller, LabelOptions
from capture.naming.classes import ClassTable
from capture.profile import KEY, ProfileCounter
from capture.series import BINS, DEFAULT_LENGTH, PACKETS, SeriesSpec, spec_given
from capture.stretches import Options
from capture.workers import read_captures

_TOO_FEW = "in flows under min_packets"

#: What packets are that no series holds, by its kind.
AFTER = {BINS: "packets after the last bin", PACKETS: "packets after the last of a series"}

Progress = Callable[[int, int | None], None]


@dataclasses.dataclass
class Extraction:
    """Flows of captures whose packets are still to be counted into bins, which can be done once.

    Parameters
    ----------
    rows : Rows
        What the rows of the table are.
    spec : SeriesSpec
        The series to make.
    """

    rows: Rows
    spec: SeriesSpec
    _inputs: list[Input]
    _labeller: Labeller
    _account: Account
    _assembler: Assembler
    _profile: ProfileCounter = dataclasses.field(default_factory=ProfileCounter)

    def __len__(self) -> int:
        return len(self.rows)

    def table(self) -> FlowTable:
        """The table, in memory."""
        parts = list(self._parts())
        columns = pa.concat_tables([each for each, _ in parts]) if parts else about_columns(0)
        series = (
            np.concatenate([dense(each) for _, each in parts]) if parts else np.zeros((0, *self.spec.shape), np.int64)
        )
        return FlowTable.of(columns.combine_chunks(), series, self.spec, self._about())

    def write(self, path: str | os.PathLike[str], *, force: bool = False) -> dict[str, Any]:
        """Write the table to a Parquet file, a block of rows at a time: whole or not at all.

        Returns
        -------
        dict
            What is in it, as `FlowTable.summary` says it.
        """
        tally = Tally()
        with TableWriter(path, self.spec, force=force) as writer:
            for columns, cells in self._parts():
                writer.write(columns, cells)
                tally.add(columns)
            writer.about = self._about()
        return tally.summary(self.spec, writer.about)

    @property
    def account(self) -> dict[str, Any]:
        """What became of every packet, as far as it is known."""
        return self._account.to_json(len(self), int(self.rows.packets.sum()))

    def names(self, sni_table: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
        """Server names of the rows, what said them, their class, and their traffic; the most bytes first."""
        totals: dict[tuple[str, str], list[int]] = {}
        for first in range(0, len(self), BLOCK):
            about = self.rows.about(first, min(first + BLOCK, len(self)))
            said = zip(about["name"].to_pylist(), about["name_from"].to_pylist(), strict=True)
            for name, packets, volume in zip(said, about["packets"].tolist(), about["bytes"].tolist(), strict=True):
                if name[0] is not None:
                    total = totals.setdefault(name, [0, 0, 0])
                    total[:] = total[0] + 1, total[1] + packets, total[2] + volume
        classes = ClassTable(sni_table)
        found = [
            {"name": name, "from": source, "class": classes.class_of(name)}
            | dict(zip(("flows", "packets", "bytes"), total, strict=True))
            for (name, source), total in totals.items()
        ]
        return sorted(found, key=lambda each: (-each["bytes"], each["name"], each["from"]))

    def _parts(self) -> Iterator[tuple[pa.Table, list[Cells]]]:
        """All columns but the series, and each channel of these, a block of rows at a time."""
        if self._assembler.spill.closed:
            raise InputError("the packets of an extraction can be counted once", "Keep its table, or extract again")
        done = 0
        for cells, cut in self._blocks():
            last = done + len(cut)
            about = self.rows.about(done, last)
            labels, sources = self._labels(done, last, about)
            if self._profiled:
                self._profile.end(labels, numbers(about["protocol"]), numbers(about["dst_port"]))
            self._account.notes[AFTER[self.spec.kind]] += int(cut.sum())
            columns = about_columns(
                last - done,
                flow=np.arange(done, last),
                label=labels,
                source=sources,
                synthetic=False,
                cut_packets=cut,
                **about,
            )
            self._assembler.release()
            yield columns, cells
            done = last

    def _labels(self, first: int, last: int, about: dict[str, Any]) -> tuple[list[str | None], list[str]]:
        """The class of each of some rows, and the name of its capture."""
        labels, sources = list[str | None](), list[str]()
        capture = self.rows.capture[first:last]
        edges = [0, *(np.flatnonzero(np.diff(capture)) + 1).tolist(), len(capture)]
        for begin, end in itertools.pairwise(edges):
            here = self._inputs[int(capture[begin])]
            labels += self._labeller(here.path, {name: column[begin:end] for name, column in about.items()})
            sources += [here.source] * (end - begin)
        return labels, sources

    @property
    def _profiled(self) -> bool:
        # profiles are of classes, so nothing is counted where no row can have one
        return self.rows.are_flows and self._labeller.may_label

    def _about(self) -> dict[str, Any]:
        self._account.notes.update(self._labeller.notes())
        profile = self._profile.to_json()
        return {"made_by": "extract", "account": self.account} | ({KEY: profile} if profile else {})

    def _blocks(self) -> Iterator[tuple[list[Cells], np.ndarray]]:
        """Channels and cut packets of the rows, in order, a block of rows at a time."""
        row = self.rows.row
        if row is None:
            lowest = highest = np.arange(len(self))
        else:
            kept = np.flatnonzero(row >= 0)
            kept = kept[np.argsort(row[kept], kind="stable")]
            heads = np.flatnonzero(np.diff(row[kept], prepend=-1))
            lowest, highest = kept[heads], np.append(kept[heads[1:] - 1], kept[-1:])
        for first in range(0, len(self), BLOCK):
            last = min(first + BLOCK, len(self))
            counter = counter_of(last - first, self.spec)
            for block in range(lowest[first:last].min() // BLOCK, highest[first:last].max() // BLOCK + 1):
                self._count(block, first, last, counter)
            yield counter.cells()
        self._assembler.spill.close()

    def _count(self, block: int, first: int, last: int, counter: BinCounter | FirstPackets) -> None:
        """Count the packets of a block of flows that are of rows `first` to `last` - 1."""
        rows = self.rows
        for flow, time_ns, size, forward in self._assembler.spill.block(block):
            row = flow if rows.row is None else rows.row[flow]
            if rows.row is not None:
                inside = (row >= first) & (row < last)
                row, flow, time_ns, size, forward = (each[inside] for each in (row, flow, time_ns, size, forward))
            up = forward == rows.flows.up[flow]
            counter.add(row - first, time_ns - rows.start_ns[row], size, up)
            if self._profiled:
                self._profile.add(row - first, rows.flows.key["protocol"][flow] == PROTOCOL_UDP, time_ns, size, up)


def extraction(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    spec: SeriesSpec | None = None,
    bin_ns: int | None = None,
    length: int = DEFAULT_LENGTH,
    kind: str = BINS,
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
    active_timeout_ns: int | None = None,
    inner: bool = False,
    names: str = "tls",
    strict: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Extraction:
    """Read captures: their flows, with labels, ready to be counted into series.

    Parameters
    ----------
    paths : iterable of str or Path
        Capture files, and folders that are searched for some. A file named here must be a capture;
        one found in a folder that is none is skipped and counted.
    spec : SeriesSpec, optional
        The series to make, as of another table or model; wins over `bin_ns`, `length` and `kind`.
    bin_ns : int, optional
        Width of a bin in nanoseconds; by default the 95th percentile of the flows' durations fits.
    length : int
        Number of bins, or of packets.
    kind : {"bins", "packets"}
        What a series is of: equal bins in time, or the first packets.
    by : {"flow", "host", "capture"}
        One row a flow, one a file and initiating address, or one a file.
    label : str, optional
        The class of every row that nothing else labels.
    label_by : {"folder", "file", "sni"}, optional
        The class is the name of the file's folder, the file's name, or the class of the server name.
    labels : str or Path, optional
        A labels file (`capture.labelling.labels.LabelFile`); what it says wins.
    labels_zone, labels_offset_ns, labels_times, labels_column
        How it is to be read, see `capture.labelling.labels.LabelOptions`.
    sni_table : str or Path, optional
        A file of suffixes and classes (`capture.naming.classes.ClassTable`) for ``label_by="sni"``.
    min_packets : int
        Rows of fewer packets are left out, and counted.
    idle_timeout_ns : int
        A flow that is silent for longer has ended.
    strict : bool
        Raise if anything of a capture could not be read.
    active_timeout_ns : int, optional
        A flow that lasts longer ends, and begins anew.
    inner : bool
        The packet inside a tunnel (IP-in-IP, GRE, VXLAN, GTP-U) counts in place of the one around it.
    names : {"tls", "all"}
        Whose server names to look for: TLS over TCP, or QUIC and DNS too, which takes longer. With
        ``label_by="sni"`` it is all.
    workers : int
        Processes that read. The table is the same for any number.
    progress : callable, optional
        Called now and then with bytes done and bytes in all; with None where nobody knows.

    Returns
    -------
    Extraction
        The account in the table's ``about`` tells what became of every packet:
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
    if names not in ("tls", "all"):
        raise InputError(f"there are no names {names!r} to look for", "Choose tls or all")
    if workers < 1:
        raise InputError(f"{workers} processes cannot read", "Take 1 or more")
    spec = spec or spec_given(kind, bin_ns, length)
    check_by(by)
    reading = LabelOptions(labels_zone, labels_offset_ns, labels_times, labels_column)
    labeller = Labeller(by, label, label_by, labels, sni_table, reading)
    assembler = Assembler(idle_timeout_ns=idle_timeout_ns, active_timeout_ns=active_timeout_ns)
    account = Account()
    inputs = find_inputs([paths] if isinstance(paths, str | os.PathLike) else list(paths))
    wanted = "all" if names == "all" or label_by == "sni" else "tls"
    options = Options(inner, wanted)
    read = _read(inputs, assembler, account, options, strict=strict, workers=workers, progress=progress)
    if not account.files:
        where = ", ".join(str(path) for path in dict.fromkeys(each.path.parent for each in inputs)) or "what was named"
        raise CaptureError(f"no capture was found among {len(inputs)} files in {where}", HINT)
    rows = rows_of(assembler, by)
    few = rows.packets < min_packets
    if few.any():
        account.dropped["under min_packets"] = int(few.sum())
        account.skipped[_TOO_FEW] = int(rows.packets[few].sum())
        rows = rows.keep(~few)
    account.notes.update(assembler.notes)
    if spec is None:
        spec = SeriesSpec.fitting(rows.end_ns - rows.start_ns, length)
    return Extraction(rows, spec, read, labeller, account, assembler)


def _read(
    inputs: list[Input],
    assembler: Assembler,
    account: Account,
    options: Options,
    *,
    strict: bool,
    workers: int,
    progress: Progress | None,
) -> list[Input]:
    """Read all captures into flows; which of the files they are."""
    read = list[Input]()
    known = all(each.size for each in inputs)
    total = sum(each.size for each in inputs) if known else None
    finished = 0
    for capture in read_captures(inputs, options, workers):
        finished += capture.input.size
        if capture.refused is not None:
            if capture.input.named:
                raise capture.refused
            account.not_captures.append(capture.input.source)
            continue
        before, packets = assembler.flows, 0
        damage = list[Damage]()
        for stretch in capture.stretches:
            part = stretch.part
            packets += part.records
            assembler.add(part)
            account.skipped.update(part.skipped)
            account.notes.update(part.notes)
            account.notes.update(stretch.notes)
            damage += stretch.damage
            if progress is not None:
                progress(capture.done(), total)
        assembler.end_capture()
        if progress is not None and known:
            progress(finished, total)
        account.files += 1
        account.packets += packets
        account.damage(capture.input.source, damage)
        account.notes["captures without a flow"] += assembler.flows == before
        read.append(capture.input)
        if strict and damage:
            raise CaptureError(
                f"{capture.input.path} is damaged at byte {damage[0].byte}: {damage[0].reason}",
                "Leave out --strict to keep what could be read",
            )
    return read


def extract(paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str], **options: Any) -> FlowTable:
    """Flows of captures, with their series and labels, in memory; see `extraction` for the options."""
    return extraction(paths, **options).table()
