"""What comes out of captures: flows whose packets are still to be counted into series, a block of flows at a time.

So the table may be larger than memory, if it is written as it is made (`Extraction.write`).
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from netgen.capture.errors import InputError
from netgen.capture.flows.assemble import Assembler
from netgen.capture.flows.rows import FlowRows, group_flows
from netgen.capture.flows.spill import BLOCK
from netgen.capture.headers import PROTOCOL_UDP
from netgen.capture.inputs import Input
from netgen.capture.labels.labeller import Labeller
from netgen.capture.names.class_table import ClassTable
from netgen.capture.read_report import ReadReport
from netgen.capture.series.bins import BinCounter, SparseChannel, dense
from netgen.capture.series.first_packets import PacketCounter, counter_of
from netgen.capture.series.profile import KEY, ProfileCounter
from netgen.capture.series.spec import BINS, PACKETS, SeriesSpec
from netgen.capture.table.arrow_utils import to_numpy
from netgen.capture.table.flow_table import FlowTable
from netgen.capture.table.schema import flow_columns
from netgen.capture.table.summary import TableSummary
from netgen.capture.table.writer import TableWriter

_TOO_FEW = "in flows under min_packets"

#: What packets are that no series holds, by its kind.
AFTER = {BINS: "packets after the last bin", PACKETS: "packets after the last of a series"}


@dataclasses.dataclass(eq=False)
class Extraction:
    """Flows of captures whose packets are still to be counted into bins, which can be done once.

    Parameters
    ----------
    rows : Rows
        What the rows of the table are.
    spec : SeriesSpec
        The series to make.
    """

    rows: FlowRows
    spec: SeriesSpec
    _inputs: list[Input]
    _labeller: Labeller
    _account: ReadReport
    _assembler: Assembler
    _profile: ProfileCounter = dataclasses.field(default_factory=ProfileCounter)

    @classmethod
    def of(
        cls,
        assembler: Assembler,
        group_by: str,
        read_report: ReadReport,
        inputs: list[Input],
        labeller: Labeller,
        *,
        min_packets: int,
        spec: SeriesSpec | None,
        length: int,
    ) -> Extraction:
        """The flows of captures that were read; see `netgen.capture.extract.extraction`."""
        rows = group_flows(assembler, group_by)
        few = rows.packets < min_packets
        if few.any():
            read_report.dropped["under min_packets"] = int(few.sum())
            read_report.skipped[_TOO_FEW] = int(rows.packets[few].sum())
            rows = rows.keep(~few)
        read_report.notes.update(assembler.notes)
        if spec is None:
            spec = SeriesSpec.fitting(rows.end_ns - rows.start_ns, length)
        return cls(rows, spec, inputs, labeller, read_report, assembler)

    def __len__(self) -> int:
        return len(self.rows)

    def table(self) -> FlowTable:
        """The table, in memory."""
        parts = list(self._parts())
        columns = pa.concat_tables([each for each, _ in parts]) if parts else flow_columns(0)
        series = (
            np.concatenate([dense(each) for _, each in parts]) if parts else np.zeros((0, *self.spec.shape), np.int64)
        )
        return FlowTable.from_columns(columns.combine_chunks(), series, self.spec, self._metadata())

    def write(self, path: str | os.PathLike[str], *, force: bool = False) -> dict[str, Any]:
        """Write the table to a Parquet file, a block of rows at a time: whole or not at all.

        Returns
        -------
        dict
            What is in it, as `FlowTable.summary` says it.
        """
        tally = TableSummary()
        with TableWriter(path, self.spec, force=force) as writer:
            for columns, cells in self._parts():
                writer.write(columns, cells)
                tally.add(columns)
            writer.metadata = self._metadata()
        return tally.summary(self.spec, writer.metadata)

    @property
    def read_report(self) -> dict[str, Any]:
        """What became of every packet, as far as it is known."""
        return self._account.to_json(len(self), int(self.rows.packets.sum()))

    def names(self, sni_table: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
        """Server names of the rows, what said them, their class, and their traffic; the most bytes first."""
        totals: dict[tuple[str, str], list[int]] = {}
        for first in range(0, len(self), BLOCK):
            rows = self.rows.columns(first, min(first + BLOCK, len(self)))
            names = zip(rows["server_name"].to_pylist(), rows["server_name_source"].to_pylist(), strict=True)
            for name, packets, volume in zip(names, rows["packets"].tolist(), rows["bytes"].tolist(), strict=True):
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

    def _parts(self) -> Iterator[tuple[pa.Table, list[SparseChannel]]]:
        """All columns but the series, and each channel of these, a block of rows at a time."""
        if self._assembler.spill.closed:
            raise InputError("the packets of an extraction can be counted once", "Keep its table, or extract again")
        done = 0
        for cells, cut in self._blocks():
            last = done + len(cut)
            rows = self.rows.columns(done, last)
            labels, sources = self._labels(done, last, rows)
            if self._profiled:
                self._profile.end(labels, to_numpy(rows["protocol"]), to_numpy(rows["dst_port"]))
            self._account.notes[AFTER[self.spec.view]] += int(cut.sum())
            columns = flow_columns(
                last - done,
                flow=np.arange(done, last),
                label=labels,
                source=sources,
                synthetic=False,
                truncated_packets=cut,
                **rows,
            )
            self._assembler.release()
            yield columns, cells
            done = last

    def _labels(self, first: int, last: int, rows: dict[str, Any]) -> tuple[list[str | None], list[str]]:
        """The class of each of some rows, and the name of its capture."""
        labels, sources = list[str | None](), list[str]()
        capture = self.rows.capture[first:last]
        edges = [0, *(np.flatnonzero(np.diff(capture)) + 1).tolist(), len(capture)]
        for begin, end in itertools.pairwise(edges):
            here = self._inputs[int(capture[begin])]
            labels += self._labeller(here.path, {name: column[begin:end] for name, column in rows.items()})
            sources += [here.source] * (end - begin)
        return labels, sources

    @property
    def _profiled(self) -> bool:
        # profiles are of classes, so nothing is counted where no row can have one
        return self.rows.are_flows and self._labeller.may_label

    def _metadata(self) -> dict[str, Any]:
        self._account.notes.update(self._labeller.notes())
        profile = self._profile.to_json()
        return {"made_by": "extract", "read_report": self.read_report} | ({KEY: profile} if profile else {})

    def _blocks(self) -> Iterator[tuple[list[SparseChannel], np.ndarray]]:
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

    def _count(self, block: int, first: int, last: int, counter: BinCounter | PacketCounter) -> None:
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
