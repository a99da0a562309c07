"""From `verify` entries to values, whether they stand in the registry file or in a revision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from orchestrator.registry import forms
from orchestrator.registry.document import Where
from orchestrator.registry.forms import VerifyForm
from orchestrator.registry.precautions import Assertion, RowGuard, Verification
from orchestrator.registry.report import Report


def build(report: Report, where: Where, entries: Sequence[VerifyForm]) -> tuple[Verification, ...]:
    """Return what is to be checked; the report gets what is wrong with it."""
    found: list[Verification] = []
    for index, form in enumerate(entries):
        mistakes = list(_mistakes(form))
        for message in mistakes:
            report.at((*where, index), message)
        if not mistakes:
            found.append(_built(form))
    return tuple(found)


def declared(revision: str, written: object) -> tuple[Verification, ...]:
    """The checks that a revision's file declares as `verify`: a list of SQL, or of mappings with a track's keys.

    Raises ValueError that says what is wrong.
    """
    if not isinstance(written, (list, tuple)):
        raise ValueError("`verify` must be a list of SQL, or of mappings with the keys of a track's `verify`")
    return tuple(replace(_read(number, entry), revision=revision) for number, entry in enumerate(written, 1))


def _read(number: int, entry: object) -> Verification:
    content = {"sql": entry} if isinstance(entry, str) else entry
    if not isinstance(content, dict):
        raise ValueError(f"entry {number} of `verify` must be SQL or a mapping")
    try:
        form = VerifyForm.model_validate({key: _as_written(value) for key, value in content.items()})
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"entry {number} of `verify`: `{key}`: {first['msg']}") from None
    if form.revision is not None:
        raise ValueError(f"entry {number} of `verify`: `revision` is the file's own: leave it out")
    for message in _mistakes(form):
        raise ValueError(f"entry {number} of `verify`: {message}")
    return _built(form)


def _as_written(value: Any) -> Any:
    """As the registry file would have it, where everything is text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value


def _mistakes(form: VerifyForm) -> Iterator[str]:
    if (form.sql is None) == (form.rows is None):
        yield "give `sql`, or `rows` that are counted before and after; one of them"
    elif form.sql is not None and (form.may is not None or form.within is not None):
        yield "`may` and `within` belong to `rows`"
    elif form.rows is not None and form.expect is not None:
        yield "`expect` belongs to `sql`; for `rows` there are `may` and `within`"
    elif form.rows is not None and not all(form.rows.split(".")):
        yield "`rows` must be the name of a table, `orders` or `sales.orders`"


def _built(form: VerifyForm) -> Verification:
    if form.sql is not None:
        return Assertion(form.sql, form.name, form.expect, form.revision, form.timeout)
    count, percent = forms.limit(form.within) if form.within is not None else (None, None)
    may = form.may or "grow"
    return RowGuard(form.rows or "", form.name, may, count, percent, form.revision, form.timeout)
