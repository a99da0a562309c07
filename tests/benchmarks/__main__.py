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
    async with EmbeddedServer(max_connections=200) as server:
        with tempfile.TemporaryDirectory() as folder:
            one = await rollout.measure(server, Path(folder), ROOT / "alembic", targets)
            two = await noop.measure(server, Path(folder), ROOT / "alembic", targets)
    return [
        Line(
            f"rollout of {one.revisions} revisions x {targets} databases against `alembic upgrade head`, `xargs -P4`",
            one.command_line / one.ours,
            6,
            True,
            f"{targets / one.ours:.1f} against {targets / one.command_line:.1f} targets/s",
        ),
        Line(
            f"no-op rollout over {targets} databases at head against bare asyncpg connect + select",
            two.ratio,
            1.5,
            False,
            f"median of {two.pairs} pairs; {two.ours * 1000:.0f} ms against {two.bare * 1000:.0f} ms",
        ),
    ]


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
