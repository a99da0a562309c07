"""Every error ends in words and an exit code, never in a stack trace."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from orchestrator import errors
from orchestrator.cli.application import Guarded, app


def run(exc: BaseException) -> tuple[int, str]:
    """The exit code and standard error of a command that raises `exc`."""
    failing = typer.Typer(cls=Guarded)

    @failing.command("fail")
    def fail() -> None:
        raise exc

    @failing.command("other")
    def other() -> None: ...

    result = CliRunner().invoke(failing, ["fail"])
    return result.exit_code, result.stderr


@pytest.fixture(autouse=True)
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("wrong"), 2),
        (errors.NotFoundError("gone"), 2),
        (errors.ConflictError("held", rollout="r1"), 2),
        (errors.DaemonError("away"), 5),
        (errors.StoreError("locked"), 5),
    ],
)
def test_an_expected_error_is_a_message_and_its_exit_code(error: errors.OrchestratorError, code: int) -> None:
    assert run(error) == (code, f"error: {error.message}\n")


def test_the_remedy_follows_the_message() -> None:
    code, said = run(errors.ConfigurationError("there is no track 'x'", remedy="there are: app"))
    assert said == "error: there is no track 'x'\n  try: there are: app\n"
    assert code == 2


def test_errors_inside_nested_groups_are_found_and_told_once() -> None:
    group = ExceptionGroup("", [ExceptionGroup("", [errors.DaemonError("away")]), errors.DaemonError("away")])
    assert run(group) == (5, "error: away\n")


def test_the_most_serious_of_several_errors_decides_the_exit_code() -> None:
    code, said = run(ExceptionGroup("", [errors.ConfigurationError("wrong"), errors.StoreError("locked")]))
    assert code == 5
    assert said == "error: wrong\nerror: locked\n"


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])])
def test_an_interrupt_is_130_and_silent(exc: BaseException) -> None:
    assert run(exc) == (130, "")


def test_anything_else_is_a_bug_in_one_line_with_the_trace_in_a_private_file(traces: Path) -> None:
    url = "postgresql://me:hunter2@db/acme"
    code, said = run(ValueError(f"cannot use {url}"))
    [file] = traces.iterdir()
    assert code == 1
    assert said == f"error: this is a bug (ValueError); please report it with {file}\n"
    assert os.stat(file).st_mode & 0o777 == 0o600
    text = file.read_text()
    assert "Traceback" in text
    assert "ValueError: cannot use postgresql://me:***@db/acme" in text
    assert "hunter2" not in text


def test_one_unexpected_error_among_expected_ones_makes_it_a_bug() -> None:
    code, said = run(ExceptionGroup("", [errors.StoreError("locked"), ValueError("x")]))
    assert code == 1
    assert said.startswith("error: this is a bug (ValueError)")


def test_a_bug_is_told_even_where_no_file_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert run(KeyError("x")) == (1, "error: this is a bug (KeyError); please report it\n")


def test_secrets_are_masked_in_messages_and_remedies() -> None:
    _, said = run(errors.DaemonError("postgresql://me:hunter2@db/acme is away", remedy="set password=hunter2"))
    assert "hunter2" not in said


def test_bad_usage_is_typers_and_exits_with_2() -> None:
    result = CliRunner().invoke(app, ["migrate", "--no-such-option"])
    assert result.exit_code == 2
    assert "No such option" in result.stderr


def test_an_exit_code_of_a_command_passes_through() -> None:
    assert run(typer.Exit(4)) == (4, "")


def test_an_exit_inside_a_group_passes_through() -> None:
    assert run(ExceptionGroup("", [typer.Exit(3)])) == (3, "")


def test_words_that_do_not_exist_are_named_with_those_that_do() -> None:
    result = CliRunner().invoke(app, ["migrate", "--direction", "sideways"])
    assert result.exit_code == 2
    assert re.search(r"no 'sideways'\n  try: use one of: upgrade, downgrade, stamp", result.stderr)
