"""What an attempt that was cut short may have left, which no version table tells. Pure.

It is written down before the first thing that stays whatever becomes of a revision's transaction, stays with a revision
that is half applied, and is in the way of every further attempt, in whichever rollout: until the version table, read
under the target's lock, shows the revision at its end, or a person has looked and retries the target or stamps it.
"""

from __future__ import annotations

from orchestrator.plan.steps import Direction, Revisions
from orchestrator.registry.model import Heads

# Of a rollout whose targets a later one has taken over, with what is in doubt; that is the later one's to inherit.
PASSED_ON = "~"
# Nothing was written down. What that means, who knows the kind of database knows.
UNKNOWN = "*"
# A revision is half applied, and it is not known which.
HALF = "?"


# A backfill of this revision was the last that began, on a server that does not take DDL back: as long as the version
# table does not show the revision at its end, there is nothing but batches, of which each is whole.
_BACKFILL = "backfill "


def about_backfill(direction: Direction, revision: str) -> str:
    """That nothing but a backfill of this revision may have been cut short."""
    return f"{_BACKFILL}{direction} {revision}"


def is_of_backfill(doubt: str) -> bool:
    return doubt.removeprefix(PASSED_ON).startswith(_BACKFILL)


def is_still_backfill(doubt: str, heads: Heads, revisions: Revisions) -> bool:
    """Whether the backfill that it is about has not come to its end; after that, anything may have begun."""
    return not is_cleared(doubt.removeprefix(PASSED_ON).removeprefix(_BACKFILL), heads, revisions)


def about(direction: Direction, revision: str) -> str:
    """That a part of this revision, run in this direction, may stay."""
    return f"{direction} {revision}"


def revision_of(doubt: str) -> str | None:
    """The revision that may be half applied; None where that is not known, or none may be.

    >>> revision_of("upgrade a1b2"), revision_of(UNKNOWN), revision_of(about_backfill("upgrade", "a1b2"))
    ('a1b2', None, None)
    """
    return None if is_of_backfill(doubt) else doubt.partition(" ")[2] or None


def is_cleared(doubt: str, heads: Heads, revisions: Revisions) -> bool:
    """Whether the version table tells that the revision has come to its end."""
    direction, _, revision = doubt.removeprefix(PASSED_ON).partition(" ")
    return (revision in revisions.ancestors(heads)) is (direction == "upgrade")
