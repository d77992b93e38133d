"""Read pcap and pcapng files, compressed and damaged ones too, into columns of records.

A damaged capture is read up to the damage, whose position is noted. Only a file that is not a capture is refused.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from netgen.capture import headers
from netgen.capture.errors import CaptureError
from netgen.capture.formats.pcap import FILE_HEADER, MAGICS, Pcap, file_order
from netgen.capture.formats.pcapng import Pcapng, section_order
from netgen.capture.formats.records import NO_INTERFACE, ORDERS, Damage, RecordBatch
from netgen.capture.formats.source import Source

_HINT = "Name a pcap or pcapng file, as tcpdump, Wireshark and dumpcap write them"

__all__ = ["NO_INTERFACE", "CaptureFile", "Damage", "RecordBatch"]

#: Bytes of a file that are read as one: the unit of work of a thread.
SEGMENT = 32 * 1024 * 1024


class CaptureFile:
    """One capture, open for reading: a pcap or pcapng file, plain or compressed, or ``-`` for standard input.

    `data` and `size` are all of a plain file; of a stream, `data` is its beginning, and `size` counts the bytes read so
    far. `damage`, complete once `chunks` is exhausted, is what was lost; `notes` counts oddities that lost nothing. A
    CaptureError says why the file cannot be opened, or is not a capture.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.source = Source(path)
        self._pieces: Iterator[bytes] = iter(())
        if self.source.mapped is not None:
            self.data = self.source.mapped
        else:
            self._pieces = self.source.pieces()
            begun = b""
            for piece in self._pieces:
                begun += piece
                if len(begun) >= 1 << 16:
                    break
            self.data = np.frombuffer(begun, np.uint8)
        self.size = len(self.data)
        self.format: Pcap | Pcapng = self._new_format()
        self._opening: Any = None  # the state before the first packet of a plain file

    @property
    def damage(self) -> list[Damage]:
        """Places from which on nothing could be read so far."""
        return self.format.damage

    @property
    def notes(self) -> Counter[str]:
        """Oddities that lost nothing so far."""
        return self.format.notes

    @property
    def consumed(self) -> int:
        """Bytes of the file read so far, compressed ones where it is compressed."""
        return self.source.consumed if self.source.mapped is None else self.format.position

    def chunks(self) -> Iterator[RecordBatch]:
        """Yield the records that can be read, in the file's order.

        A stream can be read once only.
        """
        self.format = self._new_format()
        if self.source.mapped is None:
            for window in self.windows():
                yield from window
            return
        while self.format.position < self.size:
            begin = self.format.position
            yield from self.format.chunks(self.data, 0, begin - begin % SEGMENT + SEGMENT, final=True)
            self.source.release(begin, self.format.position)

    def windows(self) -> Iterator[Iterator[RecordBatch]]:
        """Yield the records of a stream piece by piece; take them before the next piece."""
        held, base, final = self.data.tobytes(), 0, False
        while not final:
            piece = next(self._pieces, b"")
            final = not piece
            data = np.frombuffer(held + piece, np.uint8)
            self.size = base + len(data)
            yield self.format.chunks(data, base, self.size, final=final)
            if self.format.damage:
                break  # nothing behind it can be read
            held, base = data[self.format.position - base :].tobytes(), self.format.position
        if self.source.broken is not None:
            self.format.damage.clear()  # a record cut by the broken stream is no damage of its own
            self.format.damage.append(Damage(self.size, f"{self.source.broken}, {self.size} bytes came out of it"))

    def reader_at(self, start: int, until: int) -> Pcap | Pcapng | None:
        """Return a reader for records of a plain file that begin from `start` on and before `until`.

        The start of the first one is guessed, on the assumption that the file says nothing new before it. None if no
        position looks like the start of a record.
        """
        if self._opening is None:
            self._opening = self.format.opening(self.data)
        reader = self.format.at(self._opening, start)
        guess = reader.guess(self.data, start, min(until, self.size))
        return None if guess is None else reader.at(self._opening, guess)

    # -- what kind of file it is ------------------------------------------------------------

    def _new_format(self) -> Pcap | Pcapng:
        data = self.data
        if file_order(data) is not None:
            return Pcap(data[:FILE_HEADER].tobytes())
        if data[:4].tobytes() == struct.pack("<I", headers.PCAPNG_SECTION) and section_order(data) is not None:
            return Pcapng()
        raise self._no_capture()

    def _no_capture(self) -> CaptureError:
        first = self.data[:8].tobytes()
        inside = f"the {self.source.kind} data in {self.path}" if self.source.kind else str(self.path)
        if not first:
            reason = f"empty: {self.source.broken}" if self.source.broken else "empty"
            return CaptureError(f"{inside}: not a pcap or pcapng file ({reason})", _HINT)
        text = f" {first.decode('ascii')!r}" if first.isascii() and first.decode("ascii").isprintable() else ""
        reason = f"first bytes {first.hex(' ')}{text}"
        magics = [struct.unpack(order + "I", first[:4])[0] for order in ORDERS] if len(first) >= 4 else []
        if any(magic in MAGICS or magic == headers.PCAPNG_SECTION for magic in magics):
            reason += f"; the file header is cut or bad, {self.size} bytes in all"
        return CaptureError(f"{inside}: not a pcap or pcapng file ({reason})", _HINT)
