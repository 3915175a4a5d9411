"""`capture_photo`: one picture of a configured camera, in the reply or in a folder on the device."""

import base64
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from satellite_agent import process
from satellite_agent.process import Limits
from satellite_agent.verbs.output import FITS_BYTES, text_of
from satellite_agent.verbs.template import Template
from satellite_agent.verbs.verb import Job, Verb, VerbError

_REPLY_MAX_BYTES: Final = FITS_BYTES * 3 // 4
_KINDS: Final = ((b"\xff\xd8\xff", "jpg", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "png", "image/png"))


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """`[verbs.capture_photo]`: a `command` that writes a JPEG or PNG to its standard output, or a `device` for ffmpeg.

    With `folder` pictures stay on the device, the newest `keep` of them; without it they travel in the reply.
    """

    command: list[str] = []
    device: str = ""
    ffmpeg: str = "/usr/bin/ffmpeg"
    folder: str = ""
    keep: Annotated[int, Meta(ge=1, le=10_000)] = 100
    max_bytes: Annotated[int, Meta(ge=1, le=64 * 1024 * 1024)] = 8 * 1024 * 1024
    timeout_s: Annotated[float, Meta(gt=0, le=300)] = 20.0


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """There is one camera, and one way to take its picture."""


def verb(config: Config) -> Verb:
    """Raises `ValueError` for a config that names no camera, or two."""
    words = _words(config)

    def run(_args: Args, job: Job) -> dict[str, Any]:
        done = process.run(words, job, Limits(config.timeout_s, config.max_bytes))
        if done.exit_code != 0:
            said, _ = text_of(done.stderr)
            raise VerbError("no_picture", f"{words[0]} ended with {done.exit_code}: {said.strip()[-300:]}")
        if done.truncated:
            raise VerbError("too_large", f"the picture is larger than {config.max_bytes} bytes")
        suffix, kind = _kind(done.stdout)
        facts = {"type": kind, "bytes": len(done.stdout), "taken_at": datetime.now(UTC)}
        if config.folder:
            return facts | {"file": str(_keep(Path(config.folder), done.stdout, suffix, config.keep))}
        if len(done.stdout) > _REPLY_MAX_BYTES:
            rule = f"a reply carries at most {_REPLY_MAX_BYTES}; take a smaller picture, or set a folder"
            raise VerbError("too_large", f"the picture has {len(done.stdout)} bytes, and {rule}")
        return facts | {"base64": base64.b64encode(done.stdout).decode()}

    return Verb("capture_photo", "high", Args, run)


def _words(config: Config) -> list[str]:
    if bool(config.command) == bool(config.device):
        raise ValueError("wants either a command that writes a picture to its standard output, or a device")
    command = config.command or [
        *(config.ffmpeg, "-nostdin", "-loglevel", "error", "-f", "v4l2", "-i", config.device),
        *("-frames:v", "1", "-f", "image2pipe", "-c:v", "mjpeg", "-q:v", "5", "-"),
    ]
    if Template.parse(command).names:
        raise ValueError("command: takes no arguments")
    if not (config.device or "/").startswith("/"):
        raise ValueError("device: must be an absolute path, such as /dev/video0")
    if config.folder and not Path(config.folder).is_absolute():
        raise ValueError("folder: must be an absolute path")
    return Template(tuple(command)).fill({})


def _kind(picture: bytes) -> tuple[str, str]:
    """The suffix of its file and its media type."""
    for magic, suffix, kind in _KINDS:
        if picture.startswith(magic):
            return suffix, kind
    raise VerbError("no_picture", f"the camera's command wrote {len(picture)} bytes that are no JPEG and no PNG")


def _keep(folder: Path, picture: bytes, suffix: str, keep: int) -> Path:
    file = folder / f"photo-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.{suffix}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as opened:
            opened.write(picture)
        # Their names begin with the time, so the oldest come first.
        for old in sorted(folder.glob("photo-*Z-*.*"))[:-keep]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise VerbError("not_kept", f"{file} cannot be written: {error.strerror}") from None
    return file
