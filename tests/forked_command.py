"""The command line, the warm parents of its workers and what runs Alembic's commands, as processes that are forked."""

from __future__ import annotations

import gc
import importlib
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.history import command, modules, worker, workers
from tests import forking, stores
from tests.workers import BEFOREHAND

# What commands import when they are called, some of it in threads.
_BEFOREHAND = (
    *BEFOREHAND,
    "asyncio.subprocess",
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


# A program that has the command forked, for scripts that call it by its name.
_PROGRAM = """\
#!{python} -S
import os, socket, sys
sys.path.insert(0, {root!r})
from tests import forking
job = {{"arguments": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}
sys.exit(forking.asked(socket.socket(fileno={line}), job, [0, 1, 2]).wait())
"""


def put(file: Path) -> int:
    """Make `file` the command for a script, which must be given the descriptor, and run one command at a time."""
    line = forking.server("tests.forked_command", _HASHES).fileno()
    file.write_text(_PROGRAM.format(python=sys.executable, root=str(forking.ROOT), line=line))
    file.chmod(0o755)
    return line


def _become(job: dict[str, Any]) -> None:
    """Be the command, or what a command has started, as far as it can see."""
    given, server = forking.take_on(job), job["server"]
    if "path" in job:
        server.close()
        sys.path[:] = job["path"]
        if job["runs"] == "command":
            command.serve(given[0])
        os.setsid()
        worker.serve(given[0])
        os._exit(0)
    sys.path[0] = job["cwd"]
    sys.argv = ["orchestrator", *job["arguments"]]
    workers.Workers._warm = _warm_from(server)  # type: ignore[assignment, method-assign]
    command.Child._started = _child_from(server)  # type: ignore[assignment, method-assign]


def _child_from(server: socket.socket) -> Callable[[command.Child, socket.socket], forking.Forked]:
    """`Child._started` with one that is forked, which has the command's streams."""

    def started(self: command.Child, theirs: socket.socket) -> forking.Forked:
        return forking.asked(server, _job("command", {}), [0, 1, 2, theirs.fileno()])

    return started


def _job(runs: str, environ: Mapping[str, str]) -> dict[str, Any]:
    path = workers.import_path()
    env = {**os.environ, **environ, "PYTHONPATH": os.pathsep.join(path)}
    return {"runs": runs, "cwd": os.getcwd(), "env": env, "path": path}


def _warm_from(server: socket.socket) -> Callable[[workers.Workers], socket.socket]:
    """`Workers._warm` with a parent that is forked, too."""

    def warm(self: workers.Workers) -> socket.socket:
        if self._control is None:
            job = _job("worker", _HASHES)
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
    stores.install()
    modules.look_up()
    gc.freeze()
    _become(forking.Forking([socket.socket(fileno=int(sys.argv[1]))]).serve())
    main()
