"""`device_status`: how the machine is: uptime, processor, memory, disks, network."""

import contextlib
import os
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from satellite_agent import machine
from satellite_agent.verbs.verb import Job, Verb

# How long the processors are looked at.
_LOOK_S: Final = 0.25


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """`[verbs.device_status]`: of which file systems the free space is told."""

    disks: Annotated[list[str], Meta(max_length=20)] = msgspec.field(default_factory=lambda: ["/"])


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing is asked for in particular."""


def verb(config: Config) -> Verb:
    def run(_args: Args, job: Job) -> dict[str, Any]:
        before = machine.ticks()
        job.wait(_LOOK_S)
        disks = []
        for path in config.disks:
            with contextlib.suppress(OSError):  # not mounted now
                disks.append(machine.disk(path))
        return {
            **machine.about(),
            "uptime_s": machine.uptime_s(),
            "load": [round(one, 2) for one in os.getloadavg()],
            "cpu_percent": machine.cpu_percent(before, machine.ticks()),
            "memory": machine.memory(),
            "disks": disks,
            "network": machine.network(),
            "temperature_c": machine.temperature_c(),
        }

    return Verb("device_status", "low", Args, run)
