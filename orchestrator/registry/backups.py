"""From the file's `backup` entries to values: the strategy's, and over it each wave's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.registry.document import Where
from orchestrator.registry.forms import NO_BACKUP, BackupForm, StrategyForm
from orchestrator.registry.model import Wave
from orchestrator.registry.precautions import Backup
from orchestrator.registry.report import Report

_SAID = "`directory` is missing: where backups are kept; or `command`, which makes them instead"


def placed(report: Report, where: Where, form: StrategyForm, waves: Sequence[Wave]) -> list[Wave]:
    """The waves with their backups; the report gets what is wrong with them. Paths start at the file's folder."""
    folder = Path(report.document.source).absolute().parent
    common = _over(None, form.backup, folder)
    if common is not None and not form.waves:
        _check(report, (*where, "backup"), common)
    found: list[Wave] = []
    for index, wave in enumerate(waves):
        own = form.waves[index].backup if form.waves else None
        backup = _over(common, own, folder)
        if backup is not None and form.waves:
            _check(report, (*where, "waves", index, "backup") if own else (*where, "backup"), backup)
        found.append(replace(wave, backup=backup))
    return found


def _over(common: Backup | None, form: BackupForm | None, folder: Path) -> Backup | None:
    """What a wave's entry makes of the strategy's: the keys that it has come first."""
    if form is None or form is NO_BACKUP:
        return common if form is None else None
    given = form.model_dump(include=form.model_fields_set)
    if "deadline" in given:
        given["deadline_seconds"] = given.pop("deadline")
    if given.get("directory") is not None:
        given["directory"] = folder / given["directory"]
    return replace(common or Backup(), **given)


def _check(report: Report, where: Where, backup: Backup) -> None:
    if backup.directory is None and backup.command is None:
        report.at(where, _SAID)
