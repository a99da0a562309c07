"""The newest reading of each track's history; read again when a file changed, never while it is in use."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import anyio.to_thread

from orchestrator.errors import HistoryError
from orchestrator.history.jobs import ReadJob
from orchestrator.history.revisions import History
from orchestrator.history.workers import Workers
from orchestrator.registry.model import Track


class Library:
    """Histories by track. A rollout keeps the `History` it was given: files that change later do not reach it."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._histories: dict[str, History] = {}
        self._locks: dict[str, anyio.Lock] = {}

    async def current(
        self,
        track: Track,
        environment: Mapping[str, str] | None = None,
        hidden: tuple[str, ...] = (),
        urls: tuple[str, ...] = (),
    ) -> History:
        """The track's history as its files are now.

        `environment` is given to the worker process that reads it, and `urls` are as in `ReadJob`;
        `hidden` are secrets in them. Raises HistoryError with
        file and line; the reading before stays in use elsewhere. Tracks do not wait for each other, and a caller that
        is cancelled leaves its reading to itself: what comes of it is not kept.
        """
        async with self._locks.setdefault(track.name, anyio.Lock()):
            known = self._histories.get(track.name)
            job = ReadJob(track, urls, dict(environment or {}), hidden)
            history = await anyio.to_thread.run_sync(self._read, job, known, abandon_on_cancel=True)
            self._histories[track.name] = history
            return history

    def known(self, track: str) -> History | None:
        """The newest reading, whatever the files are now."""
        return self._histories.get(track)

    def _read(self, job: ReadJob, known: History | None) -> History:
        try:
            if known is not None and known.track == job.track and known.is_current():
                return known
            return History(job.track, self._workers.read(job))
        except OSError as exc:
            raise HistoryError(
                f"its files cannot be read: {exc}",
                track=job.track.name,
                file=str(exc.filename or job.track.config or job.track.script_location),
                remedy="make them readable for the orchestrator, then try again",
            ) from exc
