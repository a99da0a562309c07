"""A plan as a comment for a pull request. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.cli import screen, tables
from orchestrator.client.shapes import CompiledGroup, CompiledPlan

# By which a later run finds the comment that it is to replace.
MARK = "<!-- orchestrator plan -->"
# GitHub takes 65,536 characters, and counts otherwise than we do.
LONGEST = 60_000
_CUT = "\n\nThe rest is too long for a comment: `orchestrator sql` shows all of it.\n"
NAMES_SHOWN = 10


def comment(plan: CompiledPlan) -> str:
    """Headline, the groups with their steps, what was found, and the SQL to unfold."""
    head = "\n".join(_head(plan))
    parts = [head, *("\n".join(_script(plan, group)) for group in plan["groups"] if group["sql"])]
    text = parts[0][:LONGEST]
    for part in parts[1:]:
        if len(text) + len(part) > LONGEST:  # by whole parts: half a block of code would swallow what follows
            return text + _CUT
        text += part
    return text


def _head(plan: CompiledPlan) -> Iterator[str]:
    working = sum(group["count"] for group in plan["groups"] if group["steps"])
    yield MARK
    yield f"### Migrations: {_cell(plan['track'])} to {_cell(plan['to'])}"
    yield ""
    yield f"{working:,} of {screen.plural(plan['total'], 'target')} would be migrated ({plan['direction']})."
    yield ""
    yield "| targets | state | from | runs | tenants |"
    yield "| ---: | --- | --- | --- | --- |"
    for group in plan["groups"]:
        yield f"| {' | '.join(map(_cell, _row(group)))} |"
    found = [finding for group in plan["groups"] for finding in _found(group)]
    if found:
        yield ""
        yield "**Findings**"
        yield ""
        yield from dict.fromkeys(sorted(found, key=_weight))
    yield ""
    yield f"Digest `{plan['digest']}`"
    yield ""


_LEVELS = ("error", "warning", "info")


def _found(group: CompiledGroup) -> Iterator[str]:
    for one in group["findings"]:
        of = f"`{_cell(one['revision'])}`: " if one["revision"] else ""
        text = f" (`{_cell(one['statement'])}`)" if one["statement"] else ""
        yield f"- **{one['level']}** {of}{_cell(one['message'])} [{_cell(one['rule'])}]{text}"
    if group["problem"]:
        yield f"- {_cell(group['problem'])}"


def _weight(line: str) -> int:
    """The worst come first; what has no level is no finding, but keeps a migration from running."""
    return next((number for number, level in enumerate(_LEVELS) if line.startswith(f"- **{level}**")), -1)


def _row(group: CompiledGroup) -> Iterator[str]:
    yield f"{group['count']:,}"
    yield group["state"].replace("_", " ")
    yield tables.heads(group["heads"])
    yield ", ".join(f"{step['revision']} ({step['execution']})" for step in group["steps"]) or tables.NOTHING
    more = group["count"] - NAMES_SHOWN
    yield ", ".join(group["targets"][:NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _script(plan: CompiledPlan, group: CompiledGroup) -> Iterator[str]:
    sql = "\n".join(group["sql"])
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", sql)), default=0))
    yield ""
    yield f"<details><summary>SQL from {_cell(tables.heads(group['heads']))}</summary>"
    yield ""
    yield f"{fence}sql"
    yield sql
    yield fence
    yield ""
    yield "</details>"
    yield ""


def _cell(text: str) -> str:
    """Text that may stand in a table, and is neither mark-up nor a person's name that would be notified.

    >>> _cell("a|b <c>\\n@team")
    'a\\\\|b &lt;c&gt; @\\u200bteam'
    """
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("|", "\\|").replace("`", "'").replace("@", "@\u200b")
