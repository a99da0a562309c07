"""What a goal means: at once, or only for a target's own heads. Pure, over Alembic's graph of revisions.

A goal that each target's heads must resolve, `+1` or `label@-2`, and a downgrade of one branch, `label@base`, stay as
they are written; Alembic's own parser reads them.
"""

from __future__ import annotations

import re
import warnings

from alembic.script.revision import (
    MultipleHeads,
    RangeNotAncestorError,
    ResolutionError,
    Revision,
    RevisionError,
    RevisionMap,
)
from alembic.util import CommandError

from orchestrator.errors import UnplannableError
from orchestrator.plan.steps import Direction
from orchestrator.registry.model import Heads

_RELATIVE = re.compile(r"(?:(?P<label>[^@+]+)@)?(?P<number>[+-]\d+)")
_FROM_REVISION = re.compile(r"(?:[^@]+@)?[^@+-]+[+-]\d+")
_ERRORS = (RevisionError, CommandError, AssertionError, KeyError)


def is_relative(goal: str) -> bool:
    """Whether each target's own heads say what it means.

    >>> is_relative("+1"), is_relative("reporting@-2"), is_relative("1a2b"), is_relative("1a2b+1")
    (True, True, False, False)
    """
    return _RELATIVE.fullmatch(goal) is not None


def is_from_revision(goal: str) -> bool:
    """Whether it counts from a revision that it names: `1a2b+1`."""
    return not is_relative(goal) and _FROM_REVISION.fullmatch(goal) is not None


def is_open(goal: Heads) -> bool:
    """Whether it is still as it was written, to be read by Alembic for each target."""
    return len(goal) == 1 and (is_relative(goal[0]) or "@" in goal[0])


def objection(goal: str, direction: Direction) -> tuple[str, str] | None:
    """What is wrong with a relative goal for this direction, and the remedy.

    >>> objection("-1", "upgrade")
    ("an upgrade cannot go to '-1'", 'use --direction downgrade, or a goal such as +1')
    """
    match = _RELATIVE.fullmatch(goal)
    assert match is not None, "only relative goals are asked about"
    if direction == "stamp":
        return f"a stamp cannot go to {goal!r}", "name the revision"
    if int(match["number"]) == 0:
        return f"{goal!r} goes nowhere", "count from 1: +1 or -1"
    if (direction == "upgrade") is goal.rpartition("@")[2].startswith("+"):
        return None
    other, such = ("downgrade", "+1") if direction == "upgrade" else ("upgrade", "-1")
    article = "an" if direction == "upgrade" else "a"
    return f"{article} {direction} cannot go to {goal!r}", f"use --direction {other}, or a goal such as {such}"


def counted(revisions: RevisionMap, goal: str, direction: Direction) -> Heads:
    """The revision that a goal such as `1a2b+1` means; empty for base, which is below all that are there. Raises
    Alembic's errors, and UnplannableError where nobody can count on from the revision."""
    try:
        if direction == "downgrade":
            _, found = revisions._parse_downgrade_target(None, goal, True)
            return (found.revision,) if isinstance(found, Revision) else ()
        targets = revisions._parse_upgrade_target(None, goal, True)
    except (MultipleHeads, ResolutionError):
        raise
    except RevisionError as exc:
        raise UnplannableError(f"{goal!r} leads nowhere: {exc}", remedy="name a revision as the goal") from exc
    if not all(isinstance(target, Revision) for target in targets):  # for Alembic, that is base
        raise UnplannableError(f"{goal!r} leads nowhere: the history ends before", remedy="name a revision as the goal")
    return tuple(sorted(target.revision for target in targets if isinstance(target, Revision)))


def walked(revisions: RevisionMap, heads: Heads, goal: str, direction: Direction) -> tuple[str, ...]:
    """The steps of an open goal from these heads, in order: as many as there are, where it asks for more.

    Raises UnplannableError where it is ambiguous, or its branch is not there.
    """
    relative = is_relative(goal)
    if direction == "downgrade" and not heads:
        return ()
    if relative and "@" not in goal and len(heads) > 1:
        raise UnplannableError(
            f"{goal!r} is ambiguous: the target has {len(heads)} heads, {', '.join(heads)}",
            remedy=f"say which branch: <label>@{goal}",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if direction == "downgrade":
                walk = revisions.iterate_revisions(heads, goal, select_for_downgrade=True, assert_relative_length=False)
                return tuple(revision.revision for revision in walk if revision is not None)
            upwards = revisions.iterate_revisions(goal, heads, implicit_base=True, assert_relative_length=False)
            return tuple(reversed([revision.revision for revision in upwards if revision is not None]))
    except RangeNotAncestorError:
        return ()  # nothing of what is to be taken off is there
    except _ERRORS as exc:
        said = f": {exc}" if str(exc) else ""
        raise UnplannableError(
            f"{goal!r} leads nowhere from {', '.join(heads) or 'base'}{said}", remedy="name a revision as the goal"
        ) from exc
