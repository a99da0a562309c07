"""From the file's `schedules` and `windows` to values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

from orchestrator.errors import SelectorError
from orchestrator.registry import cron, hours, selector, time_forms
from orchestrator.registry.document import Where
from orchestrator.registry.model import DEFAULT_STRATEGY
from orchestrator.registry.report import Report
from orchestrator.registry.time_forms import BlackoutForm, OpenForm, ScheduleForm, WindowForm
from orchestrator.registry.times import MINUTES_OF_A_DAY, Blackout, Hours, Schedule, Window

EVERY = "*"
# Any year does: the shortest time between two runs, and the longest opening, come again each year.
_SINCE = datetime(2025, 1, 1, tzinfo=UTC)
_RUNS_LOOKED_AT = 200


def schedules(
    report: Report,
    forms: Mapping[str, ScheduleForm],
    tracks: Collection[str] | None,
    strategies: Collection[str] | None,
) -> dict[str, Schedule]:
    """Return the schedules; the report gets what is wrong with them. `tracks` and `strategies` hold all names in the
    file, also of wrong entries; None when the section is missing."""
    found = {}
    for name, form in forms.items():
        where: Where = ("schedules", name)
        track = _track(report, where, form, tracks)
        _check_strategy(report, where, form, strategies)
        _check_selector(report, where, form.select)
        if form.direction != "upgrade" and form.to is None:
            report.at((*where, "direction"), f"`to` is missing: a {form.direction} has no goal of its own")
        when = cron.parse(form.cron, form.timezone)
        _check_jitter(report, where, form.jitter, when)
        found[name] = Schedule(
            name,
            when,
            track,
            form.to or "",
            form.select or "",
            form.strategy or DEFAULT_STRATEGY.name,
            form.direction,
            form.enabled,
            form.missed,
            form.missed_within,
            form.jitter,
        )
    return found


def windows(report: Report, forms: Mapping[str, WindowForm]) -> dict[str, Window]:
    """Return the windows; the report gets what is wrong with them."""
    found = {}
    for name, form in forms.items():
        where: Where = ("windows", name)
        before = len(report.mistakes)
        _check_selector(report, where, form.select)
        if not form.open and not form.blackouts:
            report.at(where, "`open` is missing, or `blackouts`: when may its targets be migrated?")
        opened = tuple(hours_of(report, (*where, "open", index), one) for index, one in enumerate(form.open))
        closed = tuple(blackout_of(report, (*where, "blackouts", n), one) for n, one in enumerate(form.blackouts))
        window = Window(name, form.timezone, form.select or "", opened, closed, form.expect)
        if len(report.mistakes) == before:
            _check_fits(report, where, window)
        found[name] = window
    return found


def _track(report: Report, where: Where, form: ScheduleForm, tracks: Collection[str] | None) -> str:
    if form.track is None:
        if tracks is not None and len(tracks) != 1:
            report.at(where, f"`track` is missing: write one of {', '.join(tracks) or 'the tracks'}, or '*' for all")
        return next(iter(tracks or ()), EVERY)
    if tracks is not None and form.track not in (*tracks, EVERY):
        report.unknown((*where, "track"), "track", form.track, tracks)
    return form.track


def _check_strategy(report: Report, where: Where, form: ScheduleForm, strategies: Collection[str] | None) -> None:
    known = {DEFAULT_STRATEGY.name, *(strategies or ())}
    if form.strategy is not None and form.strategy not in known:
        report.unknown((*where, "strategy"), "strategy", form.strategy, known)


def _check_selector(report: Report, where: Where, text: str | None) -> None:
    try:
        selector.parse(text or "")
    except SelectorError as exc:
        report.at((*where, "select"), exc.message)


def _check_jitter(report: Report, where: Where, seconds: float, when: cron.Cron) -> None:
    if not seconds:
        return
    runs = list(islice(when.after(_SINCE), _RUNS_LOOKED_AT))
    shortest = min((later - earlier for earlier, later in pairwise(runs)), default=timedelta.max)
    if seconds >= shortest.total_seconds():
        report.at((*where, "jitter"), f"this must be less than the {shortest.total_seconds():g} s between two runs")


def hours_of(report: Report, where: Where, form: OpenForm) -> Hours:
    """Opening hours; the report gets what is wrong with them."""
    begin, end = time_forms.clock(form.from_), time_forms.clock(form.to)
    if begin in (end, MINUTES_OF_A_DAY):
        report.at((*where, "from"), 'this is no time at all; a whole day is from "00:00" to "24:00"')
    return Hours(time_forms.days(form.days), begin, end if end > begin else end + MINUTES_OF_A_DAY)


def blackout_of(report: Report, where: Where, form: BlackoutForm) -> Blackout:
    """A black-out; the report gets what is wrong with it."""
    begin, end = time_forms.begin(form.from_), time_forms.end(form.to)
    if end <= begin:
        report.at((*where, "to"), "this must come after `from`")
    return Blackout(begin, end, form.reason)


def _check_fits(report: Report, where: Where, window: Window) -> None:
    """Nothing could ever start in hours that are shorter than what is expected."""
    if not window.open:
        return
    spans = islice(hours.openings(Window(window.name, window.timezone, open=window.open), _SINCE), 20)
    longest = max(((span.end - span.begin).total_seconds() for span in spans), default=0.0)
    if longest < window.expect_seconds:
        report.at((*where, "expect"), f"it is never open for so long, but for {longest / 60:g} min at most")
