"""Server processes of the tests that end with the run, however that ends, and take their files along."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.databases.binaries import NOBODY

# Ends the server when our end of the pipe closes, also by kill -9 of the run, and takes its files along.
_WATCHDOG = """
exec 3<&0
"$@" </dev/null >"$HOME_DIR/server.log" 2>&1 3<&- &
server=$!
read -r _ <&3
kill -9 $server
wait $server
rm -rf -- "$HOME_DIR"
"""


def launch(command: Sequence[str], home: Path) -> subprocess.Popen[bytes]:
    """Start a server whose files are below `home`, where its output goes to `server.log`."""
    watched = ["/bin/sh", "-c", _WATCHDOG, "watchdog", *command]
    null = subprocess.DEVNULL
    return subprocess.Popen(watched, stdin=subprocess.PIPE, stdout=null, stderr=null, **child(home))


def child(home: Path) -> dict[str, Any]:
    """In a session of its own, so out of reach of Ctrl-C, and never as root."""
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME_DIR": str(home), "LC_ALL": "C"}
    options: dict[str, Any] = {"cwd": "/", "start_new_session": True, "env": environ}
    if os.geteuid() == 0:
        options |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return options


def stop(process: subprocess.Popen[bytes] | None, home: Path) -> None:
    if process is not None:
        process.communicate()  # the watchdog hears that we are done
    shutil.rmtree(home, ignore_errors=True)
