"""The epoch: a number that rises with every connection of this device, kept on disk across restarts and crashes."""

import logging
import os
import time
from pathlib import Path

from hub_protocol.messages import MAX_SAFE_INTEGER
from satellite_agent.state import give_to_owner

log = logging.getLogger(__name__)


class Epochs:
    """Hands out epochs. Without a usable file it takes the time in milliseconds, which rises as well."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._last = self._read()

    def next(self) -> int:
        """The epoch of the connection about to be made, on disk before it is used."""
        self._last += 1
        if self._path is None or not self._write():
            self._last = max(self._last, _milliseconds())
        return self._last

    def jump_above(self, epoch: int) -> bool:
        """The hub knows a higher epoch than ours; the next one will pass it. False when there is no higher one."""
        if epoch >= MAX_SAFE_INTEGER:
            return False
        self._last = max(self._last, epoch)
        return True

    def _read(self) -> int:
        if self._path is None:
            return 0
        try:
            text = self._path.read_text(encoding="ascii").strip()
            if text.isdigit() and 0 <= (epoch := int(text[:17])) < MAX_SAFE_INTEGER:
                return epoch
            log.warning("the epoch file %s holds no number; going on from the time", self._path)
        except FileNotFoundError:
            return 0
        except (OSError, UnicodeDecodeError) as error:
            log.warning("the epoch file %s is unreadable (%s); going on from the time", self._path, error)
        return _milliseconds()

    def _write(self) -> bool:
        # Written beside and renamed, both on disk before the epoch is used: a power cut leaves the old number or the
        # new one, and never lets a number be used twice.
        assert self._path is not None  # noqa: S101 - `next` asks first
        beside = self._path.with_suffix(".new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(descriptor, f"{self._last}\n".encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            give_to_owner(beside)
            beside.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            log.warning("the epoch cannot be kept in %s (%s); using the time instead", self._path, error.strerror)
            return False
        return True


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
