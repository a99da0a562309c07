"""From the file's `strategies` to values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from orchestrator.errors import SelectorError
from orchestrator.registry import backups, forms, gates, selector
from orchestrator.registry.document import Where
from orchestrator.registry.model import EVERYONE, FailureBudget, Strategy, Wave
from orchestrator.registry.places import Checks
from orchestrator.registry.report import Report
from orchestrator.registry.secrets import Secrets

# In a strategy with waves: three tenants that fail in the same way have told all that a fourth would.
SAME_SIGNATURE = 3


def build(
    report: Report, strategies: Mapping[str, forms.StrategyForm], places: Checks, secrets: Secrets
) -> dict[str, Strategy]:
    """Return the strategies; the report gets what is wrong with them."""
    return {
        name: _strategy(report, ("strategies", name), name, form, gates.Builder(report, places, secrets))
        for name, form in strategies.items()
    }


def _strategy(report: Report, where: Where, name: str, form: forms.StrategyForm, gate: gates.Builder) -> Strategy:
    budget = _budget(report, where, form)
    for index, key in enumerate(form.order):
        try:
            _check_key(key.removeprefix("-"))
        except ValueError as exc:
            report.at((*where, "order", index), str(exc))
    if not form.waves:
        waves: Sequence[Wave] = (replace(EVERYONE, on_failure=budget),)
    else:
        waves = [
            replace(_wave(budget, wave), checks=gate.checks((*where, "waves", index, "checks"), wave.checks))
            for index, wave in enumerate(form.waves)
        ]
        _check(report, (*where, "waves"), form.waves)
    waves = backups.placed(report, where, form, waves)
    return Strategy(
        name, form.max_concurrent, tuple(waves), tuple(form.order), form.approval, form.four_eyes, form.new_tenants
    )


def _check_key(key: str) -> None:
    if key not in selector.BUILT_IN_KEYS:
        forms.label_key(key)


def _budget(report: Report, where: Where, form: forms.StrategyForm) -> FailureBudget:
    given = form.on_failure
    same = SAME_SIGNATURE if form.waves else None
    if given is None:
        return FailureBudget(0, same_signature=same) if form.waves else FailureBudget()
    if given.max is None and given.consecutive is None and given.same_signature is None:
        report.at((*where, "on_failure"), "`max` is missing, or `consecutive`, or `same_signature`")
    count, percent = forms.limit(given.max) if given.max is not None else (None, None)
    if given.same_signature is not None:
        same = given.same_signature or None
    return FailureBudget(count, percent, given.then, given.consecutive, same)


def _wave(budget: FailureBudget, form: forms.WaveForm) -> Wave:
    if form.max_failures is not None:
        count, percent = forms.limit(form.max_failures)
        budget = replace(budget, count=count, percent=percent)
    return Wave(
        form.name,
        form.select or "",
        form.count,
        form.percent,
        form.optional,
        form.max_concurrent,
        budget,
        form.soak,
        form.approval,
    )


def _check(report: Report, where: Where, waves: Sequence[forms.WaveForm]) -> None:
    seen: dict[str, int] = {}
    for index, wave in enumerate(waves):
        here = (*where, index)
        for message in _mistakes(wave, is_last=index == len(waves) - 1):
            report.at(here, message)
        try:
            selector.parse(wave.select or "")
        except SelectorError as exc:
            report.at((*here, "select"), exc.message)
        if wave.name in seen:
            first = report.line((*where, seen[wave.name]))
            report.at((*here, "name"), f"there is a wave {wave.name!r} already (line {first})")
        seen.setdefault(wave.name, index)


def _mistakes(wave: forms.WaveForm, *, is_last: bool) -> Iterator[str]:
    if wave.count is not None and wave.percent is not None:
        yield "a wave takes a `count` or a `percent`, not both"
    chooses = wave.select is not None or wave.count is not None or wave.percent is not None
    if is_last and chooses:
        yield "the last wave must take all targets that are left: add `- {name: everyone}` after this one"
    if not is_last and not chooses:
        yield "a wave before the last one needs `select`, `count` or `percent`: it would leave nothing for the others"
    if is_last and wave.approval:
        yield "nothing follows the last wave that could be approved: write `approval: true` at the wave before it"
