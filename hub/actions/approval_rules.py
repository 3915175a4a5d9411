"""Who decides on an agent's actions: by how risky they are, which role, and how many of them."""

import uuid
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import text
from sqlmodel import Session

from hub import agents, audit
from hub.errors import Conflict, Invalid
from hub.verbs import Risk

Role = Literal["member", "admin", "owner"]
ROLES: Final[tuple[Role, ...]] = ("member", "admin", "owner")
APPROVALS_MAX: Final = 9
EXPIRES_MIN_S: Final = 60.0
EXPIRES_MAX_S: Final = 30 * 86_400.0
RISKS: Final[tuple[Risk, ...]] = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Rule:
    """Of one risk class: the lowest role that may decide, and how many people have to say yes."""

    role: Role
    approvals: int = 1


@dataclass(frozen=True, slots=True)
class Rules:
    """An agent's rules; `expires_s` is how long a proposal waits for people. `revision` is 0 by default."""

    low: Rule = Rule("member")
    medium: Rule = Rule("admin")
    high: Rule = Rule("admin")
    expires_s: float = 86_400.0
    revision: int = 0

    def of(self, risk: Risk) -> Rule:
        """The rule of one risk class."""
        rule: Rule = getattr(self, risk)
        return rule

    def may_decide(self, role: str, risk: Risk) -> bool:
        """Whether somebody with this role decides on actions of this risk."""
        return role in ROLES and ROLES.index(role) >= ROLES.index(self.of(risk).role)


def view(session: Session, agent_id: uuid.UUID) -> Rules:
    """The agent's rules."""
    row = session.execute(text("SELECT * FROM approval_rules WHERE agent_id = :agent"), {"agent": agent_id}).first()
    if row is None:
        return Rules()
    by_risk = {risk: Rule(getattr(row, f"{risk}_role"), getattr(row, f"{risk}_approvals")) for risk in RISKS}
    return Rules(**by_risk, expires_s=row.expires_s, revision=row.revision)


def change(session: Session, agent_id: uuid.UUID, rules: Rules, *, by: str) -> Rules:
    """Decide by these rules from now on; `rules.revision` is the one they were made from. Returns them as they stand.

    What is proposed already keeps the number of approvals that it was proposed with. Raises `Invalid` (the field) and
    `Conflict` (revision) when somebody changed them meanwhile.
    """
    for risk in RISKS:
        rule = rules.of(risk)
        if rule.role not in ROLES:
            raise Invalid(f"is one of {', '.join(ROLES)}", field=f"{risk}_role")
        if not 1 <= rule.approvals <= APPROVALS_MAX:
            raise Invalid(f"is 1 to {APPROVALS_MAX}", field=f"{risk}_approvals")
    if not EXPIRES_MIN_S <= rules.expires_s <= EXPIRES_MAX_S:
        raise Invalid("is a minute to 30 days, in seconds", field="expires_s")
    agent = agents.held(session, agent_id)
    before = view(session, agent_id)
    if before.revision != rules.revision:
        raise Conflict("somebody changed these rules meanwhile", field="revision")
    facts = _facts(rules)
    if facts == _facts(before):
        return before
    names = ", ".join(facts)
    values = ", ".join(f":{name}" for name in facts)
    changes = ", ".join(f"{name} = excluded.{name}" for name in facts)
    session.execute(
        text(
            f"INSERT INTO approval_rules (agent_id, revision, {names}) VALUES (:agent, :revision, {values}) "
            f"ON CONFLICT (agent_id) DO UPDATE SET revision = excluded.revision, {changes}"
        ),
        facts | {"agent": agent_id, "revision": before.revision + 1},
    )
    audit.record(
        session,
        agent_id,
        by=by,
        action="approval_rules.changed",
        subject=agent.name,
        subject_id=agent_id,
        before=_facts(before),
        after=facts,
    )
    return view(session, agent_id)


def _facts(rules: Rules) -> dict[str, object]:
    facts: dict[str, object] = {}
    for risk in RISKS:
        rule = rules.of(risk)
        facts |= {f"{risk}_role": rule.role, f"{risk}_approvals": rule.approvals}
    return facts | {"expires_s": float(rules.expires_s)}
