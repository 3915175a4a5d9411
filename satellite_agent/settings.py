"""Settings of the satellite: flags before environment before a TOML file, each checked and named when it is wrong.

Where no token is given, what `enrol` brought home counts last.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from hub_protocol.errors import BadName
from hub_protocol.topics import DEFAULT_ROOT, HANDLE_PATTERN, check_root

ENVIRONMENT_PREFIX: Final = "MARVAIN_SATELLITE_"
NAMES: Final = (
    *("hub", "token", "token_file", "root", "state_dir", "heartbeat", "ca_file", "mqtt_version"),
    *("log_level", "log_file", "log_max_kb", "log_keep", "telemetry_s"),
)
# What only the TOML file can say, for it opens this machine: each is a table.
TABLES: Final = ("verbs", "telemetry", "checks")
TELEMETRY_S: Final = 60.0
ENROLMENT_FILE: Final = "enrolment.toml"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

_TOKEN: Final = re.compile(rf"mv1\.({HANDLE_PATTERN})\.[A-Za-z0-9_-]{{43}}")
# scheme → (transport, TLS, default port)
_SCHEMES: Final[dict[str, tuple[Literal["tcp", "websockets"], bool, int]]] = {
    "mqtt": ("tcp", False, 1883),
    "mqtts": ("tcp", True, 8883),
    "ws": ("websockets", False, 80),
    "wss": ("websockets", True, 443),
}


MqttVersion = Literal["3.1.1", "5"]


class SettingsError(ValueError):
    """A setting is missing or wrong; `field` names it, `rule` says what is allowed."""

    def __init__(self, field_name: str, rule: str) -> None:
        super().__init__(f"{field_name}: {rule}")
        self.field = field_name
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Address:
    """Where the hub's broker listens."""

    host: str
    port: int
    transport: Literal["tcp", "websockets"] = "tcp"
    tls: bool = False
    path: str = ""

    def __str__(self) -> str:
        scheme = next(name for name, (transport, tls, _) in _SCHEMES.items() if (transport, tls) == self._way)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self.path}"

    @property
    def _way(self) -> tuple[str, bool]:
        return self.transport, self.tls


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that one running satellite needs to know; the token never shows in its repr."""

    hub: Address
    handle: str
    token: str = field(repr=False)
    state_dir: Path
    root: str = DEFAULT_ROOT
    heartbeat_s: float = 15.0
    ca_file: Path | None = None
    mqtt_version: MqttVersion = "3.1.1"
    telemetry_s: float = TELEMETRY_S
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # Files that hold the token: no verb may read them.
    secrets: tuple[Path, ...] = ()


Given = dict[str, str]


def gather(flags: Mapping[str, str | None], environ: Mapping[str, str], config: Path | None = None) -> Given:
    """Join the three sources; the first that has a value wins. A token and a token file count as one setting."""
    variables = {name: environ.get(ENVIRONMENT_PREFIX + name.upper()) for name in NAMES}
    given: Given = {}
    for source in (flags, variables, _from_file(config, environ)):
        present = {name: value for name in NAMES if (value := source.get(name))}
        if "token" in present and "token_file" in present:
            raise SettingsError("token", "give either a token or a token file, not both")
        if "token" in given or "token_file" in given:
            present.pop("token", None)
            present.pop("token_file", None)
        given = present | given
    if "token" not in given and "token_file" not in given and (handed_over := _credential(environ)):
        given["token_file"] = str(handed_over)
    return given if "token" in given or "token_file" in given else _enrolled(given, environ) | given


def check(given: Given, environ: Mapping[str, str], config: Path | None = None) -> Settings:
    """Check everything that a connection needs; raises `SettingsError` with the name of the first bad setting.

    The tables come from the same TOML file as `gather` took.
    """
    if "hub" not in given:
        raise SettingsError("hub", "is required, such as mqtt://192.168.1.10:1883")
    hub = parse_hub(given["hub"])
    token = read_token(given)
    if token is None:
        raise SettingsError(
            "token",
            "is required: from `enrol`, a token file, the variable MARVAIN_SATELLITE_TOKEN, or --token",
        )
    try:
        root = check_root(given.get("root", DEFAULT_ROOT))
    except BadName as error:
        raise SettingsError("root", error.rule) from None
    ca_file = Path(given["ca_file"]).expanduser() if "ca_file" in given else None
    if ca_file is not None and not ca_file.is_file():
        raise SettingsError("ca_file", f"there is no file {ca_file}")
    return Settings(
        hub=hub,
        handle=handle_of(token),
        token=token,
        state_dir=state_dir(given, environ, handle_of(token)),
        root=root,
        heartbeat_s=parse_seconds("heartbeat", given.get("heartbeat", "15")),
        ca_file=ca_file,
        mqtt_version=_mqtt_version(given.get("mqtt_version", "3.1.1")),
        telemetry_s=parse_seconds("telemetry_s", given.get("telemetry_s", str(TELEMETRY_S))),
        tables=read_tables(config, environ),
        secrets=tuple(
            path for path in (_config_path(config, environ), _path(given.get("token_file"))) if path is not None
        ),
    )


def parse_hub(text: str) -> Address:
    rule = "must look like mqtt://host:1883 (or mqtts://, ws://host:port/path, wss://)"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise SettingsError("hub", rule) from None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise SettingsError("hub", rule)
    if parts.username is not None or parts.password is not None:
        raise SettingsError("hub", "must not carry a user name or password; the token is a setting of its own")
    transport, tls, default_port = _SCHEMES[parts.scheme]
    if transport == "tcp" and parts.path not in ("", "/"):
        raise SettingsError("hub", rule)
    if parts.query or parts.fragment or port == 0 or not re.fullmatch(r"[A-Za-z0-9._:%-]+", parts.hostname):
        raise SettingsError("hub", rule)
    path = (parts.path or "/mqtt") if transport == "websockets" else ""
    return Address(parts.hostname, port or default_port, transport, tls, path)


def parse_seconds(name: str, text: str) -> float:
    rule = "must be a number of seconds from 1 to 86400"
    try:
        seconds = float(text)
    except ValueError:
        raise SettingsError(name, f"{rule}, got {text[:40]!r}") from None
    if not 1 <= seconds <= 86_400:
        raise SettingsError(name, f"{rule}, got {text[:40]!r}")
    return seconds


def read_token(given: Given) -> str | None:
    """The token from its own setting or from the token file; None when neither is given."""
    token = given.get("token")
    if token is None and "token_file" in given:
        path = Path(given["token_file"]).expanduser()
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SettingsError("token_file", f"cannot read {path}: {reason}") from None
    if token is not None:
        handle_of(token)
    return token


def handle_of(token: str) -> str:
    match = _TOKEN.fullmatch(token)
    if match is None:
        # The value itself is not repeated: it may be a secret with one character too few.
        raise SettingsError("token", "must look like mv1.<handle>.<43 characters>, as the hub showed it once")
    return match[1]


def state_base(environ: Mapping[str, str]) -> Path:
    """The folder that holds one state folder for each handle."""
    if environ.get("STATE_DIRECTORY"):  # set by systemd for StateDirectory=, several are separated by colons
        return Path(environ["STATE_DIRECTORY"].split(":")[0])
    if environ.get("XDG_STATE_HOME"):
        return Path(environ["XDG_STATE_HOME"]) / "marvain-satellite"
    if os.geteuid() == 0:
        return Path("/var/lib/marvain-satellite")
    return Path.home() / ".local/state/marvain-satellite"


def state_dir(given: Given, environ: Mapping[str, str], handle: str) -> Path:
    if "state_dir" in given:
        return Path(given["state_dir"]).expanduser().absolute()
    return state_base(environ).absolute() / handle


def locate(given: Given, environ: Mapping[str, str]) -> Path:
    """The state folder for `send` and `status`: the named one, the token's, or the only one that there is."""
    token = None if "state_dir" in given else read_token(given)
    if "state_dir" in given or token is not None:
        return state_dir(given, environ, handle_of(token) if token else "")
    base = state_base(environ)
    found = sorted(path.parent for path in base.glob("*/satellite.db")) if base.is_dir() else []
    if len(found) == 1:
        return found[0].absolute()
    if not found:
        raise SettingsError(
            "state_dir", f"no satellite has run here yet (nothing below {base}); give --state-dir or a token"
        )
    names = ", ".join(path.name for path in found[:10])
    raise SettingsError("state_dir", f"several satellites have run here ({names}); give --state-dir or a token")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, so that nobody else can listen."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _credential(environ: Mapping[str, str]) -> Path | None:
    """The token as systemd hands it over (LoadCredential=)."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    file = Path(folder) / "token" if folder else None
    return file if file is not None and file.is_file() else None


def _enrolled(given: Given, environ: Mapping[str, str]) -> Given:
    """What `enrol` kept: in the named state folder, else in the only one below the base that has something."""
    if "state_dir" in given:
        found = [Path(given["state_dir"]).expanduser() / ENROLMENT_FILE]
    else:
        base = state_base(environ)
        found = sorted(base.glob(f"*/{ENROLMENT_FILE}")) if base.is_dir() else []
    if len(found) != 1 or not found[0].is_file():
        return {}
    return _read_file(found[0])


def read_tables(config: Path | None, environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The tables of the TOML file: what this machine's owner opens to the hub, and no flag or variable can."""
    path = _config_path(config, environ)
    found = {} if path is None else _parse(path)
    return {name: found[name] for name in TABLES if isinstance(found.get(name), dict)}


def _mqtt_version(text: str) -> MqttVersion:
    match text:
        case "3.1.1" | "5":
            return text
        case "5.0":
            return "5"
    raise SettingsError("mqtt_version", f"must be 3.1.1 or 5, got {text[:20]!r}")


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text else None


def _config_path(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    return config or _path(environ.get(ENVIRONMENT_PREFIX + "CONFIG"))


def _from_file(config: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    path = _config_path(config, environ)
    return {} if path is None else _read_file(path)


def _read_file(path: Path) -> Given:
    given: Given = {}
    for name, value in _parse(path).items():
        if name in TABLES:
            if not isinstance(value, dict) or not all(isinstance(one, dict) for one in value.values()):
                raise SettingsError(name, f"must be made of tables, such as [{name}.…] ({path})")
        elif name not in NAMES:
            raise SettingsError(name, f"is not a setting ({path}); known are {', '.join((*NAMES, *TABLES))}")
        elif isinstance(value, bool) or not isinstance(value, str | int | float):
            raise SettingsError(name, f"must be a text or a number ({path})")
        else:
            given[name] = str(value)
    return given


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError("config", f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("config", f"{path} is not TOML: {error}") from None
