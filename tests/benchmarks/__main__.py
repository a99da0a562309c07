"""Measure, print the ratios, and record them: `python -m tests.benchmarks [--targets 200] [--no-record]`.

Every figure is a ratio inside one run on one machine. Absolute times are printed for orientation only.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import alembic
import anyio
import sqlalchemy

from orchestrator.databases.embedded import EmbeddedServer
from orchestrator.observe import logs
from tests.benchmarks import noop, rollout

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Line:
    what: str
    measured: float
    reach: float
    at_least: bool
    detail: str

    @property
    def reached(self) -> bool:
        return self.measured >= self.reach if self.at_least else self.measured <= self.reach

    def row(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "yes" if self.reached else "**no**"
        return f"| {self.what} | {sign} {self.reach:g}x | {self.measured:.2f}x | {verdict} | {self.detail} |"


async def measure(targets: int) -> Sequence[Line]:
    logs.configure("json", "error")
    example = ROOT / "alembic" / "alembic.ini"
    async with EmbeddedServer(max_connections=200) as server:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ten = rollout.ten_revisions(folder / "ten")
            return [
                _rollout_line("10 revisions", await rollout.measure(server, folder, ten, targets), targets),
                _rollout_line("the example's 15", await rollout.measure(server, folder, example, targets), targets),
                _noop_line(await noop.measure(server, folder, ROOT / "alembic", targets), targets),
            ]


def _rollout_line(what: str, found: rollout.Result, targets: int) -> Line:
    return Line(
        f"rollout of {what} x {targets} databases against `alembic upgrade head` under `xargs -P4`",
        found.command_line / found.ours,
        6,
        True,
        f"{targets / found.ours:.1f} against {targets / found.command_line:.1f} targets/s",
    )


def _noop_line(found: noop.Result, targets: int) -> Line:
    return Line(
        f"no-op rollout over {targets} databases at head against bare asyncpg connect + select",
        found.ratio,
        1.5,
        False,
        f"median of {found.pairs} pairs; {found.ours * 1000:.0f} ms against {found.bare * 1000:.0f} ms",
    )


def report(lines: Sequence[Line], arguments: str) -> str:
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores shared with the database servers"
    software = f"Python {platform.python_version()}, Alembic {alembic.__version__}, SQLAlchemy {sqlalchemy.__version__}"
    return "\n".join(
        [
            "# Benchmarks",
            "",
            f"Written by `make bench{arguments}` on {datetime.now(UTC):%Y-%m-%d}; {machine}; {software}.",
            "Each figure is a ratio of two measurements in one run: absolute times depend on the machine and its load.",
            "",
            "| what | reach | measured | reached | detail |",
            "|---|---|---|---|---|",
            *(line.row() for line in lines),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--no-record", action="store_true", help="print only")
    given = parser.parse_args()
    text = report(
        anyio.run(measure, given.targets), "" if given.targets == 200 else f' ARGS="--targets {given.targets}"'
    )
    print(text)
    if not given.no_record:
        REPORT.write_text(text)


if __name__ == "__main__":
    main()
