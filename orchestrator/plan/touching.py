"""What a touch of a large table is held to be, and what is said of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.plan.locks import Lock, Touch, Work
from orchestrator.plan.parts import Size
from orchestrator.plan.tokens import Table


def rule(touch: Touch) -> str | None:
    """The rule that the touch of a large table is told by; None where it is quick, or nobody waits."""
    if touch.work is Work.CHANGE:
        return "mass_change"
    if not touch.lock.blocks or touch.work is Work.NONE:
        return None
    return "table_rewrite" if touch.work is Work.REWRITE else "blocking_scan"


def heavy(touch: Touch, size: Size, seconds: float) -> str:
    """What is said of a large table that is gone through."""
    waiting = f", with no {neither(touch.lock)} meanwhile ({touch.lock.value})" if touch.lock.blocks else ""
    remedy = _REMEDIES[rule(touch) or ""](touch)
    return (
        f"{touch.what}: {touch.table} has about {rows(size.rows)} at {size.tenant}, and {_doing(touch)} takes about "
        f"{duration(seconds)}{waiting}; {remedy}"
    )


def held(table: Table, lock: Lock, touch: Touch, size: Size, seconds: float) -> str:
    """What is said of a table that stays locked while a later statement works."""
    return (
        f"{table} stays locked ({lock.value}: no {neither(lock)}) until the end of its transaction, which then works "
        f"on {touch.table} for about {duration(seconds)} at {size.tenant} ({touch.what}); give that a transaction of "
        "its own"
    )


def neither(lock: Lock) -> str:
    """
    >>> neither(Lock.ACCESS_EXCLUSIVE), neither(Lock.SHARE)
    ('reads or writes', 'writes')
    """
    return lock.blocks.replace(" and ", " or ")


def _doing(touch: Touch) -> str:
    words = {
        Work.REWRITE: "writing all of it anew",
        Work.BUILD: "building an index on it",
        Work.CHANGE: "changing all of it in one transaction",
    }
    return words.get(touch.work, "reading all of it")


def _scan_remedy(touch: Touch) -> str:
    if touch.lock is Lock.FILE:
        return "do so in a quiet hour"
    if "INDEX" in touch.what:
        return "build it CONCURRENTLY, in an autocommit block of a revision of its own"
    if touch.what.startswith("SET NOT NULL"):
        return "add CHECK (… IS NOT NULL) NOT VALID, validate it in a revision of its own, then set NOT NULL"
    if touch.what.startswith(("ADD UNIQUE", "ADD PRIMARY")):
        return "build a unique index CONCURRENTLY, then add the constraint USING INDEX"
    return "add it NOT VALID, and validate it in a revision of its own"


def _rewrite_remedy(touch: Touch) -> str:
    if touch.lock is Lock.FILE:
        return "do so in a quiet hour"
    if touch.lock is Lock.SHARED:
        return "do so in a quiet hour, or have the table copied beside its use (gh-ost, pt-online-schema-change)"
    if touch.what in ("VACUUM FULL", "CLUSTER"):
        return "use pg_repack, which does so beside its use"
    if touch.what.startswith("ADD COLUMN"):
        return "add the column without it, and fill it in batches with op.backfill"
    return "add a new column, fill it in batches with op.backfill, and change over"


_REMEDIES: Mapping[str, Callable[[Touch], str]] = {
    "table_rewrite": _rewrite_remedy,
    "blocking_scan": _scan_remedy,
    "mass_change": lambda touch: "use op.backfill, which does so in batches",
}


def rows(count: float) -> str:
    """
    >>> rows(1_234_567), rows(80_000)
    ('1.2 million rows', '80,000 rows')
    """
    return f"{count / 1e6:,.1f} million rows" if count >= 1e6 else f"{count:,.0f} rows"


def duration(seconds: float) -> str:
    """
    >>> duration(0.4), duration(95), duration(600), duration(9000)
    ('1 s', '95 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
