"""What an attempt that was cut short may have left, which no version table tells. Pure.

It is written down before the first thing that stays whatever becomes of a revision's transaction, stays with a revision
that is half applied, and is in the way of every further attempt, in whichever rollout: until the version table, read
under the target's lock, shows the revision at its end, or a person has looked and retries the target or stamps it.
"""

from __future__ import annotations

from orchestrator.plan.steps import Direction, Heads, Revisions

# Of a rollout whose targets a later one has taken over, with what is in doubt; that is the later one's to inherit.
PASSED_ON = "~"
# Nothing was written down. What that means, who knows the kind of database knows.
UNKNOWN = "*"
# A revision is half applied, and it is not known which.
HALF = "?"


def about(direction: Direction, revision: str) -> str:
    """That a part of this revision, run in this direction, may stay."""
    return f"{direction} {revision}"


def revision_of(doubt: str) -> str | None:
    """The revision that it is about; None where that is not known.

    >>> revision_of("upgrade a1b2"), revision_of(UNKNOWN)
    ('a1b2', None)
    """
    return doubt.partition(" ")[2] or None


def is_cleared(doubt: str, heads: Heads, revisions: Revisions) -> bool:
    """Whether the version table tells that the revision has come to its end."""
    direction, _, revision = doubt.removeprefix(PASSED_ON).partition(" ")
    return (revision in revisions.ancestors(heads)) is (direction == "upgrade")
