"""Who decides about batches outside of the orchestrator: nobody but their own durations. Progress goes to the log."""

from __future__ import annotations

import logging
import time

from orchestrator.backfill import keys, pace
from orchestrator.backfill.model import Answer, Go, Progress, Report, Stop
from orchestrator.registry.backfills import Rules

log = logging.getLogger("alembic.orchestrator.backfill")

TELL_SECONDS = 5.0


class Unpaced:
    """Batches as large as their durations let them be, one right after the other; stops where the smallest is refused
    again and again."""

    def __init__(self) -> None:
        self._rules = Rules()
        self._pace: pace.Pace | None = None
        self._told = time.monotonic()

    def ask(self, report: Report) -> Answer:
        if self._pace is None:
            self._pace = pace.begin(report.backfill.batch_size, self._rules)
        if report.last is not None:
            after = pace.after(self._pace, report.last, self._rules)
            if isinstance(after, Stop):
                return after
            self._pace = after
            time.sleep(after.rest_seconds)
        if report.progress.finished or time.monotonic() - self._told >= TELL_SECONDS:
            self._tell(report)
        return Go(self._pace.size)

    def _tell(self, report: Report) -> None:
        self._told = time.monotonic()
        table = report.backfill.table
        if report.progress.finished:
            log.info("backfill of %s: done, %s rows changed", table, report.progress.changed)
        elif report.waits:
            log.info("backfill of %s: waits, since %s", table, report.waits)
        else:
            progress = report.progress
            log.info(
                "backfill of %s: %s, %s rows changed, after %s",
                table,
                _share(progress),
                progress.changed,
                keys.told(progress.last_key),
            )


def _share(progress: Progress) -> str:
    """How much of it is done, in words."""
    if not progress.estimated:
        return f"{progress.seen} rows passed"
    return f"{min(100, 100 * progress.seen // progress.estimated)} % of about {progress.estimated} rows passed"
