"""The syntax of `schedules` and `windows` in the registry file."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from orchestrator.registry import cron, zoned
from orchestrator.registry.forms import Boolean, Filled, Form, Name, Seconds, SoakSeconds, Text, none_is_no_list
from orchestrator.registry.times import MINUTES_OF_A_DAY, Missed, Way

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONGEST_JITTER_SECONDS = 6 * 3600.0
LONGEST_MISSED_SECONDS = 31 * 86_400.0
_CLOCK = re.compile(r"(?P<hour>\d{1,2}):(?P<minute>\d{2})")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def clock(text: str) -> int:
    """Minutes after midnight, at most 24:00. Raises ValueError."""
    match = _CLOCK.fullmatch(text)
    minutes = int(match["hour"]) * 60 + int(match["minute"]) if match and int(match["minute"]) < 60 else None
    if minutes is None or minutes > MINUTES_OF_A_DAY:
        raise ValueError("this must be a time of the day such as 22:00, at most 24:00")
    return minutes


def days(text: str) -> tuple[int, ...]:
    """Days of the week in order, 0 for Monday, of `mon-fri` or `sat,sun`. Raises ValueError.

    >>> days("fri-sun"), days("mon, wed")
    ((4, 5, 6), (0, 2))
    """
    found: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"this must be days such as mon-fri or sat,sun, of {', '.join(DAYS)}")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found.update(number % 7 for number in range(begin, end + 1 if end >= begin else end + 8))
    return tuple(sorted(found))


def begin(text: str) -> datetime:
    """A local time, or the beginning of a day. Raises ValueError."""
    return _moment(text, time())


def end(text: str) -> datetime:
    """A local time, or the end of a day: it is meant whole. Raises ValueError."""
    return _moment(text, None)


def _moment(text: str, at: time | None) -> datetime:
    try:
        if not _DAY.fullmatch(text):
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None and 1970 < moment.year < 9000:
                return moment
        elif 1970 < (day := date.fromisoformat(text)).year < 9000:
            return datetime.combine(day, time()) + (timedelta() if at is not None else timedelta(days=1))
    except ValueError:
        pass
    raise ValueError("this must be a day such as 2026-12-24, or a local time such as 2026-12-24T18:00")


def _timezone(text: str) -> str:
    zoned.zone(text)
    return text


def _at_most(seconds: float) -> AfterValidator:
    def check(value: float) -> float:
        if value > seconds:
            raise ValueError(f"this must be at most {seconds / 3600:g}h")
        return value

    return AfterValidator(check)


def _read_as(read: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


Timezone = Annotated[Filled, AfterValidator(_timezone)]
Expression = Annotated[Filled, AfterValidator(cron.check)]
Clock = Annotated[Text, _read_as(clock)]
Days = Annotated[Text, _read_as(days)]
Begin = Annotated[Text, _read_as(begin)]
End = Annotated[Text, _read_as(end)]


class ScheduleForm(Form):
    """A rollout that starts by the clock."""

    decisive = frozenset({"timezone", "track"})
    model_config = ConfigDict(title="Schedule")

    cron: Expression = Field(
        description="Minute, hour, day of the month, month, day of the week: `0 2 * * mon-fri`; or @hourly, @daily, …"
    )
    timezone: Timezone = Field("UTC", description="The zone of these times, such as Europe/Berlin.")
    track: Name | None = Field(None, description="Which history, `*` for all; needed when there are several tracks.")
    to: Filled | None = Field(None, description="The goal; the track's own when left out.")
    select: Filled | None = Field(None, description="A label selector; all targets when left out.")
    strategy: Name | None = Field(None, description="How to go over them.")
    direction: Way = Field("upgrade", description="Only `upgrade` has a goal by itself.")
    enabled: Boolean = Field(True, description="Whether it starts anything, until somebody says otherwise.")
    missed: Missed = Field(
        "skip", description="What becomes of a run for which no daemon was there: `run_once` makes up for the last one."
    )
    missed_within: Annotated[Seconds, _at_most(LONGEST_MISSED_SECONDS)] = Field(
        3600.0, description="With `run_once`: one that is older is left out, such as 1h."
    )
    jitter: Annotated[SoakSeconds, _at_most(LONGEST_JITTER_SECONDS)] = Field(
        0.0, description="Start up to so much later, such as 10m; always the same for one time."
    )


class OpenForm(Form):
    """Opening hours of a window."""

    model_config = ConfigDict(title="Opening hours")

    days: Days = Field("mon-sun", description="Such as mon-fri or sat,sun; all if left out.")
    from_: Clock = Field(alias="from", description="Such as 22:00.")
    to: Clock = Field(description="Such as 06:00, which is on the next day when it is not after `from`; or 24:00.")


class BlackoutForm(Form):
    """A time in which nothing is to be migrated."""

    model_config = ConfigDict(title="Black-out")

    from_: Begin = Field(
        alias="from", description="A day such as 2026-12-24, or a local time such as 2026-12-24T18:00."
    )
    to: End = Field(description="The last day, or a local time.")
    reason: Filled | None = None


class WindowForm(Form):
    """Hours in which targets may be migrated. Of several windows that take a target, all must be open."""

    decisive = frozenset({"timezone", "open", "blackouts", "expect"})
    model_config = ConfigDict(title="Window")

    select: Filled | None = Field(
        None, description="Whom it concerns: a label selector, by shard=…, tenant=… and track=…, too; all if left out."
    )
    timezone: Timezone = Field("UTC", description="The zone of its hours and days, such as Europe/Berlin.")
    open: Annotated[list[OpenForm], BeforeValidator(none_is_no_list)] = Field(
        default_factory=list, description="When migrations may run; at any time but the black-outs when left out."
    )
    blackouts: Annotated[list[BlackoutForm], BeforeValidator(none_is_no_list)] = Field(
        default_factory=list, description="When they may not, whatever `open` says."
    )
    expect: Seconds = Field(
        600.0, description="How long a migration is taken to last of which nothing is known yet, such as 10m."
    )
