"""From the file's `tracks` to values."""

from __future__ import annotations

import importlib.resources
import os.path
import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter

from orchestrator.registry import verifications
from orchestrator.registry.document import Where
from orchestrator.registry.drifts import Drift
from orchestrator.registry.findings import Findings
from orchestrator.registry.forms import FindingsForm, TrackForm
from orchestrator.registry.model import Track
from orchestrator.registry.report import Report
from orchestrator.registry.secrets import Complaint, Reference, Secrets, pieces

TABLE_PLACEHOLDERS = ("tenant", "track")
ENVIRONMENT_PLACEHOLDERS = ("url", "tenant", "track", "shard", "database", "schema")

_RESOURCE = re.compile(r"(?P<package>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<folder>\w[\w./-]*)")
_VARIABLE = re.compile(r"[^=\0]+")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")


def build(report: Report, forms: Mapping[str, TrackForm], secrets: Secrets) -> dict[str, Track]:
    """Return the tracks whose entries are right; the report gets what is wrong with the others."""
    tracks: dict[str, Track] = {}
    for name, form in forms.items():
        before = len(report.mistakes)
        track = _track(report, name, form, secrets)
        if len(report.mistakes) == before:
            tracks[name] = track
    return tracks


def _track(report: Report, name: str, form: TrackForm, secrets: Secrets) -> Track:
    where: Where = ("tracks", name)
    _check_choices(report, where, form)
    for field in ("version_table", "version_table_schema"):
        _check_table_name(report, (*where, field), getattr(form, field) or "")
    return Track(
        name,
        script_location=_place(report, (*where, "script_location"), form.script_location, secrets),
        config=_place(report, (*where, "config"), form.config, secrets),
        section=form.section or "alembic",
        version_table=form.version_table,
        version_table_schema=form.version_table_schema,
        goal=form.goal,
        isolation=form.isolation,
        environment=_environment(report, where, form.environment, secrets),
        execution=form.execution,
        certify=form.certify,
        driver=form.driver,
        search_path=tuple(form.search_path),
        unprovisioned=form.unprovisioned,
        adopt=form.adopt,
        verify=verifications.build(report, (*where, "verify"), form.verify),
        drift=Drift() if form.drift is None else Drift(tuple(form.drift.ignore), form.drift.every),
        findings=_findings(form.findings),
    )


def _findings(form: FindingsForm | None) -> Findings:
    return Findings() if form is None else Findings(dict(form.rules), form.large, form.squawk, form.render)


def _check_choices(report: Report, where: Where, form: TrackForm) -> None:
    if form.script_location is None and form.config is None:
        report.at(where, "`script_location` is missing (or `config`, to take it from there)")
    if form.script_location is not None and form.config is not None:
        report.at((*where, "config"), "give `script_location` or `config`, not both", key=True)
    if form.section is not None and form.config is None:
        report.at((*where, "section"), "`section` is a section of `config`, which is not given", key=True)
    if form.environment and form.isolation != "process":
        report.at((*where, "environment"), "`environment` needs `isolation: process`: threads share one", key=True)


def _check_table_name(report: Report, where: Where, template: str) -> None:
    known = " and ".join(f"{{{name}}}" for name in TABLE_PLACEHOLDERS)
    try:
        fields = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError:
        report.at(where, f"a brace has no partner; only {known} can be filled in here")
        return
    for _, name, layout, conversion in fields:
        if name not in TABLE_PLACEHOLDERS or layout or conversion:
            report.at(where, f"unknown placeholder {{{name}}}: only {known} can be filled in here")


def _place(report: Report, where: Where, written: str | None, secrets: Secrets) -> Path | None:
    if written is None:
        return None
    try:
        text = secrets.expand(written)
        if where[-1] == "config":
            return _existing_file(text, written, secrets.folder)
        return _existing_folder(text, written, secrets.folder)
    except Complaint as exc:
        report.at(where, *exc.messages)
        return None


def _existing_file(text: str, written: str, folder: Path) -> Path:
    if not text or not os.path.isfile(folder / text):
        raise Complaint(f"there is no file {written!r}, seen from the folder of this file")
    return folder / text


def _existing_folder(text: str, written: str, folder: Path) -> Path:
    if text and os.path.isdir(folder / text):
        return folder / text
    if resource := _RESOURCE.fullmatch(text):
        return _resource(resource["package"], resource["folder"], written)
    raise Complaint(f"there is no folder {written!r}, seen from the folder of this file")


def _resource(package: str, folder: str, written: str) -> Path:
    try:
        found = importlib.resources.files(package).joinpath(folder)
    except Exception as exc:  # importing somebody's package can fail in any way
        raise Complaint(f"the package of {written!r} cannot be imported ({type(exc).__name__})") from exc
    if not isinstance(found, Path) or not os.path.isdir(found):
        raise Complaint(f"there is no folder {written!r} in that package, or it is not unpacked")
    return found.absolute()


def _environment(report: Report, where: Where, written: Mapping[str, str], secrets: Secrets) -> dict[str, str]:
    environment: dict[str, str] = {}
    for name, text in written.items():
        place = (*where, "environment", name)
        if not _VARIABLE.fullmatch(name):
            report.at(place, "this cannot be the name of an environment variable", key=True)
        try:
            _check_placeholders(text)
            environment[name] = secrets.expand(text)
        except Complaint as exc:
            report.at(place, *exc.messages)
    return environment


def _check_placeholders(text: str) -> None:
    literals = (part for part in pieces(text) if not isinstance(part, Reference))
    if any(name not in ENVIRONMENT_PLACEHOLDERS for part in literals for name in _PLACEHOLDER.findall(part)):
        known = ", ".join(f"{{{name}}}" for name in ENVIRONMENT_PLACEHOLDERS)
        raise Complaint(f"unknown placeholder: what can be filled in here is {known}")
