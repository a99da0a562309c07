"""The loop of a backfill: batch after batch, each in a transaction that also says how far it came.

It goes by the key, never by OFFSET, up to the greatest key that there was when it began. A batch and its checkpoint are
committed together, so a process that dies anywhere leaves neither a row out nor changes one twice. Whoever runs it next
takes the checkpoint's ownership; a batch of the former owner that is still on its way finds so, and is rolled back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.backfill import keys
from orchestrator.backfill.keys import Key
from orchestrator.backfill.model import Backfill, Go, Pacer, Progress, Ran, Refused, Report, Stop, Wait
from orchestrator.errors import MigrationFailedError
from orchestrator.history import direct, keyset, owners, servers, touched
from orchestrator.history.changes import Change
from orchestrator.history.checkpoints import Checkpoint
from orchestrator.history.keyset import Keyset
from orchestrator.history.lives import DOUBTED

log = logging.getLogger("alembic.orchestrator.backfill")

# So many sweeps in a row that change no fewer rows than the one before, and it will not end.
SWEEPS = 10
# And so many in all, over all runs.
MOST_SWEEPS = 100
LOOK_SECONDS = 5.0
ALL_IN_ONE_ROWS = 2_000
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class _State:
    """What the checkpoint says."""

    sweep: int
    sweep_changed: int
    last: Key | None
    upper: Key | None
    seen: int
    changed: int
    estimated: int | None
    finished: bool

    @classmethod
    def of(cls, row: sa.RowMapping) -> _State:
        return cls(
            row["sweep"],
            row["sweep_changed"],
            keys.read(row["last_key"]) if row["last_key"] else None,
            keys.read(row["upper_key"]) if row["upper_key"] else None,
            row["rows_seen"],
            row["rows_changed"],
            row["rows_estimated"],
            row["state"] == "finished",
        )


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Where the next batch ends, if it is to have so many rows."""

    size: int
    upto: Key


# The size of a batch, and how many columns it is known to have changed: what the checkpoint says beside how far it is.
_Beside = tuple[int, int | None]


class Loop:
    """One backfill on one target. `until_empty`: sweep again until a sweep finds nothing to change."""

    _touched: str | None

    def __init__(
        self,
        connection: Connection,
        backfill: Backfill,
        rows: Keyset,
        change: Change,
        checkpoint: Checkpoint,
        pacer: Pacer,
        *,
        definition: str,
        until_empty: bool,
        unwatched: bool,
        prove: Callable[[], None],
        numbers: Callable[[servers.Server], str],
        passed: Callable[[], Collection[str]],
    ) -> None:
        """`unwatched`: no lock of the orchestrator's keeps other runs out. `prove` raises CommandError where the
        version table is not as this run has left it. `numbers` and `passed`: see `touched`."""
        self._prove, self._touched = prove, None
        self._unwatched = unwatched
        self._connection, self._keyset, self._change = connection, rows, change
        self._backfill, self._checkpoint, self._pacer = backfill, checkpoint, pacer
        self._definition, self._until_empty = definition, until_empty
        self._server = servers.of(connection, rows.table)
        self._numbers, self._passed = partial(numbers, self._server), passed
        self._looked = -LOOK_SECONDS
        self._vacuum: tuple[int | None, bool | None] = None, None
        self._swept: list[int] = []
        self._ran: list[Ran | Refused] = []
        self._unasked_until = 0.0
        self._ahead: _Ahead | None = None
        self._beside: _Beside | None = None
        self._all_in_one = self._server.writes_and_asks and not until_empty and direct.may_go_alone(connection)
        self._next = rows.beside()
        self._refused_upto: Key | None = None

    def run(self) -> int:
        """Returns how many rows were changed in all, by earlier runs as well. Raises MigrationFailedError where it was
        told to stop (`backfill_stopped`, `backfill_aborted`, `backfill_too_slow`), and CommandError."""
        with self._server.alone(self._connection, self._backfill), self._server.bounded(self._connection):
            state = self._resumed() or self._begun()
            while not state.finished:
                state = self._sweep(state)
            self._ask(state)  # it may have been paused, or ended, in its last batch
            return state.changed

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._connection.begin():
                self._server.begin(self._connection)
                yield
        except DBAPIError:
            # Of a COMMIT that was refused SQLAlchemy takes nothing back, and SQLite keeps its transaction open.
            if not self._connection.invalidated and not self._connection.closed:
                self._connection.connection.rollback()
            raise

    def _begun(self) -> _State:
        """Rows of transactions that are open now are among those that it begins with, so they are waited for first."""
        self._wait_for_writers()
        with self._transaction():
            keyset.prove(self._connection, self._keyset)
            upper = self._keyset.upper(self._connection)
            estimated = self._server.estimate(self._connection) if upper is not None else 0
            state = _State(0, 0, None, upper, 0, 0, estimated, upper is None)
            self._checkpoint.begin(
                self._connection,
                definition=self._definition,
                table_name=self._backfill.table,
                batch_size=self._backfill.batch_size,
                touched=touched.written(self._keyset.table, self._change.columns, self._change.reads),
                numbers=self._numbers(),
                **_kept(state),
            )
        return state

    def _resumed(self) -> _State | None:
        """What an earlier run has left; None where there is nothing to go on from."""
        with self._transaction():
            row = self._checkpoint.read(self._connection)
            self._prove()
            if (other := self._checkpoint.others(self._connection)) is not None:
                raise self._crossed(other)
            if row is None or row["applied"] or self._is_corrected(row):
                return None
            numbers = self._numbers()
            verdict = self._verdict(row, numbers)
            if row["state"] == DOUBTED or verdict == "untold":
                raise self._doubted(row)
            if verdict == "gone":
                return None
            if row["definition"] != self._definition:
                raise self._changed(row)
            if self._is_at_work(row):
                raise servers.taken(self._backfill)
            self._checkpoint.take(self._connection, numbers)
            self._touched = row["touched"]
            state = _State.of(row)
            if state.finished and self._until_empty:
                state = self._swept_again(state)
        if state.finished:
            log.warning(
                "backfill of %s: an earlier run has finished it, and did not come as far as the version table; it is "
                "not done again",
                self._backfill.table,
            )
        elif state.last is not None:
            log.info("goes on after %s, with %s rows changed", keys.told(row["last_key"]), state.changed)
        return state

    def _swept_again(self, state: _State) -> _State:
        """What was left out by what an earlier run has finished came later, and is to be changed as any other."""
        upper = self._keyset.upper(self._connection)
        if upper is None:
            return state
        after = replace(state, finished=False, sweep=state.sweep + 1, sweep_changed=0, last=None, upper=upper)
        self._checkpoint.move(self._connection, _place(state), finished_at=None, **_kept(after))
        log.info("backfill of %s: was finished before, and looks for rows that came since", self._backfill.table)
        return after

    def _is_corrected(self, row: sa.RowMapping) -> bool:
        """Whether it is another backfill than the one that began, which has not done a batch yet, or has found none to
        do; between two sweeps it has no last key, too."""
        return row["definition"] != self._definition and not row["rows_seen"]

    def _verdict(self, row: sa.RowMapping, numbers: str) -> touched.Verdict:
        kept = row["numbers"]
        if not kept or not row["rows_seen"]:
            return "same"
        return touched.verdict(kept, numbers, row["touched"], self._passed)

    def _crossed(self, other: sa.RowMapping) -> CommandError:
        done = "changed" if other["direction"] == "upgrade" else "put back"
        return CommandError(
            f"the {other['direction']} of revision {other['revision']} has {done} {other['rows_changed']} rows of "
            f"{other['table_name']!r} and did not come to its end, so some rows are as it leaves them, and some are "
            f"not. Let it come to its end first: stamp the database with where it began, and {other['direction']} "
            "again. Or put the rows right by SQL, and delete its row of "
            f"{self._checkpoint.name!r} (direction {other['direction']!r})"
        )

    def _changed(self, row: sa.RowMapping) -> CommandError:
        return CommandError(
            f"the backfill of {self._backfill.table!r} was changed after it had begun on this database: it has come "
            f"to {keys.told(row['last_key'])}, with {row['rows_changed']} rows changed. Put the revision back as it "
            "was and let it end; what is to be done besides belongs into a further revision. Where it is the same, and "
            "only a value in it is made anew by each run, let it go on: "
            f"{self._checkpoint.accepting(self._connection, self._definition)}"
        )

    def _doubted(self, row: sa.RowMapping) -> CommandError:
        on, anew = self._checkpoint.deciding(self._connection)
        return CommandError(
            f"the backfill of {self._backfill.table!r} had come to {keys.told(row['last_key'])}, with "
            f"{row['rows_changed']} rows changed, and since then this database was led back past it, restored from a "
            "dump, or its table or version table made anew. Whether these rows are as it has left them cannot be told "
            f"from here. If they are, let it go on: {on}. If they were made anew or put back, let it begin anew: {anew}"
        )

    def _is_at_work(self, row: sa.RowMapping) -> bool:
        """Whether its owner still runs, where neither a lock of the server's nor one of the orchestrator's tells."""
        if not self._unwatched or self._connection.dialect.name != "sqlite":
            return False
        return owners.is_at_work(row, self._checkpoint.owner)

    def _wait_for_writers(self) -> None:
        """Those that come later bring rows that it does not begin with."""
        nothing = _State(0, 0, None, None, 0, 0, None, False)
        waiting = self._server.writers(self._connection)
        while waiting:
            self._ask(nothing, f"transactions that write to {self._backfill.table} are still open: {waiting.told}")
            time.sleep(0.2)
            waiting = self._server.still(self._connection, waiting)

    def _sweep(self, state: _State) -> _State:
        """To the upper key, then on to the next sweep or to the end. Sweeps that find little come with pauses: rows
        that trickle in are not to be run after."""
        if state.sweep >= 2 and state.last is None:
            time.sleep(min(FIRST_PAUSE_SECONDS * 2 ** (state.sweep - 2), LONGEST_PAUSE_SECONDS))
        while state.upper is not None and state.last != state.upper:
            size, self._ahead = self._ask(state), None  # it may have waited for long
            state = self._tried(state, size)
            while state.last != state.upper and self._goes_unasked():
                state = self._tried(state, size)
        return self._ended(state)

    def _goes_unasked(self) -> bool:
        return isinstance(self._ran[-1], Ran) and time.monotonic() < self._unasked_until

    def _ended(self, state: _State) -> _State:
        """Where a sweep has come to its upper key: whether there is another."""
        with self._transaction():
            if self._until_empty:
                keyset.refuse_null(self._connection, self._keyset, self._change.where)
            again = self._until_empty and (state.sweep == 0 or state.sweep_changed > 0)
            upper = self._keyset.upper(self._connection) if again else None
            if upper is None:
                after = replace(state, finished=True, estimated=state.seen)
                self._checkpoint.move(self._connection, _place(state), finished_at=servers.now(), **_kept(after))
            else:
                self._swept.append(state.sweep_changed)
                self._refuse_endless(state.sweep)
                after = replace(state, sweep=state.sweep + 1, sweep_changed=0, last=None, upper=upper)
                self._checkpoint.move(self._connection, _place(state), **_kept(after))
        return after

    def _refuse_endless(self, sweep: int) -> None:
        late = self._swept[-SWEEPS - 1 :]
        grows = len(late) > SWEEPS and all(after >= before > 0 for before, after in pairwise(late))
        if grows or sweep >= MOST_SWEEPS:
            raise CommandError(
                f"the backfill of {self._backfill.table!r} does not come to an end: after {sweep} sweeps there are "
                f"rows to change (in the last ones: {', '.join(map(str, late))}). Let `where` leave out rows that are "
                "done, and let the application write new rows as they should be before this revision runs"
            )

    def _tried(self, state: _State, size: int) -> _State:
        began, self._refused_upto = time.monotonic(), None
        try:
            state, ran = self._batch(state, size, began)
        except DBAPIError as exc:
            reason = servers.refusal(exc)
            if reason is None:
                raise
            self._ran.append(Refused(size, reason, time.monotonic() - began))
        else:
            self._ran.append(ran)
        return state

    def _batch(self, state: _State, size: int, began: float) -> tuple[_State, Ran]:
        ahead = self._ahead
        if ahead is not None and self._goes_in_one(ahead, size) and (done := self._in_one(state, ahead)) is not None:
            changed = done.changed - state.changed
            return done, Ran(size, size, changed, time.monotonic() - began)
        with self._transaction():
            upto, seen = self._step(state, size)
            self._refused_upto = upto  # told if this batch is refused
            changed = self._change.apply(self._connection, state.last, upto)
            self._refuse_standing_still(state, upto, seen)
            if self._until_empty and changed:
                self._refuse_unchanging(state.last, upto)
            after = replace(
                state,
                last=upto,
                seen=state.seen + seen,
                changed=state.changed + changed,
                sweep_changed=state.sweep_changed + changed,
            )
            beside = size, self._columns_changed()
            ahead = self._moved(state, after, beside)
        self._ahead, self._beside = ahead, beside
        return after, Ran(size, seen, changed, time.monotonic() - began)

    def _goes_in_one(self, ahead: _Ahead, size: int) -> bool:
        """Whether the next batch may be one statement, which is sent there and back once instead of four times. Of a
        large one, to count its rows within the statement takes longer than that."""
        suits = self._all_in_one and size <= ALL_IN_ONE_ROWS
        return suits and ahead.size == size and self._beside == (size, self._columns_changed())

    def _in_one(self, state: _State, ahead: _Ahead) -> _State | None:
        """None where it could not be done so, and nothing is done."""
        assert state.last is not None
        assert state.upper is not None
        size, upto = ahead.size, ahead.upto
        change = self._change.whole(state.last, upto)
        if change is None or upto == state.upper or time.monotonic() >= self._unasked_until:
            return None
        self._refuse_standing_still(state, upto, size)
        self._refused_upto, self._ahead = upto, None  # if it is refused, the next asks again
        after = replace(state, last=upto, seen=state.seen + size)
        question = self._next.ahead(upto, state.upper, size)
        prefix, values = f"{self._keyset.prefix}_", _advanced(after)
        try:
            done = self._checkpoint.change_move_and_ask(
                self._connection, _place(state), change, question, prefix, **values
            )
        except DBAPIError as exc:
            if exc.connection_invalidated or servers.refusal(exc) is not None:
                raise
            done = None  # why, the server says to one statement after the other
        if done is None:
            self._all_in_one = False
            return None
        changed, row = done
        self._ahead = None if row is None else _Ahead(size, self._keyset.key(row))
        return replace(after, changed=state.changed + changed, sweep_changed=state.sweep_changed + changed)

    def _columns_changed(self) -> int | None:
        columns = self._change.columns
        return None if columns is None else len(columns)

    def _step(self, state: _State, size: int) -> tuple[Key, int]:
        """Where the batch ends, and how many rows it has. The batch before may have asked; if this one is refused, the
        next asks again."""
        assert state.upper is not None
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.size == size:
            return ahead.upto, size
        return self._keyset.step(self._connection, state.last, state.upper, size)

    def _moved(self, state: _State, after: _State, beside: _Beside) -> _Ahead | None:
        """Write how far it is. Where the next batch follows at once, the same statement asks where that one ends."""
        values, size, place = _advanced(after), beside[0], _place(state)
        if beside != self._beside:
            change = self._change
            changes = touched.written(self._keyset.table, change.columns, change.reads, self._touched)
            values |= {"batch_size": size, "touched": changes}
        at_once = after.last != after.upper and time.monotonic() < self._unasked_until
        if not (at_once and self._server.writes_and_asks):
            self._checkpoint.move(self._connection, place, **values)
            return None
        assert after.last is not None
        assert after.upper is not None
        question = self._keyset.ahead(after.last, after.upper, size)
        row = self._checkpoint.move_and_ask(self._connection, place, question, **values)
        return None if row is None else _Ahead(size, self._keyset.key(row))

    def _refuse_standing_still(self, state: _State, upto: Key, seen: int) -> None:
        """A batch has rows, and its last key is beyond the one before: else what the database compares is not what it
        orders by."""
        if upto != state.last and (seen or upto == state.upper):
            return
        raise CommandError(
            f"the backfill of {self._backfill.table!r} does not get beyond {keys.told(keys.written(upto))}: the "
            "database does not order its keys as it compares them. Name another unique `key`"
        )

    def _refuse_unchanging(self, last: Key | None, upto: Key) -> None:
        """Rows that are changed must be done with, or each sweep would change them again."""
        if self._change.where is None:
            return
        rows = sa.select(sa.literal(1)).select_from(self._keyset.table)
        ours = self._keyset.between(first=last is None), self._change.where, *self._server.of_this_transaction()
        # As they are now: in MySQL's picture of when the transaction began, rows that others have deleted since stand.
        asked = rows.where(*ours).limit(1).with_for_update()
        if self._connection.execute(asked, self._keyset.bounds(last, upto)).first() is not None:
            raise CommandError(
                f"`until_empty` of the backfill of {self._backfill.table!r}: rows that it has changed still are as "
                "`where` says, so they would be changed again and again. This batch was taken back"
            )

    def _ask(self, state: _State, waits: str | None = None) -> int:
        """The size of the next batch, as soon as it may go; 0 while the loop itself waits for something."""
        while True:
            match self._pacer.ask(self._told(state, waits)):
                case Go(size, seconds):
                    self._unasked_until = time.monotonic() + seconds
                    return size
                case Wait() if waits is not None:
                    return 0
                case Wait(seconds):
                    time.sleep(seconds)
                case Stop() as stop:
                    raise self._stopped(state, stop)

    def _told(self, state: _State, waits: str | None = None) -> Report:
        """What is said to the pacer; of each batch, once."""
        ran, self._ran = self._ran, []
        if not state.finished and time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            with self._connection.begin():
                self._vacuum = self._server.vacuum(self._connection)
        progress = Progress(
            finished=state.finished,
            seen=state.seen,
            changed=state.changed,
            estimated=state.estimated,
            sweep=state.sweep,
            last_key=None if state.last is None else keys.written(state.last),
            dead_rows=self._vacuum[0],
            vacuuming=self._vacuum[1],
        )
        last = ran.pop() if ran else None
        return Report(self._backfill, progress, last, waits, tuple(one for one in ran if isinstance(one, Ran)))

    def _stopped(self, state: _State, stop: Stop) -> MigrationFailedError:
        last = None if state.last is None else keys.written(state.last)
        where = f"the backfill of {self._backfill.table!r} in revision {self._backfill.revision}"
        done = f"{state.changed} rows are changed, and stay so"
        if stop.kind == "too_slow":
            return MigrationFailedError(
                f"{where}: {stop.reason}. The rows after {keys.told(last)}{self._up_to()} are the ones that it does "
                f"not get through; {done}",
                kind="backfill_too_slow",
                revision=self._backfill.revision,
                remedy="see who locks these rows and what the statement takes its time for; then retry: it goes on "
                "from there",
            )
        return MigrationFailedError(
            f"{where} was stopped after {keys.told(last)}: {stop.reason}. {done}",
            kind=f"backfill_{stop.kind}",
            revision=self._backfill.revision,
            remedy="retry: it goes on from there",
            retriable=stop.kind == "stopped",
        )

    def _up_to(self) -> str:
        """Where the batch that was refused ends; nothing where even that could not be asked."""
        return "" if self._refused_upto is None else f" up to {keys.told(keys.written(self._refused_upto))}"


def _place(state: _State) -> dict[str, int]:
    """Where the row must stand for a batch from there on: nobody, and no batch of ours, has gone beyond."""
    return {"sweep": state.sweep, "rows_seen": state.seen}


def _kept(state: _State) -> dict[str, object]:
    return _advanced(state) | {
        "state": "finished" if state.finished else "running",
        "sweep": state.sweep,
        "upper_key": None if state.upper is None else keys.written(state.upper),
        "rows_estimated": state.estimated,
    }


def _advanced(state: _State) -> dict[str, object]:
    """What a batch moves on; the rest stays as it is from the beginning of a sweep to its end."""
    return {
        "last_key": None if state.last is None else keys.written(state.last),
        "sweep_changed": state.sweep_changed,
        "rows_seen": state.seen,
        "rows_changed": state.changed,
    }
