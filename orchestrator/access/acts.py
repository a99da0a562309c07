"""What somebody does, on its way to the audit.

An act is recorded in the transaction of the first change that it makes: whoever serves a request enters `acting`, and
the store's writer looks for the act with each change that it is given. So no function between the two knows of it, and
a change that is rolled back takes its entry with it. What changes nothing in the store is recorded by `noted`, by who
knows that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from orchestrator.access import callers


@dataclass(frozen=True, slots=True)
class Act:
    """`action` is an operation's name (`pause_rollout`), `by` a name as `callers` tells them. `outcome`: `done`,
    `refused` or `failed`, then with `reason`. `details` are values that JSON has, without secrets."""

    action: str
    by: str
    role: str | None = None
    address: str | None = None
    remark: str | None = None
    request: str | None = None
    rollout: str | None = None
    outcome: str = "done"
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "proved": callers.is_proved(self.by)}


def from_json(values: Mapping[str, Any]) -> Act:
    """The act that `as_json` told of; what a newer release has told besides is left out."""
    return Act(**{name: values[name] for name in Act.__slots__ if name in values})


@dataclass(frozen=True, slots=True)
class Recorded:
    """An act as it stands in the audit."""

    sequence: int
    hash: str
    act: Act


class Pending:
    """An act that may still be to be recorded. `settled`: it is recorded, or given to who records it, or changes
    nothing. `over`: no further change is a part of it, but one that was on its way still takes it along."""

    def __init__(self, describe: Callable[[], Act]) -> None:
        self._describe = describe
        self._told: dict[str, Any] = {}
        self.settled = self.over = False
        self.recorded: Recorded | None = None

    def act(self) -> Act:
        told = self._describe()
        return replace(told, details={**told.details, **self._told}) if self._told else told

    def tell(self, **details: Any) -> None:
        """Say more of it, before it is recorded."""
        self._told |= details

    def settle(self, recorded: Recorded | None = None) -> None:
        self.settled, self.recorded = True, recorded

    def reopen(self) -> None:
        """It was given to somebody else to record, who did not."""
        self.settled = False

    def ended(self, outcome: str, reason: str | None) -> Pending:
        """The same act, as it ended without a change."""
        return Pending(lambda: replace(self.act(), outcome=outcome, reason=reason))


_current: ContextVar[Pending | None] = ContextVar("act", default=None)


def pending() -> Pending | None:
    """The act that the running code is a part of, if it is still to be recorded."""
    found = _current.get()
    return None if found is None or found.settled or found.over else found


def tell(**details: Any) -> None:
    """Say more of what is being done, for its record: what it has come to, say, without secrets."""
    if (found := pending()) is not None:
        found.tell(**details)


@contextmanager
def acting(act: Act | Pending) -> Iterator[Pending]:
    """What the block does is that act. On leaving, it is over: what the block has started does not record it."""
    entered = act if isinstance(act, Pending) else Pending(lambda: act)
    token = _current.set(entered)
    try:
        yield entered
    finally:
        _current.reset(token)
        entered.over = True


@contextmanager
def apart() -> Iterator[None]:
    """What the block does and starts is no part of the act that is being done."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)
