"""Run a project's own, unmodified env.py for one target, in this process and thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.backfill.model import Answer, Report
from orchestrator.errors import MigrationFailedError, WrongDatabaseError
from orchestrator.history import applications, attributes, failures, pacing, session, tasklocal, watching
from orchestrator.history import config as configuration
from orchestrator.history.jobs import MigrateJob, Observed
from orchestrator.history.progress import Observer, Progress
from orchestrator.history.revisions import argument
from orchestrator.history.session import Session
from orchestrator.registry.model import Track


def run(job: MigrateJob, scripts: ScriptDirectory, observer: Observer) -> None:
    """Bring the job's target along its plan through env.py. Blocks; runs the project's code.

    Raises TargetError for whatever went wrong: WrongDatabaseError, HeadsChangedError, or MigrationFailedError with
    the revision, statement and SQLSTATE. Secrets are taken out of the messages. When it raises, the transaction that
    env.py held was rolled back by env.py's own `with`; steps committed before remain, as the version table tells.
    """
    tasklocal.install()
    session.install()
    progress = Progress(job, scripts, observer)
    config = configuration.make(job.track, url=job.url, tenant=job.tenant)
    try:
        with (
            session.applied(Session(job.rules, observer.backend, progress)),
            attributes.handed(config, job.url),
            applications.entered(scripts.dir),
            _paced(job, observer),
            progress.watching(),
            _Environment(config, scripts, job, progress),
        ):
            scripts.run_env()
    except BaseException as exc:  # a SystemExit raised by a revision must not end the daemon
        # After the last revision only a commit can still fail for its sake.
        running = progress.current if isinstance(exc, DBAPIError) or not progress.finished else None
        failure = failures.translate(exc, running, scripts.dir, job.secrets)
        progress.complete(failure)
        progress.tell_traced(failure.code)
        raise failure from exc
    progress.tell_traced(None)
    if not progress.ran:
        raise MigrationFailedError(
            "env.py ended without running migrations",
            remedy="it must call context.run_migrations() when not in offline mode, in its own thread and process",
        )
    if job.observed:
        lines = progress.wire.lines if progress.wire is not None else ()
        observer.observed(Observed(progress.state, tuple(progress.remarks), progress.recording(), lines))


@dataclass(frozen=True, slots=True)
class _Asking:
    """A `Pacer` that asks whoever started the migration."""

    ask: Callable[[Report], Answer]


def _paced(job: MigrateJob, observer: Observer) -> AbstractContextManager[None]:
    """Backfills ask the observer, where somebody answers; else they pace themselves."""
    return pacing.applied(_Asking(observer.batch)) if job.paced and observer.batch is not None else nullcontext()


class _Environment(watching.WatchedEnvironment):
    """Adds to what env.py gives to `configure()`: the target's version table, and our callback."""

    def __init__(self, config: Config, scripts: ScriptDirectory, job: MigrateJob, progress: Progress) -> None:
        destination: Any = argument(job.plan.goal)
        self._job, self._progress = job, progress
        super().__init__(config, scripts, fn=progress.walk, as_sql=False, destination_rev=destination, tag=None)

    def asked(self, what: str) -> None:
        if self._progress.steps is not None:
            self._progress.steps.note(f"it asks {what}")

    def configure(self, connection: Connection | None = None, *args: Any, **options: Any) -> None:
        refuse_unproved(connection)
        if connection is not None:
            session.prove_schema(self._job.rules, connection)
        settle(self._job, options)
        callbacks = options.get("on_version_apply") or ()
        if callbacks:
            self._progress.remark("env.py has `on_version_apply` callbacks")
        callbacks = tuple(callbacks) if isinstance(callbacks, (tuple, list, set)) else (callbacks,)
        options["on_version_apply"] = (*callbacks, self._progress.applied)
        super().configure(connection, *args, **options)


class Settled(Protocol):
    """A job for a target whose version table is known."""

    @property
    def track(self) -> Track: ...
    @property
    def version_table(self) -> str: ...
    @property
    def version_table_schema(self) -> str | None: ...


def refuse_unproved(connection: Connection | None) -> None:
    """Raises WrongDatabaseError for a connection that the rules of this migration were not applied to."""
    if connection is not None and not session.is_proved(connection):
        raise WrongDatabaseError(
            "env.py gives Alembic a connection that was not made by SQLAlchemy's pool within this migration, so it "
            "could not be proved to lead to the target; nothing was run",
            remedy="make the engine and connect inside env.py",
        )


def settle(job: Settled, options: dict[str, Any]) -> None:
    """Give env.py the target's version table; refuse where it insists on another: we would read the wrong heads."""
    for name, ours in (("version_table", job.version_table), ("version_table_schema", job.version_table_schema)):
        theirs = options.get(name)
        if theirs is not None and theirs != ours:
            raise MigrationFailedError(
                f"env.py sets {name}={theirs!r}, but the heads were read from {ours!r}; nothing was run",
                remedy=f"set `{name}` on track {job.track.name!r} to what env.py makes; {{tenant}} may stand in it",
            )
        if ours is not None:
            options[name] = ours
