"""Try env.py with a connection that leads nowhere, to see what it would do with a real one.

env.py runs as in a migration, but SQLAlchemy's engines hand out a connection that takes everything and answers nothing,
and no revision runs. Run for two tenants that do not exist: what differs depends on the tenant. Only ever done in a
worker process that ends afterwards: SQLAlchemy is changed for good.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine
from sqlalchemy.engine import URL, Connection, Engine, make_url

from orchestrator.history import applications, attributes, drivers, failures, findings, session, sources, tasklocal
from orchestrator.history import config as configuration
from orchestrator.history.arguments import TENANT, Arguments
from orchestrator.history.attributes import Attributes
from orchestrator.history.findings import EnvPy
from orchestrator.history.jobs import ReadJob
from orchestrator.history.nowhere import Nowhere
from orchestrator.observe import redact

PROBE_SECONDS = 15.0
# Capitals and signs, so that a name that env.py derives from them is told from one that it takes as it is.
TENANTS = ("Probe-A.1", "Probe-B.2")
# What every env.py gives to `configure`, or what is told of elsewhere.
_USUAL = frozenset(
    {"url", "connection", "target_metadata", "literal_binds", "dialect_opts", "dialect_name", "output_buffer"}
)
_TOLD = frozenset({"version_table", "version_table_schema", "transaction_per_migration"})


def probe(job: ReadJob, scripts: ScriptDirectory) -> EnvPy:
    """What env.py does. Never raises: what keeps it from running is in the answer, without secrets."""
    env_py = str(Path(scripts.dir, "env.py"))
    read = EnvPy(
        is_async=drivers.is_async(Path(env_py)),
        variables=sources.variables(env_py),
        imports=sources.imports(env_py),
        attributes=sources.attributes(env_py),
        online=sources.besides(env_py),
    )
    url = job.urls[read.is_async] if job.urls else "sqlite+aiosqlite://" if read.is_async else "sqlite://"
    if job.urls:
        os.environ.update({name: text.replace(job.urls[0], url) for name, text in job.environment.items()})
    runs = [_Run(job, scripts, url, tenant) for tenant in TENANTS]
    for run in runs:
        problem = _within(PROBE_SECONDS, run.try_out)
        if problem is not None:
            text = redact.text(failures.redact(problem, job.secrets))
            return replace(read, problem=text, arguments=tuple(sorted(run.arguments)))
    return _compared(read, runs)


class _Run:
    """One run of env.py, and what it did."""

    def __init__(self, job: ReadJob, scripts: ScriptDirectory, url: str, tenant: str) -> None:
        self.track, self.scripts, self.url, self.tenant = job.track, scripts, url, tenant
        self.options: list[Mapping[str, Any]] = []
        self.arguments: set[str] = set()
        self.attributes: set[str] = set()
        self.connections, self.sends_sql = 0, False
        self.elsewhere: str | None = None

    def try_out(self) -> None:
        tasklocal.install()
        session.install()
        config = configuration.make(self.track, url=self.url, tenant=self.tenant)
        attributes.give(config, Attributes(self._handed, self.attributes.add))
        _divert(self)
        with (
            session.refused(),
            applications.entered(self.scripts.dir),
            _Environment(config, self.scripts, self),
        ):
            self.scripts.run_env()

    def connected(self, engine: Engine) -> Connection:
        self.connections += 1
        if self._is_elsewhere(engine.url):
            url = engine.url
            self.elsewhere = "/".join(filter(None, (url.host, url.database))) or url.get_backend_name()
        return Nowhere(engine, self._executed)

    def _is_elsewhere(self, url: URL) -> bool:
        """Whether it is not where we pointed env.py to; a track's `environment` may name the real server or file."""
        wanted = make_url(self.url)
        if self.track.isolation == "process":
            return wanted.database is not None and url.database != wanted.database
        return (url.host, url.database) != (wanted.host, wanted.database)

    def _executed(self) -> None:
        self.sends_sql = True

    def _handed(self) -> Connection:
        return self.connected(create_engine(drivers.synchronous(make_url(self.url))))


class _Environment(EnvironmentContext):
    """Notes what env.py configures, and runs no revision."""

    def __init__(self, config: Config, scripts: ScriptDirectory, run: _Run) -> None:
        super().__init__(config, scripts, fn=lambda heads, context: (), as_sql=True, destination_rev="base", tag=None)
        self._run = run

    def is_offline_mode(self) -> bool:
        return False

    def get_x_argument(self, as_dictionary: bool = False) -> Any:
        if not as_dictionary:
            self._run.arguments.add(TENANT)
            return super().get_x_argument()
        return Arguments(super().get_x_argument(as_dictionary=True), self._run.arguments.add)

    def configure(self, connection: Connection | None = None, *args: Any, **options: Any) -> None:
        self._run.options.append({name: value for name, value in options.items() if value is not None})
        # A context is made all the same, since env.py may ask for it; the connection's kind of database is all it is.
        plain = {name: options[name] for name in ("target_metadata",) if options.get(name) is not None}
        if connection is not None:
            plain["dialect_name"] = connection.dialect.name
        else:
            plain["url"] = options.get("url")
        super().configure(None, output_buffer=io.StringIO(), **plain)

    def begin_transaction(self) -> Any:
        return nullcontext()

    def run_migrations(self, **kw: Any) -> None:
        pass


def _divert(run: _Run) -> None:
    """From now on, every engine of this process hands out connections that lead nowhere."""
    engine: Any = Engine
    engine.connect = lambda self: run.connected(self)


def _within(seconds: float, function: Callable[[], None]) -> str | None:
    """Run it in a thread, as migrations run; what went wrong, in words."""
    found: list[str] = []

    def call() -> None:
        try:
            function()
        except BaseException as exc:  # a SystemExit of env.py is its own affair
            found.append(f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}".removesuffix(": "))

    thread = threading.Thread(target=copy_context().run, args=(call,), daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return f"it did not end within {seconds:g} s"
    return found[0] if found else None


def _compared(read: EnvPy, runs: list[_Run]) -> EnvPy:
    first = runs[0]
    options: dict[str, Any] = {}
    for given in first.options:
        options.update(given)
    return replace(
        read,
        version_table=_set(runs, "version_table"),
        version_table_schema=_set(runs, "version_table_schema"),
        transaction_per_migration=bool(options.get("transaction_per_migration")),
        metadata=_count(options.get("target_metadata")),
        contexts=len(first.options),
        connections=first.connections,
        sends_sql=first.sends_sql,
        configured=tuple(sorted(set(options) - _USUAL - _TOLD)),
        arguments=tuple(sorted({*first.arguments, *runs[1].arguments})),
        attributes=tuple(sorted({*read.attributes, *first.attributes})),
        elsewhere=first.elsewhere,
        online=_online(read, first, options),
        problem=None if first.options else "it ends without calling context.configure()",
    )


def _online(read: EnvPy, run: _Run, options: Mapping[str, Any]) -> str | None:
    """Why `compile` would give every revision to env.py."""
    if TENANT in run.arguments:
        return "env.py asks which tenant it is for"
    if options.get("on_version_apply"):
        return "env.py has `on_version_apply` callbacks"
    return "env.py sends statements of its own" if run.sends_sql else read.online


def _set(runs: list[_Run], name: str) -> findings.Name | None:
    """What env.py gives for a name, over all contexts that it configures."""
    per_run = [list(dict.fromkeys(given.get(name) for given in run.options)) for run in runs]
    if any(len(values) > 1 for values in per_run) or not all(per_run):
        return findings.UNCLEAR if any(any(values) for values in per_run) else None
    first, second = per_run
    return findings.common((first[0], second[0]), TENANTS)


def _count(metadata: Any) -> int:
    if metadata is None or isinstance(metadata, MetaData):
        return int(metadata is not None)
    return len(list(metadata)) if isinstance(metadata, Iterable) else 1
