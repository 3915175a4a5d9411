"""The chains: entries of a transaction take their places as its last step, under the lock of each chain's head.

What is hashed is one line of JSON that Postgres makes of the stored row, so it can be made again from the row alone:
`[seq, previous hash, chain, time, kind, actor, action, subject, subject id, before, after]`.
"""

import hashlib
import json
import uuid
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

HUB_CHAIN: Final = uuid.UUID(int=0)
# The same expression stands in sql/018_audit_chain.sql, for what was written before it. `{seq}` and `{prev}` are given
# while an entry is chained, and are its columns afterwards.
LINE: Final = (
    "jsonb_build_array({seq}, {prev}, e.chain, to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),"
    " e.actor_kind, e.actor, e.action, e.subject, e.subject_id, e.before, e.after)::text"
)
# The same without its first two, which are known only when the entry before it is: Postgres makes these of many rows.
_REST: Final = LINE.replace("{seq}, {prev}, ", "")
_PENDING: Final = "audit"


def note(session: Session, entry_id: int, chain: uuid.UUID) -> None:
    """Remember an entry that this transaction has written, to be chained before its commit."""
    session.info.setdefault(_PENDING, {}).setdefault(chain, []).append(entry_id)


def flush(session: Session) -> None:
    """Give the entries of this transaction their places; those of a savepoint that was undone are not there any more.

    Chains are taken in one order, so that two transactions can wait for each other but never in a circle.
    """
    pending: dict[uuid.UUID, list[int]] = session.info.pop(_PENDING, {})
    for chain in sorted(pending):
        written = session.execute(
            text("SELECT entry_id FROM audit_entries WHERE entry_id = ANY(:ids) AND seq IS NULL ORDER BY entry_id"),
            {"ids": pending[chain]},
        ).scalars()
        ids = list(written)
        if ids:
            _append(session, chain, ids)


def discard(session: Session) -> None:
    """Forget what was written (the transaction was rolled back)."""
    session.info.pop(_PENDING, None)


def _append(session: Session, chain: uuid.UUID, ids: list[int]) -> None:
    seq, previous = session.execute(
        text(
            "INSERT INTO audit_chains (chain) VALUES (:chain)"
            " ON CONFLICT (chain) DO UPDATE SET chain = excluded.chain RETURNING seq, hash"
        ),
        {"chain": chain},
    ).one()
    rest = dict(
        session.execute(
            text(f"SELECT e.entry_id, {_REST} FROM audit_entries AS e WHERE e.entry_id = ANY(:ids)"), {"ids": ids}
        ).all()
    )
    places, before, hashes = [], [], []
    for entry_id in ids:
        seq += 1
        places.append(seq)
        before.append(previous)
        previous = hashlib.sha256(f"[{seq}, {json.dumps(previous)}, {rest[entry_id][1:]}".encode()).hexdigest()
        hashes.append(previous)
    session.execute(
        text(
            "UPDATE audit_entries AS e SET seq = n.seq, prev_hash = n.prev_hash, hash = n.hash FROM"
            " unnest(CAST(:ids AS bigint[]), CAST(:seqs AS bigint[]), CAST(:before AS text[]), CAST(:hashes AS text[]))"
            " AS n (entry_id, seq, prev_hash, hash) WHERE e.entry_id = n.entry_id"
        ),
        {"ids": ids, "seqs": places, "before": before, "hashes": hashes},
    )
    session.execute(
        text("UPDATE audit_chains SET seq = :seq, hash = :hash, updated_at = now() WHERE chain = :chain"),
        {"seq": seq, "hash": previous, "chain": chain},
    )
