"""Backfills are held by what real servers tell: a standby that does not replay, a right that is lacking, a server that
is frozen."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import asyncpg
import pytest
from asyncmy.errors import MySQLError
from sqlalchemy.engine import make_url

from orchestrator.backfill.model import Backfill, Go, Progress, Ran, Report, Wait
from orchestrator.backfill.signals import LOST
from orchestrator.databases import signals
from orchestrator.databases.base import Limits
from orchestrator.databases.embedded import EmbeddedServer, Server
from orchestrator.errors import CheckError
from orchestrator.events import BackfillHeld, BackfillReleased, Event
from orchestrator.execute.probing import Probes
from orchestrator.execute.surroundings import Surroundings
from orchestrator.execute.throttle import Throttle
from orchestrator.execute.turns import Turn
from orchestrator.registry.backfills import ProbeSignal, Rules, Threshold
from orchestrator.registry.model import Check, Registry, Shard, Target
from tests import engine, mariadb, prometheus, standby
from tests.engine import until
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.processes import family, frozen
from tests.servers import MakeDatabases
from tests.standby import Pair

MEBIBYTE = 1024**2
BACKFILL = Backfill("4d5e6f", "upgrade", 1, "set", "tickets", ("id",), 200)


class Throttled:
    """A throttle over one shard."""

    def __init__(self, shard: Shard) -> None:
        self.events: list[Event] = []
        self.registry = engine.registry_of([], [shard], [])
        around = Surroundings(lambda: self.registry, Limits(), self.events.append, lambda rollout, reason: None)
        self.throttle = Throttle(around)

    def rule(self, rules: Rules) -> None:
        shards = {name: replace(shard, backfill=rules) for name, shard in self.registry.shards.items()}
        self.registry = replace(self.registry, shards=shards)

    @asynccontextmanager
    async def turn(self, database: str) -> AsyncIterator[Turn]:
        [name] = self.registry.shards
        try:
            with self.throttle.turn("r1", Target("acme", "app", name, database), lambda: None) as turn:
                yield turn
        finally:
            with anyio.CancelScope(shield=True):
                await self.throttle.closed()

    def holds(self) -> dict[str, str]:
        return {hold.reason: hold.text for view in self.throttle.underway() for hold in view.holds}


class Writing:
    """Stands for the loop: changes rows through a connection of its own, a transaction for each batch."""

    def __init__(self, turn: Turn, connection: asyncpg.Connection[Any]) -> None:
        self._turn, self._connection = turn, connection
        self.seen, self.answers = 0, 0
        self.waits = False
        self.waited_at = self.went_at = 0.0

    async def run(self) -> None:
        last: Ran | None = None
        while True:
            answer = await self._turn.ask(Report(BACKFILL, Progress(seen=self.seen, changed=self.seen), last))
            last, self.answers = None, self.answers + 1
            self.waits = isinstance(answer, Wait)
            if isinstance(answer, Go):
                self.went_at = began = anyio.current_time()
                await self._connection.execute(
                    "INSERT INTO tickets (note) SELECT md5(random()::text) FROM generate_series(1, $1)", answer.size
                )
                last = Ran(answer.size, answer.size, answer.size, anyio.current_time() - began)
                self.seen += answer.size
            else:
                assert isinstance(answer, Wait)
                self.waited_at = anyio.current_time()
                await anyio.sleep(answer.seconds)


async def test_a_backfill_waits_while_a_standby_does_not_replay_and_goes_on_after(
    pair: Pair, make_databases: MakeDatabases
) -> None:
    name = "replication_lag"
    [database] = await make_databases(1, server=pair.primary)
    await engine.execute(pair.primary, database, "CREATE TABLE tickets (id bigserial PRIMARY KEY, note text)")
    await pair.caught_up()
    shard = engine.shard_of(pair.primary, backfill=Rules(thresholds={name: Threshold(1.0, 0.5)}))
    throttled, connection = Throttled(shard), await asyncpg.connect(pair.primary.url(database))
    try:
        async with throttled.turn(database) as turn, anyio.create_task_group() as tasks:
            writing = Writing(turn, connection)
            tasks.start_soon(writing.run)
            await until(lambda: writing.seen > 0)
            await pair.pause()
            try:
                await until(lambda: name in throttled.holds())
                assert standby.NAME in throttled.holds()[name]
                assert "above" in throttled.holds()[name]
                await until(lambda: writing.waits)
                seen, answers = writing.seen, writing.answers
                await until(lambda: writing.answers > answers + 2)
                assert writing.seen == seen
            finally:
                await pair.resume()
            await until(lambda: writing.seen > seen)
            assert name not in throttled.holds()
            tasks.cancel_scope.cancel()
    finally:
        await connection.close()
    held = [event for event in throttled.events if isinstance(event, BackfillHeld)]
    released = [event for event in throttled.events if isinstance(event, BackfillReleased)]
    assert {event.reason for event in held} == {event.reason for event in released} == {name}


async def test_a_reading_above_its_threshold_stops_the_next_batch_within_two_seconds(
    pair: Pair, make_databases: MakeDatabases
) -> None:
    """From when the lag is there: by bytes it is as soon as something is written."""
    [database] = await make_databases(1, server=pair.primary)
    await engine.execute(pair.primary, database, "CREATE TABLE tickets (id bigserial PRIMARY KEY, note text)")
    await pair.caught_up()
    rules = Rules(thresholds={"replication_lag_bytes": Threshold(4 * MEBIBYTE, 2 * MEBIBYTE)})
    throttled = Throttled(engine.shard_of(pair.primary, backfill=rules))
    async with throttled.turn(database) as turn:
        report = Report(BACKFILL, Progress())

        async def goes() -> bool:
            return isinstance(await turn.ask(report), Go)

        await until(goes)
        await pair.pause()
        try:
            await engine.execute(
                pair.primary,
                database,
                "INSERT INTO tickets (note) SELECT repeat(md5(random()::text), 10) FROM generate_series(1, 30000)",
            )
            began = anyio.current_time()

            async def held() -> bool:
                return isinstance(await turn.ask(report), Wait)

            await until(held)
            # Two seconds are promised; a machine three times slower has six.
            assert anyio.current_time() - began < 6
        finally:
            await pair.resume()
        await until(goes)


async def test_a_role_that_may_not_see_the_standby_is_held_and_told_what_to_grant(
    pair: Pair, make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.backfill import signals as deciding

    monkeypatch.setattr(deciding, "LOST_SECONDS", 1.0)
    [database] = await make_databases(1, server=pair.primary)
    name, password = f"plain_{secrets.token_hex(3)}", secrets.token_hex(8)
    await engine.execute(pair.primary, "postgres", f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    url = make_url(pair.primary.url("postgres")).set(database=None, username=name, password=password)
    rules = Rules(thresholds={"replication_lag_bytes": Threshold.over(MEBIBYTE)})
    throttled = Throttled(Shard("pg", url, backfill=rules))
    try:
        async with throttled.turn(database) as turn:
            report = Report(BACKFILL, Progress())

            async def held() -> bool:
                answer = await turn.ask(report)
                assert isinstance(answer, Wait)
                return f"grant pg_monitor to {name}" in throttled.holds().get(LOST, "")

            await until(held)
            assert password not in str(throttled.holds())
            await engine.execute(pair.primary, "postgres", f"GRANT pg_monitor TO {name}")

            async def goes() -> bool:
                return isinstance(await turn.ask(report), Go)

            await until(goes)  # in the same session
    finally:
        await engine.execute(pair.primary, "postgres", f"DROP ROLE {name}")


async def test_a_server_that_is_frozen_holds_and_is_asked_anew_when_it_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.backfill import signals as deciding

    monkeypatch.setattr(deciding, "LOST_SECONDS", 2.0)
    monkeypatch.setattr(signals, "ASK_SECONDS", 1.0)
    async with EmbeddedServer(name="frozen") as server:
        rules = Rules(thresholds={"blocked_sessions": Threshold.over(10)})
        throttled = Throttled(engine.shard_of(server, backfill=rules))
        async with throttled.turn("postgres") as turn:
            report = Report(BACKFILL, Progress())

            async def goes() -> bool:
                return isinstance(await turn.ask(report), Go)

            await until(goes)

            async def held() -> bool:
                await turn.ask(report)
                return LOST in throttled.holds()

            with frozen(*family(server.pid)):
                await until(held)
            await until(goes)
            # Killed, it is another server by then.
            server.kill()
            await until(held)
            await server.start()
            await until(goes)


async def test_mariadb_holds_by_its_threads(mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases) -> None:
    [database] = await make_mysql_databases(1)
    url = make_url(mysql.url("x")).set(database=None)
    rules = Rules(thresholds={"threads_running": Threshold(2.5, 1.5), "replica_lag": Threshold.over(5)})
    throttled = Throttled(Shard("maria", url, backfill=rules))
    report = Report(BACKFILL, Progress())
    async with throttled.turn(database) as turn:

        async def goes() -> bool:
            return isinstance(await turn.ask(report), Go)

        await until(goes)
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(_sleep, mysql)

            async def held() -> bool:
                await turn.ask(report)
                return "threads_running" in throttled.holds()

            await until(held)
            for number, *_ in await mariadb.fetch(
                mysql, "", "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO = 'SELECT SLEEP(60)'"
            ):
                await mariadb.execute(mysql, "", f"KILL QUERY {number}")
        await until(goes)


async def _sleep(server: MySQLServer) -> None:
    with suppress(MySQLError):
        await mariadb.execute(server, "", "SELECT SLEEP(60)")


# Probes


def probe(kind: str, text: str, *, is_number: bool = True, **fields: Any) -> ProbeSignal:
    check = Check("queue", kind, text, every_seconds=0.1, **fields)  # type: ignore[arg-type]
    return ProbeSignal(check, Threshold(100.0, 50.0) if is_number else Threshold(0.5, 0.5), is_number)


async def test_an_sql_probe_holds_and_lets_go(pg: Server, make_databases: MakeDatabases) -> None:
    here, other = await make_databases(2)
    await engine.execute(pg, other, "CREATE TABLE depth (rows int)", "INSERT INTO depth VALUES (500)")
    asked = probe("sql", "SELECT max(rows) FROM depth", shard="pg", database=other)
    throttled = Throttled(engine.shard_of(pg, backfill=Rules(thresholds={}, probes=(asked,))))
    report = Report(BACKFILL, Progress())
    async with throttled.turn(here) as turn:

        async def held() -> bool:
            assert isinstance(await turn.ask(report), Wait)
            return "500, above 100" in throttled.holds().get("probe:queue", "")

        async def goes() -> bool:
            return isinstance(await turn.ask(report), Go)

        await until(held)
        await engine.execute(pg, other, "UPDATE depth SET rows = 20")
        await until(goes)
        await engine.execute(pg, other, "UPDATE depth SET rows = 101")
        await until(lambda: _is_held(turn, report, throttled))
        throttled.rule(Rules(thresholds={}))  # a reload without it
        await until(goes)


async def _is_held(turn: Turn, report: Report, throttled: Throttled) -> bool:
    await turn.ask(report)
    return "probe:queue" in throttled.holds()


@pytest.mark.parametrize(
    ("statement", "reading"),
    [
        ("SELECT 7", 7.0),
        ("SELECT 2.5::numeric", 2.5),
        ("SELECT NULL::int", "the answer is NULL, and no number"),
        ("SELECT 'seven'", "the answer is of type str, and no number"),
        ("SELECT true", "the answer is of type bool, and no number"),
        ("SELECT 1 WHERE false", "the answer is not one row with one value"),
        ("SELECT generate_series(1, 2)", "the answer is not one row with one value"),
    ],
)
async def test_what_sql_comes_to(
    pg: Server, make_databases: MakeDatabases, statement: str, reading: float | str
) -> None:
    [database] = await make_databases(1)
    registry = engine.registry_of([], [engine.shard_of(pg)], [])
    near = Target("acme", "app", "pg", database)
    probes = Probes(Limits())
    if isinstance(reading, str):
        with pytest.raises(CheckError, match=reading):
            await probes.ask(registry, probe("sql", statement), near)
    else:
        assert await probes.ask(registry, probe("sql", statement), near) == reading


async def test_sql_that_must_be_true_reads_as_a_switch(pg: Server, make_databases: MakeDatabases) -> None:
    [database] = await make_databases(1)
    registry = engine.registry_of([], [engine.shard_of(pg)], [])
    near, probes = Target("acme", "app", "pg", database), Probes(Limits())
    for statement, reading in (("SELECT true", 0.0), ("SELECT false", 1.0), ("SELECT 1 WHERE false", 1.0)):
        assert await probes.ask(registry, probe("sql", statement, is_number=False), near) == reading


async def test_prometheus_is_asked_for_the_largest_of_its_series() -> None:
    registry: Registry = engine.registry_of([], [], [])
    near, probes = Target("acme", "app", "pg", "acme"), Probes(Limits())
    two = "vector(3) or label_replace(vector(8), 'a', 'b', '', '')"
    async with prometheus.server() as url:
        assert await probes.ask(registry, probe("promql", two, url=url), near) == 8.0
        assert await probes.ask(registry, probe("promql", "scalar(vector(4))", url=url), near) == 4.0
        assert await probes.ask(registry, probe("promql", "vector(0) / 0", url=url), near) == float("inf")
        with pytest.raises(CheckError, match="nothing matches"):
            await probes.ask(registry, probe("promql", "no_such_metric", url=url), near)
        assert await probes.ask(registry, probe("promql", "no_such_metric", url=url, empty_passes=True), near) == 0.0


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/depth?key=s3cretkey"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "is_number", "reading"),
    [
        (200, "42\n", True, 42.0),
        (200, json.dumps({"depth": 1}), True, "does not answer with a number"),
        (503, "42", True, "answered with status 503, not 200"),
        (200, "fine", False, 0.0),
        (503, "", False, 1.0),
    ],
)
async def test_what_an_endpoint_comes_to(status: int, body: str, is_number: bool, reading: float | str) -> None:
    registry: Registry = engine.registry_of([], [], [])
    near, probes = Target("acme", "app", "pg", "acme"), Probes(Limits())
    with answering(status, body) as url:
        asked = probe("http", url, is_number=is_number)
        if isinstance(reading, str):
            with pytest.raises(CheckError, match=reading) as caught:
                await probes.ask(registry, asked, near)
            assert "s3cretkey" not in str(caught.value)
        else:
            assert await probes.ask(registry, asked, near) == reading
