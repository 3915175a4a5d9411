"""What a program printed or a file holds, as text that fits into a reply."""

from datetime import UTC, datetime
from typing import Final

import msgspec

# A reply is at most 65,536 bytes; this leaves room for what stands around the content.
FITS_BYTES: Final = 60_000


def text_of(data: bytes, max_bytes: int = FITS_BYTES // 2) -> tuple[str, bool]:
    """The data as text of at most `max_bytes` as JSON, and whether something was left out.

    What is no UTF-8, and U+0000, which the protocol does not carry, become U+FFFD.
    """
    text = data.decode("utf-8", "replace").replace("\0", "\ufffd")
    kept = text
    while (size := json_size(kept)) > max_bytes:
        kept = kept[: min(len(kept) - 1, len(kept) * max_bytes // size)]
    return kept, len(kept) < len(text)


def json_size(value: object) -> int:
    """How many bytes it takes in a reply."""
    return len(msgspec.json.encode(value))


def time_of(seconds: float) -> datetime | None:
    """A time of the file system as the protocol writes times; None for one that no calendar holds."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
