"""The options that commands share, each described once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from orchestrator.errors import ConfigurationError

DEFAULT_SERVER = "http://127.0.0.1:8080"
Word = TypeVar("Word", bound=StrEnum)

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="The registry file. [ORCHESTRATOR_CONFIG, tenants.yaml]")
]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store-url", help="The control database. [ORCHESTRATOR_STORE_URL, sqlite:///orchestrator.db]"),
]
Track = Annotated[
    str | None, typer.Option("--track", "-t", help="Which history, '*' for all; not needed if there is only one.")
]
NeededTrack = Annotated[str, typer.Option("--track", "-t", help="Which history; '*' for all.")]
To = Annotated[
    str,
    typer.Option("--to", help="The goal: head, heads, base, a revision, label@head, +1, -2. Default: its own."),
]
NeededTo = Annotated[str, typer.Option("--to", help="The goal: head, heads, base, a revision, label@head, +1, -2.")]
Select = Annotated[
    str, typer.Option("--select", "-s", help="Which targets, by label: 'tier=free,region in (eu,us),tenant=acme*'.")
]
Direction = Annotated[str, typer.Option("--direction", help="upgrade, downgrade or stamp.")]
Strategy = Annotated[str, typer.Option("--strategy", help="How to go over the targets, as named in the registry.")]
LogFormat = Annotated[str | None, typer.Option("--log-format", help="auto, json or console. [ORCHESTRATOR_LOG_FORMAT]")]
LogLevel = Annotated[
    str | None, typer.Option("--log-level", help="debug, info, warning or error. [ORCHESTRATOR_LOG_LEVEL]")
]
ToldAsJson = Annotated[
    str | None,
    typer.Option("--log-format", help="json: the daemon's log lines instead of progress. [ORCHESTRATOR_LOG_FORMAT]"),
]
ToldAtLevel = Annotated[
    str | None,
    typer.Option("--log-level", help="Of --log-format json: debug, info, warning or error. [ORCHESTRATOR_LOG_LEVEL]"),
]
MaxConcurrent = Annotated[int | None, typer.Option("--max-concurrent", min=1, help="Most targets at once.")]
PlanDigest = Annotated[
    str | None, typer.Option("--plan-digest", help="Start only if just what this plan says would be done.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
Server = Annotated[
    str, typer.Option("--server", envvar="ORCHESTRATOR_SERVER", help="The daemon's address.", show_default=True)
]
OptionalServer = Annotated[
    str | None,
    typer.Option("--server", envvar="ORCHESTRATOR_SERVER", help="Ask this daemon instead of the databases."),
]
# Of commands that speak of what the daemon keeps, and can do so without one.
StoreServer = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="ORCHESTRATOR_SERVER",
        help="Ask this daemon instead of the store, unless --store-url is given.",
    ),
]
RolloutId = Annotated[str, typer.Argument(metavar="ID", help="As `orchestrator rollout list` shows it.")]


def words(kind: type[Word], given: Iterable[str], option: str) -> list[Word]:
    """The words that were given with `option`. Raises ConfigurationError naming the ones there are.

    Not typer's choices: for them the words, and with them half the program, would be imported for `--help` too.
    """
    return [kind(text) for text in known([word.value for word in kind], given, option)]


def known(words: Sequence[str], given: Iterable[str], option: str) -> list[str]:
    """What was given with `option`, all of it among `words`. Raises ConfigurationError naming these."""
    found = list(given)
    unknown = [text for text in found if text not in words]
    if unknown:
        raise ConfigurationError(f"{option}: there is no {unknown[0]!r}", remedy=f"use one of: {', '.join(words)}")
    return found
