"""Enrolment: shows the hub a claim code over HTTPS, waits for a person's word, and brings the token home."""

import contextlib
import http.client
import json
import os
import platform
import re
import secrets
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from satellite_agent import __version__
from satellite_agent.settings import ENROLMENT_FILE, SettingsError, handle_of, is_loopback, parse_hub

REQUEST_S: Final = 15.0
FIRST_PAUSE_S: Final = 2.0
LAST_PAUSE_S: Final = 30.0
# The hub gives up on who asks after a day; with a margin for clocks.
PATIENCE_S: Final = 90_000.0
_ANSWER_MAX: Final = 65_536
_NAME_MAX: Final = 80


class EnrolmentRefused(Exception):
    """The hub said no for good."""


class HubAway(Exception):
    """The hub could not be reached, or did not decide, in time."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What to show whom. `hub` is an address such as https://hub.example.org, `code` is only ever sent there."""

    hub: str
    code: str
    name: str = ""
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What the hub gave: the token, and the broker's address to use it at."""

    handle: str
    token: str
    broker: str
    root: str


def read_claim(hub: str | None, code: str, *, name: str, ca_file: Path | None, plain_http: bool) -> Claim:
    """Check what was given; `code` may be the whole address that a picture holds. Raises `SettingsError`."""
    address, _, behind = code.strip().partition("#code=")
    if behind:
        hub, code = hub or address.removesuffix("/enrol"), behind
    if not hub:
        raise SettingsError("hub", "is required, such as https://192.168.1.10:8000")
    if not re.fullmatch(r"[0-9A-Za-z -]{8,80}", code.strip()):
        raise SettingsError("code", "must be the claim code as the page showed it, such as K7QF-2M9X-W3TE-0HVB")
    if ca_file is not None and not ca_file.is_file():
        raise SettingsError("ca_file", f"there is no file {ca_file}")
    return Claim(_check_address(hub, plain_http=plain_http), code.strip(), name.strip()[:_NAME_MAX], ca_file)


def enrol(
    claim: Claim,
    tell: Callable[[str], None],
    *,
    patience_s: float = PATIENCE_S,
    pause: Callable[[float], None] = time.sleep,
) -> Enrolled:
    """Use the code and wait for the token. `tell` hears the words to compare, and what is waited for.

    Raises `EnrolmentRefused`, `HubAway`, or `SettingsError` for a certificate that is not trusted.
    """
    deadline = time.monotonic() + patience_s
    # An answer may get lost on its way: whoever asks again with the same key is known again.
    key = secrets.token_urlsafe(24)
    said = {"code": claim.code, "name": claim.name or socket.gethostname()[:_NAME_MAX]} | _hardware()
    link = _Link(claim, tell, deadline, pause)
    answer = link.ask("/v1/enrol", {"Idempotency-Key": key}, said)
    secret, path = str(answer.get("secret", "")), f"/v1/enrol/{answer.get('enrolment_id', '')}"
    if answer.get("state") == "pending":
        tell(f"the hub shows these words for this device: {answer.get('phrase', '')}")
        tell("waiting until somebody compares and approves them on the hub's Devices page")
    while answer.get("state") == "pending":
        answer = link.ask(path, {"Authorization": f"Bearer {secret}"}, {})
    return _enrolled(answer)


class _Link:
    """Questions to one hub, each repeated until it is answered; the pace is the hub's, or ever slower."""

    def __init__(
        self, claim: Claim, tell: Callable[[str], None], deadline: float, pause: Callable[[float], None]
    ) -> None:
        self._hub = claim.hub
        self._tell, self._deadline, self._pause = tell, deadline, pause
        self._wait_s = 0.0
        self._trouble = ""
        try:
            context = ssl.create_default_context(cafile=str(claim.ca_file) if claim.ca_file else None)
        except (ssl.SSLError, OSError):
            raise SettingsError("ca_file", f"{claim.ca_file} holds no certificate that can be read") from None
        # No redirects: the code and the secret are for this address alone.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
        ):
            self._opener.add_handler(handler)

    def ask(self, path: str, headers: dict[str, str], body: dict[str, str]) -> dict[str, Any]:
        """The hub's answer once it is one."""
        failures = 0
        while True:
            if self._wait_s:
                if time.monotonic() + self._wait_s > self._deadline:
                    raise HubAway(self._trouble or "nobody has decided yet; make a new code and try again")
                self._pause(self._wait_s)
            try:
                status, after_s, answer = self._once(path, headers, body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                _check_certificate(error)
                status, after_s, answer = 0, None, {"detail": _words(error)}
            if status in (200, 201, 202):
                self._trouble = ""
                self._wait_s = after_s or FIRST_PAUSE_S
                return answer
            detail = str(answer.get("detail", "")) or f"the hub answered {status}"
            if 300 <= status < 400:
                raise EnrolmentRefused("this address leads elsewhere; give the one that it leads to")
            if 400 <= status < 500 and status not in (408, 425, 429):
                raise EnrolmentRefused(detail)
            if detail != self._trouble:
                self._tell(f"{detail}; trying again")
            self._trouble = detail
            self._wait_s = after_s or min(LAST_PAUSE_S, FIRST_PAUSE_S * 2**failures)
            failures = min(failures + 1, 10)

    def _once(
        self, path: str, headers: dict[str, str], body: dict[str, str]
    ) -> tuple[int, float | None, dict[str, Any]]:
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked in `read_claim`
            self._hub + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"} | headers,
            method="POST",
        )
        try:
            response = self._opener.open(request, timeout=REQUEST_S)
        except urllib.error.HTTPError as error:
            response = error
        if response is None:
            raise ValueError("no answer")
        with response:
            given = response.read(_ANSWER_MAX)
            after = response.headers.get("Retry-After", "")
            status = int(response.status)
        after_s = min(float(after), 900.0) if after.isdecimal() else None
        try:
            answer = json.loads(given)
        except ValueError:
            answer = {}
        if status < 300 and not isinstance(answer, dict):
            raise ValueError("what answers there is no Marvain hub")
        return status, after_s, answer if isinstance(answer, dict) else {}


def check_writable(folder: Path) -> None:
    """Find out before there is a token whether one could be kept; raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    probe = folder / f".probe.{secrets.token_hex(4)}"
    probe.touch(mode=0o600)
    probe.unlink()


def keep(folder: Path, enrolled: Enrolled, ca_file: Path | None) -> Path:
    """Write what was given into `folder`, for its owner's eyes alone from the first byte on; returns the file."""
    lines = {"hub": enrolled.broker, "token": enrolled.token, "root": enrolled.root}
    if ca_file is not None and enrolled.broker.startswith("mqtts:"):
        lines["ca_file"] = str(ca_file.absolute())
    # A JSON text is a TOML text too, as long as nothing is escaped with surrogates.
    content = "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in lines.items())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    file = folder / ENROLMENT_FILE
    scratch = folder / f".enrolment.{secrets.token_hex(4)}"
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write("# Written by `marvain-satellite enrol`. The token is a secret.\n" + content)
            opened.flush()
            os.fsync(opened.fileno())
        scratch.replace(file)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    return file


def _enrolled(answer: dict[str, Any]) -> Enrolled:
    try:
        token, mqtt = str(answer["token"]), answer["mqtt"]
        host, port = str(mqtt["host"]), int(mqtt["port"])
        host = f"[{host}]" if ":" in host else host
        broker = str(parse_hub(f"{'mqtts' if mqtt['tls'] else 'mqtt'}://{host}:{port}"))
        return Enrolled(handle_of(token), token, broker, str(mqtt["root"]))
    except (KeyError, TypeError, ValueError):
        raise HubAway("what answers there is no Marvain hub, or one that this satellite does not understand") from None


def _check_address(hub: str, *, plain_http: bool) -> str:
    rule = "must look like https://hub.example.org or https://192.168.1.10:8000"
    try:
        parts = urlsplit(hub.strip())
        port = parts.port
    except ValueError:
        raise SettingsError("hub", rule) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.query:
        raise SettingsError("hub", rule)
    if parts.path not in ("", "/") or parts.fragment or port == 0:
        raise SettingsError("hub", rule)
    if parts.scheme == "http" and not plain_http and not is_loopback(parts.hostname):
        raise SettingsError(
            "hub", "is plain HTTP, where others in the network can read code and token: use https://, or --plain-http"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _check_certificate(error: Exception) -> None:
    """A certificate that is not trusted will not be trusted in a minute either."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        raise SettingsError("ca_file", f"the hub's certificate is not trusted: {reason.verify_message}") from None


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    words = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
    return f"the hub does not answer ({words})"


def _hardware() -> dict[str, str]:
    model = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        model = Path("/proc/device-tree/model").read_text(encoding="utf-8").strip("\0 \n")
    hardware = " ".join(part for part in (model, platform.system(), platform.machine()) if part.isprintable())
    return {"hardware": hardware[:120], "firmware": f"marvain-satellite {__version__}"}
