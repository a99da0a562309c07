"""Standard output and standard error: what goes where, how wide, in which colours."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orchestrator.observe.plain import escaped

# A pipe has no width; a table cut at 80 columns would be of no use to grep.
PIPE_WIDTH = 1000

Shape = TypeVar("Shape")
Row = Sequence[RenderableType]

# Which words are good news, bad news, or neither; the rest stays as it is.
STYLES: Mapping[str, str] = {
    **dict.fromkeys(("succeeded", "up_to_date", "finished"), "green"),
    **dict.fromkeys(("failed", "unreachable", "ahead"), "red"),
    **dict.fromkeys(
        ("locked", "aborted", "cancelled", "paused", "behind", "unprovisioned", "held", "stopped"), "yellow"
    ),
    **dict.fromkeys(("running", "planning"), "cyan"),
    **dict.fromkeys(("unknown", "skipped", "pending"), "dim"),
}


def out() -> Console:
    """Standard output: answers. Made anew each time, since tests and pagers replace the stream."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def err() -> Console:
    """Standard error: progress and remarks."""
    return Console(highlight=False, markup=False, emoji=False, stderr=True, soft_wrap=not sys.stderr.isatty())


def write(*shown: RenderableType) -> None:
    """Show answers on standard output, one below the other; without blanks at the ends of lines in a pipe."""
    console = out()
    if console.is_terminal:
        console.print(*shown, sep="\n")
        return
    with console.capture() as captured:
        console.print(*shown, sep="\n")
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def remark(text: str) -> None:
    """Say something beside the answer, on standard error; above the live view, if there is one.

    Not through a console of our own: it would find the terminal behind the live view, and write into it.
    """
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def reserved_stdout() -> Iterator[None]:
    """Keep what env.py and revisions print out of our answer: while the block runs it goes to standard error.

    By file descriptor, since worker processes print, too.
    """
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(ours, 1)
        os.close(ours)


def write_lines(lines: Iterable[str]) -> None:
    """Write lines as they are, also where they are wider than the terminal: addresses and commands are copied."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def answer(value: Shape, worded: Callable[[Shape], Iterable[RenderableType]], as_json: bool) -> None:
    """Show a command's answer: as JSON for programs, in words for people."""
    if as_json:
        write_json(value)
    else:
        write(*worded(value))


def listing(
    found: Sequence[Shape], table: Callable[[Sequence[Shape]], RenderableType], as_json: bool, none: str
) -> None:
    """Show a listing, as JSON or as a table; where it is empty, people are told so beside it."""
    if as_json:
        write_json(found)
    elif found:
        write(table(found))
    else:
        remark(none)


def write_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def state(word: str) -> Text:
    return Text(word.replace("_", " "), STYLES.get(word, ""))


def table(columns: Sequence[str], rows: Iterable[Row], *, right: Sequence[str] = ()) -> Table:
    """A table without lines, as wide as it needs to be."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(plain(cell)) if isinstance(cell, str) else cell for cell in row))
    return shown


def indented(shown: RenderableType, columns: int = 2) -> Padding:
    return Padding(shown, (0, 0, 0, columns), expand=False)


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Names and values, one below the other."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(Text(name), Text(plain(value)))
    return grid


def plain(text: str) -> str:
    """What others have written, so that none of it speaks to the terminal; its lines stay lines.

    >>> plain("one\\n\\x1b[2Jtwo")
    'one\\n\\\\x1b[2Jtwo'
    """
    return "\n".join(map(escaped, text.split("\n")))


def plural(count: int, noun: str) -> str:
    """
    >>> plural(1, "target"), plural(2000, "target")
    ('1 target', '2,000 targets')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def duration(seconds: float) -> str:
    """
    >>> duration(9.4), duration(61), duration(3725)
    ('0:09', '1:01', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
