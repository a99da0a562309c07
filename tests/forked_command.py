"""The command line, and the warm parents of its workers, as processes that are forked."""

from __future__ import annotations

import gc
import importlib
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.history import worker, workers
from tests import forking

# What commands import when they are called, some of it in threads.
_BEFOREHAND = (
    "asyncio.subprocess",
    "asyncmy.cursors",
    "orchestrator.api.schemas",
    "orchestrator.cli.application",
    "orchestrator.cli.remarks",
    "orchestrator.client.daemon",
    "orchestrator.service.alembic_command",
    "orchestrator.service.checking",
    "orchestrator.service.daemon",
    "orchestrator.service.foreground",
    "uvicorn.protocols.http.h11_impl",
)
# The order of hashes that warm parents are started with.
_HASHES = {"PYTHONHASHSEED": "0"}


def start(
    arguments: Sequence[str], *, cwd: Path | str, env: Mapping[str, str], stdin: int, stdout: int, stderr: int
) -> forking.Forked:
    """Start `orchestrator <arguments>` with these streams, which stay the caller's to close."""
    job = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)}
    return forking.asked(forking.server("tests.forked_command", _HASHES), job, [stdin, stdout, stderr])


def _become(job: dict[str, Any]) -> None:
    """Be the command, or the warm parent, as far as it can see."""
    given, server = forking.take_on(job), job["server"]
    if "path" in job:
        os.setsid()
        server.close()
        sys.path[:] = job["path"]
        worker.serve(given[0])
        os._exit(0)
    sys.path[0] = job["cwd"]
    sys.argv = ["orchestrator", *job["arguments"]]
    workers.Workers._warm = _warm_from(server)  # type: ignore[assignment, method-assign]


def _warm_from(server: socket.socket) -> Callable[[workers.Workers], socket.socket]:
    """`Workers._warm` with a parent that is forked, too."""

    def warm(self: workers.Workers) -> socket.socket:
        if self._control is None:
            path = workers.import_path()
            env = {**os.environ, **_HASHES, "PYTHONPATH": os.pathsep.join(path)}
            job = {"cwd": os.getcwd(), "env": env, "path": path}
            ours, theirs = socket.socketpair()
            with theirs, open(os.devnull) as null:
                self._parent = forking.asked(server, job, [null.fileno(), 2, 2, theirs.fileno()])  # type: ignore[assignment]
            self._control = ours
        return self._control

    return warm


if __name__ == "__main__":
    from orchestrator.cli.application import main

    for name in _BEFOREHAND:
        importlib.import_module(name)
    gc.freeze()
    _become(forking.Forking([socket.socket(fileno=int(sys.argv[1]))]).serve())
    main()
