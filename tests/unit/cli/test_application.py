"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys

from typer.testing import CliRunner

import orchestrator
from orchestrator.cli.application import app

COMMANDS = (
    "serve",
    "check",
    "tenants",
    "migrate",
    "rollout",
    "schedule",
    "freeze",
    "token",
    "audit",
    "schema",
    "demo",
)


def test_help_lists_every_command() -> None:
    said = CliRunner().invoke(app, ["--help"]).stdout
    assert [name for name in COMMANDS if f" {name} " not in said] == []


def test_every_command_has_help() -> None:
    steering = [["rollout", name] for name in ("start", "list", "show", "watch", "pause", "resume", "abort", "retry")]
    steering += [["rollout", "override"]]
    steering += [
        ["rollout", "override"],
        *(["schedule", name] for name in ("list", "show", "enable", "disable", "run")),
    ]
    steering += [["freeze", name] for name in ("on", "off", "show")]
    for command in [*([name] for name in COMMANDS), *steering]:
        assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0, command


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from orchestrator.cli.application import app; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("fastapi", "sqlalchemy", "asyncpg", "pydantic", "httpx2", "alembic"):
        assert f"'{heavy}'" not in done.stdout


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"orchestrator {orchestrator.__version__}\n"


def test_schema_is_a_json_schema() -> None:
    assert '"$schema": "https://json-schema.org/' in CliRunner().invoke(app, ["schema"]).stdout


def test_an_argument_that_is_not_utf_8_is_one_clear_error() -> None:
    for arguments in (["freeze", "on", "--reason", "\udcff"], ["alembic", "--tenant", "a", "--", "upgrade", "a\udcff"]):
        done = CliRunner().invoke(app, arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "error: an argument is not UTF-8:" in done.stderr
        assert "bug" not in done.stderr


def test_a_number_that_no_store_has_is_refused() -> None:
    done = CliRunner().invoke(app, ["audit", "export", "--after", "99999999999999999999"])
    assert done.exit_code == 2
    assert "--after" in done.stderr
