"""Run Alembic's own command line for one target, in a child process with our terminal.

The child gets its job over a socket, so that no secret is on a command line, and follows the rules of any migration:
every connection is proved, and told our settings.
"""

from __future__ import annotations

import logging.config
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from alembic.config import CommandLine
from alembic.runtime.environment import EnvironmentContext

from orchestrator.errors import ConfigurationError, TargetError
from orchestrator.history import applications, attributes, environment, failures, session
from orchestrator.history import config as configuration
from orchestrator.history.session import Session
from orchestrator.history.workers import import_path
from orchestrator.registry.model import Track
from orchestrator.sessions import SessionRules

FAILED = 3
_PROGRAM = "orchestrator alembic --"
_SERVE = "from orchestrator.history import command; command.serve({})"
_CHANGE = frozenset({"upgrade", "downgrade", "stamp", "ensure_version"})


@dataclass(frozen=True, slots=True)
class CommandJob:
    """One command for one target. `url` and `environment` hold secrets: never shown."""

    track: Track
    tenant: str
    arguments: tuple[str, ...]
    version_table: str
    version_table_schema: str | None
    rules: SessionRules
    url: str = field(repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


def changes_database(arguments: Sequence[str]) -> bool:
    """Whether the command writes to the database.

    Raises ConfigurationError when none is given or it names a configuration, and SystemExit, as Alembic does, with its
    usage on standard error when it cannot be read.
    """
    options = _parsed(arguments)
    return options.cmd[0].__name__ in _CHANGE and not getattr(options, "sql", False)


class Child:
    """The process that runs the command. `run` blocks until it has ended; `end` may be called from any thread."""

    def __init__(self, job: CommandJob, on_backend: Callable[[int], None]) -> None:
        self._job, self._on_backend = job, on_backend
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Alembic's exit code; 128 and the signal when one ended it."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._process = self._started(theirs)
            connection = Connection(os.dup(ours.fileno()))
            with connection:
                try:
                    connection.send(self._job)
                    while True:
                        self._on_backend(connection.recv())
                except (EOFError, OSError):
                    pass  # it ended
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _started(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _SERVE.format(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(import_path())},
        )

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


def serve(descriptor: int) -> NoReturn:
    """The child: run the job that arrives, and end as Alembic's command line would."""
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    job: CommandJob = connection.recv()
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    os.environ.update(job.environment)
    os.chdir(configuration.base(job.track))
    try:
        _run(job, connection.send)
    except SystemExit:
        raise
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BaseException as exc:
        sys.exit(_told(exc, job))
    sys.exit(0)


def _end_with(connection: Connection) -> None:
    """The orchestrator writes nothing after the job: readable means gone, and its lock with it."""
    try:
        connection.poll(None)
    finally:
        os._exit(FAILED)


def _run(job: CommandJob, on_backend: Callable[[int], None]) -> None:
    logging_as_given = logging.config.fileConfig, logging.config.dictConfig
    session.install()
    # env.py sets up the logging of this process as it would for Alembic: it is nobody else's.
    logging.config.fileConfig, logging.config.dictConfig = logging_as_given
    _settle_every_context(job)
    options = _parsed(job.arguments)
    options.x = [*(options.x or ()), f"tenant={job.tenant}"]
    config = configuration.make(job.track, url=job.url, tenant=job.tenant)
    config.cmd_opts, config.stdout = options, sys.stdout
    scripts = configuration.directory(job.track, config)
    with (
        session.applied(Session(job.rules, on_backend)),
        attributes.handed(config, job.url),
        applications.entered(scripts.dir),
    ):
        CommandLine(prog=_PROGRAM).run_cmd(config, options)


def _settle_every_context(job: CommandJob) -> None:
    """Give env.py the target's version table, and refuse a connection that was not proved."""
    original = EnvironmentContext.configure

    def configure(self: EnvironmentContext, connection: Any = None, *args: Any, **options: Any) -> None:
        environment.refuse_unproved(connection)
        if connection is not None:
            session.prove_schema(job.rules, connection)
        environment.settle(job, options)
        original(self, connection, *args, **options)

    replaced: Any = EnvironmentContext
    replaced.configure = configure


def _parsed(arguments: Sequence[str]) -> Namespace:
    parser = CommandLine(prog=_PROGRAM).parser
    options = parser.parse_args(list(arguments))
    if not hasattr(options, "cmd"):
        raise ConfigurationError(
            "no Alembic command was given", remedy="give one after `--`, as in `-- current` or `-- upgrade head`"
        )
    if options.cmd[0].__name__ == "init":
        raise ConfigurationError("`init` makes a new project, for no tenant", remedy="run `alembic init` itself")
    for name in ("config", "name"):
        if getattr(options, name) != parser.get_default(name):
            raise ConfigurationError(
                f"Alembic's `--{name}` is the track's to say", remedy="leave it out, and choose with --track"
            )
    return options


def _told(exc: BaseException, job: CommandJob) -> int:
    """Say what went wrong on standard error; the exit code."""
    known = failures.target_error_within(exc)
    if known is not None:
        text = f"error: {known.message}" + (f"\n  try: {known.remedy}" if known.remedy else "")
    else:
        text = "".join(traceback.format_exception(exc)).rstrip()
    sys.stderr.write(f"{failures.redact(text, job.secrets)}\n")
    return FAILED if isinstance(known, TargetError) else 1
