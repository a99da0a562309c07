"""What a warm parent knows of modules before its workers ask."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.history import modules


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    modules._projects.cache_clear()
    yield
    modules._projects.cache_clear()


def test_a_reading_looks_only_at_what_was_imported_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules.look_up()
    looked_at: list[Path] = []
    asked = modules.is_the_projects

    def noted(file: Path) -> bool:
        looked_at.append(file)
        return asked(file)

    monkeypatch.setattr(modules, "is_the_projects", noted)
    ours = ModuleType("models")
    ours.__file__ = str(tmp_path / "models.py")
    monkeypatch.setitem(sys.modules, "models", ours)
    assert modules.imported(str(tmp_path / "alembic"), [], sys.path) == (ours.__file__,)
    assert looked_at == [tmp_path / "models.py"]
