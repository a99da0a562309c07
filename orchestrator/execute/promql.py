"""Asks a Prometheus server: https://prometheus.io/docs/prometheus/latest/querying/api/."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread
import httpx2

from orchestrator.databases.fetching import answered, body, host_of
from orchestrator.errors import CheckError
from orchestrator.execute.answers import one_line
from orchestrator.execute.verdicts import Finding, Series, of_series
from orchestrator.registry.model import Check

LARGEST_BYTES = 10_000_000
_LONGEST_STEP, _SHORTEST_STEP, _MOST_STEPS = 15.0, 1.0, 1000
_NO_ANSWER = "check that it is up, and that `url` of the check is right"
_WRONG = "correct `url` of the check: it should be that of a Prometheus server, without /api/v1"


async def ask(client: httpx2.AsyncClient, check: Check) -> Finding:
    """Ask at this moment, or at many of the last `for_seconds`. Raises CheckError."""
    if not check.for_seconds:
        return of_series(check, await instant(client, check), 1)
    # The server's clock counts: by ours, if it is late, the window would lie before the wave.
    [now] = read(await _post(client, check, "query", {"query": "time()"}), "vector")
    window = Window.until(now.samples[0][1], check.for_seconds)
    answer = await _post(client, check, "query_range", {"query": check.text, **window.form()})
    return of_series(check, read(answer, "matrix"), window.steps + 1)


async def instant(client: httpx2.AsyncClient, check: Check) -> Sequence[Series]:
    """What the query gives at this moment. Raises CheckError."""
    return read(await _post(client, check, "query", {"query": check.text}), "vector")


@dataclass(frozen=True, slots=True)
class Window:
    """Moments evenly spread, with both ends. Prometheus counts in whole milliseconds."""

    end: int
    step: int
    steps: int

    @classmethod
    def until(cls, now: float, seconds: float) -> Window:
        """The last `seconds` before `now`, in Unix seconds; a millisecond more for each step at most.

        >>> Window.until(1000.0, 60.0).form()
        {'start': '940.000', 'end': '1000.000', 'step': '15.000'}
        """
        longest = max(_SHORTEST_STEP, seconds / _MOST_STEPS, min(_LONGEST_STEP, seconds / 4))
        steps = max(1, round(seconds / longest))
        return cls(round(now * 1000), math.ceil(round(seconds * 1000) / steps), steps)

    def form(self) -> Mapping[str, str]:
        times = {"start": self.end - self.step * self.steps, "end": self.end, "step": self.step}
        return {key: f"{milliseconds // 1000}.{milliseconds % 1000:03}" for key, milliseconds in times.items()}


def address(url: str, endpoint: str) -> str:
    """
    >>> address("https://host/prometheus/?dedup=true", "query")
    'https://host/prometheus/api/v1/query?dedup=true'
    """
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/api/v1/{endpoint}", fragment="").geturl()


async def _post(client: httpx2.AsyncClient, check: Check, endpoint: str, form: Mapping[str, str]) -> Any:
    """What the server says in `data`. A POST, so that the query may be long."""
    url = address(check.url or "", endpoint)
    seconds = check.timeout_seconds
    sent = {**form, "timeout": f"{seconds * 1000:.0f}ms"}
    async with answered(
        client, "POST", url, seconds=seconds, error=CheckError, remedy=_NO_ANSWER, form=sent
    ) as response:
        content = await body(response, LARGEST_BYTES)
        if content is None:
            raise CheckError(f"{host_of(url)} answers with more than {LARGEST_BYTES:,} bytes: sum up in the query")
        return await anyio.to_thread.run_sync(data_of, host_of(url), response.status_code, content)


def data_of(host: str | None, status: int, content: bytes) -> Any:
    """`data` of an answer that is whole. Raises CheckError."""
    try:
        answer: Any = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or answer.get("status") not in ("success", "error"):
        if status != 200:
            raise CheckError(f"{host} answered with status {status}", remedy=_remedy(status))
        raise CheckError(f"{host} does not answer as Prometheus does", remedy=_WRONG)
    if answer["status"] == "error" or status != 200:
        said = one_line(str(answer.get("error") or f"status {status}"))
        raise CheckError(f"{host} refuses the query: {said}", remedy="correct it, or look at the server")
    if warnings := answer.get("warnings"):
        raise CheckError(f"{host} warns that its answer may lack something: {one_line(str(warnings))}")
    return answer.get("data")


def _remedy(status: int) -> str:
    if status in (401, 403):
        return "give the check a `token`, or `user` and `password`, that the server takes"
    if status in (404, 405) or 300 <= status < 400:
        return f"{_WRONG}; redirections are not followed"
    return "look at the server's log"


def read(data: Any, wanted: str) -> Sequence[Series]:
    """The series of an answer; a lone number is one. Raises CheckError for what has no numbers to compare."""
    found: Mapping[str, Any] = data if isinstance(data, dict) else {}
    kind, result = found.get("resultType"), found.get("result")
    try:
        if kind == "scalar" and wanted == "vector":
            return [Series("", (_sample(result),))]
        if kind == wanted and isinstance(result, list):
            return [_series(one) for one in result]
    except CheckError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as exc:
        raise CheckError("the server does not answer as Prometheus does", remedy=_WRONG) from exc
    if kind == "string":
        raise CheckError("the query gives a text, not numbers")
    if kind == "matrix":
        raise CheckError("the query gives ranges of samples, not samples: take a function of it, such as rate(…)")
    raise CheckError("the server does not answer as Prometheus does", remedy=_WRONG)


def _series(one: Any) -> Series:
    labels = _labels(one["metric"])
    if "histogram" in one or "histograms" in one:
        raise CheckError(
            "the query gives histograms, not numbers", remedy="take a function of them, such as histogram_quantile(…)"
        )
    samples = one["values"] if "values" in one else [one["value"]]
    return Series(labels, tuple(map(_sample, samples)))


def _sample(pair: Any) -> tuple[float, float]:
    moment, value = pair
    return float(moment), float(value)


def _labels(metric: Mapping[str, object]) -> str:
    """
    >>> _labels({"__name__": "up", "job": "app"})
    'up{job="app"}'
    """
    pairs = ", ".join(f'{key}="{value}"' for key, value in metric.items() if key != "__name__")
    name = str(metric.get("__name__", ""))
    return one_line(f"{name}{{{pairs}}}" if pairs else name, 100)
