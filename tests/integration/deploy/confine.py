"""Runs a command as a systemd unit would: its user, its folders, everything else read-only. A program of its own.

    python confine.py '{"command": [...], "environ": {...}, "uid": …, "cwd": …, "umask": …, "writable": {path: source},
                        "folders": {path: source}, "hidden": [path, …], "needed": [path, …]}'

`folders` are shown at their places read-only, `writable` ones may be written to; `hidden` ones are empty, but for what
is `needed` of them. Exits with UNABLE where this machine lets nobody make a mount namespace.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

UNABLE = 77
CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_BIND, MS_REC, MS_PRIVATE, MS_REMOUNT = 1, 4096, 16384, 1 << 18, 32
AT_FDCWD, AT_RECURSIVE, SYS_MOUNT_SETATTR, MOUNT_ATTR_RDONLY = -100, 0x8000, 442, 1
PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1

libc = ctypes.CDLL(None, use_errno=True)


class Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Raises OSError."""
    words = [None if word is None else word.encode() for word in (source, target, kind)]
    if libc.mount(*words, ctypes.c_ulong(flags), None if data is None else data.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: mount {source} on {target}")


def read_only(path: str, *, below: bool, is_so: bool = True) -> None:
    """Raises OSError."""
    wanted = Attributes(MOUNT_ATTR_RDONLY if is_so else 0, 0 if is_so else MOUNT_ATTR_RDONLY, 0, 0)
    flags = AT_RECURSIVE if below else 0
    sizes = ctypes.byref(wanted), ctypes.c_size_t(ctypes.sizeof(wanted))
    if libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), ctypes.c_uint(flags), *sizes):
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: mount_setattr {path}")


def layered(folder: str, added: set[str]) -> None:
    """Put a folder of our own in the place of `folder`, with all that is in it and room for the names in `added`."""
    old = os.open(folder, os.O_PATH)
    entries = list(os.scandir(folder))
    mount("tmpfs", folder, "tmpfs", 0, "mode=0755")
    for entry in entries:
        place = Path(folder, entry.name)
        if entry.name in added:
            continue
        if entry.is_symlink():
            place.symlink_to(os.readlink(entry.name, dir_fd=old))
            continue
        place.mkdir() if entry.is_dir() else place.touch()
        mount(f"/proc/self/fd/{old}/{entry.name}", str(place), None, MS_BIND | MS_REC)
    os.close(old)
    for name in added:
        Path(folder, name).mkdir()


def confine(given: dict[str, Any]) -> None:
    """Raises OSError."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    shown = {**given["folders"], **given["writable"]}
    handles = {path: os.open(source, os.O_PATH) for path, source in shown.items()}
    handles |= {path: os.open(path, os.O_PATH) for path in given["needed"]}
    parents: dict[str, set[str]] = {}
    for path in shown:
        parents.setdefault(str(Path(path).parent), set()).add(Path(path).name)
    for parent, names in parents.items():
        layered(parent, names)
    for path in given["hidden"]:
        mount("tmpfs", path, "tmpfs", 0, "mode=0755")
    for path, handle in handles.items():
        if path in given["needed"] and os.path.exists(path):
            continue
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{handle}", path, None, MS_BIND | MS_REC)
    mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777") if "/tmp" not in given["hidden"] else os.chmod("/tmp", 0o1777)
    read_only("/", below=True)
    for path in [*given["writable"], "/tmp"]:
        read_only(path, below=False, is_so=False)


def main() -> None:
    given = json.loads(sys.argv[1])
    if libc.unshare(CLONE_NEWNS):
        sys.exit(UNABLE)
    confine(given)
    os.umask(given["umask"])
    os.setgroups([])
    os.setgid(given["uid"])
    os.setuid(given["uid"])
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)  # Linux 6.3 and newer; nothing on older ones
    os.chdir(given["cwd"])
    os.execve(given["command"][0], given["command"], given["environ"])


if __name__ == "__main__":
    main()
