"""Statements that change all rows of a table, where the server's other commands are read by themselves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from orchestrator.plan.locks import Command, Lock, Touch, Work
from orchestrator.plan.tokens import Reader, has


def commands(lock: Lock, *narrowing: str) -> Mapping[str, Callable[[Reader], Command]]:
    """UPDATE and DELETE, by their first word; with one of the words `narrowing`, not all rows are meant."""
    return {"update": partial(_all_rows, lock, narrowing, "UPDATE"), "delete": partial(_delete, lock, narrowing)}


def _delete(lock: Lock, narrowing: tuple[str, ...], it: Reader) -> Command:
    return _all_rows(lock, narrowing, "DELETE", it) if it.takes("from") else Command()


def _all_rows(lock: Lock, narrowing: tuple[str, ...], verb: str, it: Reader) -> Command:
    table, rest = it.table(), it.rest()
    if any(has(rest, word) for word in narrowing):
        return Command()
    return Command((Touch(table, lock, Work.CHANGE, f"{verb} without WHERE"),))
