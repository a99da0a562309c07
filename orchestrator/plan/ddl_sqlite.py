"""What keeps an SQLite database locked for as long as a table is large. Pure.

There is one lock, on the file: nobody else writes until the transaction ends
(https://www.sqlite.org/lockingv3.html, https://www.sqlite.org/lang_altertable.html).
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.plan import mass_changes
from orchestrator.plan.lives import dropped, made
from orchestrator.plan.locks import COPY, Command, Lock, Touch, Work
from orchestrator.plan.tokens import Reader, Unread, after_words


def _create(it: Reader) -> Command:
    if it.takes("temp") or it.takes("temporary"):
        return Command()
    if it.takes("table"):
        return made(it)
    it.takes("unique")
    on = after_words(it.rest(), "on") if it.takes("index") else None
    return Command() if on is None else Command((Touch(Reader(on).table(), Lock.FILE, Work.BUILD, "CREATE INDEX"),))


def _alter(it: Reader) -> Command:
    if not it.takes("table"):
        return Command()
    table = it.table()
    if it.takes("rename", "to"):
        return Command(renames=(table, it.table()))
    if it.takes("drop"):
        return Command((Touch(table, Lock.FILE, Work.REWRITE, "DROP COLUMN"),))
    return Command()


def _insert(it: Reader) -> Command:
    """Alembic's batch mode copies a table to a new one, which takes its name."""
    if not it.takes("into") or not it.table().name.startswith(COPY):
        return Command()
    source = after_words(it.rest(), "from")
    if source is None:
        raise Unread("a copy of nothing")
    return Command((Touch(Reader(source).table(), Lock.FILE, Work.REWRITE, "copy in batch mode"),))


COMMANDS: dict[str, Callable[[Reader], Command]] = {
    "create": _create,
    "alter": _alter,
    "drop": dropped,
    "insert": _insert,
    **mass_changes.commands(Lock.FILE, "where", "limit", "from"),
}
