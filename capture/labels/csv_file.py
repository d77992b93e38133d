"""Read the cells of a label file, and find out which column is which.

Columns are recognised by the names that IDS data sets use. The Parquet file that netgen writes beside a capture is read
as the CSV file beside it would be.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from netgen.capture.errors import InputError

#: Names of columns, lower case and without anything but letters and digits.
_NAMES = {
    "src": "src srcip sourceip srcaddr saddr sourceaddress source idorigh ipsrc srcipaddr ipv4srcaddr",
    "dst": "dst dstip destinationip dstaddr daddr destinationaddress destination idresph ipdst dstipaddr ipv4dstaddr",
    "src_port": "srcport sourceport sport idorigp srcpt l4srcport",
    "dst_port": "dstport destinationport dport dsport destport idrespp dstpt l4dstport",
    "protocol": "protocol proto ipproto ipprotocol",
    "start": "start starttime stime timestamp ts firstseen time datefirstseen flowstartmilliseconds",
    "end": "end endtime ltime lasttime lastseen flowendmilliseconds",
    "duration_us": "flowduration durationus",
    "duration_ms": "flowdurationmilliseconds durationms",
    "duration_s": "duration dur",
    "label": "label class classlabel attackcat category attack attacktype type",
}
COLUMNS = {column: names.split() for column, names in _NAMES.items()}

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

_BOM = b"\xef\xbb\xbf"

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
    lines: np.ndarray  # int64, shape (rows,): where each row ends in the file
    empty: int  # rows left out because they are empty in these columns
    repeated: int  # or repeat the header line
    long: int  # rows with more cells than the header line
    cicflowmeter: bool  # whether CICFlowMeter made the file
    chosen: bool  # whether the user named the first of `classes`
    own: bool  # whether netgen wrote the file, in which flows without a class have a row too

    @property
    def rows(self) -> int:
        """Number of rows of labels."""
        return len(self.lines)


class LabelFileReader:
    """Reads a label file; an InputError if that fails, or a column is missing.

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
        line = re.split("[\r\n]", _decoded(first.removeprefix(_BOM)), maxsplit=1)[0]
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

    def read(self) -> LabelCells:
        """Read all rows; an InputError if it is not CSV."""
        plain = {name: index for name, index in self._index.items() if name != "label"}
        cells: dict[int, list[str]] = {index: [] for index in sorted({*plain.values(), *self._class_index})}
        lines: list[int] = []
        long = 0
        for row, line in self._csv_rows():
            long += any(row[len(self._header) :])
            lines.append(line)
            for index, column in cells.items():
                column.append(row[index] if index < len(row) else "")
        columns = {index: _column(self._header[index].strip(), column) for index, column in cells.items()}
        empty, repeated = np.ones((2, len(lines)), bool)
        for read in columns.values():
            empty &= read.spread(_equal(read.texts, ""))
            repeated &= read.spread(_equal(read.texts, read.name))
        kept = np.flatnonzero(~(empty | repeated))
        columns = {index: dataclasses.replace(read, code=read.code[kept]) for index, read in columns.items()}
        return LabelCells(
            columns={name: columns[index] for name, index in plain.items()},
            classes=[columns[index] for index in self._class_index],
            lines=np.array(lines, np.int64)[kept],
            empty=int(empty.sum()),
            repeated=int((repeated & ~empty).sum()),
            long=long,
            cicflowmeter=self._cicflowmeter,
            chosen=self._chosen,
            own=self._own,
        )

    def _csv_rows(self) -> Iterator[tuple[list[str], int]]:
        """Yield rows and the lines that they end on; an InputError if a cell is too long, or a quote is not closed."""
        # latin-1 keeps every byte
        with self._open() as stream, io.TextIOWrapper(stream, encoding="latin-1", newline="") as text:
            if stream.read(len(_BOM)) != _BOM:
                stream.seek(0)
            reader = csv.reader(text, delimiter=self._delimiter)
            start = end = 0
            try:
                for row in reader:
                    start, end = end + 1, reader.line_num
                    if row and (self._headless or end > 1):
                        yield row, end
            except csv.Error as error:
                raise InputError(f"{self.path}, line {reader.line_num}: {error}", HINT) from error
        if start >= end:
            return
        with self._open() as stream:
            quotes = sum(chunk.count(b'"') for chunk in iter(lambda: stream.read(1 << 20), b""))
        if quotes % 2:
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


def _column(name: str, cells: list[str]) -> Column:
    coded = pa.array(cells, pa.string()).dictionary_encode()
    texts = [text if text.isascii() else _decoded(text.encode("latin-1")) for text in coded.dictionary.to_pylist()]
    return Column(name, pc.utf8_trim_whitespace(pa.array(texts, pa.string())), coded.indices.to_numpy())


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("cp1252", "replace")  # as CIC-IDS2017 is


def _equal(texts: pa.StringArray, value: str) -> np.ndarray:
    return pc.equal(texts, value).to_numpy(zero_copy_only=False)
