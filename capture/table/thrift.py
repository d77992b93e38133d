"""Thrift's compact protocol, as far as Parquet's footer and page headers need it.

A struct is a dict from field numbers to pairs of type and value, so that unknown fields are written
as they were read (https://github.com/apache/thrift, doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

from typing import Any

TRUE, FALSE, BYTE = 1, 2, 3
I16, I32, I64 = 4, 5, 6
BINARY, LIST, STRUCT = 8, 9, 12

#: Fields by number: type and value. The value of a list is the type of its elements, and these.
Struct = dict[int, tuple[int, Any]]

_INTEGERS = (I16, I32, I64)


def dumps(struct: Struct) -> bytes:
    """Encode a struct."""
    out = bytearray()
    last = 0
    for number, (field_type, value) in sorted(struct.items()):
        if 0 < number - last < 16:
            out.append((number - last) << 4 | field_type)
        else:
            out.append(field_type)
            out += varint(number << 1)
        last = number
        if field_type not in (TRUE, FALSE):
            out += _encode(field_type, value)
    out.append(0)
    return bytes(out)


def loads(data: bytes) -> Struct:
    """Decode the struct that `data` begins with."""
    return _Reader(data).struct()


def varint(number: int) -> bytes:
    """Encode a number that is not negative, seven bits a byte."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _encode(field_type: int, value: Any) -> bytes:
    if field_type in _INTEGERS:
        return varint(value << 1 if value >= 0 else (-value << 1) - 1)
    if field_type == BINARY:
        return varint(len(value)) + value
    if field_type == STRUCT:
        return dumps(value)
    if field_type == LIST:
        element_type, elements = value
        size = len(elements)
        header = bytes([size << 4 | element_type]) if size < 15 else bytes([0xF0 | element_type]) + varint(size)
        return header + b"".join(_encode(element_type, element) for element in elements)
    if field_type == BYTE:
        return bytes([value & 0xFF])
    raise ValueError(f"Thrift type {field_type} is not supported")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def _bytes(self, count: int) -> bytes:
        self._position += count
        return self._data[self._position - count : self._position]

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._bytes(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def _integer(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)

    def struct(self) -> Struct:
        fields: Struct = {}
        last = 0
        while header := self._bytes(1)[0]:
            field_type = header & 15
            last = last + (header >> 4) if header >> 4 else self._integer()
            fields[last] = field_type, None if field_type in (TRUE, FALSE) else self._value(field_type)
        return fields

    def _value(self, field_type: int) -> Any:
        if field_type in _INTEGERS:
            return self._integer()
        if field_type == BINARY:
            return self._bytes(self._varint())
        if field_type == STRUCT:
            return self.struct()
        if field_type == LIST:
            header = self._bytes(1)[0]
            count = header >> 4 if header >> 4 < 15 else self._varint()
            return header & 15, [self._value(header & 15) for _ in range(count)]
        if field_type == BYTE:
            return self._bytes(1)[0]
        raise ValueError(f"Thrift type {field_type} is not supported")
