"""Secrets that the hub has to show to others, as they lie in the database: sealed with a key that is not in it."""

from pathlib import Path
from typing import Final

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from hub.errors import Conflict
from hub.settings import Settings

_WHAT_TO_DO: Final = "set MARVAIN_SECRETS_KEY_FILE to a file with 32 random bytes in hex, for the hub and the web"


class Sealed:
    """Seals and opens; raises `Conflict` with what to do where there is no key."""

    def __init__(self, settings: Settings) -> None:
        self._file: Path | None = settings.secrets_key_file

    def seal(self, secret: bytes) -> bytes:
        """The secret as it may be stored."""
        return bytes(self._box().encrypt(secret))

    def open(self, sealed: bytes) -> bytes:
        """What was sealed with this key; raises `Conflict` when it was another."""
        try:
            return self._box().decrypt(sealed)
        except CryptoError:
            raise Conflict("it was sealed with another key: enter it again") from None

    def _box(self) -> SecretBox:
        if self._file is None:
            raise Conflict(_WHAT_TO_DO)
        try:
            return SecretBox(bytes.fromhex(self._file.read_text(encoding="ascii").strip()))
        except (OSError, ValueError, CryptoError):
            raise Conflict(f"the key of secrets cannot be read; {_WHAT_TO_DO}") from None
