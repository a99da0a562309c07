"""Which processes of this machine are at the other end of a server's sessions."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
    return [
        int(one.name)
        for one in Path("/proc").iterdir()
        if one.name.isdigit() and int(one.name) != os.getpid() and not sockets.isdisjoint(_files(one))
    ]


def _files(process: Path) -> set[str]:
    try:
        return {os.readlink(link) for link in (process / "fd").iterdir()}
    except OSError:
        return set()
