"""Server names: read from a TLS ClientHello, and turned into a class by their suffix."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from capture.dissect import Packets
from capture.errors import InputError
from capture.headers import PROTOCOL_TCP

#: The table netgen ships: suffix of a server name -> class.
SHIPPED = Path(__file__).with_name("sni_classes.csv")

#: Bytes of a segment that are looked at; a ClientHello with a post-quantum key share has 1.8 kB.
MAX_HELLO = 16_384

_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0


def server_names(data: np.ndarray, packets: Packets) -> dict[int, str]:
    """Server names that packets ask for, by their row.

    Parameters
    ----------
    data : ndarray of uint8
        The buffer that `packets` were dissected from.
    packets : Packets
        Packets of one chunk.

    Returns
    -------
    dict of int to str
        Only rows whose payload begins with a TLS ClientHello that has a name.
    """
    rows = np.flatnonzero((packets.payload_length > 5) & (packets.protocol == PROTOCOL_TCP))
    at = packets.payload_at[rows]
    rows = rows[(data[at] == _HANDSHAKE) & (data[at + 1] == 3) & (data[at + 5] == _CLIENT_HELLO)]
    found = {}
    for row in rows.tolist():
        start = int(packets.payload_at[row])
        payload = data[start : start + min(int(packets.payload_length[row]), MAX_HELLO)].tobytes()
        name = client_hello_name(payload)
        if name is not None:
            found[row] = name
    return found


def client_hello_name(payload: bytes) -> str | None:
    """Server name in the TLS ClientHello at the beginning of a TCP payload (RFC 6066, section 3).

    Parameters
    ----------
    payload : bytes
        First bytes of a connection from the client; may be cut anywhere.

    Returns
    -------
    str or None
        The name in lower case; None if there is no ClientHello, no name in it, or it is cut before.
    """
    try:
        if payload[0] != _HANDSHAKE or payload[5] != _CLIENT_HELLO:
            return None
        at = 5 + 4 + 2 + 32  # record header, handshake header, version, random
        at += 1 + payload[at]  # session id
        at += 2 + _two(payload, at)  # cipher suites
        at += 1 + payload[at]  # compression methods
        end = at + 2 + _two(payload, at)
        at += 2
        while at + 4 <= end:
            kind, length = _two(payload, at), _two(payload, at + 2)
            at += 4
            if kind == _SERVER_NAME:
                return _host(payload[at : at + length])
            at += length
    except IndexError:  # cut
        pass
    return None


def _host(extension: bytes) -> str | None:
    length = _two(extension, 3)
    name = extension[5 : 5 + length]
    if extension[2] != _HOST_NAME or not length or len(name) < length:
        return None
    text = name.decode("ascii", "replace").lower().rstrip(".")
    return text if text and all((c.isalnum() and c.isascii()) or c in "-._" for c in text) else None


def _two(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


class ClassTable:
    """Suffixes of server names and their classes.

    The longest suffix wins, at the borders of labels: ``nflxvideo.net`` is a suffix of
    ``a.nflxvideo.net`` and not of ``notnflxvideo.net``.

    Parameters
    ----------
    user : str or Path, optional
        A CSV file ``suffix,class`` whose rows are asked before the shipped ones.

    Raises
    ------
    InputError
        If that file cannot be read, or a row of it is bad.
    """

    def __init__(self, user: str | os.PathLike[str] | None = None) -> None:
        self._tables = [_read_table(Path(user))] if user is not None else []
        self._tables.append(_read_table(SHIPPED))

    def class_of(self, name: str | None) -> str | None:
        """The class of a server name, or None."""
        if not name:
            return None
        labels = name.lower().strip(".").split(".")
        for table in self._tables:
            for first in range(len(labels)):
                found = table.get(".".join(labels[first:]))
                if found is not None:
                    return found
        return None


def _read_table(path: Path) -> dict[str, str]:
    hint = "Write one suffix,class a line, such as nflxvideo.net,netflix"
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the table of server names {path}: {error}", hint) from error
    table = {}
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#") or (number == 1 and cells[:2] == ["suffix", "class"]):
            continue
        suffix = cells[0].lower().removeprefix("*").strip(".")
        if len(cells) != 2 or not suffix or not cells[1]:
            raise InputError(f"{path}, line {number}: {','.join(row)!r} is not a suffix and a class", hint)
        table[suffix] = cells[1]
    return table
