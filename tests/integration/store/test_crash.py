"""What was reported as durable is there after the process was killed."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream
from anyio.streams.text import TextReceiveStream

from orchestrator.rollout.state import MigrationState
from orchestrator.store.engine import open_store

PROJECT = Path(__file__).parents[3]
REPORTED = 300


async def reported(stdout: ByteReceiveStream, enough: int) -> tuple[str, TextReceiveStream]:
    text, stream = "", TextReceiveStream(stdout)
    while text.count("\n") < enough:
        text += await stream.receive()
    return text, stream


async def test_a_killed_process_loses_nothing_that_it_reported(url: str) -> None:
    command = [sys.executable, "-m", "tests.integration.store.writing_process", url]
    async with await anyio.open_process(command, cwd=PROJECT, stderr=None) as process:
        assert process.stdout is not None
        with anyio.fail_after(60):
            text, stream = await reported(process.stdout, REPORTED)
        process.kill()
        async for rest in stream:
            text += rest
    said = Counter(text[: text.rindex("\n") + 1].split())

    async with open_store(url) as store:
        done = await store.ledger.migrations("r1", states=[MigrationState.SUCCEEDED])
        stored = await store.ledger.events("r1", limit=100_000)
        counts = await store.ledger.counts("r1")
    assert set(said) <= {migration.tenant for migration in done}
    assert sum(counts.values()) == (await _total(url))
    assert [event.sequence for event in stored] == list(range(1, len(stored) + 1))
    told = [event.data["tenant"] for event in stored if event.name == "MigrationFinished"]
    assert sorted(map(str, told)) == sorted(migration.tenant for migration in done)


async def _total(url: str) -> int:
    async with open_store(url) as store:
        return (await store.ledger.rollout("r1")).total
