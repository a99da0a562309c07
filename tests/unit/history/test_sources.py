"""What env.py's source says about it."""

from __future__ import annotations

from pathlib import Path

from orchestrator.history import sources

ENV = """
import os, logging
from os import environ, getenv
import shop.models
from crm import metadata
from alembic import context
os.environ["A"]; os.environ.get("B"); os.getenv("C"); environ["D"]; getenv("E"); environ.get(name)
config.attributes["connection"]; config.attributes.get("tag", None)
if "purge" in config.attributes: pass
"""


def test_variables_attributes_and_imports_are_found(tmp_path: Path) -> None:
    file = tmp_path / "env.py"
    file.write_text(ENV)
    assert sources.variables(str(file)) == ("A", "B", "C", "D", "E")
    assert sources.attributes(str(file)) == ("connection", "purge", "tag")
    assert sources.imports(str(file)) == ("crm", "shop")
    assert not sources.takes_current_app(str(file))


def test_a_file_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "env.py"
    assert sources.variables(str(file)) == sources.imports(str(file)) == ()
    file.write_text("def broken(")
    assert sources.attributes(str(file)) == ()
