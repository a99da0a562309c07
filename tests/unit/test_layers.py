"""Imports go downward only: the table of docs/architecture.md, read from the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "orchestrator"
FLOORS = [
    {"errors"},
    {"events", "settings", "sessions"},
    {"registry", "observe"},
    {"plan", "access", "backfill"},
    {"rollout", "history", "databases", "notify"},
    {"api", "execute", "store", "operations"},
    {"service", "demo", "client"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms}
# Where a room may be imported from although it is beside or above, and why.
EXCEPTIONS = {
    ("demo", "client"): "the demo speaks to its daemon as anybody does",
    ("store", "history"): "the store's own migrations need the task-local layer",
}
# Libraries that are somebody's business alone.
ONLY = {
    # observe: its version, for build_info; demo: plain Alembic
    "alembic": {"history", "store", "observe", "operations", "demo"},
    "asyncmy": {"databases"},
    "asyncpg": {"databases"},
    "aiosqlite": {"databases"},
    "cronsim": {"registry"},
    "fastapi": {"api"},
    "uvicorn": {"api"},
    "typer": {"cli"},
    "rich": {"cli", "demo"},
}
PURE = [
    "registry/answers.py",
    "registry/discovery.py",
    "registry/changes.py",
    "registry/zoned.py",
    "registry/cron.py",
    "registry/times.py",
    "registry/hours.py",
    "registry/backfills.py",
    "plan/steps.py",
    "plan/compiled.py",
    "plan/statements.py",
    "plan/objections.py",
    "plan/rowless.py",
    "plan/lasting.py",
    "databases/version_sql.py",
    "plan/manifest.py",
    "plan/differences.py",
    "plan/bound.py",
    "plan/reversals.py",
    "plan/findings.py",
    "plan/parts.py",
    "plan/tokens.py",
    "plan/quoting.py",
    "plan/mass_changes.py",
    "history/scanner.py",
    "history/infinities.py",
    "plan/alter_table.py",
    "plan/touching.py",
    "plan/ddl.py",
    "plan/ddl_mysql.py",
    "plan/ddl_sqlite.py",
    "plan/locks.py",
    "plan/column_types.py",
    "plan/weighing.py",
    "plan/squawk.py",
    "registry/findings.py",
    "plan/catalog.py",
    "plan/drift.py",
    "plan/drift_records.py",
    "plan/drifted_lines.py",
    "plan/sanitise.py",
    "observe/spans.py",
    "observe/redact_calls.py",
    "observe/redact_names.py",
    "observe/redact_sql.py",
    "observe/happenings.py",
    "observe/trace_ids.py",
    "databases/sqlite_catalog.py",
    "backfill/rules.py",
    "backfill/changes.py",
    "backfill/records.py",
    "backfill/pace.py",
    "backfill/budget.py",
    "backfill/signals.py",
    "backfill/orders.py",
    "backfill/estimate.py",
    "databases/scripts.py",
    "rollout/state.py",
    "rollout/decide.py",
    "rollout/progress.py",
    "rollout/asking.py",
    "rollout/windows.py",
    "rollout/schedules.py",
    "execute/classify.py",
    "execute/answers.py",
    "execute/verdicts.py",
    "execute/predictions.py",
    "notify/notices.py",
    "notify/pauses.py",
    "notify/signing.py",
]
IMPURE = {"anyio", "asyncio", "asyncpg", "alembic", "os", "time", "socket", "subprocess"}


def _files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "orchestrator":
            yield from (f"orchestrator.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _may(importer: str, imported: str) -> bool:
    if importer == imported or imported.startswith("__"):
        return True
    return FLOOR[imported] < FLOOR[importer] or (importer, imported) in EXCEPTIONS


def test_every_room_has_a_floor() -> None:
    assert {_room(file) for file in _files()} - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize("file", _files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down(file: Path) -> None:
    if "migrations" in file.parts or "environment" in file.parts:
        return
    ours = [name.split(".")[1] for name in _imports(file) if name.startswith("orchestrator.")]
    assert [name for name in ours if not _may(_room(file), name)] == []
    theirs = [name.split(".")[0] for name in _imports(file)]
    assert [name for name in theirs if name in ONLY and _room(file) not in ONLY[name]] == []


@pytest.mark.parametrize("name", PURE)
def test_decisions_know_no_clock_no_socket_and_no_driver(name: str) -> None:
    assert IMPURE & {imported.split(".")[0] for imported in _imports(PACKAGE / name)} == set()
