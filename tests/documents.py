"""Writes what documents say of the code: `python -m tests.documents`. A test holds them equal."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints, is_typeddict

import typer.main
from prometheus_client.metrics import MetricWrapperBase

from orchestrator.cli import check
from orchestrator.cli.application import app
from orchestrator.cli.examples import EXAMPLES
from orchestrator.client import drift_shapes, shapes
from orchestrator.observe.fleet import Fleet
from orchestrator.observe.metrics import Metrics
from tests import logbook

DOCS = Path(__file__).parents[1] / "docs"
CLI, METRICS, LOGS = DOCS / "cli.md", DOCS / "metrics.md", DOCS / "logs.md"
# What each command with `--json` answers.
ANSWERS: dict[str, Any] = {
    "check": check.Checked,
    "tenants": list[shapes.Tenant],
    "plan": shapes.CompiledPlan,
    "sql": shapes.CompiledPlan,
    "migrate": shapes.Rollout,
    "migrate --dry-run": shapes.Preview,
    "rollout start": shapes.Rollout,
    "rollout start --dry-run": shapes.Preview,
    "rollout list": list[shapes.Rollout],
    "rollout show": shapes.Rollout,
    **{
        f"rollout {name}": shapes.Rollout
        for name in ("watch", "approve", "abort", "retry", "skip", "limit", "pause", "resume", "rollback", "override")
    },
    **{f"backfill {name}": list[shapes.Backfill] for name in ("list", "show", "watch")},
    "backfill summary": shapes.BackfillSummary,
    **{f"backfill {name}": shapes.GivenOrder for name in ("pause", "resume", "abort", "set")},
    "schedule list": list[shapes.Schedule],
    **{f"schedule {name}": shapes.Schedule for name in ("show", "enable", "disable")},
    "schedule run": shapes.Run,
    **{f"freeze {name}": shapes.Freeze for name in ("on", "off", "show")},
    "token create": shapes.NewToken,
    "token list": list[shapes.Token],
    "token revoke": shapes.Token,
    "audit verify": shapes.Verification,
    "notifications list": list[shapes.Notification],
    "notifications retry": list[shapes.Notification],
    "drift": drift_shapes.DriftReport,
}
# Shapes that a command's answer has besides, with the flag that asks for it.
FURTHER = {"rollout show --migrations": ("migrations", list[shapes.Migration])}


def commands() -> dict[str, Any]:
    """Every command that does something, by its name after `orchestrator`."""
    return dict(_commands(typer.main.get_command(app), ""))


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for part, child in inner.items():
        yield from _commands(child, f"{name} {part}".strip())


def options(command: Any) -> set[str]:
    return {word for parameter in command.params for word in parameter.opts}


def written(kind: Any) -> str:
    """A type as the document has it.

    >>> written(list[str]), written(str | None), written(dict[str, int])
    ('list of text', 'text or null', 'object of integer')
    """
    origin, inner = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    if origin is list:
        return f"list of {written(inner[0])}"
    if origin is dict:
        return f"object of {written(inner[1])}"
    if origin in (Union, types.UnionType):
        return " or ".join(written(one) for one in inner)
    return {str: "text", int: "integer", float: "number", bool: "boolean", type(None): "null", Any: "anything"}[kind]


def members(kind: Any) -> Iterator[Any]:
    """The shapes that a type has in it, itself included."""
    if is_typeddict(kind):
        yield kind
        for inner in get_type_hints(kind).values():
            yield from members(inner)
    for inner in get_args(kind):
        yield from members(inner)


def tables() -> dict[str, str]:
    """The parts of documents that are made, by the names of their marks."""
    return {
        "commands": "\n".join(_command_lines()),
        "shapes": "\n".join(_shape_lines()),
        "metrics": "\n".join(_metric_lines()),
        **logbook.tables(),
    }


def _command_lines() -> Iterator[str]:
    for name, command in commands().items():
        told = " ".join((command.help or "").split("\n\n")[0].split())
        yield f"\n### `orchestrator {name}`\n\n{told}\n\n```sh"
        yield from EXAMPLES[name]
        yield "```"


def _shape_lines() -> Iterator[str]:
    yield "\n| command with `--json` | answers |\n| --- | --- |"
    for name, kind in ANSWERS.items():
        yield f"| `{name}` | {written(kind)} |"
    for name, (key, kind) in FURTHER.items():
        yield f"| `{name}` | the same, with `{key}`: {written(kind)} |"
    kinds = [*ANSWERS.values(), *(kind for _, kind in FURTHER.values())]
    for shape in dict.fromkeys(inner for kind in kinds for inner in members(kind)):
        told = " ".join((shape.__doc__ or "").split())
        yield f"\n#### {shape.__name__}\n" + (f"\n{told}\n" if told and not told.startswith("dict(") else "")
        yield "| member | type |\n| --- | --- |"
        for key, kind in get_type_hints(shape).items():
            yield f"| `{key}` | {written(kind)} |"


class Told(NamedTuple):
    kind: str
    labels: tuple[str, ...]
    text: str


def metrics() -> dict[str, Told]:
    """Every metric of the daemon, by its name in queries. prometheus_client shows the labels of none without values."""
    registry = Metrics(Fleet()).registry
    found: dict[str, Told] = {}
    for collector in registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            kind, labels = str(collector._type), tuple(collector._labelnames)
            found[_queried(collector._name, kind)] = Told(kind, labels, collector._documentation)
            continue
        for family in collector.collect():
            labels = tuple(getattr(family, "_labelnames", None) or ())
            found[_queried(family.name, family.type)] = Told(family.type, labels, family.documentation)
    return dict(sorted(found.items()))


def _queried(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def _metric_lines() -> Iterator[str]:
    yield "\n| metric | type | labels | tells |\n| --- | --- | --- | --- |"
    for name, (kind, labels, text) in metrics().items():
        if name.startswith("orchestrator_"):
            yield f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {text} |"


def made(text: str) -> str:
    """The document with its marked parts as the code has them."""
    for name, content in tables().items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = mark.sub(lambda found, content=content: f"{found[1]}{content.strip()}\n{found[2]}", text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    for document in (CLI, METRICS, LOGS):
        document.write_text(made(document.read_text()))
