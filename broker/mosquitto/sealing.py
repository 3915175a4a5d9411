"""The adapter's private key: what is sealed for it in the database, it alone can read."""

import os
from pathlib import Path
from typing import Final

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

FILE: Final = "sealing-key"


class Unsealer:
    """Opens secrets; with a folder the key outlives a restart, without one it is new each time."""

    def __init__(self, folder: Path | None) -> None:
        self._key = PrivateKey.generate() if folder is None else _kept(folder / FILE)

    @property
    def public_key(self) -> bytes:
        return bytes(self._key.public_key)

    def open(self, sealed: bytes) -> str | None:
        """The secret; None when it was sealed for another key."""
        try:
            return SealedBox(self._key).decrypt(sealed).decode()
        except (CryptoError, ValueError):
            return None


def _kept(file: Path) -> PrivateKey:
    try:
        return PrivateKey(file.read_bytes())
    except FileNotFoundError:
        key = PrivateKey.generate()
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(bytes(key))
        return key
