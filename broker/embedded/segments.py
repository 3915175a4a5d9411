"""The journal's files: numbered segments of frames, a frame of records counts as a whole or not at all.

A frame is the journal's mark (4), length of what follows (4), CRC-32 of it (4), records. A record is length of the key
(2), length of the value (4; all ones: the key is gone), key, value. All numbers are big-endian. A segment is named by
the position of its first byte in the whole journal. The mark is random and told to nobody: whoever does not know it
cannot publish what looks like a frame, and so have the remains of a torn write taken for one.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SUFFIX: Final = ".journal"
HEAD: Final = struct.Struct(">4sII")
RECORD: Final = struct.Struct(">HI")
_MARK_BYTES: Final = 4
_GONE: Final = 0xFFFF_FFFF


class Corrupt(Exception):
    """A segment holds something else than what was written; the text says where and what."""


def mark_of(folder: Path) -> bytes:
    """The mark of the journal in this folder; a new one when it is empty. Raises Corrupt when it has lost its mark."""
    path = folder / "mark"
    mark = path.read_bytes() if path.exists() else b""
    if len(mark) == _MARK_BYTES:
        return mark
    if listed(folder):
        raise Corrupt("the file `mark`, without which nothing can be read, is missing or spoilt")
    mark = os.urandom(_MARK_BYTES)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, mark)
        os.fsync(file)
    finally:
        os.close(file)
    return mark


def frame(records: dict[bytes, bytes | None], mark: bytes) -> bytes:
    """One frame of these records; None for a key that is gone."""
    parts: list[bytes] = []
    for key, value in records.items():
        if value is None:
            parts += (RECORD.pack(len(key), _GONE), key)
        else:
            parts += (RECORD.pack(len(key), len(value)), key, value)
    body = b"".join(parts)
    return HEAD.pack(mark, len(body), zlib.crc32(body)) + body


def size_of(key: bytes, value: bytes | None) -> int:
    """Bytes of one record."""
    return RECORD.size + len(key) + (0 if value is None else len(value))


def listed(folder: Path) -> list[tuple[int, Path]]:
    """The segments of a journal, (position, path), the oldest first."""
    return sorted((int(path.stem), path) for path in folder.glob(f"*{SUFFIX}") if path.stem.isdecimal())


def path_of(folder: Path, position: int) -> Path:
    return folder / f"{position:020d}{SUFFIX}"


def whole(data: bytes, mark: bytes, *, last: bool) -> int:
    """How many bytes of a segment are whole frames; raises Corrupt.

    Only the `last` segment may end within a frame: that is what a crash leaves of a write that was never acknowledged.
    """
    at = 0
    while at < len(data):
        end = _end_of_frame(data, at, mark)
        if not end:
            break
        at = end
    if at < len(data) and not last:
        raise Corrupt(f"a broken frame at byte {at}")
    following = data.find(mark, at + 1)
    while at < len(data) and following >= 0:
        if _end_of_frame(data, following, mark):
            raise Corrupt(f"a broken frame at byte {at} and good ones behind it")
        following = data.find(mark, following + 1)
    return at


def records(data: bytes, end: int) -> Iterator[tuple[int, bytes, bytes | None]]:
    """(offset, key, value) of every record of the whole frames before `end`."""
    at = 0
    while at < end:
        _, length, _ = HEAD.unpack_from(data, at)
        at += HEAD.size
        stop = at + length
        while at < stop:
            key_length, value_length = RECORD.unpack_from(data, at)
            middle = at + RECORD.size + key_length
            key = data[at + RECORD.size : middle]
            if value_length == _GONE:
                yield at, key, None
                at = middle
            else:
                yield at, key, data[middle : middle + value_length]
                at = middle + value_length


def _end_of_frame(data: bytes, at: int, mark: bytes) -> int:
    """Where the frame that begins here ends; 0 when there is no whole one."""
    if len(data) - at < HEAD.size:
        return 0
    found, length, checksum = HEAD.unpack_from(data, at)
    body = at + HEAD.size
    end: int = body + length
    if found != mark or end > len(data) or zlib.crc32(memoryview(data)[body:end]) != checksum:
        return 0
    return end
