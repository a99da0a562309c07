"""What the statements of a plan do to tables as large as they are: what only we know. Pure.

A table that the plan makes itself is empty and nobody's yet. One of which no size is known is told nothing of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.plan import column_types, ddl, locks, touching
from orchestrator.plan.findings import Finding, shown
from orchestrator.plan.locks import COPY, DROP_INDEX, Command, Lock, Touch
from orchestrator.plan.parts import Part, Size, Statement
from orchestrator.plan.tokens import Table

# Of one statement: what is known of the tables that it touches.
TABLES_SHOWN = 5


class Verdict(NamedTuple):
    """Of one statement. `new`: its tables come with the plan; `small`: none of them is large; `filled`: what it says is
    never NULL is known to be so; `alike`: the types that it changes are stored alike."""

    new: bool = False
    small: bool = False
    filled: bool = False
    alike: bool = False


class Weighed(NamedTuple):
    """`verdicts` in the order of the statements of all parts."""

    findings: list[Finding]
    verdicts: list[Verdict]


def tables(parts: Sequence[Part], dialect: str) -> Mapping[Table, frozenset[str]]:
    """The tables whose sizes are to be asked for, with the columns of which more is to be known."""
    known = _Known(None)
    found: dict[Table, set[str]] = {}
    for part in parts:
        for statement in part.statements:
            for command in ddl.read(statement.text, dialect):
                touched = [(one.table, [one.column or ""]) for one in command.touches if one.what != DROP_INDEX]
                for named, columns in [*touched, *((table, [""]) for table in command.provides)]:
                    table = known.original(named)
                    if table not in known.new | known.gone:
                        found.setdefault(table, set()).update(filter(None, columns))
                known.learn(command)
    return {table: frozenset(columns) for table, columns in found.items()}


def weighed(
    parts: Sequence[Part], dialect: str, sizes: Mapping[Table, Size], large: int, *, fresh: bool = False
) -> Weighed:
    """`sizes` are those at the largest tenant, by the tables' names as statements have them. `fresh`: there is nothing
    before the plan."""
    return _Scales(dialect, sizes, large, fresh).weigh(parts)


@dataclass
class _Known:
    """What earlier statements of the plan have done. `there`: tables that are known to be there before it; None: each
    may be. What the plan makes or drops has a name of its own, since another table may have had, or get, the same."""

    there: AbstractSet[Table] | None
    new: set[Table] = field(default_factory=set)
    gone: set[Table] = field(default_factory=set)
    names: dict[Table, Table] = field(default_factory=dict)
    before: dict[Table, Table] = field(default_factory=dict)  # what was meant by the name of one that is gone
    checks: dict[tuple[Table, str], str] = field(default_factory=dict)
    filled: set[tuple[Table, str]] = field(default_factory=set)

    def original(self, table: Table) -> Table:
        """The table by the name that it had before the plan."""
        return self.names.get(table, table)

    def learn(self, command: Command) -> None:
        for table in command.drops:
            self._goes(table)
        for table in (*command.creates, *filter(self._is_lacking, command.provides)):
            self.names[table] = self._own(table)
            self.new.add(self.names[table])
        if command.index is not None and self.original(command.index[1]) in self.new:
            self.new.add(command.index[0])
        for stated in command.states:
            table = self.original(stated.table)
            if stated.valid:
                self.filled.add((table, stated.column))
            self.checks[table, stated.name] = stated.column
        if command.validates is not None:
            table, name = self.original(command.validates[0]), command.validates[1]
            if column := self.checks.get((table, name)):
                self.filled.add((table, column))
        if command.renames is not None:
            old, new = command.renames
            if old.name.startswith(COPY):  # it holds what the table had that it takes the place of
                self.names[new] = self.before.get(new, self.original(new))
            else:
                self.names[new] = self.original(old)
                self._goes(old)

    def _is_lacking(self, table: Table) -> bool:
        meant = self.original(table)
        return meant in self.gone or (self.there is not None and meant not in self.there | self.new)

    def _goes(self, table: Table) -> None:
        self.before[table] = self.original(table)
        self.names[table] = self._own(table)
        self.gone.add(self.names[table])

    def _own(self, table: Table) -> Table:
        return Table(f"{table.name}\0{len(self.new) + len(self.gone)}", table.schema)


class _Scales:
    def __init__(self, dialect: str, sizes: Mapping[Table, Size], large: int, fresh: bool) -> None:
        self._dialect, self._sizes, self._large, self._fresh = dialect, sizes, large, fresh
        self._known = _Known(frozenset(sizes))
        self._findings: list[Finding] = []
        self._locks: dict[str, dict[str, Lock]] = {}

    def weigh(self, parts: Sequence[Part]) -> Weighed:
        verdicts = []
        for part in parts:
            held: dict[Table, tuple[Statement, Lock]] = {}
            for statement in part.statements:
                commands = ddl.read(statement.text, self._dialect)
                verdicts.append(self._verdict(statement, commands))
                for command in commands:
                    self._command(statement, command, held if part.transactional else {})
        return Weighed([*self._findings, *self._locked()], verdicts)

    def _verdict(self, statement: Statement, commands: Sequence[Command]) -> Verdict:
        """Before the statement is learnt from."""
        touches = [touch for command in commands for touch in command.touches]
        if self._fresh or (touches and all(self._is_ours(touch) for touch in touches)):
            return Verdict(new=True)
        sizes = [self._size(touch.table) for touch in touches if not self._is_ours(touch)]
        asked = [touch for touch in touches if touch.column and touch.type is None]
        typed = [touch for touch in touches if touch.column and touch.type is not None]
        return Verdict(
            small=bool(sizes) and all(size is not None and size.rows < self._large for size in sizes),
            filled=bool(asked) and all(self._needs_none(touch) for touch in asked),
            alike=bool(typed) and all(self._alike(touch) is True for touch in typed),
        )

    def _command(self, statement: Statement, command: Command, held: dict[Table, tuple[Statement, Lock]]) -> None:
        for touch in command.touches:
            if self._fresh or self._is_ours(touch):
                continue
            table = self._known.original(touch.table)
            if touch.lock.blocks and touch.lock not in (Lock.SHARED, Lock.FILE):
                self._note_lock(statement.revision, touch)
            size = self._size(touch.table)
            if size is not None and size.rows >= self._large and not self._needs_none(touch):
                self._findings += self._heavy(statement, touch, size)
                self._findings += self._meanwhile(statement, touch, size, held)
            if touch.lock.blocks and touch.what != DROP_INDEX:
                held.setdefault(table, (statement, touch.lock))
        self._known.learn(command)

    def _heavy(self, statement: Statement, touch: Touch, size: Size) -> Iterator[Finding]:
        """A large table that is gone through while others wait."""
        rule = touching.rule(touch)
        if rule is None:
            return
        seconds = locks.seconds(touch.work, size.bytes)
        yield Finding(
            rule,
            statement.revision,
            touching.heavy(touch, size, seconds),
            statement=shown(statement.text, self._dialect),
            table=str(touch.table),
            lock=touch.lock.value,
            rows=round(size.rows),
            seconds=round(seconds, 1),
            tenant=size.tenant,
        )

    def _meanwhile(
        self, statement: Statement, touch: Touch, size: Size, held: Mapping[Table, tuple[Statement, Lock]]
    ) -> Iterator[Finding]:
        """Tables that an earlier statement of the transaction keeps locked while this one works."""
        own, seconds = self._known.original(touch.table), locks.seconds(touch.work, size.bytes)
        if not seconds:
            return
        for table, (earlier, lock) in held.items():
            if table == own and touch.lock.blocks:
                continue  # it is told of as what it is
            yield Finding(
                "lock_held",
                earlier.revision,
                touching.held(table, lock, touch, size, seconds),
                statement=shown(earlier.text, self._dialect),
                table=str(table),
                lock=lock.value,
                seconds=round(seconds, 1),
                tenant=size.tenant,
            )

    def _needs_none(self, touch: Touch) -> bool:
        """Whether the catalog, or the plan, knows that the work need not be done."""
        if touch.column is None:
            return False
        size, table = self._size(touch.table), self._known.original(touch.table)
        if touch.type is None:
            return (table, touch.column) in self._known.filled or (size is not None and touch.column in size.filled)
        return self._alike(touch) is not False

    def _alike(self, touch: Touch) -> bool | None:
        """Whether a column's new type is stored as the old one; None: the plan has made or renamed it, or nobody was
        asked."""
        size = self._size(touch.table)
        old = size.types.get(touch.column or "") if size is not None else None
        if old is None or touch.type is None:
            return None
        if self._dialect == "postgresql":
            return column_types.stored_alike(old, touch.type)
        return not column_types.copied_by_mysql(old, touch.type)

    def _is_ours(self, touch: Touch) -> bool:
        """Whether the plan has made the table itself, or taken it away: a second DROP TABLE IF EXISTS finds none."""
        return self._known.original(touch.table) in self._known.new | self._known.gone

    def _size(self, table: Table) -> Size | None:
        return self._sizes.get(self._known.original(table))

    def _note_lock(self, revision: str, touch: Touch) -> None:
        name = f"the table of {touch.table}" if touch.what == DROP_INDEX else str(touch.table)
        of = self._locks.setdefault(revision, {})
        of[name] = max(of.get(name, touch.lock), touch.lock, key=lambda lock: lock.weight)

    def _locked(self) -> Iterator[Finding]:
        for revision, found in self._locks.items():
            named = [f"{name} ({lock.value}: no {touching.neither(lock)})" for name, lock in found.items()]
            more = f" and {len(named) - TABLES_SHOWN} more" if len(named) > TABLES_SHOWN else ""
            strongest = max(found.values(), key=lambda lock: lock.weight)
            yield Finding("locks", revision, f"it locks {', '.join(named[:TABLES_SHOWN])}{more}", lock=strongest.value)
