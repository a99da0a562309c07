"""Everything the orchestrator raises on purpose.

    OrchestratorError
    ├── ConfigurationError          the operator's files or flags are wrong; nothing was started
    │   ├── RegistryError           the registry file: every mistake at once, with line and column
    │   ├── SelectorError           a label selector that cannot be read
    │   ├── HistoryError            a track's Alembic side: env.py, revision files, goals
    │   └── UnsupportedAlembicError Alembic's internals are not as this release expects
    ├── RequestError                one request cannot be met; the daemon goes on
    │   ├── NotFoundError           no such rollout or tenant
    │   ├── ConflictError           another active rollout holds some of the targets
    │   ├── PlanChangedError        what would run is not what was planned
    │   ├── ForbiddenError          who asks may not do this, or is not proved
    │   └── StateError              a rollout, token or schedule is not in a state that allows this
    │       └── FrozenError         nothing may start at present
    ├── UnavailableError            something we need cannot be reached
    │   ├── StoreError              the control database
    │   │   └── LeadershipLostError another process drives the store's rollouts now
    │   ├── DiscoveryError          a source of tenants
    │   └── DaemonError             the daemon, as seen from the command line
    ├── CheckError                  what a check between waves asks gives no answer
    ├── EmbeddedServerError         the private PostgreSQL of the demo and the tests
    └── TargetError                 one target could not be migrated; becomes its recorded outcome
        ├── TargetUnreachableError  no connection could be had
        ├── WrongDatabaseError      the connection is not the target's database
        ├── TargetLockedError       somebody else holds the target
        ├── TargetAheadError        the target is at a revision this build does not know
        ├── HeadsChangedError       the version table changed under our feet
        └── MigrationFailedError    a revision or env.py failed

Every message says what happened and where; `remedy` says what to do next. The command line prints both and
uses `exit_code` (DESIGN: 2 bad input, 3 failed targets, 4 stopped, 5 unreachable, 1 a bug).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class OrchestratorError(Exception):
    """Something went wrong."""

    exit_code = 1

    def __init__(self, message: str | None = None, *, remedy: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.remedy = remedy
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class ConfigurationError(OrchestratorError):
    """The configuration is not valid."""

    exit_code = 2


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake in a file: `line` and `column` count from 1; 0 when unknown."""

    line: int
    column: int
    message: str
    path: str = ""

    def __str__(self) -> str:
        where = f"{self.line}:{self.column}: " if self.line else ""
        return f"{where}{self.path + ': ' if self.path else ''}{self.message}"


class RegistryError(ConfigurationError):
    """The registry file has mistakes."""

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(sorted(mistakes))
        count = len(self.mistakes)
        lines = [f"{source}: {count} mistake{'s' if count != 1 else ''}"]
        lines += [f"  {source}:{mistake}" for mistake in self.mistakes]
        super().__init__("\n".join(lines))


class SelectorError(ConfigurationError):
    """The selector cannot be read."""


class HistoryError(ConfigurationError):
    """The track's migration history cannot be used."""

    def __init__(
        self,
        message: str,
        *,
        track: str,
        file: str | None = None,
        line: int | None = None,
        remedy: str | None = None,
    ) -> None:
        self.track, self.file, self.line = track, file, line
        where = f" [{file}{f':{line}' if line else ''}]" if file else ""
        super().__init__(f"track {track!r}: {message}{where}", remedy=remedy)


class UnplannableError(OrchestratorError):
    """The goal means nothing for a target's heads."""


class UnsupportedAlembicError(ConfigurationError):
    """The installed Alembic does not look as this release expects."""


class RequestError(OrchestratorError):
    """The request cannot be met."""

    exit_code = 2


class NotFoundError(RequestError):
    """There is no such thing."""


class ConflictError(RequestError):
    """Another active rollout holds some of the targets."""

    def __init__(self, message: str, *, rollout: str, targets: Sequence[str] = (), remedy: str | None = None) -> None:
        self.rollout, self.targets = rollout, tuple(targets)
        super().__init__(message, remedy=remedy)


class PlanChangedError(RequestError):
    """What would run is no longer what was planned."""

    exit_code = 4  # the gate of an approval, not a wrong request

    def __init__(self, message: str, *, differences: Sequence[str] = (), remedy: str | None = None) -> None:
        self.differences = tuple(differences)
        super().__init__(message, remedy=remedy)


class ForbiddenError(RequestError):
    """Who asks may not do this."""


class StateError(RequestError):
    """It is not in a state that allows this."""


class FrozenError(StateError):
    """The fleet is frozen: nothing may start."""


class UnavailableError(OrchestratorError):
    """Something that is needed cannot be reached."""

    exit_code = 5


class StoreError(UnavailableError):
    """The store cannot be used."""


class CheckError(OrchestratorError):
    """A check gets no answer."""


class LeadershipLostError(StoreError):
    """Another process drives the rollouts of the store now."""


class DaemonError(UnavailableError):
    """The daemon cannot be reached."""


class DiscoveryError(UnavailableError):
    """A source of tenants does not tell them."""


class EmbeddedServerError(OrchestratorError):
    """The embedded PostgreSQL server could not be started."""

    exit_code = 2


class TargetError(OrchestratorError):
    """One target could not be migrated.

    `kind` is the error class in one word, `code` a SQLSTATE or driver code where there is one, `revision` the
    revision that was running, `statement` its SQL without bound values: together the failure's signature.
    """

    kind = "error"

    def __init__(
        self,
        message: str | None = None,
        *,
        remedy: str | None = None,
        kind: str | None = None,
        code: str | None = None,
        revision: str | None = None,
        statement: str | None = None,
        retriable: bool = False,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.kind = kind or type(self).kind
        self.code, self.revision, self.statement, self.retriable = code, revision, statement, retriable


class TargetUnreachableError(TargetError):
    """The target's database cannot be reached."""

    kind = "unreachable"


class WrongDatabaseError(TargetError):
    """The connection does not lead to the target's database."""

    kind = "wrong_database"


class TargetLockedError(TargetError):
    """Somebody else holds the target."""

    kind = "locked"


class TargetSkippedError(TargetError):
    """The target is left alone because the registry says so."""

    kind = "skipped"


class TargetAheadError(TargetError):
    """The target is at a revision that this build does not know."""

    kind = "ahead"


class HeadsChangedError(TargetError):
    """The version table changed since the plan was made."""

    kind = "heads_changed"

    def __init__(
        self,
        message: str | None = None,
        *,
        remedy: str | None = "let whoever else migrates the target finish, then retry",
        **fields: Any,
    ) -> None:
        super().__init__(message, remedy=remedy, **fields)


class MigrationFailedError(TargetError):
    """A migration failed."""

    kind = "failed"


# The kind of a MigrationFailedError that left a part of its revision behind: trying again would fail at that part.
HALF_APPLIED = "half_applied"
# The kinds of one whose backfill stopped at the end of a batch: to go on later, because a person ended it, or because
# not even the smallest batch goes through. What its batches have done stays, and is not done again.
BACKFILL_STOPPED, BACKFILL_ABORTED, BACKFILL_TOO_SLOW = "backfill_stopped", "backfill_aborted", "backfill_too_slow"
# The kind of one that came without an error to other heads than were planned.
NOT_AT_GOAL = "not_at_goal"


def leaves(exc: BaseException) -> Sequence[BaseException]:
    """The errors in a group, however deeply nested, in order; an error that is no group is its own leaf.

    >>> leaves(ExceptionGroup("", [OSError(1), ExceptionGroup("", [ValueError(2)])]))
    [OSError(1), ValueError(2)]
    """
    if not isinstance(exc, BaseExceptionGroup):
        return [exc]
    return [leaf for inner in exc.exceptions for leaf in leaves(inner)]
