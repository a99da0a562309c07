"""A person at a terminal: the real `alembic` command line, the project's own env.py, nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import anyio
import anyio.to_thread

from orchestrator.databases.embedded import Server
from tests import forked_alembic, forking


@dataclass
class Human:
    """Somebody's `alembic upgrade` on its way."""

    process: subprocess.Popen[bytes] | forking.Forked
    output: IO[bytes]
    said: str = ""

    async def ended(self) -> int:
        """Its exit code; `said` is what it printed by then. Ended by force after two minutes."""

        code = -1
        with anyio.CancelScope(shield=True):
            code = await anyio.to_thread.run_sync(self._wait)
        return code

    def _wait(self) -> int:
        try:
            code = self.process.wait(timeout=120)
        finally:
            self.process.kill()
        with self.output:
            self.output.seek(0)
            self.said = self.output.read().decode(errors="replace")
        return code


def upgrading(project: Path, server: Server, database: str, *, to: str = "head", fresh: bool = False) -> Human:
    """Start `alembic upgrade` on the database; a copy of the configuration file names it, as people do.

    A `fresh` one is started as people start it, too, which takes a second longer.
    """
    url = server.url(database).replace("postgresql", "postgresql+psycopg", 1)
    config = project / f"{database}.ini"
    lines = (project / "alembic.ini").read_text().split("\n")
    named = [
        f"sqlalchemy.url = {url.replace('%', '%%')}" if line.startswith("sqlalchemy.url") else line for line in lines
    ]
    config.write_text("\n".join(named))
    arguments = ["-c", str(config), "upgrade", to]
    environ = {**os.environ, "PGAPPNAME": "alembic of anna"}
    output = TemporaryFile()  # noqa: SIM115
    with open(os.devnull) as null:
        streams = {"stdin": null.fileno(), "stdout": output.fileno(), "stderr": output.fileno()}
        start = _fresh if fresh else forked_alembic.start
        return Human(start(arguments, cwd=project, env=environ, **streams), output)


def _fresh(
    arguments: Sequence[str], cwd: Path, env: Mapping[str, str], stdin: int, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "alembic", *arguments]
    return subprocess.Popen(command, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr)
