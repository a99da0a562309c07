"""The demo's daemon process, as far as it can be told without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.demo import migrations, process
from orchestrator.errors import ConfigurationError


def test_no_setting_of_another_daemon_reaches_ours() -> None:
    ours = {"ORCHESTRATOR_STORE_URL": "postgresql://production", "PATH": "/bin", "PYTHONPATH": "/lib"}
    environment = process.environment(ours, {"DEMO_1_PASSWORD": "x"})
    assert "ORCHESTRATOR_STORE_URL" not in environment
    assert (environment["PATH"], environment["DEMO_1_PASSWORD"]) == ("/bin", "x")
    assert environment["PYTHONPATH"].endswith(":/lib")


def test_the_url_is_found_among_other_lines() -> None:
    lines = ["[1, 2]", "text", '{"event": "other", "url": "x"}', '{"event": "listening", "url": "http://h:1"}']
    assert process.url_in("\n".join(lines)) == "http://h:1"
    assert process.url_in("\n".join(lines[:-1])) is None


def test_the_wheels_own_migrations_come_before_the_checkouts(tmp_path: Path) -> None:
    wheel, checkout = tmp_path / "environment", tmp_path / "alembic"
    for place in (wheel, checkout):
        (place / "versions").mkdir(parents=True)
        (place / "env.py").touch()
    assert migrations.find((wheel, checkout)) == wheel


def test_a_folder_that_is_the_library_is_not_taken_for_migrations(tmp_path: Path) -> None:
    (tmp_path / "alembic").mkdir()
    (tmp_path / "alembic" / "__init__.py").touch()
    with pytest.raises(ConfigurationError, match="lacks the demo's migrations"):
        migrations.find((tmp_path / "alembic",))


def test_this_checkout_has_migrations() -> None:
    assert list((migrations.find() / "versions").glob("*.py"))
