"""All verbs of this satellite by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from satellite_agent.verbs import ping
from satellite_agent.verbs.verb import Verb

VERBS: Final[Mapping[str, Verb]] = MappingProxyType({verb.name: verb for verb in (ping.VERB,)})
