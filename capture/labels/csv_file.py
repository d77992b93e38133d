"""A labels file's cells: which column is what, and every column's texts, read at once.

Columns are known by name, as IDS data sets call them. pyarrow reads them; where it finds a row that
is no CSV, or a value must be named by its line, Python's csv module does it again, slowly. The
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

#: Columns by which a labels file that netgen wrote is known, and those of it that say which flow has which class.
_OWN_MARKS = ("community_id", "start_ns", "repaired")
_OWN = ("label", "protocol", "src", "src_port", "dst", "dst_port")

HINT = "Columns: src, dst, label and, if known, src_port, dst_port, protocol, start, end"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column's cells, blanks at their ends taken off.

    Parameters
    ----------
    name : str
        As the header line has it.
    texts : StringArray, shape (texts,)
        The cells that occur.
    code : ndarray of int32, shape (rows,)
        Number of each row's text among them.
    """

    name: str
    texts: pa.StringArray
    code: np.ndarray

    def rows(self, of_text: np.ndarray) -> np.ndarray:
        """Values of the texts, spread over the rows."""
        return of_text[self.code]


@dataclasses.dataclass(frozen=True)
class Cells:
    """What a labels file says, as text.

    Parameters
    ----------
    columns : dict of str to Column
        By the names of `COLUMNS`, without ``label``.
    classes : list of Column
        Columns that may be the class, those that are asked first first.
    rows : int
        Rows of labels.
    line : callable
        The line of a row in the file; None where a second, slower reading must find it.
    empty, repeated : int
        Rows left out: without any text in these columns, and repeating the header line.
    long : int
        Rows with more cells than the header line.
    cicflowmeter : bool
        CICFlowMeter made the file.
    chosen : bool
        The first of `classes` was asked for by name.
    own : bool
        netgen wrote the file: flows that had no class have a row, too.
    """

    columns: dict[str, Column]
    classes: list[Column]
    rows: int
    line: Callable[[int], int] | None
    empty: int
    repeated: int
    long: int
    cicflowmeter: bool
    chosen: bool
    own: bool


class LabelText:
    """A labels file, to be read fast or with line numbers.

    Parameters
    ----------
    path : Path
        The file.
    column : str, optional
        Name of the column that is the class, if it is not for this module to find.

    Raises
    ------
    InputError
        If it cannot be read, or lacks a column.
    """

    def __init__(self, path: Path, column: str | None = None) -> None:
        self.path = path
        try:
            # what is no file, such as a pipe, can be read but once
            self._bytes = None if path.is_file() else path.read_bytes()
            with self._open() as stream:
                if stream.read(4) == b"PAR1":
                    self._bytes = _csv_of_parquet(path, self._bytes)
            with self._open() as stream:
                first = stream.readline(1 << 20)
        except OSError as error:
            raise InputError(f"cannot read the labels file {path}: {error.strerror}", HINT) from error
        if b"\0" in first:
            raise InputError(f"{path} is no text in UTF-8 or Windows' code page", HINT)
        line = re.split("[\r\n]", _decoded(first.removeprefix(b"\xef\xbb\xbf")), maxsplit=1)[0]
        self._delimiter = max(",;\t", key=line.count)
        self._header = next(csv.reader([line], delimiter=self._delimiter), [])
        self._headless = _like_unsw_nb15(self._header)
        if self._headless:
            self._header = _UNSW_NB15.split(",")
        names = [_plain(name) for name in self._header]
        self._at = {
            kind: names.index(next(name for name in known if name in names))
            for kind, known in COLUMNS.items()
            if any(name in names for name in known)
        }
        self._class_at = [names.index(name) for name in COLUMNS["label"] if name in names]
        self._chosen = column is not None
        if column is not None:
            if _plain(column) not in names:
                raise InputError(f"{path} has no column {column!r}; it has {self._found()}", HINT)
            # a flag beside it may still tell what an empty cell means
            self._class_at = [names.index(_plain(column)), *self._class_at]
        self._check()
        self._own = {_plain(name) for name in _OWN_MARKS} <= set(names)
        self._cicflowmeter = {"timestamp", "flowduration"} <= set(names) and any(
            re.match(r"flowid$|tot(al)?fwdp(ac)?ke?ts?", name) for name in names
        )

    def _found(self) -> str:
        return ", ".join(name.strip() for name in self._header[:12] if name.strip()) or "nothing"

    def _check(self) -> None:
        missing = [kind for kind in ("src", "dst") if kind not in self._at]
        # CSE-CIC-IDS2018 has no addresses: a port and a time are the least that tells flows apart
        if len(missing) == 2 and self._class_at and {"dst_port", "start"} <= set(self._at):
            missing = []
        if missing or not self._class_at:
            missing += [] if self._class_at else ["label"]
            raise InputError(f"{self.path} lacks a column for {', '.join(missing)}; it has {self._found()}", HINT)

    def _open(self) -> BinaryIO:
        return self.path.open("rb") if self._bytes is None else io.BytesIO(self._bytes)

    def read(self, *, lines: bool = False) -> Cells:
        """All rows; with `lines` slowly, so that the line of each is known.

        Raises
        ------
        InputError
            If it is no CSV at all.
        """
        used = sorted({*(at for kind, at in self._at.items() if kind != "label"), *self._class_at})
        numbers, long = None, 0
        table = None if lines else self._fast(used)
        if table is None:
            table, numbers, long = self._slow(used)
        columns = {at: _column(self._header[at].strip(), cells) for at, cells in zip(used, table, strict=True)}
        empty = np.ones(len(table[0]), bool)
        repeated = empty.copy()
        for column in columns.values():
            empty &= column.rows(_equal(column.texts, ""))
            repeated &= column.rows(_equal(column.texts, column.name))
        left = np.flatnonzero(~(empty | repeated))
        if len(left) < len(empty):
            columns = {at: dataclasses.replace(each, code=each.code[left]) for at, each in columns.items()}
        return Cells(
            columns={kind: columns[at] for kind, at in self._at.items() if kind != "label"},
            classes=[columns[at] for at in self._class_at],
            rows=len(left),
            line=None if numbers is None else lambda row: numbers[left[row]],
            empty=int(empty.sum()),
            repeated=int((repeated & ~empty).sum()),
            long=long,
            cicflowmeter=self._cicflowmeter,
            chosen=self._chosen,
            own=self._own,
        )

    def _fast(self, used: list[int]) -> list[pa.BinaryArray] | None:
        """The columns, or None if a row has another number of them than the header, or a quote may be open."""
        if self._odd_quotes():
            return None
        names = [str(at) for at in range(len(self._header))]
        wanted = [str(at) for at in used]
        try:
            with self._open() as stream:
                table = pa.csv.read_csv(
                    stream,
                    read_options=pa.csv.ReadOptions(
                        column_names=names, skip_rows=0 if self._headless else 1, block_size=1 << 23
                    ),
                    # without, a line end within quotes may be taken for that of a row where a block ends
                    parse_options=pa.csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                    convert_options=pa.csv.ConvertOptions(
                        include_columns=wanted, column_types=dict.fromkeys(wanted, pa.binary())
                    ),
                )
        except pa.ArrowException:
            return None
        return [_joined(table[name]) for name in wanted]

    def _slow(self, used: list[int]) -> tuple[list[pa.BinaryArray], list[int], int]:
        """The columns, the line on which each row ends, and how many rows have more cells than the header."""
        cells: list[list[bytes]] = [[] for _ in used]
        numbers: list[int] = []
        long = 0
        for row, number in self._csv_rows():
            long += any(row[len(self._header) :])
            numbers.append(number)
            for each, at in zip(cells, used, strict=True):
                each.append(row[at].encode("latin-1") if at < len(row) else b"")
        return [pa.array(each, pa.binary()) for each in cells], numbers, long

    def _odd_quotes(self) -> bool:
        with self._open() as stream:
            return sum(chunk.count(b'"') for chunk in iter(lambda: stream.read(1 << 20), b"")) % 2 == 1

    def _csv_rows(self) -> Iterator[tuple[list[str], int]]:
        """Rows and the lines that they end on.

        Raises
        ------
        InputError
            If a cell is too long, or a quote that is not closed makes one of all lines to the end.
        """
        # latin-1, as it gives every byte back as it was
        with self._open() as stream, io.TextIOWrapper(stream, encoding="latin-1", newline="") as text:
            reader = csv.reader(text, delimiter=self._delimiter)
            begun = ended = 0
            try:
                for row in reader:
                    begun, ended = ended + 1, reader.line_num
                    if row and (self._headless or ended > 1):
                        yield row, ended
            except csv.Error as error:
                raise InputError(f"{self.path}, line {reader.line_num}: {error}", HINT) from error
        if begun < ended and self._odd_quotes():
            raise InputError(f"{self.path}, line {begun}: a quote is opened and not closed", "Close it, or double it")


def _csv_of_parquet(path: Path, content: bytes | None) -> bytes:
    """What of netgen's own Parquet labels says which flow has which class, as CSV."""
    out = io.BytesIO()
    try:
        file = pq.ParquetFile(path if content is None else io.BytesIO(content))
        if not {*_OWN, *_OWN_MARKS} <= set(file.schema_arrow.names):
            raise InputError(
                f"{path} is Parquet, but no labels file that netgen wrote",
                f"Write it as CSV: a labels file is one. {HINT}",
            )
        pa.csv.write_csv(file.read([*_OWN, *_OWN_MARKS]), out)
    except (pa.ArrowException, OSError, ValueError) as error:
        what = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"cannot read the labels file {path}: {what}", "Take the .csv file beside it") from error
    return out.getvalue()


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _like_unsw_nb15(cells: list[str]) -> bool:
    address = re.compile(r"\s*\d+\.\d+\.\d+\.\d+\s*")
    return len(cells) == _UNSW_NB15.count(",") + 1 and all(address.fullmatch(cells[at]) for at in (0, 2))


def _joined(cells: pa.ChunkedArray) -> pa.BinaryArray:
    if cells.num_chunks == 1:
        return cells.chunk(0)
    return pa.concat_arrays(cells.chunks) if cells.num_chunks else pa.array([], pa.binary())


def _column(name: str, cells: pa.BinaryArray) -> Column:
    coded = cells.dictionary_encode()
    try:
        texts = coded.dictionary.cast(pa.string())
    except pa.ArrowInvalid:  # no UTF-8
        texts = pa.array([_decoded(text) for text in coded.dictionary.to_pylist()], pa.string())
    return Column(name, pc.utf8_trim_whitespace(texts), coded.indices.to_numpy())


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("cp1252", "replace")  # as CIC-IDS2017 is


def _equal(texts: pa.StringArray, value: str) -> np.ndarray:
    return pc.equal(texts, value).to_numpy(zero_copy_only=False)
