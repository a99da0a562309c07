"""Asks what must hold after a wave: `rollout.ports.Checks`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import anyio
import structlog

from orchestrator.databases.asking import Asker
from orchestrator.databases.base import Limits, Place
from orchestrator.errors import CheckError, TargetError
from orchestrator.execute import endpoints, promql
from orchestrator.execute.answers import one_line
from orchestrator.execute.slots import Slots
from orchestrator.execute.survey import BESIDE_ROLLOUTS, ShardHealth
from orchestrator.execute.verdicts import Finding, of_rows, of_tenants
from orchestrator.observe import redact
from orchestrator.plan import waves
from orchestrator.registry.model import DEFAULT_STRATEGY, Check, Registry, Target, TargetKey, Wave
from orchestrator.rollout.ports import Verdict

log = structlog.get_logger(__name__)


class WaveChecks:
    """Asks databases, Prometheus and endpoints, as the registry of that moment says."""

    def __init__(self, registry: Callable[[], Registry], limits: Limits, max_concurrent: int = 32) -> None:
        self._registry, self._limits = registry, limits
        self._asker, self._slots = Asker(), Slots(max_concurrent)

    async def ask(self, strategy: str, wave: str, targets: Sequence[TargetKey]) -> Sequence[Verdict]:
        registry = self._registry()
        known = registry.strategies.get(strategy, DEFAULT_STRATEGY if strategy == DEFAULT_STRATEGY.name else None)
        if known is None:
            return [Verdict(strategy, False, f"the registry no longer has the strategy {strategy!r}")]
        found = next((one for one in known.waves if one.name == wave), None)
        if found is None:
            return [Verdict(wave, False, f"the registry no longer has the wave {wave!r} of strategy {strategy!r}")]
        if not found.checks:
            return [Verdict(wave, False, f"the registry no longer has checks for wave {wave!r} of {strategy!r}")]
        return await self._ask_all(registry, strategy, found, targets)

    async def _ask_all(
        self, registry: Registry, strategy: str, wave: Wave, targets: Sequence[TargetKey]
    ) -> Sequence[Verdict]:
        verdicts: dict[str, Verdict] = {}

        async def ask(check: Check) -> None:
            began = time.monotonic()
            salt = f"{strategy}/{wave.name}/{check.name}"
            finding = await self._asked(registry, check, targets, salt)
            url = check.text if check.probe == "http" else check.url
            said = f"{check.name}: {one_line(redact.text(finding.said, url, check.token, check.password))}"
            verdicts[check.name] = Verdict(check.name, finding.passed, said)
            log.debug(
                "check_asked",
                strategy=strategy,
                wave=wave.name,
                check=check.name,
                passed=finding.passed,
                message=said,
                seconds=round(time.monotonic() - began, 3),
            )

        async with anyio.create_task_group() as tasks:
            for check in wave.checks:
                tasks.start_soon(ask, check)
        return [verdicts[check.name] for check in wave.checks]

    async def _asked(self, registry: Registry, check: Check, targets: Sequence[TargetKey], salt: str) -> Finding:
        try:
            if check.probe == "promql":
                async with await endpoints.client(check) as client:
                    return await promql.ask(client, check)
            if check.probe == "http":
                async with await endpoints.client(check) as client:
                    return await endpoints.ask(client, check)
            if check.shard is None:
                return await self._of_tenants(registry, check, targets, salt)
            return await self._sql(registry, check, Target("", "", check.shard, check.database or "", check.schema))
        except (CheckError, TargetError) as exc:
            return Finding(False, str(exc) if isinstance(exc, CheckError) else exc.message)
        except Exception as exc:  # one check's surprise is not the rollout's end, and is no answer either
            log.exception("asking_check_crashed", check=check.name)
            return _surprise(exc)

    async def _sql(self, registry: Registry, check: Check, target: Target) -> Finding:
        """Raises TargetError."""
        shard = registry.shards[target.shard]
        limits = replace(self._limits, connect=check.timeout_seconds)
        rows = await self._asker.ask(Place(target, registry.url_for(target), limits), check.text)
        return of_rows(check, rows, booleans=shard.dialect == "postgresql")

    async def _of_tenants(self, registry: Registry, check: Check, targets: Sequence[TargetKey], salt: str) -> Finding:
        keys = [key for key in targets if check.track in (None, key.track)]
        gone = [key for key in keys if key not in registry.by_key]
        chosen = _sample([registry.by_key[key] for key in keys if key in registry.by_key], check.sample, salt)
        if not gone and not chosen:
            return Finding(False, "the wave has migrated no tenant that could be asked")
        findings: dict[TargetKey, Finding] = {}
        with anyio.move_on_after(check.deadline_seconds):
            async with anyio.create_task_group() as tasks:
                health: dict[str, ShardHealth] = defaultdict(ShardHealth)
                for target in chosen:
                    tasks.start_soon(self._of_tenant, registry, check, target, health[target.shard], findings)
        missing = [(str(key), Finding(False, "the registry no longer has it")) for key in gone]
        told = [(str(target.key), findings[target.key]) for target in chosen if target.key in findings]
        return of_tenants([*missing, *told], len(chosen) - len(told))

    async def _of_tenant(
        self,
        registry: Registry,
        check: Check,
        target: Target,
        health: ShardHealth,
        findings: dict[TargetKey, Finding],
    ) -> None:
        limit = max(1, int(registry.shards[target.shard].max_concurrent * BESIDE_ROLLOUTS))
        async with self._slots.slot(target.shard, limit):
            if health.reason is not None:
                findings[target.key] = Finding(False, health.reason.message)
                return
            try:
                findings[target.key] = await self._sql(registry, check, target)
                health.note(None)
            except TargetError as exc:
                health.note(exc)
                findings[target.key] = Finding(False, exc.message)
            except Exception as exc:
                log.exception("asking_check_crashed", check=check.name, tenant=target.tenant, track=target.track)
                findings[target.key] = _surprise(exc)


def _sample(targets: Sequence[Target], number: int | None, salt: str) -> Sequence[Target]:
    """The targets of so many tenants, spread over shards and labels; with the same salt always the same."""
    if number is None:
        return targets
    tenants: dict[str, list[Target]] = defaultdict(list)
    for target in targets:
        tenants[target.tenant].append(target)
    units = [tuple(members) for members in tenants.values()]
    return [target for unit in waves.spread(units, number, salt) for target in unit]


def _surprise(exc: Exception) -> Finding:
    """Its text may hold data: the daemon's log has it."""
    return Finding(False, f"it cannot be asked: {type(exc).__name__}, see the daemon's log")
