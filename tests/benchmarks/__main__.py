"""Measure, print the ratios, and record them: `python -m tests.benchmarks [fleet] [schemas] [backfills]`.

Figures are ratios inside one run on one machine wherever that can be; absolute times are for orientation only.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import alembic
import anyio
import sqlalchemy

from orchestrator.cli.application import look_for_garbage_seldom
from orchestrator.databases.embedded import EmbeddedServer
from orchestrator.observe import logs
from orchestrator.registry.model import Execution
from tests.benchmarks import backfills, crowd, dbmate, noop, replay, rollout, scale, schemas, shares

EXECUTIONS: tuple[Execution, ...] = ("auto", "online")
ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Ratios are of two measurements in one run: absolute times depend on the machine and its load.
"""
# What bounds the measures that are not reached.
NOTES: Mapping[str, str] = {
    "fleet": """What bounds the rest is processor time, of two cores that daemon and server share. Each target is sent
the same SQL as by bare asyncpg, in one message, in three round trips after authentication; what it takes is in the
rows *processor time per replayed target*. The server's grows by the question with which a session proves where it is,
takes the target's lock and looks for what was left behind, and by the proof of heads and lock before the commit. The
loop's is asyncpg's and as much again, and nothing stands out in its profile: some twenty events for each target go to
ledger, metrics and log, and the largest part, asyncpg's connecting, is a tenth of it. The store commits about once for
each target, five statements by SQLAlchemy; to gather more of them in one commit costs more in waiting than it saves.
uvloop saves a twentieth. Compiling takes the time until the first target is done, once for each plan: a tenth of a
rollout over 200 databases, a thousandth of one over 20,000. Twice dbmate's rate would be more than that of bare
asyncpg. Of the example's revisions the server has nine tenths of the work, which is the same for both ways.
""",
}
# So many times the targets of the rest, where databases cost little or nothing.
NOOP_FACTOR, SIMULATED = 2.5, 500
# Schemas of one database, for each of the targets: as they are migrated, and as they are looked at.
SCHEMAS, LOOKED_AT = 2.5, 10
# Rows that backfills change, for each of the targets; and rows of a batch.
LOOPED, BESIDE, BATCHES = 5_000, 40_000, (1_000, 10_000, 50_000)


@dataclass(frozen=True)
class Line:
    """`measured` None: it could not be, and `detail` says why. `reach` None: it only explains others."""

    what: str
    measured: float | None
    reach: float | None
    at_least: bool
    detail: str
    unit: str = "x"

    def row(self) -> str:
        reach, measured, verdict = "", "", ""
        if self.measured is not None:
            measured = f"{self.measured:.2f}".removesuffix(".00") + self.unit
        if self.reach is not None:
            reach = f"{'>=' if self.at_least else '<='} {self.reach:g}{self.unit}"
            if self.measured is not None:
                reached = self.measured >= self.reach if self.at_least else self.measured <= self.reach
                verdict = "yes" if reached else "**no**"
        return f"| {self.what} | {reach} | {measured} | {verdict} | {self.detail} |"


# The example's revisions up to here are SQL: what lies behind is about data, and run by env.py.
BEFORE_BACKFILLS = "e46c218a144d"


async def _fleet(server: EmbeddedServer, folder: Path, targets: int) -> list[Line]:
    example = ROOT / "alembic" / "alembic.ini"
    ten = rollout.ten_revisions(folder / "ten")
    # First, while the process is small: what later measurements free would hide what this one keeps.
    grown = await scale.growth(server, folder, targets)
    idle = int(NOOP_FACTOR * targets)
    noops = await noop.measure(server, folder, ROOT / "alembic", idle)
    return [
        _rollout_line("10 revisions", await rollout.measure(server, folder, ten, targets), targets),
        _rollout_line(
            "the example's first 15",
            await rollout.measure(server, folder, example, targets, BEFORE_BACKFILLS),
            targets,
        ),
        await _dbmate_line(server, folder, ten, targets),
        *_replay_lines(await replay.measure(server, folder, ten, targets), targets),
        *_share_lines(await shares.measure(server, folder, ten, targets), targets),
        _noop_line(noops, idle),
        *_simulated_lines(await scale.simulated(folder, ten, SIMULATED * targets), SIMULATED * targets),
        _growth_line(grown, targets),
    ]


async def _backfill_lines(server: EmbeddedServer, folder: Path, targets: int) -> list[Line]:
    lines = [_many_line(await crowd.many(folder))]  # first, while the process is small
    for size in BATCHES:
        what = f"of {LOOPED * targets:,} rows without a throttle, {size:,} in a batch"
        lines += _loop_lines(await backfills.loop(server, folder, LOOPED * targets, size), LOOPED * targets, what)
    what = f"of {LOOPED * targets:,} rows as it comes, whose batches begin with {BATCHES[0]:,} rows"
    found = await backfills.loop(server, folder, LOOPED * targets, BATCHES[0], fixed=False)
    lines += _loop_lines(found, LOOPED * targets, what)
    return [*lines, *_beside_lines(await backfills.beside(server, folder, BESIDE * targets))]


async def _schema_lines(server: EmbeddedServer, folder: Path, targets: int) -> list[Line]:
    config, seen, many = rollout.ten_revisions(folder / "schemas_ten"), LOOKED_AT * targets, int(SCHEMAS * targets)
    lines = _look_lines(await schemas.look(server, folder, config, "r9", seen), seen)
    for execution in EXECUTIONS:
        lines.append(_schemas_line(await schemas.roll(server, folder, config, many, execution), many, execution))
    return lines


SECTIONS: Mapping[str, Callable[[EmbeddedServer, Path, int], Awaitable[list[Line]]]] = {
    "fleet": _fleet,
    "schemas": _schema_lines,
    "backfills": _backfill_lines,
}


async def measure(section: str, targets: int) -> Sequence[Line]:
    logs.configure("json", "error")
    look_for_garbage_seldom()  # as every command does
    async with EmbeddedServer(max_connections=200) as server:
        with tempfile.TemporaryDirectory() as name:
            return await SECTIONS[section](server, Path(name), targets)


def _replay_lines(found: replay.Result, targets: int) -> list[Line]:
    of = f"10 revisions x {targets} databases against the same SQL by bare asyncpg, {replay.IN_FLIGHT} in flight"
    proved = f"{found.proved:.2f} s against {found.bare:.2f} s, median of {replay.PAIRS} pairs"
    trusted = f"{found.trusted:.2f} s against {found.bare:.2f} s"
    return [
        Line(f"rollout of {of}: compiled and proved on the way", found.proved_ratio, 1.15, False, proved),
        Line(f"rollout of {of}: compiled, with `execution: replay`", found.trusted_ratio, 1.15, False, trusted),
        Line("processor time of the daemon per replayed target", found.cpu * 1000, 3, False, "all threads", " ms"),
        Line("round trips per replayed target after authentication", found.round_trips, 4, False, "counted", ""),
    ]


def _share_lines(found: shares.Shares, targets: int) -> list[Line]:
    what = "processor time per replayed target"
    bare, ours = found.bare, found.ours
    took = [
        ("of the server, for bare asyncpg", bare.server, ""),
        ("of the server, for a rollout", ours.server, "besides the SQL: proof of the place, lock, leftovers, heads"),
        ("of the client, for bare asyncpg", bare.loop + bare.others, ""),
        ("of the daemon's event loop", ours.loop, "asyncpg, decisions, events, metrics, log"),
        (
            "of the daemon's other threads",
            ours.others,
            "the store: about a transaction for each target",
        ),
    ]
    lines = [Line(f"{what} {of}", spent / targets * 1000, None, False, detail, " ms") for of, spent, detail in took]
    detail = "its plan is compiled, and others wait for that"
    return [*lines, Line("time until a rollout's first target is done", found.first * 1000, None, False, detail, " ms")]


def _simulated_lines(found: scale.Simulated, targets: int) -> list[Line]:
    what = f"engine, store and metrics with {targets:,} simulated databases"
    ratio = f"{found.many / found.few:.2f} times what {targets // 10:,} take each"
    return [
        Line(f"{what}: processor time per target", found.many * 1000, 1, False, ratio, " ms"),
        Line(f"{what}: memory of the process at its peak", found.peak / 1e6, 500, False, "", " MB"),
    ]


def _growth_line(found: int, targets: int) -> Line:
    replayed = (scale.ROUNDS - 2) * targets
    return Line(f"growth of the process over {replayed:,} replayed targets", found / 1e6, 10, False, "resident", " MB")


def _look_lines(found: schemas.Looked, many: int) -> list[Line]:
    where = f"{many:,} schemas of one database"
    times = f"{found.noop * 1000:.0f} ms against {found.status * 1000:.0f} ms, medians of {schemas.PAIRS}"
    return [
        Line(f"status of {where}", found.status, 1, False, f"median of {schemas.PAIRS}", " s"),
        Line(f"sessions for the status of {where}", found.sessions, 1, False, "counted by the server", ""),
        Line(f"no-op rollout over {where} against their status", found.noop / found.status, 3, False, times),
    ]


def _loop_lines(found: backfills.Looped, rows: int, what: str) -> list[Line]:
    hand, ours = statistics.median(found.by_hand), statistics.median(found.ours)
    times = f"median of {backfills.PAIRS} pairs; {rows / ours:,.0f} against {rows / hand:,.0f} rows/s"
    return [
        Line(f"rate of a backfill {what}, against the loop by hand", found.ratio, 0.95, True, times),
        Line(f"growth of daemon and workers over a backfill {what}", found.grown / 1e6, 10, False, "resident", " MB"),
    ]


def _beside_lines(found: backfills.Beside) -> list[Line]:
    beside = f"p95 of pgbench at {backfills.PER_SECOND} transactions/s beside a backfill"
    rules = backfills.CAREFUL
    careful = (
        f"`rows_per_second: {rules.rows_per_second:g}`, `target: {rules.target_seconds * 1000:g}ms`, "
        f"`duty: {rules.duty:.0%}`"
    )
    alone = f"{found.alone * 1000:.2f} ms"
    return [
        Line(
            f"{beside} with {careful}, against none",
            found.careful / found.alone,
            1.5,
            False,
            f"{found.careful * 1000:.2f} ms against {alone}; {found.careful_rows:,.0f} rows/s",
        ),
        Line(
            f"{beside} without a throttle, against none (it must be felt)",
            found.free / found.alone,
            1.5,
            True,
            f"{found.free * 1000:.2f} ms against {alone}; {found.free_rows:,.0f} rows/s",
        ),
    ]


def _many_line(found: crowd.Many) -> Line:
    of = f"{crowd.MANY} backfills at once, in real workers on SQLite files, {crowd.ELSEWHERE:g} s a batch"
    detail = f"p99; {found.batches:.0f} batches/s; {found.alone * 1000:.1f} ms without any"
    return Line(f"the event loop is late with {of}", found.late * 1000, 50, False, detail, " ms")


def _schemas_line(found: schemas.Rolled, many: int, execution: Execution) -> Line:
    return Line(
        f"rate of a rollout of 10 revisions over {many} schemas of one database, `execution: {execution}`, against as "
        "many databases",
        found.databases / found.schemas,
        0.8,
        True,
        f"{many / found.schemas:.1f} against {many / found.databases:.1f} targets/s",
    )


def _rollout_line(what: str, found: rollout.Result, targets: int) -> Line:
    return Line(
        f"rollout of {what} x {targets} databases, `execution: auto`, against `alembic upgrade head` under `xargs -P4`",
        found.command_line / found.ours,
        20,
        True,
        f"{targets / found.ours:.1f} against {targets / found.command_line:.1f} targets/s",
    )


async def _dbmate_line(server: EmbeddedServer, folder: Path, config: Path, targets: int) -> Line:
    what = f"rollout of 10 revisions x {targets} databases, `execution: auto`, against dbmate under `xargs -P4`"
    try:
        found = await dbmate.measure(server, folder, config, targets)
    except dbmate.NotMeasuredError as exc:
        return Line(what, None, 2, True, f"not measured: {exc}")
    rates = f"{targets / found.ours:.1f} against {targets / found.dbmate:.1f} targets/s; dbmate {dbmate.VERSION}"
    return Line(what, found.dbmate / found.ours, 2, True, rates)


def _noop_line(found: noop.Result, targets: int) -> Line:
    return Line(
        f"no-op rollout over {targets} databases at head against bare asyncpg connect + select",
        found.ratio,
        1.3,
        False,
        f"median of {found.pairs} pairs; {found.ours * 1000:.0f} ms against {found.bare * 1000:.0f} ms",
    )


def report(section: str, lines: Sequence[Line], arguments: str) -> str:
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores shared with the database servers"
    software = f"Python {platform.python_version()}, Alembic {alembic.__version__}, SQLAlchemy {sqlalchemy.__version__}"
    return "\n".join(
        [
            f"## {section.capitalize()}",
            "",
            f'Written by `make bench ARGS="{arguments}"` on {datetime.now(UTC):%Y-%m-%d}; {machine}; {software}.',
            "",
            "| what | reach | measured | reached | detail |",
            "|---|---|---|---|---|",
            *(line.row() for line in lines),
            "",
            *([NOTES[section]] if section in NOTES else []),
        ]
    )


def recorded(text: str, section: str, new: str) -> str:
    """The page with this section as it was measured now, and the others as they were."""
    parts = re.split(r"^(?=## )", text, flags=re.M)
    known = {part.splitlines()[0].removeprefix("## ").lower(): part.rstrip() + "\n" for part in parts[1:]}
    known[section] = new
    return "\n".join([HEAD, *(known[name] for name in SECTIONS if name in known)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all, where none is")
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--no-record", action="store_true", help="print only")
    given = parser.parse_args()
    if unknown := [name for name in given.sections if name not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]!r}: choose from {', '.join(SECTIONS)}")
    for section in given.sections or SECTIONS:
        arguments = section if given.targets == 200 else f"{section} --targets {given.targets}"
        text = report(section, anyio.run(measure, section, given.targets), arguments)
        print(text)
        if not given.no_record:
            REPORT.write_text(recorded(REPORT.read_text(), section, text))


if __name__ == "__main__":
    main()
