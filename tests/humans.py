"""A person at a terminal: the real `alembic` command line, the project's own env.py, nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from orchestrator.databases.embedded import Server


@dataclass
class Human:
    """Somebody's `alembic upgrade` on its way."""

    process: subprocess.Popen[bytes]
    said: str = ""

    async def ended(self) -> int:
        """Its exit code; `said` is what it printed by then. Ended by force after two minutes."""

        code = -1
        with anyio.CancelScope(shield=True):
            code = await anyio.to_thread.run_sync(self._wait)
        return code

    def _wait(self) -> int:
        try:
            output, _ = self.process.communicate(timeout=120)
        finally:
            self.process.kill()
        self.said = output.decode(errors="replace")
        return self.process.returncode


def upgrading(project: Path, server: Server, database: str, *, to: str = "head") -> Human:
    """Start `alembic upgrade` on the database; a copy of the configuration file names it, as people do."""
    url = server.url(database).replace("postgresql", "postgresql+psycopg", 1)
    config = project / f"{database}.ini"
    lines = (project / "alembic.ini").read_text().split("\n")
    named = [
        f"sqlalchemy.url = {url.replace('%', '%%')}" if line.startswith("sqlalchemy.url") else line for line in lines
    ]
    config.write_text("\n".join(named))
    command = [sys.executable, "-m", "alembic", "-c", str(config), "upgrade", to]
    environ = {**os.environ, "PGAPPNAME": "alembic of anna"}
    process = subprocess.Popen(
        command, cwd=project, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return Human(process)
