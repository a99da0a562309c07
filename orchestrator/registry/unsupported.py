"""What the file format knows and this release does not do yet.

It is refused, never passed over: tenants that are silently left out are the worst outcome there is. A release that
learns something takes its line out of `LATER`, and nothing else here changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.registry.document import Where
from orchestrator.registry.report import Report

# Where it stands (`*`: any entry), the one value that is meant (None: any), and what to call it.
LATER: tuple[tuple[Where, str | None, str], ...] = (
    (("notifications", "*", "on", "*"), "drift_found", "a notification of drift"),
)
DIALECTS = frozenset({"postgresql", "mysql", "mariadb", "sqlite"})


def check(report: Report) -> None:
    """Note each use of what is not supported yet, at its key."""
    for pattern, meant, name in LATER:
        for where, value in _matches(report.document.value, pattern):
            if value and meant in (None, value):
                report.at(where, said(name), key=True)


def said(name: str) -> str:
    """The one sentence for everything in the table."""
    return f"{name} is not supported by this release yet"


def _matches(value: Any, pattern: Where, where: Where = ()) -> Iterator[tuple[Where, Any]]:
    if not pattern:
        yield where, value
        return
    first, *rest = pattern
    for key, child in _children(value):
        if first in ("*", key):
            yield from _matches(child, tuple(rest), (*where, key))


def _children(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)
