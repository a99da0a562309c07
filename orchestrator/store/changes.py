"""The changes of the ledger, each inside a transaction that somebody else opens and commits.

A change first takes the rows of its rollouts for itself (`_hold`), so what it decides by stays true until the commit:
on SQLite the whole database is taken by `BEGIN IMMEDIATE`, on PostgreSQL the rows are locked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, and_, bindparam, delete, exists, func, insert, literal, select, text, update

from orchestrator.access.acts import Recorded
from orchestrator.errors import OrchestratorError
from orchestrator.events import MigrationStarted, RolloutEvent
from orchestrator.plan import doubt
from orchestrator.registry.model import TargetKey
from orchestrator.rollout import windows
from orchestrator.rollout.state import Migration, MigrationState, Rollout, RolloutState, count, summed
from orchestrator.rollout.windows import Freeze
from orchestrator.store import rules, starts
from orchestrator.store.rows import event_row, migration_row, rollout_from, rollout_row
from orchestrator.store.rules import Holding, MigrationKey, Numbered, Stored
from orchestrator.store.tables import events, holds, migrations, rollouts

# Rows per statement: between two statements, 10 ms or so apart, the daemon's loop does other work.
SLICE = 500
ANALYZE_ROWS = 1_000
NAMED_TARGETS = 20

# Advisory locks of the store's database are ours alone; any two different numbers would do.
CREATION_LOCK = (0x6F726368, 2)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """What a change answers, and the events to publish once it is committed. `unchanged`: it found that there was
    nothing to do, so that there is nothing for the audit; `recorded`: the entry that was written with it."""

    value: T
    events: Sequence[Numbered] = ()
    unchanged: bool = False
    recorded: Recorded | None = None


@dataclass(frozen=True, slots=True)
class MigrationChange:
    """A migration's new state: the change that is written by the hundred."""

    migration: Migration
    event: RolloutEvent | None = None


_UPDATE_MIGRATION = update(migrations).where(
    migrations.c.rollout == bindparam("of_rollout"),
    migrations.c.tenant == bindparam("of_tenant"),
    migrations.c.track == bindparam("of_track"),
)
_UPDATE_SEQUENCE = update(rollouts).where(rollouts.c.id == bindparam("of_rollout"))
_HOLD = (
    select(rollouts.c.id, rollouts.c.state, rollouts.c.total, rollouts.c.last_sequence)
    .where(rollouts.c.id.in_(bindparam("of_rollouts", expanding=True)))
    .order_by(rollouts.c.id)
    .with_for_update()
)


def create(
    connection: Connection, rollout: Rollout, frozen: Sequence[Migration], event: RolloutEvent
) -> Written[Rollout]:
    """Raises ConflictError, StateError for a run of a schedule that may not be, and StoreError when the targets are not
    as many as the rollout says."""
    if problem := rules.uncovered(rollout, len(frozen), count(frozen)):
        raise problem
    _one_at_a_time(connection)
    if earlier := _same_request(connection, rollout.request.idempotency_key, rollout.created_at - rules.KEY_KEPT):
        return Written(earlier, unchanged=True)
    if earlier_run := starts.claim(connection, rollout):
        row = connection.execute(select(rollouts).where(rollouts.c.id == earlier_run)).mappings().one()
        return Written(rollout_from(row), unchanged=True)
    connection.execute(insert(rollouts), {**rollout_row(rollout), "last_sequence": 0})
    for part in slices(frozen, SLICE):
        connection.execute(insert(migrations), [migration_row(migration) for migration in part])
    if not rollout.state.finished:
        _acquire(connection, rollout.id)
        _inherit(connection, rollout.id)
    _count_in(connection, len(frozen))
    stored = {rollout.id: Stored(rollout.state, rollout.total, 0)}
    return Written(rollout, _append(connection, stored, [event]))


def save_rollout(connection: Connection, rollout: Rollout, event: RolloutEvent | None) -> Written[None]:
    """Raises NotFoundError, StateError, ConflictError, and StoreError when a target is not accounted for."""
    stored = _hold(connection, [rollout.id])
    _move(connection, rollout, stored)
    return Written(None, _append(connection, stored, [event] if event else []))


def save_migrations(
    connection: Connection, changed: Sequence[Migration], happened: Sequence[RolloutEvent]
) -> Written[None]:
    """Raises NotFoundError or StateError for the first that cannot be saved."""
    stored = _hold(connection, _rollouts(changed, happened))
    _replace(connection, changed, stored)
    return Written(None, _append(connection, stored, happened))


def reopen(
    connection: Connection, rollout: Rollout, changed: Sequence[Migration], happened: Sequence[RolloutEvent]
) -> Written[None]:
    """The rollout and its migrations at once; what other rollouts have left in doubt since, these are to judge first.
    Raises what `save_rollout` and `save_migrations` raise."""
    stored = _hold(connection, [rollout.id, *_rollouts(changed, happened)])
    _move(connection, rollout, stored, reopening=True)
    _replace(connection, changed, {**stored, rollout.id: replace(stored[rollout.id], state=rollout.state)})
    _inherit(connection, rollout.id, {migration.key for migration in changed})
    return Written(None, _append(connection, stored, happened))


def extend(connection: Connection, rollout: Rollout, added: Sequence[Migration], event: RolloutEvent) -> Written[None]:
    """Raises NotFoundError, StateError, ConflictError."""
    _one_at_a_time(connection)
    stored = _hold(connection, [rollout.id])
    before = stored.get(rollout.id)
    if before is None:
        raise rules.unknown(rollout.id)
    if before.state.finished:
        raise rules.finished(rollout.id, before.state)
    for part in slices(added, SLICE):
        connection.execute(insert(migrations), [migration_row(migration) for migration in part])
    _acquire(connection, rollout.id)
    _inherit(connection, rollout.id)
    total = {"total": before.total + len(added)}
    connection.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(total))
    return Written(None, _append(connection, stored, [event]))


def save_each(
    connection: Connection, changes: Sequence[MigrationChange]
) -> Written[Sequence[OrchestratorError | None]]:
    """Save what can be saved, in order; the value tells for each change why it was refused, or None."""
    all_changed = [change.migration for change in changes]
    stored = _hold(connection, _rollouts(all_changed, [change.event for change in changes if change.event]))
    held = starts.frozen(connection) if any(map(_is_start, changes)) else None
    refusals = _refusals(changes, stored, None, held)
    if not _update(connection, [change.migration for change in _kept(changes, refusals)]):
        refusals = _refusals(changes, stored, _known(connection, all_changed), held)
    published = _append(connection, stored, [one.event for one in _kept(changes, refusals) if one.event])
    return Written(refusals, published)


def _refusals(
    changes: Sequence[MigrationChange],
    stored: Mapping[str, Stored],
    known: Collection[MigrationKey] | None,
    held: Freeze | None,
) -> list[OrchestratorError | None]:
    return [
        windows.refused(held)
        if held is not None and _is_start(change)
        else rules.refusal(change.migration, stored.get(change.migration.rollout), known)
        for change in changes
    ]


def _kept(
    changes: Sequence[MigrationChange], refusals: Sequence[OrchestratorError | None]
) -> Sequence[MigrationChange]:
    return [change for change, refused in zip(changes, refusals, strict=True) if refused is None]


def _is_start(change: MigrationChange) -> bool:
    return isinstance(change.event, MigrationStarted)


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """
    >>> list(slices("abcde", 2))
    ['ab', 'cd', 'e']
    """
    return (items[start : start + size] for start in range(0, len(items), size))


def _rollouts(changed: Iterable[Migration], happened: Iterable[RolloutEvent]) -> list[str]:
    return [*(migration.rollout for migration in changed), *(event.rollout for event in happened)]


def _one_at_a_time(connection: Connection) -> None:
    """Let no two transactions acquire targets at once, or each could miss what the other has not committed."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(*CREATION_LOCK)))


def _count_in(connection: Connection, rows: int) -> None:
    """Let PostgreSQL's planner know of the new rows now. Until autovacuum comes by, it thinks that the rollout has
    none, and reads all of 100,000 to find sixteen."""
    if connection.dialect.name == "postgresql" and rows >= ANALYZE_ROWS:
        connection.execute(text("ANALYZE migrations"))


def _same_request(connection: Connection, idempotency_key: str | None, since: datetime) -> Rollout | None:
    """The rollout that was made under this key after `since`; one of before gives the key free."""
    if idempotency_key is None:
        return None
    same = rollouts.c.idempotency_key == idempotency_key
    found = connection.execute(select(rollouts).where(same))
    row = found.mappings().one_or_none()
    if row is not None and row["created_at"] <= since:
        connection.execute(update(rollouts).where(same).values(idempotency_key=None))
        return None
    return rollout_from(row) if row else None


def _hold(connection: Connection, rollout_ids: Iterable[str]) -> dict[str, Stored]:
    rows = connection.execute(_HOLD, {"of_rollouts": sorted(set(rollout_ids))})
    return {row.id: Stored(RolloutState(row.state), row.total, row.last_sequence) for row in rows}


def _known(connection: Connection, changed: Sequence[Migration]) -> set[MigrationKey]:
    """Asked per rollout and track: for a list of whole keys SQLite reads the index from end to end."""
    found: set[MigrationKey] = set()
    ordered = sorted({rules.key(migration) for migration in changed}, key=itemgetter(0, 2))
    for (rollout, track), keys in groupby(ordered, key=itemgetter(0, 2)):
        of_one = select(migrations.c.tenant).where(migrations.c.rollout == rollout, migrations.c.track == track)
        for part in slices(list(keys), SLICE):
            rows = connection.scalars(of_one.where(migrations.c.tenant.in_([tenant for _, tenant, _ in part])))
            found.update((rollout, tenant, track) for tenant in rows)
    return found


def _replace(connection: Connection, changed: Sequence[Migration], stored: Mapping[str, Stored]) -> None:
    known = _known(connection, changed)
    for migration in changed:
        if refused := rules.refusal(migration, stored.get(migration.rollout), known):
            raise refused
    _update(connection, changed)


def _update(connection: Connection, changed: Sequence[Migration]) -> bool:
    """Whether the database says that each of them was there: asking before costs as much as the rest. One that was not
    is not made."""
    found = 0
    for part in slices(changed, SLICE):
        values = [_new_values(migration) for migration in part]
        found += connection.execute(_UPDATE_MIGRATION, values if len(values) > 1 else values[0]).rowcount
    counts_several = connection.dialect.supports_sane_multi_rowcount or len(changed) < 2
    return counts_several and found == len(changed)


def _new_values(migration: Migration) -> dict[str, Any]:
    """All but the place in the frozen set and what was planned, which are never written again."""
    values = migration_row(migration)
    del values["position"], values["planned"]
    return values | {f"of_{name}": values.pop(name) for name in ("rollout", "tenant", "track")}


def _move(connection: Connection, rollout: Rollout, stored: Mapping[str, Stored], *, reopening: bool = False) -> None:
    """Write the rollout's new state, and hold or release its targets accordingly."""
    before = stored.get(rollout.id)
    if before is None:
        raise rules.unknown(rollout.id)
    step = rules.holding(rollout.id, before.state, rollout.state, reopening=reopening)
    counted = summed(by_wave(connection, rollout.id)) if rollout.state.finished else None
    if counted is not None and (problem := rules.uncovered(rollout, before.total, counted)):
        raise problem
    if step is Holding.RELEASE:
        connection.execute(delete(holds).where(holds.c.rollout == rollout.id))
    if step is Holding.ACQUIRE:
        _one_at_a_time(connection)
        _acquire(connection, rollout.id)
    values = rollout_row(replace(rollout, total=before.total))
    connection.execute(update(rollouts).where(rollouts.c.id == values.pop("id")).values(values))


def by_wave(connection: Connection, rollout_id: str) -> dict[str, dict[MigrationState, int]]:
    """How many migrations are in which state."""
    wave, state = migrations.c.wave, migrations.c.state
    rows = connection.execute(
        select(wave, state, func.count()).where(migrations.c.rollout == rollout_id).group_by(wave, state)
    )
    found: dict[str, dict[MigrationState, int]] = {}
    for name, value, n in rows:
        found.setdefault(name, {})[MigrationState(value)] = n
    return found


def _acquire(connection: Connection, rollout_id: str) -> None:
    """Hold all targets of the rollout. Raises ConflictError if another active rollout holds one."""
    _refuse_conflict(connection, rollout_id)
    targets = select(migrations.c.tenant, migrations.c.track, literal(rollout_id))
    held = exists().where(holds.c.tenant == migrations.c.tenant, holds.c.track == migrations.c.track)
    frozen = targets.where(migrations.c.rollout == rollout_id, ~held)
    frozen = frozen.order_by(migrations.c.tenant, migrations.c.track)
    connection.execute(insert(holds).from_select(["tenant", "track", "rollout"], frozen))


def _inherit(connection: Connection, rollout_id: str, only: Collection[TargetKey] | None = None) -> None:
    """What other rollouts may have left of a revision on the same targets, or on `only` these, is for the rollout that
    holds them now to judge, and goes over what was its own to judge."""
    before, now = migrations.alias("before"), migrations.alias("now")
    same = [before.c[name] == now.c[name] for name in ("tenant", "track")]  # wherever it is by now
    open_ones = and_(before.c.doubt.is_not(None), before.c.doubt.not_like(f"{doubt.PASSED_ON}%"))
    wanted = (now.c.rollout == rollout_id, before.c.rollout != rollout_id, open_ones)
    found = connection.execute(
        select(before.c.rollout, before.c.tenant, before.c.track, before.c.doubt)
        .join(now, and_(*same))
        .where(*wanted)
        .order_by(before.c.rollout)
    ).all()
    for row in found:
        if only is not None and TargetKey(row.tenant, row.track) not in only:
            continue
        of = (migrations.c.tenant == row.tenant, migrations.c.track == row.track)
        connection.execute(update(migrations).where(migrations.c.rollout == rollout_id, *of).values(doubt=row.doubt))
        passed_on = {"doubt": f"{doubt.PASSED_ON}{row.doubt}"}
        connection.execute(update(migrations).where(migrations.c.rollout == row.rollout, *of).values(passed_on))


def _refuse_conflict(connection: Connection, rollout_id: str) -> None:
    same_target = and_(holds.c.tenant == migrations.c.tenant, holds.c.track == migrations.c.track)
    wanted = and_(migrations.c.rollout == rollout_id, holds.c.rollout != rollout_id)
    taken = select(holds.c.rollout, func.count().label("n")).join(migrations, same_target).where(wanted)
    holders = connection.execute(taken.group_by(holds.c.rollout).order_by(func.count().desc(), holds.c.rollout))
    first = holders.first()
    if first is None:
        return
    named = select(migrations.c.tenant, migrations.c.track).join(holds, same_target).where(wanted)
    ordered = named.where(holds.c.rollout == first.rollout).order_by(migrations.c.position).limit(NAMED_TARGETS)
    targets = [str(TargetKey(row.tenant, row.track)) for row in connection.execute(ordered)]
    raise rules.conflict(first.rollout, targets, first.n)


def _append(
    connection: Connection, stored: Mapping[str, Stored], happened: Sequence[RolloutEvent]
) -> Sequence[Numbered]:
    """Append events to their rollouts' streams; returns them with their numbers."""
    numbered, last = rules.number(stored, happened)
    for part in slices(numbered, SLICE):
        connection.execute(insert(events), [event_row(event, sequence) for event, sequence in part])
    if last:
        heads = [{"of_rollout": rollout, "last_sequence": sequence} for rollout, sequence in sorted(last.items())]
        connection.execute(_UPDATE_SEQUENCE, heads)
    return numbered
