"""Classes for flows: from the file's name or folder, from the server name, or from a labels file.

A labels file is CSV, one row a labelled flow or address pair, as IDS data sets ship them: ends and
ports, protocol, an optional time window, and the class. What a row leaves empty matches anything.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import ipaddress
import math
import os
import re
import socket
import zoneinfo
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from capture.errors import InputError
from capture.series import NS, parse_duration

LABEL_BY = ("folder", "file", "sni")

#: Endings of capture files, stripped from a name however many there are (``a.pcap.gz``).
ENDINGS = frozenset(
    (".pcap", ".pcapng", ".cap", ".dmp", ".dump", ".ntar", ".gz", ".zst", ".zstd", ".xz", ".bz2", ".lz4", ".zip")
)

#: Names of columns, lower case and without anything but letters and digits.
_COLUMNS: dict[str, Sequence[str]] = {
    "src": ("src", "srcip", "sourceip", "srcaddr", "saddr", "sourceaddress", "source", "idorigh", "ipsrc"),
    "dst": (
        "dst",
        "dstip",
        "destinationip",
        "dstaddr",
        "daddr",
        "destinationaddress",
        "destination",
        "idresph",
        "ipdst",
    ),
    "src_port": ("srcport", "sourceport", "sport", "idorigp"),
    "dst_port": ("dstport", "destinationport", "dport", "dsport", "destport", "idrespp"),
    "protocol": ("protocol", "proto", "ipproto", "ipprotocol"),
    "start": ("start", "starttime", "stime", "timestamp", "ts", "firstseen", "time"),
    "end": ("end", "endtime", "ltime", "lasttime", "lastseen"),
    "duration_us": ("flowduration", "durationus"),
    "duration_s": ("duration", "dur"),
    "label": ("label", "class", "classlabel", "attackcat", "category"),
}
_PROTOCOLS = {"hopopt": 0, "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51}
_PROTOCOLS |= {"icmp6": 58, "icmpv6": 58, "ipv6-icmp": 58, "ospf": 89, "pim": 103, "sctp": 132, "udplite": 136}
_EMPTY = ("", "-", "*", "any")
_HINT = "Columns: src, dst, label and, if known, src_port, dst_port, protocol, start, end"


def file_stem(path: str | os.PathLike[str]) -> str:
    """A capture file's name without its ending: ``netflix`` of ``netflix.pcap.gz``."""
    path = Path(path)
    while path.suffix.lower() in ENDINGS and path.stem:
        path = path.with_suffix("")
    return path.name


def folder_name(path: str | os.PathLike[str]) -> str:
    """The name of the folder that a file lies in."""
    return Path(path).absolute().parent.name


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """How a labels file is to be read where it does not say so itself.

    Parameters
    ----------
    zone : str
        Of times that have none: ``UTC``, ``-03:00`` or a name such as ``Europe/Berlin``.
    offset_ns : int
        Added to the file's times to get the capture's.
    times : str, optional
        Format of the times, as of `datetime.strptime`.
    column : str, optional
        Name of the column that holds the class.
    """

    zone: str = "UTC"
    offset_ns: int = 0
    times: str | None = None
    column: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Window:
    start_ns: float
    end_ns: float
    label: str


class LabelFile:
    """Rows of a labels file, to be asked for the class of a flow.

    Both directions match. Of several rows that match, the one that says most (ends, ports,
    protocol, time) wins, and among equals the one whose start is nearest to the flow's.

    Parameters
    ----------
    path : str or Path
        A CSV file with a header line. Times are epoch seconds or ISO 8601, UTC unless they have an
        offset; ``Flow Duration`` counts microseconds, ``duration`` seconds.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, or a row is bad; names file, line and value.
    """

    def __init__(self, path: str | os.PathLike[str], options: LabelOptions | None = None) -> None:
        self.path = Path(path)
        self.options = options or LabelOptions()
        self.zone = _zone(self.options.zone)
        self.notes: Counter[str] = Counter()
        self.rows = 0
        self._addresses: dict[str, str] = {}
        # by which of the five fields a row names, then by their values
        self._by_pattern: dict[tuple[bool, ...], dict[tuple[str | int | None, ...], list[_Window]]] = {}
        try:
            raw = self.path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the labels file {self.path}: {error.strerror}", _HINT) from error
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("cp1252", "replace")  # as CIC-IDS2017 is
        self._read(text)
        self._patterns = sorted(self._by_pattern, key=lambda pattern: -sum(pattern))

    def _read(self, text: str) -> None:
        header = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=header.count)
        reader = csv.reader(text.splitlines(), delimiter=delimiter)
        names = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in next(reader, [])]
        columns = {
            column: names.index(next(name for name in accepted if name in names))
            for column, accepted in _COLUMNS.items()
            if any(name in names for name in accepted)
        }
        if self.options.column is not None:
            named = re.sub(r"[^a-z0-9]", "", self.options.column.lower())
            if named not in names:
                raise InputError(f"{self.path} has no column {self.options.column!r}", _HINT)
            columns["label"] = names.index(named)
        missing = [column for column in ("src", "dst", "label") if column not in columns]
        if missing:
            found = ", ".join(cell.strip() for cell in header.split(delimiter)[:12] if cell.strip()) or "nothing"
            raise InputError(f"{self.path} lacks a column for {', '.join(missing)}; it has {found}", _HINT)
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    cells = {column: row[at].strip() if at < len(row) else "" for column, at in columns.items()}
                    self._add(cells, reader.line_num)
        except csv.Error as error:
            raise InputError(f"{self.path}, line {reader.line_num}: {error}", _HINT) from error

    def _add(self, cells: dict[str, str], line: int) -> None:
        if not cells["label"]:
            raise self._bad(line, "label", "")
        window = self._window(cells, line)
        key = (
            self._address(cells["src"], line),
            self._port(cells, "src_port", line),
            self._address(cells["dst"], line),
            self._port(cells, "dst_port", line),
            self._protocol(cells.get("protocol", ""), line),
        )
        pattern = tuple(value is not None for value in key)
        self._by_pattern.setdefault(pattern, {}).setdefault(key, []).append(window)
        self.rows += 1

    def _bad(self, line: int, column: str, value: str) -> InputError:
        return InputError(f"{self.path}, line {line}: {value!r} is no {column.replace('_', ' ')}", _HINT)

    def _address(self, text: str, line: int) -> str | None:
        if text.lower() in _EMPTY:
            return None
        known = self._addresses.get(text)
        if known is None:
            try:
                address = ipaddress.ip_address(text)
                family = socket.AF_INET if address.version == 4 else socket.AF_INET6
                # written as in the flow table: Python's own text differs for IPv4 inside IPv6
                known = self._addresses[text] = socket.inet_ntop(family, address.packed)
            except ValueError as error:
                raise self._bad(line, "address", text) from error
        return known

    def _port(self, cells: dict[str, str], column: str, line: int) -> int | None:
        text = cells.get(column, "").lower()
        if text in _EMPTY:
            return None
        try:
            port = int(text, 16) if text.startswith("0x") else int(text.removesuffix(".0"))
        except ValueError:
            port = -1
        if not 0 <= port <= 65535:
            raise self._bad(line, column, text)
        return port

    def _protocol(self, text: str, line: int) -> int | None:
        if text.lower() in _EMPTY:
            return None
        if text.lower() in _PROTOCOLS:
            return _PROTOCOLS[text.lower()]
        number = text.removesuffix(".0")
        if not number.isascii() or not number.isdigit() or int(number) > 255:
            raise self._bad(line, "protocol", text)
        return int(number)

    def _window(self, cells: dict[str, str], line: int) -> _Window:
        start, end = -math.inf, math.inf
        slack = 0
        if cells.get("start"):
            start, slack = self._time(cells["start"], "start", line)
        if cells.get("end"):
            end, end_slack = self._time(cells["end"], "end", line)
            end += end_slack
        elif start > -math.inf:
            for column, unit in (("duration_us", 1_000), ("duration_s", NS)):
                if cells.get(column):
                    try:
                        # a duration may be negative by mistake of the tool that made it: take it for none
                        end = start + slack + max(int(Decimal(cells[column]) * unit), 0)
                    except (InvalidOperation, ValueError, OverflowError) as error:
                        raise self._bad(line, column, cells[column]) from error
                    break
        if end < start:
            raise self._bad(line, "end (it is before the start)", cells.get("end", ""))
        return _Window(start, end, cells["label"])

    def _time(self, text: str, column: str, line: int) -> tuple[int, int]:
        """Nanoseconds since 1970, and the width of what the text leaves open (a second, a minute)."""
        try:
            if re.fullmatch(r"[+-]?\d+(\.\d*)?(e[+-]?\d{1,2})?", text, re.IGNORECASE):
                value = int(Decimal(text) * NS) + self.options.offset_ns
                if abs(value) >= 2**63:
                    raise ValueError(text)
                return value, 0 if "." in text else NS - 1
            if self.options.times is not None:
                when = datetime.datetime.strptime(text, self.options.times)
            else:
                when = datetime.datetime.fromisoformat(text)
            if when.tzinfo is None:
                when = when.replace(tzinfo=self.zone)
            since = when - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        except (ValueError, InvalidOperation, OverflowError) as error:
            raise InputError(
                f"{self.path}, line {line}: {text!r} is no {column} time",
                "Write epoch seconds or ISO 8601, such as 2017-07-05T08:42:00+00:00",
            ) from error
        value = (since // datetime.timedelta(microseconds=1)) * 1_000 + self.options.offset_ns
        if "." in text:
            return value, 0
        return value, (NS if re.search(r":\d\d:\d\d", text) else 60 * NS) - 1

    def class_of(
        self,
        src: str | None,
        src_port: int | None,
        dst: str | None,
        dst_port: int | None,
        protocol: int | None,
        start_ns: int,
        duration_ns: int,
    ) -> str | None:
        """The class of a flow, or None if no row matches it.

        Parameters
        ----------
        src, src_port, dst, dst_port, protocol
            As in the flow table.
        start_ns, duration_ns : int
            When the flow was; a row with a time window matches if they overlap.
        """
        ends = ((src, src_port, dst, dst_port, protocol), (dst, dst_port, src, src_port, protocol))
        best: tuple[int, bool, float] | None = None
        label = None
        for pattern in self._patterns:
            if best is not None and sum(pattern) < best[0]:
                break
            table = self._by_pattern[pattern]
            for end in ends:
                key = tuple(value if named else None for value, named in zip(end, pattern, strict=True))
                for window in table.get(key, ()):
                    if window.start_ns <= start_ns + duration_ns and start_ns <= window.end_ns:
                        timed = math.isfinite(window.start_ns) or math.isfinite(window.end_ns)
                        distance = abs(window.start_ns - start_ns) if math.isfinite(window.start_ns) else math.inf
                        rank = (sum(pattern), timed, -distance)
                        if best is None or rank > best:
                            best, label = rank, window.label
        return label

    def classes_of(self, *columns: Iterable[str | int | None]) -> list[str | None]:
        """The classes of many flows; columns as the arguments of `class_of`."""
        return [self.class_of(*row) for row in zip(*columns, strict=True)]  # type: ignore[arg-type]


def _zone(name: str) -> datetime.tzinfo:
    match = re.fullmatch(r"(?:UTC)?([+-])(\d\d?):?(\d\d)?", name)
    if match:
        minutes = int(match[2]) * 60 + int(match[3] or 0)
        if minutes < 24 * 60:
            return datetime.timezone(datetime.timedelta(minutes=minutes if match[1] == "+" else -minutes))
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"{name!r} is no time zone", "Write UTC, -03:00 or a name such as Europe/Berlin") from error


def parse_offset(text: str | float) -> int:
    """``"2.5s"``, ``"-1h"`` or a number of seconds, as nanoseconds; 0 is allowed.

    Raises
    ------
    InputError
        If it is none.
    """
    sign, digits = re.fullmatch(r"\s*([+-]?)\s*(.*)", str(text), re.DOTALL).groups()
    if re.fullmatch(r"0*\.?0*(ns|us|ms|s|m|h)?\s*", digits, re.IGNORECASE) and "0" in digits:
        return 0
    try:
        return -parse_duration(digits) if sign == "-" else parse_duration(digits)
    except InputError as error:
        raise InputError(f"{text!r} is no offset of a clock", "Write it like 2.5s, -250ms or -3h") from error


def check_label_by(label_by: str | None) -> None:
    """Refuse a way of labelling that there is none of."""
    if label_by is not None and label_by not in LABEL_BY:
        raise InputError(f"flows cannot be labelled by {label_by!r}", f"Choose one of {', '.join(LABEL_BY)}")


def first_known(*choices: Iterable[str | None]) -> list[str | None]:
    """Row by row, the first of several columns of labels that knows one."""
    return [next((label for label in row if label is not None), None) for row in zip(*choices, strict=True)]
