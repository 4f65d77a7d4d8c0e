"""Rows out of the pages of an SQLite file, read without SQLite: for a file that it refuses.

Every page is looked at for itself, so that neither a damaged header nor a damaged tree hides the
rows of sound pages. What is found may be damaged, too: whoever asks checks it.
https://sqlite.org/fileformat.html is what this follows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

Value = int | float | str | bytes | None

_PAGE_SIZES = tuple(1 << power for power in range(9, 17))
_USUAL_PAGE_SIZE = 4096
_SAMPLE_BYTES = 2**20
_HEADER_BYTES = 100
_LEAF = 0x0D
"""The first byte of a page that holds rows of a table."""
_LEAF_HEADER_BYTES = 8
_MOST_PAYLOAD_BYTES = 2**24
_MOST_COLUMNS = 100
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
_WAL_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24


@dataclass(frozen=True, slots=True)
class Row:
    """A row of some table; which one its page does not say.

    Attributes:
        rowid: 64-bit number, the value of an INTEGER PRIMARY KEY.
        values: of the columns; an INTEGER PRIMARY KEY is None here.
    """

    rowid: int
    values: tuple[Value, ...]


class _DamagedError(Exception):
    """Not what a sound page holds."""


def rows_of(data: bytes, log: bytes = b"") -> Iterator[Row]:
    """Every row that can be read out of a file and its write-ahead log, some of them twice.

    Args:
        data: the file.
        log: what is in the file with `-wal` at the end of its name.
    """
    size = _page_size(data)
    pages = [data[start : start + size] for start in range(0, len(data), size)]
    for number in range(1, len(pages) + 1):
        yield from _rows_of_page(pages, number)
    # In the order they were written: a later frame is the page as it became.
    step = _FRAME_HEADER_BYTES + size
    for start in range(_WAL_HEADER_BYTES, len(log) - step + 1, step):
        number = int.from_bytes(log[start : start + 4], "big")
        if 1 <= number <= len(pages) + len(log) // step:
            pages += [b""] * (number - len(pages))
            pages[number - 1] = log[start + _FRAME_HEADER_BYTES : start + step]
    if log:
        for number in range(1, len(pages) + 1):
            yield from _rows_of_page(pages, number)


def _page_size(data: bytes) -> int:
    """As the header says; if its pages hold no rows, the one by which most rows are found."""
    (said,) = struct.unpack(">H", data[16:18]) if len(data) >= 18 else (0,)
    said = 2**16 if said == 1 else said
    if said in _PAGE_SIZES and _rows_by(data, said):
        return int(said)
    # Among equals the usual one: a page of twice its size begins as the first of its two does.
    return max((_USUAL_PAGE_SIZE, *_PAGE_SIZES), key=lambda size: _rows_by(data, size))


def _rows_by(data: bytes, size: int) -> int:
    """How many rows the beginning of the file holds, were its pages of that size."""
    begin = data[:_SAMPLE_BYTES]
    pages = [begin[start : start + size] for start in range(0, len(begin), size)]
    return sum(1 for number in range(1, len(pages) + 1) for _ in _rows_of_page(pages, number))


def _rows_of_page(pages: list[bytes], number: int) -> Iterator[Row]:
    page = pages[number - 1]
    begin = _HEADER_BYTES if number == 1 else 0
    if len(page) < begin + _LEAF_HEADER_BYTES or page[begin] != _LEAF:
        return
    (count,) = struct.unpack_from(">H", page, begin + 3)
    first = begin + _LEAF_HEADER_BYTES
    for place in range(first, min(first + 2 * count, len(page) - 1), 2):
        (start,) = struct.unpack_from(">H", page, place)
        try:
            yield _row(pages, page, start)
        except (_DamagedError, IndexError, struct.error, UnicodeDecodeError):
            continue


def _row(pages: list[bytes], page: bytes, start: int) -> Row:
    size, place = _varint(page, start)
    rowid, place = _varint(page, place)
    if not 0 < size <= _MOST_PAYLOAD_BYTES:
        raise _DamagedError
    payload = _payload(pages, page, place, size)
    if len(payload) != size:
        raise _DamagedError
    return Row(rowid - 2**64 if rowid >= 2**63 else rowid, tuple(_values(payload)))


def _payload(pages: list[bytes], page: bytes, place: int, size: int) -> bytes:
    """The bytes of a record: those on its page, then those on a chain of further ones."""
    usable = len(page)
    if size <= usable - 35:
        return page[place : place + size]
    least = (usable - 12) * 32 // 255 - 23
    local = least + (size - least) % (usable - 4)
    local = local if local <= usable - 35 else least
    parts = [page[place : place + local]]
    (following,) = struct.unpack_from(">I", page, place + local)
    left = size - local
    while left > 0:
        if not 1 <= following <= len(pages):
            raise _DamagedError
        overflow = pages[following - 1]
        (following,) = struct.unpack_from(">I", overflow)
        parts.append(overflow[4 : 4 + min(left, usable - 4)])
        left -= usable - 4
    return b"".join(parts)


def _values(payload: bytes) -> Iterator[Value]:
    header, place = _varint(payload, 0)
    start = header
    for _ in range(_MOST_COLUMNS):
        if place >= header:
            break
        kind, place = _varint(payload, place)
        length = _length(kind)
        value = payload[start : start + length]
        if len(value) != length:
            raise _DamagedError
        start += length
        yield _value(kind, value)
    if place != header or start != len(payload):
        raise _DamagedError


def _length(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    if kind < len(_INTEGER_BYTES):
        return _INTEGER_BYTES[kind]
    if kind in (10, 11):
        raise _DamagedError  # never written to a file
    return 8 if kind == 7 else 0


def _value(kind: int, value: bytes) -> Value:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind == 7:
        return float(struct.unpack(">d", value)[0])
    if kind < 7:
        return int.from_bytes(value, "big", signed=True)
    return value.decode() if kind % 2 else value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where the next one begins."""
    number = 0
    for index in range(8):
        byte = data[place + index]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, place + index + 1
    return number << 8 | data[place + 8], place + 9
