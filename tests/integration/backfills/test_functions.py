"""Functions that were changed in the middle of their backfill, in whatever they are made of."""

from __future__ import annotations

import os
import time

import pytest
from alembic.util import CommandError

from tests.integration.backfills.conftest import Make, Project

BESIDE = """
import functools
from helping import scaled

FACTORS = {{"balance": {factor}}}


def times(row, factor={factor}):
    return {{"balance": row["balance"] * factor * _fails(row)}}


def making(factor):
    return lambda rows: [times(row, factor) for row in rows]


def by_another(rows, factor=0):
    return [times(row, factor) for row in rows]


def named(rows):
    return by_another(rows, FACTORS["balance"])


def imported(rows):
    return [{{"balance": scaled(row["balance"]) * _fails(row)}} for row in rows]


class Times:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, rows):
        return by_another(rows, self.factor)


def _fails(row):
    return 1 // (0 if row["id"] > 40 and not os.path.exists({flag!r}) else 1)
"""
FUNCTIONS = {
    "a function that it calls": "lambda rows: [times(row) for row in rows]",
    "a closure": "making({factor})",
    "a partial": "functools.partial(by_another, factor={factor})",
    "an object": "Times({factor})",
    "a method": "Times({factor}).__call__",
    "a name of its module": "named",
    "another module": "imported",
}


def _written(project: Project, which: str, factor: int) -> None:
    function = FUNCTIONS[which].format(factor=factor)
    project.add("filled", None, f'op.backfill_rows("accounts", ["balance"], {function}, batch_size=3)')
    file = project.folder / "alembic" / "versions" / "filled.py"
    file.write_text(file.read_text() + BESIDE.format(factor=factor, flag=str(project.folder / "flag")))
    (project.folder / "helping.py").write_text(f"def scaled(value):\n    return value * {factor}\n")
    second = time.time() - 500 + factor
    os.utime(file, (second, second))


@pytest.mark.parametrize("which", FUNCTIONS)
async def test_it_is_another_function(make_project: Make, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project = await make_project("pysqlite")
    monkeypatch.syspath_prepend(str(project.folder))
    project.numbers(60)
    _written(project, which, 100)
    with pytest.raises(ZeroDivisionError):
        await project.upgrade()
    (project.folder / "flag").touch()
    _forget(monkeypatch)
    _written(project, which, 7)
    with pytest.raises(CommandError, match="was changed after it had begun"):
        await project.upgrade()
    _forget(monkeypatch)
    _written(project, which, 100)
    await project.upgrade()
    assert project.rows("SELECT balance / id, count(*) FROM accounts GROUP BY 1") == [(100, 60)]


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has not loaded it."""
    import importlib
    import sys

    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "helping", raising=False)
