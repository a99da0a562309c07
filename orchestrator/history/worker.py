"""The worker's side: processes that run the project's code, so that the daemon never does.

All are forked from the *warm parent*, a single-threaded process that has imported Alembic and SQLAlchemy but nothing of
the application (forking the daemon itself, with its threads, could deadlock). There are two kinds. A worker *for one
job* serves an env.py that reads `os.environ`: applications cache settings at import, so a process that had served one
tenant would send the next one's DDL to the first. A *host* stays and migrates many targets in threads, which the
task-local layer makes safe. No process outlives the daemon, even one killed with -9: each ends when its socket closes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

# Loaded before there are threads: SQLAlchemy finds its dialects by an import that is not safe among them.
import sqlalchemy.dialects.mysql
import sqlalchemy.dialects.postgresql
import sqlalchemy.dialects.sqlite  # noqa: F401
from alembic.script import ScriptDirectory

# Registered with releases of Alembic that know no plugins, too.
import orchestrator.history.operations  # noqa: F401
from orchestrator.backfill.model import Answer, Report
from orchestrator.errors import HistoryError, MigrationFailedError, OrchestratorError, TargetError
from orchestrator.history import compile as compiler
from orchestrator.history import environment, failures, loaded, modules, scripts, session, tasklocal
from orchestrator.history.jobs import CompileJob, HostJob, Job, Kind, Message, MigrateJob, Observed, ReadJob, packed
from orchestrator.history.probe import probe
from orchestrator.history.progress import Observer
from orchestrator.history.revisions import Contents, Snapshot, read_anew
from orchestrator.history.traced import Traced
from orchestrator.plan.compiled import Rendering
from orchestrator.registry.model import Track

STEPS_SECONDS = 0.1
# A job that has had its time is hung up on; a worker that does not hear that ends by itself so much later.
PATIENCE_SECONDS = 5.0


def serve(control_fd: int) -> None:
    """The warm parent: fork a worker for each socket that arrives; end when the daemon's end closes."""
    modules.look_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers are not waited for: their sockets tell all
    with socket.socket(fileno=control_fd) as control:
        while (received := _next_socket(control)) is not None:
            if os.fork() == 0:
                control.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _work(received)
            received.close()


def _next_socket(control: socket.socket) -> socket.socket | None:
    data, received, _, _ = socket.recv_fds(control, 1, 1)
    if not data:
        return None
    os.set_inheritable(received[0], False)  # a program that outlives us must not keep the daemon waiting for our end
    return socket.socket(fileno=received[0])


def _work(own: socket.socket) -> None:
    """A forked worker, from its job to its end; `os._exit` so that nothing of the parent's runs at exit."""
    code = 1
    try:
        speaker = _Speaker(own)
        job: Job = speaker.connection.recv()
        if not isinstance(job, MigrateJob):
            _end_after(job.seconds + PATIENCE_SECONDS)
        if isinstance(job, HostJob):
            _host(own, job, speaker)
        else:
            speaker.listen()
            os.environ.update(job.environment)
            _answer(job, speaker, None)
        code = 0
    except (EOFError, ConnectionError):
        pass  # the daemon hung up
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _end_after(seconds: float) -> None:
    """End the process then: who listens for the daemon's end is a thread, and code in C may let none run (a regular
    expression). With a traceback, where there is a standard error for it."""
    with contextlib.suppress(RuntimeError):
        faulthandler.dump_traceback_later(seconds, exit=True)


def _end_with(connection: Connection, ready: threading.Event) -> None:
    """End the process when the daemon hangs up before the history is loaded and this one `ready`: the daemon does not
    write meanwhile, so readable means gone."""
    with contextlib.suppress(Exception):
        connection.poll(None)
    if not ready.is_set():
        os._exit(3)


def _host(own: socket.socket, job: HostJob, speaker: _Speaker) -> None:
    """Migrate in threads what arrives, one socket for each target, until the daemon hangs up."""
    ready = threading.Event()
    threading.Thread(target=_end_with, args=(speaker.connection, ready), daemon=True).start()
    try:
        tasklocal.install()
        session.install()
        history = _load(job)
        loaded.keep((script.path for script in history.directory.walk_revisions()), job.modules)
    except (Exception, SystemExit) as exc:
        speaker.say("failed", packed(_error(job, exc)))
        return
    ready.set()
    faulthandler.cancel_dump_traceback_later()
    # Threads that compute keep others waiting for this long (the default is 5 ms): with many targets that talk to
    # servers, handing over often is worth more than it costs.
    sys.setswitchinterval(0.001)
    gc.freeze()  # what is loaded by now stays; and Alembic makes much garbage, little of it in cycles
    gc.set_threshold(50_000, 20, 50)
    speaker.say("done", None)
    while (received := _next_socket(own)) is not None:
        threading.Thread(target=_migrate_in_thread, args=(received, history), daemon=True).start()


def _migrate_in_thread(own: socket.socket, history: _Loaded) -> None:
    speaker = _Speaker(own)
    with own, speaker.connection, contextlib.suppress(EOFError, OSError):
        _answer(speaker.connection.recv(), speaker, history)


def _answer(job: MigrateJob | ReadJob | CompileJob, speaker: _Speaker, history: _Loaded | None) -> None:
    """Do the job and say how it ended; the last word of a worker on its socket."""
    try:
        speaker.say("done", _perform(job, speaker, history))
    except (Exception, SystemExit) as exc:
        speaker.say("failed", packed(_error(job, exc)))


def _error(job: Job, exc: BaseException) -> OrchestratorError:
    """What the daemon's callers expect: HistoryError of a reading, TargetError of a migration."""
    if isinstance(exc, HistoryError if isinstance(job, ReadJob) else TargetError):
        return exc
    known = isinstance(exc, OrchestratorError)
    text = exc.message if isinstance(exc, OrchestratorError) else f"the worker failed: {type(exc).__name__}: {exc}"
    text = failures.redact(text, () if isinstance(job, HostJob) else job.secrets)
    remedy = exc.remedy if isinstance(exc, OrchestratorError) else None
    if not isinstance(job, ReadJob):
        return MigrationFailedError(text, kind="history" if known else "bug", remedy=remedy)
    file = str(job.track.config or job.track.script_location)
    return HistoryError(text, track=job.track.name, file=file, remedy=remedy or "correct the track's files")


def _perform(
    job: MigrateJob | ReadJob | CompileJob, speaker: _Speaker, history: _Loaded | None
) -> Snapshot | Rendering | None:
    if isinstance(job, ReadJob):
        return _read_to_plan(job)
    if isinstance(job, CompileJob):
        return compiler.render(job, _load(job).directory)
    environment.run(job, history.unchanged(job.track) if history else _load(job).directory, _observer(speaker))
    return None


def _read_to_plan(job: ReadJob) -> Snapshot:
    """The files, what env.py does, and which modules of the project they import. Of an env.py that cannot be tried, no
    modules: it may end elsewhere the next time."""
    path = set(sys.path)
    snapshot, read = _read(job.track, job.secrets)
    files = [file.file for file in snapshot.files]
    found = modules.imported(snapshot.folder, files, path)
    env_py = probe(job, read)
    if env_py.problem is None:
        found = modules.imported(snapshot.folder, files, path)
    return replace(snapshot.with_modules(found), env_py=env_py)


def _observer(speaker: _Speaker) -> Observer:
    return Observer(
        speaker.backend, speaker.step, speaker.observed, speaker.lasting, speaker.batch, traced=speaker.traced
    )


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A history that is loaded, and what its files were then."""

    directory: ScriptDirectory
    contents: Contents

    def unchanged(self, track: Track) -> ScriptDirectory:
        """For one more run, which reads env.py and the configuration anew: they must be those of before."""
        if not set(self.contents).issuperset(read_anew(track, self.directory.dir)):
            raise _changed(self.directory.dir)
        return self.directory


def _load(job: MigrateJob | CompileJob | HostJob) -> _Loaded:
    """The track's scripts, if they are still the ones that the plan was made from."""
    try:
        snapshot, directory = _read(job.track, () if isinstance(job, HostJob) else job.secrets)
    except HistoryError as exc:
        raise MigrationFailedError(exc.message, kind="history", remedy=exc.remedy) from exc
    snapshot = snapshot.with_modules(job.modules)
    if snapshot.digest != job.digest:
        raise _changed(snapshot.folder)
    return _Loaded(directory, snapshot.contents)


def _changed(folder: str) -> MigrationFailedError:
    return MigrationFailedError(
        f"the files in {folder}, or Alembic's configuration, changed since the rollout was planned; nothing was run",
        kind="files_changed",
        remedy="start a new rollout, which takes the files as they are now",
    )


def _read(track: Track, secrets: tuple[str, ...]) -> tuple[Snapshot, ScriptDirectory]:
    try:
        return scripts.read(track)
    except HistoryError as exc:
        exc.message = failures.redact(exc.message, secrets)
        raise


class _Speaker:
    """Says things on a job's socket, from any thread of the worker."""

    def __init__(self, own: socket.socket) -> None:
        self.connection = Connection(os.dup(own.fileno()))
        self._lock = threading.Lock()
        self._steps: list[tuple[str, float]] = []
        self._told = 0.0
        self._answers: queue.SimpleQueue[Any] | None = None
        self._asking = threading.Lock()

    def listen(self) -> None:
        """Hear answers in a thread from now on, and end the process when the daemon hangs up."""
        self._answers = queue.SimpleQueue()
        threading.Thread(target=self._hear, args=(self._answers,), daemon=True).start()

    def _hear(self, answers: queue.SimpleQueue[Any]) -> None:
        with contextlib.suppress(Exception):
            while True:
                answers.put(self.connection.recv())
        os._exit(3)

    def say(self, kind: Kind, value: Any) -> None:
        with self._lock:
            self._tell_steps()
            self.connection.send(Message(kind, value))

    def backend(self, backend: int) -> None:
        self.say("backend", backend)

    def observed(self, observed: Observed) -> None:
        self.say("observed", observed)

    def traced(self, traced: Traced) -> None:
        self.say("traced", traced)

    def lasting(self, revision: str) -> None:
        """Returns when the daemon has written it down. Raises EOFError or OSError when it hangs up instead."""
        self._ask("lasting", revision)

    def batch(self, report: Report) -> Answer:
        """What the daemon says to the next batch of a backfill. Raises EOFError or OSError when it hangs up instead."""
        answer: Answer = self._ask("batch", report)
        return answer

    def _ask(self, kind: Kind, value: Any) -> Any:
        """Say it and wait for the answer; one question at a time."""
        with self._asking:
            self.say(kind, value)
            return self.connection.recv() if self._answers is None else self._answers.get()

    def step(self, revision: str, seconds: float) -> None:
        """Steps are many and quick, and only watched: those of a moment are told together."""
        with self._lock:
            self._steps.append((revision, seconds))
            if time.monotonic() - self._told >= STEPS_SECONDS:
                self._tell_steps()

    def _tell_steps(self) -> None:
        if self._steps:
            self.connection.send(Message("steps", tuple(self._steps)))
            self._steps.clear()
            self._told = time.monotonic()
