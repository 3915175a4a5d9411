"""The audit: who changed what, and how it was before and after; a chain that shows when something is missing.

`record` writes an entry in the transaction of the change itself; `flush`, the last step before the commit, gives the
entries their places in their chains. Each agent has a chain, and the hub has one for what concerns no agent.
"""

from hub.audit.actors import KINDS, Actor, Kind
from hub.audit.chain import HUB_CHAIN, discard, flush
from hub.audit.entries import Filter, actions, entries, record
from hub.audit.verification import Anchor, Fault, Report, heads, lines, note, some_lines, verify

__all__ = [
    "HUB_CHAIN",
    "KINDS",
    "Actor",
    "Anchor",
    "Fault",
    "Filter",
    "Kind",
    "Report",
    "actions",
    "discard",
    "entries",
    "flush",
    "heads",
    "lines",
    "note",
    "record",
    "some_lines",
    "verify",
]
