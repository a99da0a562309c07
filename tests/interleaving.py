"""Many targets at once through `alembic.command.upgrade`, in bare threads, each revision busy in its own way.

Run as a program (`python -m tests.interleaving --layer off …`) it is the test of the test: without the task-local
layer it must go wrong, and may hang, which is why it runs in a process of its own there.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

from orchestrator.history import tasklocal
from tests.environments import add_revision, make_project

REVISIONS = ("one", "two", "three", "four")
# What a revision does is drawn by tenant and revision: it sleeps in Python, on the server, or awaits in the middle
# of its own event loop; it may fail; and it makes a table that only its own tenant may have.
BODY = """
tenant = context.get_x_argument(as_dictionary=True)["tenant"]
drawn = random.Random(tenant + revision)
pause = drawn.uniform(0, 0.01)
if drawn.random() < 0.3:
    time.sleep(pause)
elif drawn.random() < 0.5:
    op.execute(sa.text(f"SELECT pg_sleep({pause})"))
elif context.config.get_main_option("async_env"):
    from sqlalchemy.util import await_only
    await_only(asyncio.sleep(pause))
op.create_table(f"{tenant}_{revision}", sa.Column("id", sa.Integer, primary_key=True))
if drawn.random() < 0.08:
    raise RuntimeError("drawn to fail")
"""


@dataclass(frozen=True)
class Case:
    """One target: its tenant, its sync and async URLs, and which env.py it is migrated with."""

    tenant: str
    url: str
    asynchronous: bool

    @property
    def fails(self) -> bool:
        return any(self._fails_at(revision) for revision in REVISIONS)

    def _fails_at(self, revision: str) -> bool:
        drawn = random.Random(self.tenant + revision)
        drawn.uniform(0, 0.01)
        if drawn.random() >= 0.3:
            drawn.random()
        return drawn.random() < 0.08

    def expected(self) -> tuple[set[str], set[str]]:
        """Tables and heads: all of its own, or nothing, since the templates run all in one transaction."""
        if self.fails:
            return set(), set()
        return {f"{self.tenant}_{revision}" for revision in REVISIONS} | {"alembic_version"}, {REVISIONS[-1]}


def make_projects(folder: Path) -> None:
    for template in ("generic", "async"):
        make_project(folder / template, template)
        down = None
        for revision in REVISIONS:
            add_revision(folder / template, revision, down, BODY)
            down = revision


def make_cases(urls: Sequence[str]) -> list[Case]:
    return [Case(f"t{number:03}", url, number % 2 == 1) for number, url in enumerate(urls)]


def upgrade(folder: Path, case: Case) -> bool:
    """Migrate one target; whether it succeeded."""
    template = "async" if case.asynchronous else "generic"
    driver = "postgresql+asyncpg" if case.asynchronous else "postgresql+psycopg"
    config = Config(
        str(folder / template / "alembic.ini"),
        stdout=io.StringIO(),
        cmd_opts=argparse.Namespace(x=[f"tenant={case.tenant}"]),
    )
    config.set_main_option("script_location", str(folder / template / "alembic"))
    config.set_main_option("sqlalchemy.url", case.url.replace("postgresql", driver, 1).replace("%", "%%"))
    if case.asynchronous:
        config.set_main_option("async_env", "yes")
    try:
        command.upgrade(config, "head")
    except Exception:
        return False
    return True


def found(case: Case) -> tuple[set[str], set[str]]:
    """Tables and heads that the case's database has."""
    engine = create_engine(case.url.replace("postgresql", "postgresql+psycopg", 1), poolclass=NullPool)
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        heads = set(connection.scalars(text("SELECT version_num FROM alembic_version"))) if tables else set()
    return tables, heads


def wrong(folder: Path, cases: Sequence[Case], threads: int) -> list[str]:
    """Migrate all cases at once; what differs from what must be, in words."""
    with ThreadPoolExecutor(threads) as pool:
        succeeded = list(pool.map(lambda case: upgrade(folder, case), cases))
    problems = []
    for case, success in zip(cases, succeeded, strict=True):
        if success == case.fails:
            problems.append(f"{case.tenant}: reported {'success' if success else 'failure'}")
        if found(case) != case.expected():
            problems.append(f"{case.tenant}: has {found(case)}, must have {case.expected()}")
    return problems


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--layer", choices=["on", "off"], required=True)
    arguments.add_argument("--folder", type=Path, required=True)
    arguments.add_argument("urls", nargs="+")
    given = arguments.parse_args()
    if given.layer == "on":
        tasklocal.install()
    problems = wrong(given.folder, make_cases(given.urls), threads=8)
    sys.stdout.write("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
