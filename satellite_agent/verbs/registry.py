"""The verbs that a config opens: each table `[verbs.<name>]` is read by the file of that verb."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from satellite_agent.settings import SettingsError
from satellite_agent.verbs import (
    capture_photo,
    device_status,
    list_directory,
    notify,
    read_file,
    restart,
    run_action,
    say,
    text_command,
)
from satellite_agent.verbs.verb import Verb


def opened(tables: Mapping[str, Any], *, closed: Sequence[Path], restarting: Callable[[str], None]) -> list[Verb]:
    """A verb for each table; raises `SettingsError` naming the key that is wrong.

    `closed` are files and folders that no verb may read; `restarting` starts the satellite anew.
    """
    # The environment of each process, which may hold a token, is a file there.
    closed = (*closed, Path("/proc"))
    makers: dict[str, tuple[Any, Callable[[Any], Verb]]] = {
        "run_action": (dict[str, Any], run_action.verb),
        "device_status": (device_status.Config, device_status.verb),
        "read_file": (read_file.Config, lambda config: read_file.verb(config, closed)),
        "list_directory": (list_directory.Config, lambda config: list_directory.verb(config, closed)),
        "capture_photo": (capture_photo.Config, capture_photo.verb),
        "say": (text_command.Config, say.verb),
        "notify": (text_command.Config, notify.verb),
        "restart": (restart.Config, lambda config: restart.verb(config, restarting)),
    }
    found = []
    for name, table in tables.items():
        if name not in makers:
            raise SettingsError(f"verbs.{name}", f"is no verb that can be opened; those are {', '.join(makers)}")
        shape, make = makers[name]
        try:
            found.append(make(msgspec.convert(table, shape)))
        except msgspec.ValidationError as error:
            rule, _, where = str(error).partition(" - at `$")
            raise SettingsError(f"verbs.{name}{where.rstrip('`')}", rule[:1].lower() + rule[1:]) from None
        except ValueError as error:
            raise SettingsError(f"verbs.{name}", str(error)) from None
    return found
