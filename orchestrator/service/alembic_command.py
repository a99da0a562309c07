"""One of Alembic's commands for one target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import anyio.to_thread
from pydantic import SecretStr

from orchestrator.access import acts
from orchestrator.access.acts import Act
from orchestrator.databases.base import Guard, Place
from orchestrator.databases.refusals import GUARD_LOST
from orchestrator.databases.watching import lost
from orchestrator.errors import ConfigurationError, StateError, TargetUnreachableError
from orchestrator.execute.given import env_url, env_variables, hidden
from orchestrator.history import command
from orchestrator.history.command import Child, CommandJob
from orchestrator.history.revisions import History
from orchestrator.observe import redact
from orchestrator.registry.model import Registry, Target, TargetKey
from orchestrator.rollout import windows
from orchestrator.rollout.windows import Held
from orchestrator.service import requests
from orchestrator.service.daemon import opened
from orchestrator.service.records import terminal
from orchestrator.service.wiring import Parts, assembled, limits
from orchestrator.sessions import SessionRules
from orchestrator.settings import Settings


async def run(
    settings: Settings,
    track: Callable[[Registry], str],
    tenant: str,
    arguments: Sequence[str],
    override: str | None = None,
) -> int:
    """Run the command with our standard streams; returns Alembic's exit code.

    `track` names the track, given the registry. A command that changes the database has the target's lock meanwhile,
    and is recorded in the store before it begins; a daemon may use the store at the same time. `override`: why the
    target's windows do not count. A command that only looks leaves the store alone.

    Raises ConfigurationError, HistoryError, RegistryError, StoreError, FrozenError while the fleet is frozen,
    StateError outside of the target's windows, and TargetError, of kind `locked` when another migration holds the lock.
    """
    changes = command.changes_database(arguments)
    if override is not None and not override.strip():
        raise ConfigurationError("--override says no reason", remedy="say why the windows do not count")
    if not changes:
        settings = settings.model_copy(update={"store_url": SecretStr("sqlite://")})
    source = await opened(settings)
    name = track(source.current)
    if TargetKey(tenant, name) not in source.current.by_key:
        await source.discover()  # it may be one that is found at run time
    registry = source.current
    target = requests.find_target(registry, name, tenant)
    async with assembled(settings, source) as parts:
        history = await parts.histories.current(registry, registry.tracks[target.track])
        place = Place(history.env_py.settled(target), registry.url_for(target), limits(settings))
        if not changes:
            rules = parts.databases[place.url.get_backend_name()].looking(place)
            return await _in_child(_job(registry, place.target, history, arguments, rules), None)
        async with parts.databases[place.url.get_backend_name()].guard(place) as guard:
            job = _job(registry, place.target, history, arguments, guard.rules)
            await _admit(parts, registry, place.target, _act(place.target, job, override), override is not None)
            return await _in_child(job, guard)


def _act(target: Target, job: CommandJob, override: str | None) -> Act:
    details = {
        "tenant": target.tenant,
        "track": target.track,
        "arguments": [redact.text(argument, *job.secrets) for argument in job.arguments],
    }
    return Act("alembic", terminal(), details=details if override is None else {**details, "override": override})


async def _admit(parts: Parts, registry: Registry, target: Target, act: Act, overridden: bool) -> None:
    """Record that the command begins, or that it was refused. Raises FrozenError and StateError."""
    with acts.acting(act) as doing:
        try:
            if not overridden:
                _refuse_shut(parts, registry, target)
            await parts.store.freeze.passed()
        except StateError as exc:
            await parts.store.audit.note(doing.ended("refused", exc.message))
            raise


def _refuse_shut(parts: Parts, registry: Registry, target: Target) -> None:
    """Raises StateError outside of the target's windows."""
    names = windows.concerning(registry, target)
    seconds = windows.expected(registry, names)
    verdict = windows.judge([registry.windows[name] for name in names], parts.clock(), seconds)
    if not verdict.opens:
        told = windows.told([Held(target.shard, 1, verdict, seconds)])
        raise StateError(
            f"{target.tenant} may not be changed now: {told}",
            remedy="wait until then, or say with --override why it cannot wait",
        )


async def _in_child(job: CommandJob, guard: Guard | None) -> int:
    """Run the child; when the lock is lost or we are cancelled, nothing of it runs on."""
    backends: list[int] = []
    child = Child(job, backends.append)
    codes: list[int] = []
    async with anyio.create_task_group() as tasks:

        async def watch(guard: Guard) -> None:
            await lost(guard, backends)
            tasks.cancel_scope.cancel()

        if guard is not None:
            tasks.start_soon(watch, guard)
        try:
            codes.append(await anyio.to_thread.run_sync(child.run, abandon_on_cancel=True))
        finally:
            child.end()
            if not codes and guard is not None:
                with anyio.CancelScope(shield=True):
                    await guard.end_backends(backends)
        tasks.cancel_scope.cancel()
    if not codes:
        raise TargetUnreachableError(
            "the session that held the target's lock was lost; the command was ended",
            kind=GUARD_LOST,
            remedy="look at the server's log for why it ended the session, and with `-- current` at what is applied",
        )
    return codes[0]


def _job(
    registry: Registry, target: Target, history: History, arguments: Sequence[str], rules: SessionRules
) -> CommandJob:
    url = env_url(registry, target, history.is_async)
    environment = env_variables(registry, target, url)
    return CommandJob(
        track=registry.tracks[target.track],
        tenant=target.tenant,
        arguments=tuple(arguments),
        version_table=target.version_table,
        version_table_schema=target.alembic_schema,
        rules=rules,
        url=url.render_as_string(hide_password=False),
        environment=environment,
        secrets=hidden(url, environment),
    )
