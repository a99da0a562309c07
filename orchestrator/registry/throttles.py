"""From the file's `backfill` entries to values: those for all shards, and over them each shard's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.registry import gates, timetables
from orchestrator.registry.backfill_forms import (
    NO_SIGNAL,
    OFF,
    BackfillForm,
    HoursForm,
    ProbeForm,
    SignalsForm,
    ThresholdForm,
)
from orchestrator.registry.backfills import HALF, OF_REPLICA, SIGNALS, ProbeSignal, Rules, Threshold
from orchestrator.registry.document import Where
from orchestrator.registry.model import MYSQL_DIALECTS, Probe, Shard
from orchestrator.registry.places import Checks
from orchestrator.registry.report import Report
from orchestrator.registry.secrets import Secrets
from orchestrator.registry.times import Window

# A signal counts as lost after 15 s: who asks must know more often than that.
LONGEST_UNKNOWN_SECONDS = 12.0
_KEYS = {
    "rows_per_second": "rows_per_second",
    "target": "target_seconds",
    "smallest": "smallest",
    "largest": "largest",
    "duty": "duty",
    "deadline": "deadline_seconds",
}


def placed(
    report: Report,
    shards: Mapping[str, Shard],
    common: BackfillForm | None,
    own: Mapping[str, BackfillForm],
    windows: Mapping[str, Window],
    places: Checks,
    secrets: Secrets,
) -> dict[str, Shard]:
    """The shards with how backfills on them are throttled; the report gets what is wrong with that.

    `common` stands for all shards, and `own` by name over it, also for shards that are wrong elsewhere.
    """
    build = _Builder(report, windows, places, secrets)
    rules = build.over(Rules(), common, ("backfill",))
    ruled = {
        name: build.over(rules, form, ("shards", name, "backfill"), shards.get(name)) for name, form in own.items()
    }
    return {name: replace(shard, backfill=ruled.get(name, rules)) for name, shard in shards.items()}


class _Builder:
    def __init__(self, report: Report, windows: Mapping[str, Window], places: Checks, secrets: Secrets) -> None:
        self._report, self._windows, self._places, self._secrets = report, windows, places, secrets

    def over(self, rules: Rules, form: BackfillForm | None, where: Where, shard: Shard | None = None) -> Rules:
        """What an entry makes of the rules that hold without it: the keys that it has come first."""
        if form is None:
            return rules
        given: dict[str, Any] = {
            field: getattr(form, key) for key, field in _KEYS.items() if key in form.model_fields_set
        }
        if "rows_per_second" in given:
            given["rows_per_second"] = given["rows_per_second"] or None
        if form.hours is not None:
            given["hours"] = self._hours((*where, "hours"), form.hours)
        if form.signals is not None:
            given["thresholds"] = self._thresholds((*where, "signals"), form.signals, rules, shard)
        if "probes" in form.model_fields_set:
            given["probes"] = self._probes((*where, "probes"), form.probes, shard)
        rules = replace(rules, **given)
        if rules.smallest > rules.largest:
            key = "smallest" if "smallest" in given else "largest"
            self._report.at((*where, key), f"`smallest` ({rules.smallest}) is more than `largest` ({rules.largest})")
        return rules

    def _hours(self, where: Where, form: HoursForm) -> tuple[Window, ...]:
        found = [self._windows[name] for name in form.windows if name in self._windows]
        for index, name in enumerate(form.windows):
            if name not in self._names():
                self._report.unknown((*where, "windows", index), "window", name, self._names())
        if form.open or form.blackouts:
            opened = [timetables.hours_of(self._report, (*where, "open", n), one) for n, one in enumerate(form.open)]
            closed = [
                timetables.blackout_of(self._report, (*where, "blackouts", n), one)
                for n, one in enumerate(form.blackouts)
            ]
            found.append(Window("", form.timezone, open=tuple(opened), blackouts=tuple(closed)))
        elif not form.windows:
            self._report.at(where, "`open` is missing, or `windows`, or `blackouts`: when may batches run?")
        return tuple(found)

    def _names(self) -> list[str]:
        """Of all windows in the file, also of those that are wrong."""
        value = self._report.document.value.get("windows")
        return list(value) if isinstance(value, dict) else []

    def _thresholds(
        self, where: Where, form: SignalsForm, rules: Rules, shard: Shard | None
    ) -> Mapping[str, Threshold]:
        found = dict(rules.thresholds)
        for name in SIGNALS:
            value = getattr(form, name)
            if value is None:
                continue
            self._check_dialect((*where, name), name, shard)
            found.pop(name, None)
            if value == "hold":
                found[name] = Threshold(HALF, HALF)
            elif isinstance(value, ThresholdForm) and value is not NO_SIGNAL:
                found[name] = self._threshold((*where, name), value)
        return found

    def _check_dialect(self, where: Where, name: str, shard: Shard | None) -> None:
        dialects = SIGNALS[name].dialects
        if shard is not None and shard.dialect not in dialects:
            listed = " and ".join(sorted(dialects))
            self._report.at(where, f"`{name}` is told by {listed}, and this shard is {shard.dialect}", key=True)

    def _threshold(self, where: Where, form: ThresholdForm | ProbeForm) -> Threshold:
        if form.above is None:
            self._report.at(where, f"`above` is missing: what holds backfills? Or write `{OFF}`")
            return Threshold(HALF, HALF)
        if form.below is None:
            return Threshold.over(form.above)
        if form.below > form.above:
            self._report.at((*where, "below"), "this must be at most `above`")
        return Threshold(form.above, form.below)

    def _probes(self, where: Where, forms: list[ProbeForm], shard: Shard | None) -> tuple[ProbeSignal, ...]:
        found: dict[str, ProbeSignal] = {}
        seen: dict[str, int] = {}
        for index, form in enumerate(forms):
            here = (*where, index)
            if form.name in seen:
                line = self._report.line((*where, seen[form.name], "name"))
                self._report.at((*here, "name"), f"there is a probe {form.name!r} already (line {line})")
            seen.setdefault(form.name, index)
            check = _Entry(self._report, here, form, self._places, self._secrets, shard).built()
            is_number = form.above is not None
            threshold = self._threshold(here, form) if is_number else Threshold(HALF, HALF)
            if check is not None:
                found[form.name] = ProbeSignal(check, threshold, is_number)
        return tuple(found.values())


class _Entry(gates.Entry):
    """A probe is checked as a wave's check is, but for where it asks and what it makes of the answer."""

    noun = "probes"
    belongings: Mapping[Probe, tuple[str, ...]] = {
        "sql": ("shard", "database", "schema", "above", "below"),
        "promql": ("url", "empty", "above", "below", "token", "user", "password"),
        "http": ("status", "contains", "token", "user", "password"),
    }

    def __init__(
        self,
        report: Report,
        where: Where,
        form: ProbeForm,
        places: Checks,
        secrets: Secrets,
        shard: Shard | None,
    ) -> None:
        super().__init__(report, where, form, places, secrets)
        self._shard = shard

    def check_place(self) -> None:
        self.check_shard()
        shard = self._shard if self.form.shard is None else self.places.shards.get(self.form.shard)
        if shard is not None and shard.dialect == "sqlite" and not self.given("database"):
            self.report.at(self.where, "`database` is missing: which file of the shard's folder to ask")
        server = shard is not None and shard.dialect in MYSQL_DIALECTS and OF_REPLICA.fullmatch(self.form.sql or "")
        if self.form.shard is not None and shard is not None and not self.given("database") and not server:
            self.report.at(self.where, "`database` is missing: which one of that shard to ask")

    def check_limits(self, probe: Probe) -> None:
        if probe == "promql" and not self.given("above"):
            self.report.at(self.where, "`above` is missing: which samples hold backfills?")
        if self.given("below") and not self.given("above"):
            self.at("below", "`below` goes with `above`, which is missing", on_key=True)
        if self.form.every + self.form.timeout > LONGEST_UNKNOWN_SECONDS:
            self.report.at(
                self.where,
                f"`every` and `timeout` must be {LONGEST_UNKNOWN_SECONDS:g}s at most together: after 15s without an "
                "answer a probe holds all backfills",
            )
