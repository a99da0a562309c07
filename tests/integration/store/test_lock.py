"""One process drives the rollouts of a store, and its death makes room for the next."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from orchestrator.errors import StoreError
from orchestrator.store.engine import Store, open_store

PROJECT = Path(__file__).parents[3]


def nothing(reason: str) -> None:
    pass


@asynccontextmanager
async def another_driver(url: str, lease_seconds: float = 15.0) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "tests.integration.store.holding_process", url, str(lease_seconds)]
    async with await anyio.open_process(command, cwd=PROJECT, stderr=None) as process:
        try:
            assert process.stdout is not None
            with anyio.fail_after(60):
                assert await process.stdout.receive() == b"held\n"
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def test_the_lock_is_refused_while_another_process_has_it(url: str, store: Store) -> None:
    async with another_driver(url) as process:
        with pytest.raises(StoreError, match="another process drives") as refused:
            async with store.driver_lock(nothing):
                pass
    assert str(process.pid) in refused.value.message
    assert socket.gethostname()[:20] in refused.value.message
    assert "orchestrator rollout start" in (refused.value.remedy or "")


async def test_the_lock_is_free_after_its_holder_was_killed(url: str, store: Store) -> None:
    async with another_driver(url) as process:
        process.kill()
        await process.wait()
    with anyio.fail_after(60):
        while True:
            try:
                async with store.driver_lock(nothing):
                    return
            except StoreError:
                # The server needs a moment to notice that its client has gone.
                await anyio.sleep(0.01)


async def test_the_lock_can_be_taken_again_at_once_after_it_was_released(store: Store) -> None:
    for _ in range(5):
        async with store.driver_lock(nothing):
            with pytest.raises(StoreError, match=str(os.getpid())):
                async with store.driver_lock(nothing):
                    pass


async def test_a_store_that_is_driven_can_be_read_and_written_by_others(url: str, store: Store) -> None:
    async with store.driver_lock(nothing), open_store(url) as other:
        assert await other.ledger.rollouts() == []


async def test_an_error_while_the_lock_is_held_comes_out_as_it_is(store: Store) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with store.driver_lock(nothing):
            raise LookupError("mine")
    async with store.driver_lock(nothing):
        pass


async def test_two_names_of_one_file_have_one_lock(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "control.db")
    async with (
        open_store(f"sqlite:///{tmp_path}/control.db") as one,
        open_store(f"sqlite:///{tmp_path}/link.db") as other,
        one.driver_lock(nothing),
    ):
        with pytest.raises(StoreError, match="another process"):
            async with other.driver_lock(nothing):
                pass


async def test_stores_in_memory_need_no_lock() -> None:
    async with open_store("sqlite://") as store, store.driver_lock(nothing), store.driver_lock(nothing):
        pass


async def test_a_lock_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/control.db") as store:
        (tmp_path / "control.db.lock").mkdir()
        with pytest.raises(StoreError, match="cannot be opened: Is a directory"):
            async with store.driver_lock(nothing):
                pass
