"""Backfills against the loop that people write by hand, and beside an application's own load."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import psycopg
from sqlalchemy.engine import make_url

from orchestrator.databases.binaries import find_binaries
from orchestrator.databases.embedded import EmbeddedServer, create_databases
from orchestrator.events import BackfillFinished
from orchestrator.registry.backfills import DEFAULT_RULES, Rules
from orchestrator.registry.model import Registry
from tests import engine, environments
from tests.engine import Engine, until
from tests.servers import drop_databases

PAIRS = 5
# What an application beside the backfill asks, and how often: far from what the server could do.
SCALE, CLIENTS, PER_SECOND, SECONDS, ROUNDS = 10, 4, 150, 10, 3
# Rules that a person would set who wants an application to notice little: small batches with pauses of three times as
# long, and a bound. Everything else is as it comes.
CAREFUL = Rules(rows_per_second=5_000, target_seconds=0.05, duty=0.25)

TABLE = """
op.create_table("t", sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("n", sa.BigInteger),
    sa.Column("note", sa.Text))
op.execute("INSERT INTO t SELECT i, i, repeat('x', 40) FROM generate_series(1, {rows}) AS i")
"""
FILL = 'op.backfill("t", set_={{"n": "n + 1"}}, batch_size={batch_size})'


@dataclass(frozen=True)
class Looped:
    """Seconds of the loop by hand and of ours, for each pair; bytes by which the process and its workers have grown
    from the first tenth of the rows to the last."""

    by_hand: Sequence[float]
    ours: Sequence[float]
    grown: int

    @property
    def ratio(self) -> float:
        return statistics.median(hand / ours for hand, ours in zip(self.by_hand, self.ours, strict=True))


async def loop(server: EmbeddedServer, folder: Path, rows: int, batch_size: int, *, fixed: bool = True) -> Looped:
    """The same statement over the same rows, in pairs whose order changes. Ours is measured from its first batch to its
    last, as its event tells; a rollout takes a second or so besides, whatever its backfill.

    `fixed`: our batches are as large as those by hand; else they only begin so, as for everybody who sets nothing.
    """
    name = f"loop_{batch_size}" if fixed else "loop_free"
    project = Project(folder / name, TABLE.format(rows=rows), FILL.format(batch_size=batch_size))
    rules = Rules(thresholds={}, batch_size=batch_size if fixed else None)
    await _made(server, name, project(server, [name], rules))
    by_hand, ours, grown = [], [], 0
    for pair in range(PAIRS):
        names = [f"{name}_{pair}_hand", f"{name}_{pair}_ours"]
        await create_databases(server, names, name)
        for one in names if pair % 2 else names[::-1]:
            await engine.execute(server, one, "CHECKPOINT")  # else what was there before is written in the middle
            if one is names[0]:
                by_hand.append(await anyio.to_thread.run_sync(_by_hand, server.url(one), batch_size))
                continue
            async with engine.running(project(server, [one], rules)) as running:
                memory = [await _resident_while(running, rows)]
                ours.append((await _finished(running))[0].seconds)
                grown = max(grown, *memory)
        await drop_databases(server, names)
    await drop_databases(server, [name])
    return Looped(by_hand, ours, grown)


def _by_hand(url: str, batch_size: int) -> float:
    """What people write who know how: by the key, a transaction for each batch, nothing held meanwhile."""
    began = time.perf_counter()
    bound = "SELECT id FROM t WHERE id > %s AND id <= %s ORDER BY id LIMIT 1 OFFSET %s"
    with psycopg.connect(url, autocommit=True) as connection:
        [upper] = connection.execute("SELECT max(id) FROM t").fetchone() or [0]
        last = 0
        while last < upper:
            with connection.transaction():
                [upto] = connection.execute(bound, (last, upper, batch_size - 1)).fetchone() or [upper]
                connection.execute("UPDATE t SET n = n + 1 WHERE id > %s AND id <= %s", (last, upto))
            last = upto
    return time.perf_counter() - began


async def _resident_while(running: Engine, rows: int) -> int:
    """Run the rollout; bytes by which all our processes have grown from a tenth of the rows on."""
    throttle = running.parts.throttle
    view, _ = await running.service.start_rollout(engine.head())
    await until(lambda: any(one.progress.seen > rows / 10 for one in throttle.underway()), 600)
    first = last = _resident()
    while throttle.underway():
        last = _resident()
        await anyio.sleep(0.5)
    with anyio.fail_after(60):
        await running.service.finished(view.rollout.id)
    return last - first


async def _finished(running: Engine, many: int = 1) -> list[BackfillFinished]:
    await until(lambda: len(running.of(BackfillFinished)) >= many)
    return running.of(BackfillFinished)


@dataclass(frozen=True)
class Beside:
    """Medians in seconds of the 95th percentile of an application's transactions: alone, beside a backfill with
    careful rules, and beside one without a throttle; and rows a second of both."""

    alone: float
    careful: float
    free: float
    careful_rows: float
    free_rows: float


async def beside(server: EmbeddedServer, folder: Path, rows: int) -> Beside:
    """pgbench's own transactions at a fixed rate in one database, and a backfill in another on the same server; in
    rounds, so that a machine that drifts drifts for all."""
    project = Project(folder / "beside", TABLE.format(rows=rows), FILL.format(batch_size=1000))
    await create_databases(server, ["beside_app"])
    await anyio.to_thread.run_sync(_pgbench, server, "-i", "-q", "-s", str(SCALE))
    await _made(server, "beside", project(server, ["beside"], DEFAULT_RULES))
    p95: dict[str, list[float]] = {"alone": [], "careful": [], "free": []}
    rates: dict[str, list[float]] = {"careful": [], "free": []}
    for _ in range(ROUNDS):
        p95["alone"].append(await _p95(server, folder))
        for how, rules in (("careful", CAREFUL), ("free", Rules(thresholds={}))):
            await create_databases(server, ["beside_one"], "beside")
            async with _backfilling(project(server, ["beside_one"], rules)) as running:
                before = _seen(running)
                p95[how].append(await _p95(server, folder))
                rates[how].append((_seen(running) - before) / SECONDS)
            await drop_databases(server, ["beside_one"])
    await drop_databases(server, ["beside", "beside_app"])
    found = {name: statistics.median(values) for name, values in p95.items()}
    return Beside(**found, **{f"{how}_rows": statistics.median(values) for how, values in rates.items()})


@asynccontextmanager
async def _backfilling(registry: Registry) -> AsyncIterator[Engine]:
    async with engine.running(registry) as running:
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: _seen(running) > 0)
        yield running
        assert running.parts.throttle.underway(), "it ended before it was measured: give it more rows"
        await running.service.stop(view.rollout.id, "measured")
        with anyio.fail_after(60):
            await running.service.finished(view.rollout.id)


def _seen(running: Engine) -> int:
    return sum(one.progress.seen for one in running.parts.throttle.underway())


async def _p95(server: EmbeddedServer, folder: Path) -> float:
    return await anyio.to_thread.run_sync(_p95_of_pgbench, server, folder)


def _p95_of_pgbench(server: EmbeddedServer, folder: Path) -> float:
    for old in folder.glob("pgbench_log.*"):
        old.unlink()
    given = ["-n", "-c", str(CLIENTS), "-R", str(PER_SECOND), "-T", str(SECONDS), "-l"]
    given.append(f"--log-prefix={folder}/pgbench_log")
    _pgbench(server, *given)
    # The third field is the latency in microseconds, from the moment at which the transaction was due.
    lines = [line for log in folder.glob("pgbench_log.*") for line in log.read_text().splitlines()]
    latencies = sorted(int(line.split()[2]) for line in lines)
    return latencies[int(len(latencies) * 0.95)] / 1e6


def _pgbench(server: EmbeddedServer, *given: str) -> None:
    url = make_url(server.url("beside_app"))
    places = {"PGHOST": url.host, "PGPORT": str(url.port), "PGUSER": url.username, "PGPASSWORD": url.password}
    environ = os.environ | {name: str(value) for name, value in places.items()}
    command = [str(find_binaries() / "pgbench"), *given, "beside_app"]
    subprocess.run(command, env=environ, check=True, capture_output=True)


class Project:
    """Makes registries over a project that makes a table, and fills it."""

    def __init__(self, folder: Path, create: str, fill: str) -> None:
        self._track = environments.track_of(environments.make_project(folder))
        environments.add_revision(folder, "made", None, create)
        environments.add_revision(folder, "filled", "made", fill)

    def __call__(self, server: EmbeddedServer, databases: Sequence[str], rules: Rules) -> Registry:
        shard = engine.shard_of(server, backfill=rules)
        return engine.registry_of([self._track], [shard], engine.targets_of(databases))


async def _made(server: EmbeddedServer, database: str, registry: Registry) -> None:
    """The template of the databases to come."""
    await create_databases(server, [database])
    async with engine.running(registry) as running:
        assert (await running.rollout("made")).counts == {"succeeded": 1}
    await engine.execute(server, database, "VACUUM (ANALYZE, FREEZE) t")


def _resident() -> int:
    """Bytes of this process and of all that it has started."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[pid] = int(rest[1])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(_pages(pid) for pid in ours) * resource.getpagesize()


def _pages(pid: int) -> int:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return 0 if b"postgres" in command else int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
