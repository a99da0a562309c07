"""Asks what an operator wants backfills to heed besides the server's own signals: SQL, PromQL, HTTP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import anyio

from orchestrator.databases import mysql_signals
from orchestrator.databases.asking import Asker
from orchestrator.databases.base import Limits, Place
from orchestrator.errors import CheckError, TargetError
from orchestrator.execute import endpoints, promql
from orchestrator.execute.answers import is_number, one_line
from orchestrator.execute.verdicts import Series, of_rows, of_series
from orchestrator.observe import redact
from orchestrator.registry.backfills import OF_REPLICA, ProbeSignal
from orchestrator.registry.model import MYSQL_DIALECTS, Check, Registry, Target


class Probes:
    """Asks probes; each answer takes at most the `timeout_seconds` of its check."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._asker = limits, Asker()

    async def ask(self, registry: Registry, probe: ProbeSignal, near: Target) -> float:
        """The probe's reading now; `near`: a target of the shard whose backfills it may hold.

        Raises CheckError and TargetError, whose messages hold no secret.
        """
        try:
            return await self._asked(registry, probe, near)
        except CheckError as exc:
            raise CheckError(_masked(exc.message, probe.check), remedy=exc.remedy) from exc

    async def _asked(self, registry: Registry, probe: ProbeSignal, near: Target) -> float:
        check = probe.check
        if check.probe == "sql":
            return await self._sql(registry, probe, near)
        async with await endpoints.client(check) as client:
            if check.probe == "promql":
                return of_samples(probe, await promql.instant(client, check))
            if probe.is_number:
                return await endpoints.number(client, check)
            return float(not (await endpoints.ask(client, check)).passed)

    async def _sql(self, registry: Registry, probe: ProbeSignal, near: Target) -> float:
        check = probe.check
        shard = registry.shards.get(check.shard or near.shard)
        if shard is None:
            raise CheckError(f"the registry no longer has shard {check.shard or near.shard}")
        database = check.database or (near.database if shard.name == near.shard else None)
        if database is None and OF_REPLICA.fullmatch(check.text):
            database = ""  # it is the server that is asked
        if database is None:
            raise CheckError(f"no database of shard {shard.name} is named", remedy="give the probe a `database`")
        target = Target("", "", shard.name, database, check.schema)
        place = Place(target, registry.url_for(target), replace(self._limits, connect=check.timeout_seconds))
        if shard.dialect in MYSQL_DIALECTS and OF_REPLICA.fullmatch(check.text):
            return await _of_replica(place)
        rows = await self._asker.ask(place, check.text)
        return of_answer(probe, rows, booleans=shard.dialect == "postgresql")


async def _of_replica(place: Place) -> float:
    with anyio.move_on_after(place.limits.connect):
        reading = await mysql_signals.replica_lag(place)
        if reading.value is None:
            raise CheckError(reading.said)
        return reading.value
    raise CheckError(f"{place.name} gave no answer within {place.limits.connect:g} s", remedy="look at its load")


def of_answer(probe: ProbeSignal, rows: Sequence[tuple[object, ...]], *, booleans: bool) -> float:
    """What rows of a database come to. Raises CheckError for what is no number where one is wanted."""
    if not probe.is_number:
        return float(not of_rows(probe.check, rows, booleans=booleans).passed)
    if len(rows) != 1 or not rows[0]:
        raise CheckError("the answer is not one row with one value", remedy="let the query give one number")
    value = rows[0][0]
    if not is_number(value):
        said = "NULL" if value is None else f"of type {type(value).__name__}"
        raise CheckError(f"the answer is {said}, and no number", remedy="let the query give one number")
    return float(value)


def of_samples(probe: ProbeSignal, series: Sequence[Series]) -> float:
    """The largest of several; what is not a number (NaN) is larger than all. Raises CheckError where there is none."""
    if not probe.is_number:
        return float(not of_series(probe.check, series, 1).passed)
    values = [value for one in series for _, value in one.samples]
    if not values:
        if probe.check.empty_passes:
            return 0.0
        raise CheckError("nothing matches the query", remedy="correct it, or see why the metric is gone")
    return max(math.inf if math.isnan(value) else value for value in values)


def _masked(message: str, check: Check) -> str:
    url = check.text if check.probe == "http" else check.url
    return one_line(redact.text(message, url, check.token, check.password))


def why(exc: CheckError | TargetError) -> str:
    """What keeps a probe or a signal from being read, with what to do."""
    return f"{exc.message}: {exc.remedy}" if exc.remedy else exc.message
