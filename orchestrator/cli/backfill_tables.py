"""Backfills and their sums in words and tables. Pure: shapes in, renderables out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from orchestrator.backfill import keys, records
from orchestrator.backfill.steering import Scope
from orchestrator.cli import backfill_lines, screen
from orchestrator.cli.tables import NOTHING
from orchestrator.client.shapes import Backfill, BackfillOrder, BackfillScope, BackfillSummary, GivenOrder

DONE = {"pause": "paused", "resume": "resumed", "abort": "aborted", "adjust": "adjusted"}
# What a narrow screen has no room for comes from `backfill show`, so that the reason has room to be read.
COLUMNS = ("tenant", "revision", "state", "progress", "rows", "rows/s", "left", "batch", "why")
NARROW_COLUMNS = ("tenant", "revision", "state", "done", "rows/s", "left", "why")
WIDE = 110


@dataclass(frozen=True, slots=True)
class Listing:
    """A table that fits the screen. A column of rollouts is there when they are of several."""

    found: Sequence[Backfill]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        several = len({one["rollout"] for one in self.found}) > 1
        columns = COLUMNS if options.max_width >= WIDE else NARROW_COLUMNS
        rows: list[screen.Row] = []
        for one in self.found:
            cells = _cells(one)
            rows.append([*([one["rollout"]] if several else []), *(cells[column] for column in columns)])
        shown = ["rollout", *columns] if several else [*columns]
        table = screen.table(shown, rows, right=("done", "rows", "rows/s", "left", "batch"))
        for column in table.columns:
            column.no_wrap = column.header not in ("tenant", "why")
        yield table


def listing(found: Sequence[Backfill]) -> Listing:
    return Listing(found)


def _cells(one: Backfill) -> Mapping[str, str | Text]:
    nth = f" #{one['ordinal']}" if one["ordinal"] > 1 else ""
    rate, left = (None, None) if one["holds"] else (one["rows_per_second"], one["eta_seconds"])
    return {
        "tenant": one["tenant"],
        "revision": f"{one['revision']:.12}{nth}",
        "state": screen.state(one["state"]),
        "progress": backfill_lines.bar(one["ratio"]),
        "done": NOTHING if one["ratio"] is None else f"{int(one['ratio'] * 100)} %",
        "rows": _of(one["rows_seen"], one["rows_estimated"]),
        "rows/s": NOTHING if rate is None else f"{rate:,.0f}",
        "left": _left(left),
        "batch": f"{one['batch_size']:,}",
        "why": why(one),
    }


def why(one: Backfill) -> str:
    """Why it waits or has stopped."""
    return "; ".join(hold["text"] for hold in one["holds"]) or one["reason"] or ""


def described(found: Sequence[Backfill]) -> Iterator[RenderableType]:
    """Each with all that is known of it."""
    for number, one in enumerate(found):
        head = Text(f"{chr(10) if number else ''}{one['tenant']}/{one['track']} {one['revision']} is ")
        head.append(one["state"], screen.STYLES.get(one["state"], ""))
        yield head
        yield screen.indented(screen.facts(_facts(one)))


def _facts(one: Backfill) -> Iterator[tuple[str, str]]:
    sweep = f", sweep {one['sweep']} for rows that came later" if one["sweep"] else ""
    yield "rollout", one["rollout"]
    yield "changes", f"{one['table']} by {', '.join(one['key'])}, on shard {one['shard']} ({one['direction']})"
    yield "passed", backfill_lines.rows(one["rows_seen"], one["rows_estimated"], one["ratio"]) + sweep
    yield "changed", screen.plural(one["rows_changed"], "row")
    if not one["holds"] and (pace := backfill_lines.pace(one["rows_per_second"], one["eta_seconds"])):
        yield "pace", ", ".join(pace)
    yield "batch", screen.plural(one["batch_size"], "row")
    yield "last key", NOTHING if one["last_key"] is None else keys.told(one["last_key"])
    if one["dead_rows"] is not None:
        vacuum = ", vacuum is at work" if one["vacuuming"] else ""
        yield "dead rows", f"{one['dead_rows']:,}{vacuum}"
    for hold in one["holds"]:
        yield f"waits ({hold['reason']})", f"{hold['text']}, since {hold['since']}"
    if one["reason"]:
        yield "stopped", one["reason"]
    yield "started", one["started_at"]
    yield ("ended", one["finished_at"]) if one["finished_at"] else ("as of", one["updated_at"])


def summary(told: BackfillSummary) -> Iterator[RenderableType]:
    """A line for each revision, and each order that stands."""
    if not told["revisions"]:
        yield "no backfills of active rollouts"
    yield from map(backfill_lines.sum_line, told["revisions"])
    for order in told["orders"]:
        reason = f": {order['reason']}" if order["reason"] else ""
        yield Text(f"{ordered(order)} by {order['by']} since {order['at']}{reason}", "yellow")


def given(order: GivenOrder) -> Iterator[str]:
    """What an order came to."""
    if order["action"] == "resume":
        yield from _resumed(order)
        return
    count = order["count"]
    now = "none of those that are underway" if not count else f"{screen.plural(count, 'backfill')} underway"
    lasts = "; it counts for those that begin later, too" if order["action"] in ("pause", "adjust") else ""
    yield f"{ordered(order)}: {now}{lasts}"


def _resumed(order: GivenOrder) -> Iterator[str]:
    count, holds = order["count"], order["holds"]
    on = "none of those that are underway goes on" if not count else f"{_backfills(count, 'goes', 'go')} on"
    yield f"{ordered(order)}: {on}"
    for pause in order["taken_back"]:
        if pause["scope"] != order["scope"]:
            yield f"took back the pause of {_pause(pause)}"
    if order["paused_by"]:
        stay = f"{_backfills(n, 'stays', 'stay')} paused" if (n := holds.get("paused", 0)) else "what begins will wait"
        yield f"{stay}, held by a wider or another pause; to take it back:"
        for pause in order["paused_by"]:
            yield f"  {records.resuming(Scope(**pause['scope']))}   # {_pause(pause)}"
    if others := [f"{n:,} {reason}" for reason, n in holds.items() if reason != "paused"]:
        yield f"still waiting for something else: {', '.join(others)}"


def _backfills(count: int, one: str, several: str) -> str:
    return f"{screen.plural(count, 'backfill')} {one if count == 1 else several}"


def _pause(order: BackfillOrder) -> str:
    reason = f": {order['reason']}" if order["reason"] else ""
    return f"{scope(order['scope'])} ({order['by']}{reason})"


def ordered(order: BackfillOrder) -> str:
    """`paused shard pg-1, tenant acme`, `adjusted all backfills (duty 0.5)`."""
    said = order["adjustment"]
    what = "" if said is None else _adjusted({**said, **said["thresholds"]})
    return f"{DONE[order['action']]} {scope(order['scope'])}{what}"


def scope(of: BackfillScope) -> str:
    return ", ".join(f"{name} {value}" for name, value in of.items() if value) or "all backfills"


def _adjusted(said: dict[str, object]) -> str:
    told = [f"{name} {value:g}" for name, value in said.items() if isinstance(value, int | float)]
    return f" ({', '.join(told)})" if told else " (as the registry says)"


def _of(seen: int, estimated: int | None) -> str:
    return f"{seen:,}" if estimated is None else f"{seen:,} of {max(seen, estimated):,}"


def _left(seconds: float | None) -> str:
    return NOTHING if seconds is None else screen.duration(seconds)
