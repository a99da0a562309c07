"""What became of a rollout, in words. Pure: from the daemon's (or the service's) rollout object to renderables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli import backfill_lines, screen
from orchestrator.cli.moments import FAILURES
from orchestrator.cli.tally import FINISHED, moment_of
from orchestrator.client.shapes import FailureGroup, Rollout, Wave

AT_GOAL = ("succeeded", "up_to_date")
NAMES_SHOWN = 5
_EXIT_CODES = {"succeeded": 0, "failed": 3}


def exit_code(rollout: Rollout) -> int:
    """0 all at the goal, 3 finished with failed targets, 4 stopped: paused, aborted, rolled back, not approved."""
    return _EXIT_CODES.get(rollout["state"], 4)


def summary(rollout: Rollout) -> Iterator[RenderableType]:
    """Headline, counts, and failures grouped by cause."""
    yield headline(rollout)
    if rollout["reason"]:
        yield screen.indented(Text(rollout["reason"], "yellow"))
    if rollout["waiting"]:
        yield screen.indented(Text(rollout["waiting"], "yellow"))
    if rollout["override"]:
        given = f"windows overridden by {rollout['override']['by']}: {rollout['override']['reason']}"
        yield screen.indented(Text(given, "yellow"))
    if len(rollout["waves"]) > 1:
        yield waves(rollout["waves"])
    if rollout["plan_digest"]:
        yield screen.indented(Text(f"bound to plan {rollout['plan_digest'].partition('-')[0]}", "dim"))
    if rollout["not_reversible"]:
        yield screen.indented(Text(rollout["not_reversible"], "yellow"))
    outcomes = [(state, n) for state, n in rollout["counts"].items() if n]
    if len(outcomes) > 1 or failed(rollout):
        yield counts(outcomes)
    if failed(rollout) or len(rollout["waves"]) > 1 or not rollout["coverage"]["holds"]:
        yield screen.indented(accounted(rollout))
    if "fallback" in rollout["executions"] or len(rollout["executions"]) > 1:
        yield screen.indented(Text(executed(rollout["executions"]), "dim"))
    for backfill in rollout.get("backfills", ()):  # an older daemon tells of none
        yield screen.indented(backfill_lines.sum_line(backfill))
    if rollout["failures"]:
        yield Text(f"\n{causes(rollout['failures'], 'target' if rollout['track'] == '*' else 'tenant')}")
    for group in rollout["failures"]:
        yield from cause(group)


def irreversible(steps: Mapping[str, str]) -> Iterator[RenderableType]:
    """Which steps cannot be taken back, a line each."""
    for revision, why in steps.items():
        yield screen.indented(Text(f"{revision} cannot be taken back: {why}", "yellow"))


def headline(rollout: Rollout) -> Text:
    """The first line: the rollout, its state, how many are at the goal, and how fast that was."""
    state = rollout["state"]
    words = state.replace("_", " ") if state in FINISHED else f"is {state.replace('_', ' ')}"
    text = Text(f"rollout {rollout['id']} ")
    text.append(words, screen.STYLES.get(state, ""))
    text.append(f": {at_goal(rollout)}")
    if tempo := speed(rollout):
        text.append(f" {tempo}")
    return text


_WAYS = {
    "replay": "replayed",
    "online": "by env.py",
    "mixed": "by turns",
    "backfill": "with rows changed in batches",
    "fallback": "by env.py after the server had refused the SQL (look for replay_refused in the log)",
}


def executed(executions: Mapping[str, int]) -> str:
    """
    >>> executed({"online": 2, "replay": 198})
    '198 replayed, 2 by env.py'
    """
    return ", ".join(f"{executions[way]:,} {words}" for way, words in _WAYS.items() if way in executions)


def at_goal(rollout: Rollout) -> str:
    """`198 of 200 at head`."""
    return f"{_sum(rollout, AT_GOAL):,} of {rollout['total']:,} at {rollout['to']}"


def accounted(rollout: Rollout) -> Text:
    """Whether every target that was planned is in a recorded state."""
    coverage = rollout["coverage"]
    said = f"{coverage['accounted']:,} of {coverage['planned']:,} planned targets accounted for"
    return Text(said, "dim") if coverage["holds"] else Text(f"{said}: this is a bug, please report it", "red")


def failed(rollout: Rollout) -> int:
    return _sum(rollout, FAILURES)


def speed(rollout: Rollout) -> str:
    """`in 2.1 s (94.8 targets/s)`, the rate that of targets brought to the goal; nothing before the end."""
    if not rollout["started_at"] or not rollout["finished_at"]:
        return ""
    seconds = (moment_of(rollout["finished_at"]) - moment_of(rollout["started_at"])).total_seconds()
    if _sum(rollout, ("up_to_date",)) == rollout["total"]:
        return "already; nothing had to be done"
    worked = rollout["counts"].get("succeeded", 0)
    rate = f" ({worked / seconds:.1f} targets/s)" if worked and seconds > 0 else ""
    return f"in {seconds:.1f} s{rate}"


def counts(outcomes: Sequence[tuple[str, int]]) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right")
    grid.add_column()
    for state, n in outcomes:
        grid.add_row(Text(f"{n:,}"), screen.state(state))
    return screen.indented(grid)


def waves(found: Sequence[Wave]) -> RenderableType:
    """A line for each wave: how far it is, and what came of its targets."""
    grid = Table.grid(padding=(0, 2))
    for wave in found:
        outcomes = ", ".join(f"{n:,} {state.replace('_', ' ')}" for state, n in wave["counts"].items() if n)
        approved = f", approved by {wave['approved_by']}" if wave["approved_by"] else ""
        grid.add_row(
            Text(wave["name"]),
            Text(wave["state"], screen.STYLES.get(wave["state"], "")),
            Text(outcomes + approved, "dim"),
        )
    return screen.indented(grid)


def causes(groups: Sequence[FailureGroup], whom: str = "tenant") -> str:
    """`2 causes, 41 tenants`."""
    return f"{screen.plural(len(groups), 'cause')}, {screen.plural(sum(g['count'] for g in groups), whom)}:"


def cause(group: FailureGroup) -> Iterator[RenderableType]:
    """One cause: whom it hit, an example of what was said, and what to do."""
    example = group["example"]
    head = Text("\n  ")
    head.append(group["signature"], "red")
    head.append(f"  {screen.plural(group['count'], 'target')}: {named(group['tenants'], group['count'])}")
    yield head
    yield screen.indented(Text(example["message"]), 4)
    if example["remedy"]:
        yield screen.indented(Text(f"try: {example['remedy']}"), 4)


def named(tenants: Sequence[str], count: int, shown: int = NAMES_SHOWN) -> str:
    """
    >>> named(["a", "b", "c"], 40, shown=2)
    'a, b and 38 more'
    """
    names = ", ".join(tenants[:shown])
    more = count - len(tenants[:shown])
    return f"{names} and {more:,} more" if more > 0 else names


def _sum(rollout: Rollout, states: Sequence[str] | frozenset[str]) -> int:
    return sum(rollout["counts"].get(state, 0) for state in states)
