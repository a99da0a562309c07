"""The live view of a rollout: bar and facts, then waves, throttled shards and causes, as far as there is room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.cli import backfill_lines, screen
from orchestrator.cli.moments import CauseMoment, Moment, Throttle, WaveMoment
from orchestrator.cli.tally import FINISHED

SEPARATOR = " · "
CAUSES_SHOWN, THROTTLES_SHOWN = 4, 3
# Lines besides these sections: the bar, the facts, and one that stays free for the cursor.
RESERVED = 3
WAVE_STYLES = {"started": "cyan", "passed": "green", "approved": "green", "pending": "dim"}
# What is worth more than the bare number of targets, in a narrow terminal as well.
WAVE_WORDS = {"started": "running", "ended": "soaking"}


class View:
    """As wide and as high as the terminal allows: what does not fit is cut at the end, with an ellipsis."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        moment, width = self._moment, options.max_width
        yield Bar(moment)
        lines = [*stated(moment, width), *unheard(moment, width), *details(moment, width)]
        room = max(0, console.size.height - RESERVED)
        shown = lines if len(lines) <= room else [*lines[: max(0, room - 1)], Text("…", "dim")][:room]
        for text in shown:
            text.no_wrap, text.overflow = True, "ellipsis"
            yield text


class Bar:
    """Two lines, however wide the terminal: the bar, and below it as many facts as there is room for."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        moment, width = self._moment, options.max_width
        style = "red" if moment.failures else "green"
        bar = ProgressBar(total=max(1, moment.total), completed=moment.done, complete_style=style, finished_style=style)
        grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True, max_width=max(8, width // 3))
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        grid.add_row(Text(moment.title), bar, Text(f"{moment.done:,}/{moment.total:,}"))
        yield grid
        said = facts(moment)
        said = said[1:] if len(said) > 1 and len(said[0]) > width else said  # it is told below, whole
        yield Text(fitted(said, width), style="dim", no_wrap=True, overflow="ellipsis")


def details(moment: Moment, width: int) -> Iterator[Text]:
    """What stands below the facts, a line each."""
    if len(moment.waves) > 1:
        yield from waves(moment.waves, halted=moment.state == "paused")
    if moment.state == "running":
        yield from throttles(moment.throttled, width)
    yield from backfill_lines.lines(moment.backfills, width)
    yield from causes(moment.causes, width)


def waves(found: Iterable[WaveMoment], *, halted: bool = False) -> Iterator[Text]:
    """`  canary  passed   5/5`, with what runs and what failed."""
    found = tuple(found)
    names, numbers = max(len(one.name) for one in found), max(len(_number(one)) for one in found)
    for one in found:
        word = "paused" if halted and one.state == "started" else WAVE_WORDS.get(one.state, one.state)
        text = Text(f"  {one.name:<{min(names, 16)}.16}  {_number(one):>{numbers}}  ")
        text.append(word, WAVE_STYLES.get(one.state, ""))
        if one.failures:
            text.append(f"{SEPARATOR}{one.failures:,} failed", "red")
        if one.running:
            text.append(f"{SEPARATOR}{one.running} running")
        yield text


def throttles(found: Iterable[Throttle], width: int) -> Iterator[Text]:
    """Each shard that bears less than it may, and why; the reason on a line of its own where there is little room."""
    found = tuple(found)
    for one in found[:THROTTLES_SHOWN]:
        head = f"  throttled {one.shard}: {one.limit} of {one.allowed} at once"
        if len(head) + len(one.reason) + 2 <= width:
            yield Text(f"{head}; {one.reason}", "yellow")
        else:
            yield Text(head, "yellow")
            yield from (Text(f"    {line}", "yellow") for line in _wrapped(one.reason, width - 4, 2))
    if len(found) > THROTTLES_SHOWN:
        yield Text(f"  and {screen.plural(len(found) - THROTTLES_SHOWN, 'throttled shard')} more", "yellow")


def causes(found: Iterable[CauseMoment], width: int) -> Iterator[Text]:
    """`2 causes, 41 targets`, and the most frequent of them with an example."""
    found = tuple(found)
    if not found:
        return
    targets = screen.plural(sum(one.count for one in found), "target")
    yield Text(f"{screen.plural(len(found), 'cause')}, {targets}:", "red")
    for one in found[:CAUSES_SHOWN]:
        names = ", ".join(one.tenants)
        more = f" and {one.count - len(one.tenants):,} more" if one.count > len(one.tenants) else ""
        text = Text(f"  {one.count:,} ")
        text.append(one.signature, "red")
        text.append(f"  {names}{more}", "dim")
        yield text
        yield from (Text(f"    {line}", "dim") for line in _wrapped(one.message, width - 4, 1))
    if len(found) > CAUSES_SHOWN:
        yield Text(f"  and {screen.plural(len(found) - CAUSES_SHOWN, 'more cause')}", "dim")


def unheard(moment: Moment, width: int) -> Iterator[Text]:
    """What to say while the daemon is not heard."""
    if moment.link is None:
        return
    head = f"no connection for {screen.duration(moment.unheard_seconds)}, trying again"
    if len(head) + len(moment.link) + 2 <= width:
        yield Text(f"{head}: {moment.link}", "bold yellow")
    else:
        yield Text(head, "bold yellow")
        yield from (Text(f"  {line}", "yellow") for line in _wrapped(moment.link, width - 2, 2))


def stated(moment: Moment, width: int) -> Iterator[Text]:
    """Why it waits or has paused, whole, where the line of facts has no room for that."""
    said = facts(moment)[0]
    if len(said) > width:
        yield from (Text(line, "yellow") for line in _wrapped(said, width, 4))


def facts(moment: Moment) -> list[str]:
    """What there is to say, most important first."""
    said = [_state(moment)] if moment.state in ("planning", "paused", "awaiting_approval") or moment.waiting else []
    if moment.state not in FINISHED:
        said.append(f"{moment.running} running")
    if moment.failures:
        said.append(f"{moment.failures:,} failed")
    if moment.backfills:
        said.append(backfill_lines.together(moment.backfills))
    if moment.rate is not None:
        said.append(f"{moment.rate:.1f} targets/s")
    said.append(screen.duration(moment.seconds))
    if moment.eta_seconds and moment.state == "running":
        said.append(f"about {screen.duration(moment.eta_seconds)} left")
    return said


def line(moment: Moment) -> str:
    """
    >>> line(Moment("app to head", "running", None, 9, 2, {"succeeded": 3, "failed": 1}, 61.0, 0.5))
    'app to head: 4 of 9 done · 2 running · 1 failed · 0.5 targets/s · 1:01 · about 0:10 left'
    """
    return f"{moment.title}: {moment.done:,} of {moment.total:,} done{SEPARATOR}{SEPARATOR.join(facts(moment))}"


def fitted(parts: Iterable[str], width: int) -> str:
    """As many of `parts` as fit into `width` columns, at least one.

    >>> fitted(["8 running", "2 failed", "95.1 targets/s"], 25)
    '8 running · 2 failed'
    """
    first, *rest = parts
    for part in rest:
        if len(first) + len(SEPARATOR) + len(part) > width:
            break
        first += SEPARATOR + part
    return first


def _state(moment: Moment) -> str:
    if moment.waiting:
        return moment.waiting
    if moment.state != "paused" or not moment.reason:
        return moment.state.replace("_", " ")
    return moment.reason if moment.reason.startswith("paused") else f"paused: {moment.reason}"


def _number(wave: WaveMoment) -> str:
    return f"{wave.done:,}/{wave.total:,}"


def _wrapped(text: str, width: int, lines: int) -> list[str]:
    """The first so many lines of a text, the last one cut where there is more."""
    words = " ".join(text.split())
    found: list[str] = []
    while words and len(found) < lines:
        if len(words) <= width:
            return [*found, words]
        last = len(found) == lines - 1
        cut = width - 1 if last else max(words.rfind(" ", 0, width + 1), 1 if width < 1 else 0) or width
        found.append(words[:cut].rstrip() + ("…" if last else ""))
        words = words[cut:].lstrip()
    return found
