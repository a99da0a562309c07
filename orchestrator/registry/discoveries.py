"""From the file's `discover` to values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from orchestrator.registry import endpoints
from orchestrator.registry.document import Where
from orchestrator.registry.forms import DiscoverForm
from orchestrator.registry.model import FILE, MYSQL_DIALECTS, Discovery, Question
from orchestrator.registry.places import Checks, is_inside
from orchestrator.registry.report import Report
from orchestrator.registry.secrets import Secrets

QUESTIONS: tuple[Question, ...] = ("databases", "schemas", "query", "files", "url")
# Which databases can be asked what.
DIALECTS: Mapping[Question, frozenset[str]] = {
    "databases": frozenset({"postgresql", *MYSQL_DIALECTS}),
    "schemas": frozenset({"postgresql"}),
    "query": frozenset({"postgresql", "sqlite", *MYSQL_DIALECTS}),
    "files": frozenset({"sqlite"}),
}
# Which are asked of one database, and which answer with rows rather than names.
_NEEDS_DATABASE = frozenset({"schemas", "query"})
_ROWS = frozenset({"query", "url"})
_EXAMPLE = '"tenant_(?P<tenant>.+)"'


def build(report: Report, forms: Mapping[int, DiscoverForm], checks: Checks, secrets: Secrets) -> tuple[Discovery, ...]:
    """Return the entries that are right; the report gets what is wrong with the others."""
    found: dict[str, Discovery] = {}
    for index, form in forms.items():
        before = len(report.mistakes)
        entry = _Entry(report, ("discover", index), form, checks, secrets).built()
        if entry is None or len(report.mistakes) > before:
            continue
        if entry.name in (*found, FILE):
            whose = "the file's own tenants" if entry.name == FILE else "an earlier entry"
            report.at(("discover", index, "name"), f"{entry.name!r} is the name of {whose}: give another `name`")
        found.setdefault(entry.name, entry)
    return tuple(found.values())


class _Entry:
    """One entry, with what is needed to check it."""

    def __init__(self, report: Report, where: Where, form: DiscoverForm, checks: Checks, secrets: Secrets) -> None:
        self.report, self.where, self.form, self.checks, self.secrets = report, where, form, checks, secrets

    def built(self) -> Discovery | None:
        form, question = self.form, self._question()
        if question is None:
            return None
        self._check_shard(question)
        self._check_database(question)
        self._check_track(question)
        self._check_belongings(question)
        text, token = getattr(form, question), None
        if question == "url":
            text = endpoints.url(self.report, (*self.where, "url"), form.url or "", self.secrets)
            if form.token is not None:
                token = endpoints.token(self.report, (*self.where, "token"), form.token, self.secrets)
        elif question == "files":
            self._check_glob(text)
        elif question != "query":
            self._check_pattern(question, text)
        if form.pattern is not None:
            self._check_pattern("pattern", form.pattern)
        return Discovery(
            form.name or _derived(form, question, text),
            question,
            text,
            shard=form.shard,
            database=form.database,
            track=form.track,
            pattern=form.pattern if question == "files" else None if question in _ROWS else text,
            token=token,
            exclude=tuple(form.exclude),
            labels=dict(form.labels),
            create_schema=form.create,
            adopt=form.adopt,
            refresh_seconds=form.refresh,
        )

    def _at(self, key: str, message: str, *, on_key: bool = False) -> None:
        self.report.at((*self.where, key), message, key=on_key)

    def _question(self) -> Question | None:
        asked = [question for question in QUESTIONS if getattr(self.form, question) is not None]
        if not asked:
            self.report.at(self.where, "one of `databases`, `schemas`, `query`, `files` or `url` is missing")
            return None
        for other in asked[1:]:
            self._at(other, f"`{asked[0]}` and `{other}` are two questions: make them two entries", on_key=True)
        return asked[0] if len(asked) == 1 else None

    def _check_shard(self, question: Question) -> None:
        name, names = self.form.shard, self.checks.shard_names
        if name is None:
            if question != "url":
                self.report.at(self.where, "`shard` is missing")
            return
        if names is not None and name not in names:
            self.report.unknown((*self.where, "shard"), "shard", name, names)
        shard = self.checks.shards.get(name)
        if shard is not None and question in DIALECTS and shard.dialect not in DIALECTS[question]:
            self._at(
                question, f"`{question}` cannot be asked of {shard.dialect}: {_instead(shard.dialect)}", on_key=True
            )

    def _check_database(self, question: Question) -> None:
        if question in _NEEDS_DATABASE and self.form.database is None:
            self.report.at(self.where, f"`database` is missing: `{question}` is asked of one database")
        shard = self.checks.shards.get(self.form.shard or "")
        if shard is not None and shard.dialect == "sqlite" and not is_inside(self.form.database or "x"):
            self._at("database", "this must be a file in the shard's folder")
        if question not in _NEEDS_DATABASE and self.form.database is not None:
            self._at("database", f"`database` goes with `schemas` or `query`, not with `{question}`", on_key=True)

    def _check_track(self, question: Question) -> None:
        track, names = self.form.track, self.checks.track_names
        if track is None and names and len(names) > 1 and question not in _ROWS:
            listed = ", ".join(sorted(names))
            self.report.at(self.where, f"there are several tracks ({listed}): say which with `track:`")
        if track is not None and names is not None and track not in names:
            self.report.unknown((*self.where, "track"), "track", track, names)

    def _check_belongings(self, question: Question) -> None:
        """Refuse keys that would be passed over with this question."""
        if self.form.pattern is not None and question != "files":
            self._at("pattern", "`pattern` goes with `files`", on_key=True)
        if self.form.token is not None and question != "url":
            self._at("token", "`token` goes with `url`", on_key=True)
        if self.form.create and question not in _ROWS:
            self._at("create", "`create` goes with `query` or `url`: what is found by its name is there", on_key=True)

    def _check_pattern(self, key: str, text: str) -> None:
        try:
            groups = re.compile(text).groupindex
        except (re.error, RecursionError, OverflowError) as exc:
            self._at(key, f"this is not a regular expression: {exc}")
            return
        if "tenant" not in groups:
            self._at(key, f"the pattern has no group `tenant`: write it like {_EXAMPLE}")
        for group in sorted(groups.keys() - {"tenant"}):
            self._at(key, f"unknown group {group!r}: the only one that is looked at is (?P<tenant>…)")

    def _check_glob(self, text: str) -> None:
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts or "**" in text.replace("**/", ""):
            self._at("files", 'this must be a glob of files in the shard\'s folder, such as "*.db" or "**/*.db"')


def _derived(form: DiscoverForm, question: Question, text: str) -> str:
    """
    >>> _derived(DiscoverForm(shard="pg", database="app", schemas="(?P<tenant>.+)"), "schemas", "")
    'pg/app/schemas'
    """
    if question == "url":
        try:
            return urlsplit(text).hostname or question
        except ValueError:
            return question
    return "/".join(filter(None, (form.shard, form.database, question)))


def _instead(dialect: str) -> str:
    known = [f"`{question}`" for question, dialects in DIALECTS.items() if dialect in dialects]
    return f"use {' or '.join(known)}"
