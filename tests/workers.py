"""Worker processes for services within the tests' own process."""

from __future__ import annotations

import os
import socket
import subprocess

from orchestrator.history.workers import Workers, import_path

_Parent = tuple[subprocess.Popen[bytes], socket.socket]
# What a warm parent was started with, and it: they end with this process, whose end of the socket closes.
_parents: dict[object, _Parent] = {}
# What env.py files import, with the drivers' packages, and what a worker of ours imports while it works: with it in the
# parent, a worker costs a quarter.
BEFOREHAND = (
    "aiosqlite",
    "asyncmy.cursors",
    "asyncpg",
    "encodings.idna",
    "logging.config",
    "orchestrator.history.checkpoints",
    "orchestrator.history.owners",
    "orchestrator.history.sqlite_indexes",
    "orchestrator.registry.verifications",
    "psycopg",
    "pymysql",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
)


class SharedWorkers(Workers):
    """Workers whose warm parent stays for the next service: starting one takes half a second, in hundreds of tests.

    Only the parent is shared, which runs no job; each job has a process of its service's own, as always.
    """

    __slots__ = ()
    serve = f"import gc, {', '.join(BEFOREHAND)}; gc.freeze(); {Workers.serve}"

    def _warm(self) -> socket.socket:
        if self._control is None:
            known = _parents.get(_surroundings())
            if known is not None and known[0].poll() is None:
                self._parent, self._control = known
        control = super()._warm()
        assert self._parent is not None
        _parents[_surroundings()] = self._parent, control
        return control

    def _forget_parent(self) -> None:
        _parents.pop(_surroundings(), None)
        super()._forget_parent()

    def close(self) -> None:
        with self._lock:
            self._control = self._parent = None
        super().close()


def _surroundings() -> object:
    """What a warm parent takes from the process that starts it."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return tuple(sorted(environ.items())), tuple(import_path()), os.getcwd()
