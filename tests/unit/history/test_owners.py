"""Whether whoever began a backfill still runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy.engine import RowMapping

from orchestrator.history import owners, servers

OWN = owners.name()
HOST = socket.gethostname()
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not tell of starts")


@pytest.fixture
def other() -> Iterator[int]:
    """A process that waits until the test has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate(b"\n")


def is_at_work(owner: str, minutes: float = 0.0, **values: Any) -> bool:
    """Whether it is, when it has been silent for so long."""
    row = {"owner": owner, "state": "running", "updated_at": servers.now() - timedelta(minutes=minutes), **values}
    return owners.is_at_work(cast("RowMapping", row), OWN)


def named(process: str) -> str:
    return f"{HOST}:{process}:0123456789ab"


@needs_proc
def test_a_process_that_is_there_is_at_work_however_long_it_is_silent(other: int) -> None:
    assert is_at_work(named(owners._process(other)), 60.0)


@needs_proc
def test_a_process_that_has_the_number_of_one_that_ended_is_not(other: int) -> None:
    boot, started = owners._process(other).partition("@")[2].split(".")
    assert not is_at_work(named(f"{other}@{boot}.{int(started) - 1}"))
    assert not is_at_work(named(f"{other}@00000000.{started}")), "of an earlier boot"


def test_where_nobody_can_tell_which_it_is_its_silence_does(other: int) -> None:
    """As with a name that an earlier release gave."""
    assert is_at_work(named(str(other)))
    assert not is_at_work(named(str(other)), 2.0)


def test_one_that_is_not_there_or_has_ended_is_not(other: int) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not is_at_work(named(f"{gone.pid}@b.1"))
    assert not is_at_work(named("no number"))
    assert not is_at_work(OWN.rpartition(":")[0] + ":of-before"), "another run in this process"
    assert not is_at_work(named(owners._process(other)), state="finished")


def test_one_of_another_machine_is_as_long_as_it_speaks() -> None:
    elsewhere = f"else:where:{os.getpid()}@b.1:0123456789ab"
    assert is_at_work(elsewhere)
    assert not is_at_work(elsewhere, 2.0)
