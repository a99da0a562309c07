"""Hundreds of backfills at once in one daemon: whether its event loop is late."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

import anyio
from sqlalchemy.engine import make_url

from orchestrator.registry.backfills import Rules
from orchestrator.registry.model import Registry, Shard
from tests import engine, environments
from tests.engine import until

# So much of a batch of 500 passes on servers elsewhere.
MANY, ELSEWHERE, WATCHED = 500, 2.0, 20.0
STAND_STILL = """
def transform(rows):
    time.sleep({seconds})
    return [dict(n=row["n"] + 1) for row in rows]
op.backfill_rows("t", ["n"], transform, batch_size=10)
"""


@dataclass(frozen=True)
class Many:
    """Seconds by which the event loop was late at the 99th percentile, alone and with all; batches a second."""

    alone: float
    late: float
    batches: float


async def many(folder: Path, count: int = MANY) -> Many:
    """Real workers on as many SQLite files; most of each batch's time they wait, as for a server elsewhere."""
    registry = _files(folder, count)
    store = f"sqlite:///{folder}/many.db"
    async with engine.running(registry, store_url=store, max_concurrent=count) as running:
        running.parts.bus.subscribe(lambda event: running.events.clear())
        alone = await _late(WATCHED / 4)
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: sum(one.progress.seen > 0 for one in running.parts.throttle.underway()) >= count, 300)
        before = sum(one.progress.seen for one in running.parts.throttle.underway())
        late = await _late(WATCHED)
        batches = (sum(one.progress.seen for one in running.parts.throttle.underway()) - before) / 10 / WATCHED
        assert len(running.parts.throttle.underway()) == count
        await running.service.stop(view.rollout.id, "measured")
        with anyio.fail_after(120):
            await running.service.finished(view.rollout.id)
    return Many(alone, late, batches)


def _files(folder: Path, count: int) -> Registry:
    (folder / "files").mkdir()
    names = [f"many_{number:04}.db" for number in range(count)]
    for name in names:
        connection = sqlite3.connect(folder / "files" / name)
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        connection.executemany("INSERT INTO t VALUES (?, 0)", [(number,) for number in range(1, 5_001)])
        connection.commit()
        connection.close()
    config = environments.make_project(folder / "many")
    environments.add_revision(folder / "many", "filled", None, STAND_STILL.format(seconds=ELSEWHERE))
    rules = Rules(batch_size=10, thresholds={})
    shard = Shard("files", make_url(f"sqlite:///{folder}/files"), max_concurrent=count, backfill=rules)
    return engine.registry_of([environments.track_of(config)], [shard], engine.targets_of(names, "files"))


async def _late(seconds: float, every: float = 0.01) -> float:
    late = []
    ends = time.perf_counter() + seconds
    while (began := time.perf_counter()) < ends:
        await anyio.sleep(every)
        late.append(time.perf_counter() - began - every)
    return sorted(late)[int(len(late) * 0.99)]
