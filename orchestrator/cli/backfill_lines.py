"""Backfills that are underway, a line each: how far, how fast, how long still, or why they wait. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from orchestrator.cli import screen
from orchestrator.cli.moments import BackfillMoment
from orchestrator.client.shapes import BackfillSum

SHOWN = 6
BAR = 20
NARROW = 100  # columns; below that, the bar is left out, and the part that is done is enough


def lines(found: Sequence[BackfillMoment], width: int) -> Iterator[Text]:
    """Those that are furthest from their end last; what there is no room for is counted."""
    shown = sorted(found, key=lambda one: (one.waits is None, one.tenant, one.revision))[:SHOWN]
    names = max((len(_name(one)) for one in shown), default=0)
    for one in shown:
        text = Text(f"  {_name(one):<{names}}  ")
        if width >= NARROW:
            text.append(bar(one.ratio), "yellow" if one.waits else "cyan")
            text.append("  ")
        told = rows if width >= NARROW else part
        text.append(told(one.seen, one.estimated, one.ratio))
        if one.waits:
            text.append(f" · waits: {' '.join(one.waits.split())}", "yellow")
        else:
            text.append("".join(f" · {part}" for part in pace(one.rate, one.eta_seconds)))
        yield text
    if len(found) > SHOWN:
        yield Text(f"  and {screen.plural(len(found) - SHOWN, 'backfill')} more", "dim")


def together(found: Sequence[BackfillMoment]) -> str:
    """
    >>> together([BackfillMoment("a", "b2", 1, 2, rate=20.0), BackfillMoment("b", "b2", 1, 2, waits="paused")])
    '2 backfills (1 waits), 20 rows/s'
    """
    waiting = sum(one.waits is not None for one in found)
    waits = f" ({waiting:,} wait{'s' if waiting == 1 else ''})" if waiting else ""
    rate = sum(one.rate or 0.0 for one in found)
    return f"{screen.plural(len(found), 'backfill')}{waits}" + (f", {rate:,.0f} rows/s" if rate else "")


def bar(ratio: float | None) -> str:
    """
    >>> bar(0.5), bar(None)
    ('━━━━━━━━━━──────────', '····················')
    """
    if ratio is None:
        return "·" * BAR
    full = round(ratio * BAR)
    return "━" * full + "─" * (BAR - full)


def rows(seen: int, estimated: int | None, ratio: float | None) -> str:
    """
    >>> rows(250, 1000, 0.25), rows(7, None, None)
    ('250 of 1,000 rows (25 %)', '7 rows')
    """
    if estimated is None:
        return f"{seen:,} rows"
    part = "" if ratio is None else f" ({int(ratio * 100)} %)"
    return f"{seen:,} of {max(estimated, seen):,} rows{part}"


def part(seen: int, estimated: int | None, ratio: float | None) -> str:
    """
    >>> part(250, 1000, 0.25), part(7, None, None)
    ('25 % of 1,000 rows', '7 rows')
    """
    if estimated is None or ratio is None:
        return rows(seen, estimated, ratio)
    return f"{int(ratio * 100)} % of {max(estimated, seen):,} rows"


def pace(rate: float | None, eta_seconds: float | None) -> list[str]:
    """How fast, and how long still, as far as that can be told."""
    said = [] if rate is None else [f"{rate:,.0f} rows/s"]
    return said if eta_seconds is None else [*said, f"about {screen.duration(eta_seconds)} left"]


def sum_line(one: BackfillSum) -> Text:
    """`backfill c3d5: 14 finished, 1 running, 9,610,233 of 13,400,000 rows (71 %) · 5,210 rows/s`."""
    states = [f"{n:,} {state}" for state, n in one["states"].items() if n]
    text = Text(f"backfill {one['revision']} ({one['track']}): {', '.join(states)}; ")
    text.append(rows(one["rows_seen"], one["rows_estimated"], one["ratio"]))
    text.append("".join(f" · {part}" for part in pace(one["rows_per_second"], one["eta_seconds"])))
    if one["holds"]:
        text.append(" · waits: " + ", ".join(f"{n:,} {reason}" for reason, n in one["holds"].items()), "yellow")
    return text


def _name(one: BackfillMoment) -> str:
    return f"{one.tenant:.24} {one.revision:.12}"
