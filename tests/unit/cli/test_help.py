"""Help that teaches: every command has examples that could be typed, shells can complete, and JSON is documented."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli.application import app
from orchestrator.cli.examples import EXAMPLES
from tests import documents

COMMANDS = documents.commands()


def test_every_command_has_examples_and_no_other_has() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_the_examples(name: str) -> None:
    said = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200"}).stdout
    assert "Examples:" in said
    for example in EXAMPLES[name]:
        assert example in said


@pytest.mark.parametrize("example", [example for examples in EXAMPLES.values() for example in examples])
def test_examples_can_be_typed(example: str) -> None:
    program, *words = shlex.split(example.partition(" > ")[0])
    assert program == "orchestrator"
    name = next(name for name in sorted(COMMANDS, key=len, reverse=True) if " ".join(words).startswith(name))
    command = COMMANDS[name]
    with command.make_context(name, words[len(name.split()) :]):  # raises for what it does not know
        pass


@pytest.mark.parametrize("name", ["", "rollout", "notifications"])
def test_groups_list_their_commands(name: str) -> None:
    said = CliRunner().invoke(app, [*name.split(), "--help"]).stdout
    inner = {command.split()[-1] for command in COMMANDS if command.startswith(name)}
    assert all(f" {command} " in said for command in inner if name or (" " not in command and command in COMMANDS))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    def completed(line: str, number: int) -> str:
        asked: dict[str, Any] = {"_ORCHESTRATOR_COMPLETE": f"complete_{shell}"}
        if shell == "bash":
            asked |= {"COMP_WORDS": line, "COMP_CWORD": str(number)}
        else:
            asked |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        return CliRunner().invoke(app, [], env=asked, prog_name="orchestrator").stdout

    assert "rollout" in completed("orchestrator ro", 1)
    assert "watch" in completed("orchestrator rollout wa", 2)
    assert "--strategy" in completed("orchestrator rollout start --str", 3)


def test_every_json_answer_is_documented() -> None:
    with_json = {name for name, command in COMMANDS.items() if "--json" in documents.options(command)}
    assert with_json == {name for name in documents.ANSWERS if "--" not in name}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.split()[-1] in ("list", "tenants", "plan", "show")])
def test_listings_have_json(name: str) -> None:
    assert "--json" in documents.options(COMMANDS[name])


def test_the_document_is_as_the_code_has_it() -> None:
    text = documents.CLI.read_text()
    assert documents.made(text) == text, "write it anew: python -m tests.documents"
