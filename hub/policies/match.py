"""Whether a policy covers an action: values in, words out. What is malformed or not clearly covered is refused."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from hub import schedules
from hub.automations import conditions
from hub.errors import Invalid
from hub.policies import windows

RISKS: Final = ("low", "medium", "high")
PROPOSERS: Final = ("person", "device", "integration", "policy", "system")
ROOTS: Final = ("args",)


@dataclass(frozen=True, slots=True)
class Asked:
    """An action as a policy sees it. What its proposer says of itself is not among it."""

    tool: str
    args: Mapping[str, Any]
    scopes: Collection[str]
    risk: str
    device_id: uuid.UUID | None
    tags: Collection[str]
    proposer_kind: str
    at: datetime


def fault(policy: Mapping[str, Any], asked: Asked) -> str:
    """Why this policy does not cover it, in words; "" when it does. `policy` is a row as it is stored."""
    try:
        return _fault(policy, asked)
    except Exception:  # noqa: BLE001  (a row that cannot be read approves nothing)
        return "the policy cannot be read"


def _fault(policy: Mapping[str, Any], asked: Asked) -> str:
    if why := _of_tool(policy, asked):
        return why
    scopes = policy["scopes"]
    if not isinstance(scopes, list) or not all(isinstance(one, str) for one in scopes):
        return "its scopes cannot be read"
    if missing := sorted(set(asked.scopes) - set(scopes)):
        return f"it does not cover the scope {', '.join(missing)}"
    if not asked.scopes:
        return "the action names no scope"
    for why in (_of_risk(policy, asked), _of_device(policy, asked), _of_args(policy, asked), _of_time(policy, asked)):
        if why:
            return why
    proposers = policy["proposers"]
    if not isinstance(proposers, list) or any(one not in PROPOSERS for one in proposers):
        return "its proposers cannot be read"
    if proposers and asked.proposer_kind not in proposers:
        return f"it is not for what a {asked.proposer_kind} proposes"
    return ""


def _of_tool(policy: Mapping[str, Any], asked: Asked) -> str:
    if policy["tool"] != asked.tool:
        return f"it is for {policy['tool']}"
    # What a schedule repeats is not counted by the rate.
    return "a schedule is for people to approve" if asked.tool == schedules.TOOL else ""


def _of_risk(policy: Mapping[str, Any], asked: Asked) -> str:
    if policy["risk_max"] not in RISKS or asked.risk not in RISKS:
        return "its risk cannot be read"
    if RISKS.index(asked.risk) > RISKS.index(policy["risk_max"]):
        return f"it covers risk up to {policy['risk_max']}, and this is {asked.risk}"
    return ""


def _of_device(policy: Mapping[str, Any], asked: Asked) -> str:
    if policy["device_id"] is not None and policy["device_id"] != asked.device_id:
        return "it is for another satellite"
    if policy["tag"] is not None and policy["tag"] not in asked.tags:
        return f"it is for satellites with the tag {policy['tag']}"
    return ""


def _of_args(policy: Mapping[str, Any], asked: Asked) -> str:
    held = conditions.check(policy["conditions"], "conditions", ROOTS)
    if why := conditions.fault(held, {"args": dict(asked.args)}):
        return why
    if policy["other_args"] is True:
        return ""
    named = {one["path"].split(".")[1] for one in held if one["path"].count(".")}
    if others := sorted(set(asked.args) - named):
        return f"it says nothing of the argument {', '.join(others)}"
    return ""


def _of_time(policy: Mapping[str, Any], asked: Asked) -> str:
    window = policy["time_window"]
    if window is None:
        return ""
    try:
        is_open = windows.read(window, "time_window").holds(asked.at)
    except Invalid as error:
        return f"its window of time cannot be read: {error.message}"
    return "" if is_open else "it is outside of its window of time"
