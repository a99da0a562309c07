"""The registry file, from a path to a `Registry`: all of its mistakes at once, or none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from orchestrator.registry import (
    backfill_forms,
    digests,
    discoveries,
    document,
    forms,
    notifications,
    sections,
    shards,
    strategies,
    throttles,
    time_forms,
    timetables,
    tracks,
    unsupported,
)
from orchestrator.registry.backfill_forms import BackfillForm
from orchestrator.registry.document import Where
from orchestrator.registry.model import Registry
from orchestrator.registry.places import Checks, Places
from orchestrator.registry.report import Report
from orchestrator.registry.secrets import Secrets

_Form = TypeVar("_Form", bound=forms.Form)


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Registry:
    """Read the registry file at `path`; its references are looked up in `environ`.

    Relative paths in it start at its own folder. Raises RegistryError with every mistake, each with its line and
    column; no message holds a secret. Blocks: it reads files, and imports the package of a `package:folder`.
    """
    report = Report(document.read(path))
    source = path.absolute()
    secrets = Secrets(environ, source.parent)
    _check_sections(report)
    unsupported.check(report)
    track_forms = _named(report, "tracks", forms.TrackForm)
    shard_forms = _named(report, "shards", backfill_forms.ShardForm)
    strategy_forms = _named(report, "strategies", forms.StrategyForm)
    schedule_forms = _named(report, "schedules", time_forms.ScheduleForm)
    window_forms = _named(report, "windows", time_forms.WindowForm)
    discover_forms = {int(i): form for i, form in _entries(report, "discover", forms.DiscoverForm)}
    built_tracks = tracks.build(report, track_forms, secrets)
    built_shards = shards.build(report, shard_forms, secrets)
    checks = Checks(report, built_tracks, built_shards, _names(report, "tracks"), _names(report, "shards"))
    targets = Places(report, checks).targets(
        {int(i): form for i, form in _entries(report, "tenants", forms.TenantForm)}
    )
    built_strategies = strategies.build(report, strategy_forms, checks, secrets)
    found = discoveries.build(report, discover_forms, checks, secrets)
    schedules = timetables.schedules(report, schedule_forms, _names(report, "tracks"), _names(report, "strategies"))
    windows = timetables.windows(report, window_forms)
    notification_forms = {int(i): form for i, form in _entries(report, "notifications", forms.NotificationForm)}
    channels = notifications.build(report, notification_forms, _names(report, "tracks"), secrets)
    built_shards = throttles.placed(report, built_shards, *_backfills(report), windows, checks, secrets)
    report.close()
    ordered = sorted(targets, key=lambda target: target.key)
    digest = digests.of(built_tracks, built_shards, ordered, built_strategies, found, schedules, windows, channels)
    return Registry(
        source,
        digest,
        built_tracks,
        built_shards,
        targets,
        built_strategies,
        found,
        schedules=schedules,
        windows=windows,
        channels=channels,
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the registry file, for editors and CI."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **sections.FileForm.model_json_schema()}


def _check_sections(report: Report) -> None:
    content = report.document.value
    for section in content:
        if section not in sections.SECTIONS:
            report.unknown((section,), "key", section, sections.SECTIONS, key=True)
    for section in sorted(sections.REQUIRED - content.keys()):
        empty = "[]" if sections.SECTIONS[section][1] == "list" else "{}"
        report.at((), f"`{section}` is missing; when there are none yet, write `{section}: {empty}`")
    for section, (_, kind) in sections.SECTIONS.items():
        value = content.get(section)
        wrong = value is not None and not isinstance(value, list if kind == "list" else dict)
        if wrong or (value is None and section in sections.REQUIRED & content.keys()):
            report.at((section,), f"`{section}` must be a {'list' if kind == 'list' else 'mapping'}")
    if content.get("tracks") == {} and (content.get("tenants") or content.get("discover")):
        report.at(("tracks",), "there are tenants, but no track: name at least one migration history")


def _items(report: Report, section: str) -> Iterator[tuple[str | int, Any]]:
    value = report.document.value.get(section)
    if isinstance(value, dict) and sections.SECTIONS[section][1] == "mapping":
        yield from value.items()
    elif isinstance(value, list) and sections.SECTIONS[section][1] == "list":
        yield from enumerate(value)


def _names(report: Report, section: str) -> list[str] | None:
    """The names in a section, right or wrong; None when there is no such section to look into."""
    return list(value) if isinstance(value := report.document.value.get(section), dict) else None


def _entries(report: Report, section: str, form: type[_Form]) -> Iterator[tuple[str | int, _Form]]:
    """The entries of a section, each checked for itself so that one mistake does not hide another."""
    for key, value in _items(report, section):
        if (entry := _entry(report, (section, key), value, form)) is not None:
            yield key, entry


def _backfills(report: Report) -> tuple[BackfillForm | None, dict[str, BackfillForm]]:
    """What is said of all shards, and by name what is said of one; of shards that are wrong elsewhere, too."""
    holders = {name: value for name, value in _items(report, "shards") if isinstance(value, dict)}
    own = {str(name): _only(report, ("shards", name, "backfill"), value) for name, value in holders.items()}
    return _only(report, ("backfill",), report.document.value), {name: form for name, form in own.items() if form}


def _only(report: Report, where: Where, holder: Mapping[str, Any]) -> BackfillForm | None:
    """What `holder` has at its last key; None where it has nothing there, or no mapping."""
    value = holder.get(str(where[-1]))
    return _entry(report, where, value, BackfillForm) if isinstance(value, dict) else None


def _entry(report: Report, where: Where, value: Any, form: type[_Form]) -> _Form | None:
    try:
        return form.model_validate(value)
    except ValidationError as exc:
        report.invalid(where, exc, form)
        return _rest(value, exc, form)


def _rest(value: Any, exc: ValidationError, form: type[_Form]) -> _Form | None:
    """What is right of an entry, so that what else is wrong with it is found in the same run."""
    wrong = {str(error["loc"][0]) for error in exc.errors() if error["loc"]}
    if not isinstance(value, dict) or not form.stands_without(wrong):
        return None
    return form.model_validate({key: item for key, item in value.items() if key not in wrong})


def _named(report: Report, section: str, form: type[_Form]) -> dict[str, _Form]:
    named: dict[str, _Form] = {}
    for name, entry in _entries(report, section, form):
        try:
            named[forms.name(str(name))] = entry
        except ValueError as exc:
            report.at((section, name), str(exc), key=True)
    return named
