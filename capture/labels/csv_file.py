"""Read the cells of a label file, and find out which column is which.

Columns are recognised by the names that IDS data sets use. pyarrow reads them. Where it rejects a
row, or an error message needs a line number, Python's csv module reads the file again, slowly. The
Parquet file that netgen writes beside a capture is read as the CSV file beside it would be.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from netgen.capture.errors import InputError

#: Names of columns, lower case and without anything but letters and digits.
COLUMNS: dict[str, Sequence[str]] = {
    "src": (
        *("src", "srcip", "sourceip", "srcaddr", "saddr", "sourceaddress", "source", "idorigh", "ipsrc"),
        *("srcipaddr", "ipv4srcaddr"),
    ),
    "dst": (
        *("dst", "dstip", "destinationip", "dstaddr", "daddr", "destinationaddress", "destination", "idresph"),
        *("ipdst", "dstipaddr", "ipv4dstaddr"),
    ),
    "src_port": ("srcport", "sourceport", "sport", "idorigp", "srcpt", "l4srcport"),
    "dst_port": ("dstport", "destinationport", "dport", "dsport", "destport", "idrespp", "dstpt", "l4dstport"),
    "protocol": ("protocol", "proto", "ipproto", "ipprotocol"),
    "start": (
        *("start", "starttime", "stime", "timestamp", "ts", "firstseen", "time", "datefirstseen"),
        "flowstartmilliseconds",
    ),
    "end": ("end", "endtime", "ltime", "lasttime", "lastseen", "flowendmilliseconds"),
    "duration_us": ("flowduration", "durationus"),
    "duration_ms": ("flowdurationmilliseconds", "durationms"),
    "duration_s": ("duration", "dur"),
    "label": ("label", "class", "classlabel", "attackcat", "category", "attack", "attacktype", "type"),
}

#: The columns of UNSW-NB15's four large files, which have no header line.
_UNSW_NB15 = (
    "srcip,sport,dstip,dsport,proto,state,dur,sbytes,dbytes,sttl,dttl,sloss,dloss,service,Sload,Dload,Spkts,Dpkts,"
    "swin,dwin,stcpb,dtcpb,smeansz,dmeansz,trans_depth,res_bdy_len,Sjit,Djit,Stime,Ltime,Sintpkt,Dintpkt,tcprtt,"
    "synack,ackdat,is_sm_ips_ports,ct_state_ttl,ct_flw_http_mthd,is_ftp_login,ct_ftp_cmd,ct_srv_src,ct_srv_dst,"
    "ct_dst_ltm,ct_src_ltm,ct_src_dport_ltm,ct_dst_sport_ltm,ct_dst_src_ltm,attack_cat,Label"
)

#: Columns that mark a label file written by netgen, and those of it that give flows their classes.
_OWN_MARKERS = ("community_id", "start_ns", "repaired")
_OWN = ("label", "protocol", "src", "src_port", "dst", "dst_port")

HINT = "Columns: src, dst, label and, if known, src_port, dst_port, protocol, start, end"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column's cells, without blanks at their ends."""

    name: str  # in the header line
    texts: pa.StringArray  # the distinct cells
    code: np.ndarray  # int32, shape (rows,): index of each row's cell in `texts`

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return the value of each row's cell; `values` has one for each distinct cell."""
        return values[self.code]


@dataclasses.dataclass(frozen=True)
class LabelCells:
    """The cells of a label file, as text."""

    columns: dict[str, Column]  # by the names of `COLUMNS`, without ``label``
    classes: list[Column]  # columns that may hold the class, the likeliest first
    rows: int  # rows of labels
    line: Callable[[int], int] | None  # returns the line of a row in the file; None if only a slower reading can
    empty: int  # rows left out because they are empty in these columns
    repeated: int  # or repeat the header line
    long: int  # rows with more cells than the header line
    cicflowmeter: bool  # whether CICFlowMeter made the file
    chosen: bool  # whether the user named the first of `classes`
    own: bool  # whether netgen wrote the file, in which flows without a class have a row too


class LabelFileReader:
    """Reads a label file, fast or with line numbers; an InputError if that fails, or a column is missing.

    `column` names the column that holds the class; by default it is recognised by name.
    """

    def __init__(self, path: Path, column: str | None = None) -> None:
        self.path = path
        try:
            # a pipe can be read only once
            self._bytes = None if path.is_file() else path.read_bytes()
            with self._open() as stream:
                if stream.read(4) == b"PAR1":
                    self._bytes = _csv_of_parquet(path, self._bytes)
            with self._open() as stream:
                first = stream.readline(1 << 20)
        except OSError as error:
            raise InputError(f"cannot read the label file {path}: {error.strerror}", HINT) from error
        if b"\0" in first:
            raise InputError(f"{path} is not text in UTF-8 or code page 1252", HINT)
        line = re.split("[\r\n]", _decoded(first.removeprefix(b"\xef\xbb\xbf")), maxsplit=1)[0]
        self._delimiter = max(",;\t", key=line.count)
        self._header = next(csv.reader([line], delimiter=self._delimiter), [])
        self._headless = _like_unsw_nb15(self._header)
        if self._headless:
            self._header = _UNSW_NB15.split(",")
        names = [_normalize(name) for name in self._header]
        self._index = {
            column_name: names.index(next(name for name in known if name in names))
            for column_name, known in COLUMNS.items()
            if any(name in names for name in known)
        }
        self._class_index = [names.index(name) for name in COLUMNS["label"] if name in names]
        self._chosen = column is not None
        if column is not None:
            if _normalize(column) not in names:
                raise InputError(f"{path} has no column {column!r}; it has {self._column_names()}", HINT)
            # a column of flags may still say what an empty cell means
            self._class_index = [names.index(_normalize(column)), *self._class_index]
        self._check()
        self._own = {_normalize(name) for name in _OWN_MARKERS} <= set(names)
        self._cicflowmeter = {"timestamp", "flowduration"} <= set(names) and any(
            re.match(r"flowid$|tot(al)?fwdp(ac)?ke?ts?", name) for name in names
        )

    def _column_names(self) -> str:
        return ", ".join(name.strip() for name in self._header[:12] if name.strip()) or "nothing"

    def _check(self) -> None:
        missing = [name for name in ("src", "dst") if name not in self._index]
        # CSE-CIC-IDS2018 has no addresses: a port and a time are the minimum that identifies a flow
        if len(missing) == 2 and self._class_index and {"dst_port", "start"} <= set(self._index):
            missing = []
        if missing or not self._class_index:
            missing += [] if self._class_index else ["label"]
            raise InputError(
                f"{self.path} lacks a column for {', '.join(missing)}; it has {self._column_names()}", HINT
            )

    def _open(self) -> BinaryIO:
        return self.path.open("rb") if self._bytes is None else io.BytesIO(self._bytes)

    def read(self, *, lines: bool = False) -> LabelCells:
        """Read all rows; with `lines` slowly, with the line number of each. It is an InputError if it is not CSV."""
        plain = {name: index for name, index in self._index.items() if name != "label"}
        used = sorted({*plain.values(), *self._class_index})
        numbers, long = None, 0
        table = None if lines else self._fast(used)
        if table is None:
            table, numbers, long = self._slow(used)
        columns = {index: _column(self._header[index].strip(), cells) for index, cells in zip(used, table, strict=True)}
        empty = np.ones(len(table[0]), bool)
        repeated = empty.copy()
        for column in columns.values():
            empty &= column.spread(_equal(column.texts, ""))
            repeated &= column.spread(_equal(column.texts, column.name))
        kept = np.flatnonzero(~(empty | repeated))
        if len(kept) < len(empty):
            columns = {index: dataclasses.replace(column, code=column.code[kept]) for index, column in columns.items()}
        return LabelCells(
            columns={name: columns[index] for name, index in plain.items()},
            classes=[columns[index] for index in self._class_index],
            rows=len(kept),
            line=None if numbers is None else lambda row: numbers[kept[row]],
            empty=int(empty.sum()),
            repeated=int((repeated & ~empty).sum()),
            long=long,
            cicflowmeter=self._cicflowmeter,
            chosen=self._chosen,
            own=self._own,
        )

    def _fast(self, used: list[int]) -> list[pa.BinaryArray] | None:
        """Read columns with pyarrow; None if a row is not as long as the header, or a quote may be open."""
        if self._odd_quotes():
            return None
        names = [str(index) for index in range(len(self._header))]
        wanted = [str(index) for index in used]
        try:
            with self._open() as stream:
                table = pa.csv.read_csv(
                    stream,
                    read_options=pa.csv.ReadOptions(
                        column_names=names, skip_rows=0 if self._headless else 1, block_size=1 << 23
                    ),
                    # otherwise a line end within quotes may end a row at the end of a block
                    parse_options=pa.csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                    convert_options=pa.csv.ConvertOptions(
                        include_columns=wanted, column_types=dict.fromkeys(wanted, pa.binary())
                    ),
                )
        except pa.ArrowException:
            return None
        return [_concat(table[name]) for name in wanted]

    def _slow(self, used: list[int]) -> tuple[list[pa.BinaryArray], list[int], int]:
        """Read columns with csv; return also the line of each row's end, and how many rows are too long."""
        columns: list[list[bytes]] = [[] for _ in used]
        numbers: list[int] = []
        long = 0
        for row, number in self._csv_rows():
            long += any(row[len(self._header) :])
            numbers.append(number)
            for column, index in zip(columns, used, strict=True):
                column.append(row[index].encode("latin-1") if index < len(row) else b"")
        return [pa.array(column, pa.binary()) for column in columns], numbers, long

    def _odd_quotes(self) -> bool:
        with self._open() as stream:
            return sum(chunk.count(b'"') for chunk in iter(lambda: stream.read(1 << 20), b"")) % 2 == 1

    def _csv_rows(self) -> Iterator[tuple[list[str], int]]:
        """Yield rows and the lines that they end on; an InputError if a cell is too long, or a quote is not closed."""
        # latin-1 keeps every byte
        with self._open() as stream, io.TextIOWrapper(stream, encoding="latin-1", newline="") as text:
            reader = csv.reader(text, delimiter=self._delimiter)
            start = end = 0
            try:
                for row in reader:
                    start, end = end + 1, reader.line_num
                    if row and (self._headless or end > 1):
                        yield row, end
            except csv.Error as error:
                raise InputError(f"{self.path}, line {reader.line_num}: {error}", HINT) from error
        if start < end and self._odd_quotes():
            raise InputError(f"{self.path}, line {start}: a quote is opened and not closed", "Close it, or double it")


def _csv_of_parquet(path: Path, content: bytes | None) -> bytes:
    """Convert the columns of netgen's own Parquet labels that give flows their classes to CSV."""
    out = io.BytesIO()
    try:
        file = pq.ParquetFile(path if content is None else io.BytesIO(content))
        if not {*_OWN, *_OWN_MARKERS} <= set(file.schema_arrow.names):
            raise InputError(
                f"{path} is Parquet, but not a label file that netgen wrote",
                f"Write it as CSV. {HINT}",
            )
        pa.csv.write_csv(file.read([*_OWN, *_OWN_MARKERS]), out)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"cannot read the label file {path}: {reason}", "Take the .csv file beside it") from error
    return out.getvalue()


def _normalize(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _like_unsw_nb15(cells: list[str]) -> bool:
    address = re.compile(r"\s*\d+\.\d+\.\d+\.\d+\s*")
    return len(cells) == _UNSW_NB15.count(",") + 1 and all(address.fullmatch(cells[index]) for index in (0, 2))


def _concat(cells: pa.ChunkedArray) -> pa.BinaryArray:
    if cells.num_chunks == 1:
        return cells.chunk(0)
    return pa.concat_arrays(cells.chunks) if cells.num_chunks else pa.array([], pa.binary())


def _column(name: str, cells: pa.BinaryArray) -> Column:
    coded = cells.dictionary_encode()
    try:
        texts = coded.dictionary.cast(pa.string())
    except pa.ArrowInvalid:  # not UTF-8
        texts = pa.array([_decoded(text) for text in coded.dictionary.to_pylist()], pa.string())
    return Column(name, pc.utf8_trim_whitespace(texts), coded.indices.to_numpy())


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("cp1252", "replace")  # as CIC-IDS2017 is


def _equal(texts: pa.StringArray, value: str) -> np.ndarray:
    return pc.equal(texts, value).to_numpy(zero_copy_only=False)
