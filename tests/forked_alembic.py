"""The real `alembic` command line as processes that are forked from one that has imported it, with our plugin."""

from __future__ import annotations

import gc
import importlib
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import forking

# What an env.py and the migrations of `tests.environments` import, and what SQLAlchemy does for PostgreSQL.
_BEFOREHAND = ("alembic.op", "logging.config", "psycopg", "sqlalchemy.dialects.postgresql.psycopg")

# What Alembic itself loads of ours, as its plugin.
_PLUGIN = {
    "orchestrator",
    "orchestrator.history",
    "orchestrator.history.lives",
    "orchestrator.history.operations",
    "orchestrator.history.plugin",
    "orchestrator.history.touched",
}


def start(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: int, stdout: int, stderr: int
) -> forking.Forked:
    """Start `alembic <arguments>` with these streams, which stay the caller's to close."""
    job = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)}
    return forking.asked(forking.server("tests.forked_alembic"), job, [stdin, stdout, stderr])


if __name__ == "__main__":
    from alembic.config import main

    for name in _BEFOREHAND:
        importlib.import_module(name)
    ours = {name for name in sys.modules if name.split(".")[0] == "orchestrator"}
    assert ours <= _PLUGIN, ours
    gc.freeze()
    job = forking.Forking([socket.socket(fileno=int(sys.argv[1]))]).serve()
    forking.take_on(job)
    job["server"].close()
    sys.path[0] = job["cwd"]
    main(job["arguments"], prog="alembic")
