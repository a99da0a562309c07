"""Processes of this machine: which are at the other end of a server's sessions, and how one is made to stand still."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


def at_ports(ports: Sequence[int]) -> list[int]:
    """Those that have a connection from one of these local ports, but for this one."""
    return _with_sockets(1, ports)


def at_server(port: int) -> list[int]:
    """Those that have a connection to this port, but for this one."""
    return _with_sockets(2, [port])


def _with_sockets(end: int, ports: Sequence[int]) -> list[int]:
    ends = {f"{port:04X}" for port in ports}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{line[9]}]" for line in lines if line[end].rpartition(":")[2] in ends}
    return [pid for pid in _all() if pid != os.getpid() and not sockets.isdisjoint(_files(Path(f"/proc/{pid}")))]


def _files(process: Path) -> set[str]:
    try:
        return {os.readlink(link) for link in (process / "fd").iterdir()}
    except OSError:
        return set()


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """These processes stand still, all their threads, and go on afterwards. One that has just ended is let be.

    A signal that stops is only under way when `kill` returns: a thread on another core goes on until it is seen there.
    """
    _signal(pids, signal.SIGSTOP)
    try:
        while any(map(_runs, pids)):
            time.sleep(0.001)
        yield
    finally:
        _signal(pids, signal.SIGCONT)


def family(parent: int) -> list[int]:
    """This process and its children."""
    return [parent, *(pid for pid in _all() if _field(Path(f"/proc/{pid}"), 1) == str(parent))]


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _runs(pid: int) -> bool:
    """Whether one of its threads does: neither stopped nor ended."""
    return any(_field(thread, 0) not in {"T", "Z", "X", None} for thread in Path(f"/proc/{pid}/task").glob("*"))


def _field(process: Path, number: int) -> str | None:
    """A field of `stat`, counted from the state; None of one that is gone."""
    try:
        return (process / "stat").read_text().rsplit(")", 1)[1].split()[number]
    except OSError:
        return None


def _all() -> Iterator[int]:
    return (int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit())
