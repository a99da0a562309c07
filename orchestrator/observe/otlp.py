"""Sends spans by OTLP over HTTP, through OpenTelemetry's SDK; the standard's OTEL_* variables say where to, and how.

A thread of the SDK's sends them in batches. Nobody ever waits for it: what cannot be delivered is lost, and told once.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

import orchestrator
from orchestrator.errors import ConfigurationError
from orchestrator.observe.happenings import Happening
from orchestrator.observe.spans import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger(__name__)

SERVICE = "migration-orchestrator"
# Spans that wait to be sent: a migration sends all of its own at its end. OTEL_BSP_MAX_QUEUE_SIZE says otherwise.
QUEUE = 20_000
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_DEFAULT_ENDPOINT = "http://localhost:4318"


class Sender:
    """Sends spans until it is closed. All but `close` are called from one thread."""

    def __init__(self, provider: TracerProvider, ids: Any) -> None:
        self._provider, self._ids = provider, ids
        self._tracer = provider.get_tracer(SERVICE, orchestrator.__version__)

    def wants(self, trace_id: int) -> bool:
        """Whether the sampler (OTEL_TRACES_SAMPLER) keeps the trace; every process finds the same."""
        decided = self._provider.sampler.should_sample(None, trace_id, "rollout").decision
        return bool(decided.is_sampled())  # type: ignore[no-untyped-call]

    def send(self, span: Span) -> None:
        """Hand the span over; returns at once."""
        from opentelemetry.trace import Link, SpanKind, Status, StatusCode

        self._ids.trace_id, self._ids.span_id = span.trace_id, span.span_id
        links = [Link(_context(*span.link, remote=True))] if span.link is not None else []
        started = self._tracer.start_span(
            span.name,
            _within(span),
            SpanKind.CLIENT if span.client else SpanKind.INTERNAL,
            span.attributes,
            links,
            _nanoseconds(span.began_at),
        )
        for one in span.happenings:
            _tell(started, one)
        if span.error is not None:
            started.set_status(Status(StatusCode.ERROR, span.error))
        started.end(_nanoseconds(span.ended_at))

    def close(self, seconds: float) -> None:
        """Send what is left, for at most so long; what is not sent by then is lost. Blocks."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(seconds)
        if ending.is_alive():
            log.warning("traces_cut_short", seconds=seconds, remedy="look at why the receiver of traces is slow")


def opened(environ: Mapping[str, str] = os.environ) -> Sender | None:
    """A sender as the environment says; None where that switches the SDK off (OTEL_SDK_DISABLED).

    Raises ConfigurationError where the packages are missing, or a variable is wrong; it shows no value of one.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    _refuse(environ)
    try:
        from opentelemetry.sdk.trace import TracerProvider

        from orchestrator.observe.otlp_parts import Derived, Queue, resource
    except ImportError as exc:
        raise ConfigurationError(
            f"ORCHESTRATOR_TRACES=otlp needs packages that are not installed ({exc.name})",
            remedy="pip install 'migration-orchestrator[otel]', or leave traces off",
        ) from exc
    ids = Derived()
    given = _first(environ, _ENDPOINTS)
    endpoint = shown(environ[given] if given is not None else _DEFAULT_ENDPOINT)
    try:
        name = f"{socket.gethostname()}:{os.getpid()}"
        described = resource(SERVICE, orchestrator.__version__, name)
        provider = TracerProvider(resource=described, id_generator=ids, shutdown_on_exit=False)
        most = int(environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or QUEUE)
        provider.add_span_processor(Queue(_Delivery(endpoint, most), most))
    except (ValueError, OSError) as exc:
        raise ConfigurationError(
            f"traces: a variable OTEL_* cannot be used ({type(exc).__name__})",
            remedy="see OpenTelemetry's specification of the OTLP exporter's and the SDK's environment variables",
        ) from None
    log.info("traces_on", endpoint=endpoint)
    return Sender(provider, ids)


class _Delivery:
    """Counts the spans that wait, and tells once that some are lost, and once that they arrive again. Called from the
    loop's thread and the SDK's."""

    def __init__(self, endpoint: str, most: int) -> None:
        self._endpoint, self._most = endpoint, most
        self._waiting, self._lost, self._was_full = 0, 0, False
        self._lock = threading.Lock()

    def has_room(self) -> bool:
        with self._lock:
            if self._waiting < self._most:
                self._waiting += 1
                return True
            self._was_full = True
            self._lose(1)
            return False

    def failed(self, spans: int) -> None:
        with self._lock:
            self._waiting -= spans
            self._lose(spans)

    def succeeded(self, spans: int) -> None:
        with self._lock:
            self._waiting -= spans
            was_full, self._was_full = self._was_full, False
            if self._lost and not was_full:  # or it goes on losing some
                log.info("traces_delivered_again", endpoint=self._endpoint, lost=self._lost)
                self._lost = 0

    def _lose(self, spans: int) -> None:
        if not self._lost:
            log.warning(
                "traces_undelivered",
                endpoint=self._endpoint,
                spans=spans,
                remedy="look whether OTEL_EXPORTER_OTLP_ENDPOINT is right and answers in time; rollouts go on",
            )
        self._lost += spans


def shown(endpoint: str) -> str:
    """The URL as it may be logged: without whoever asks, and without its query, which may hold a key.

    >>> shown("https://token@collector:4318/otlp?key=s3cret")
    'https://collector:4318/otlp'
    """
    parts = urlsplit(endpoint)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _refuse(environ: Mapping[str, str]) -> None:
    name = _first(environ, _PROTOCOLS)
    if name is not None and environ[name] != _PROTOCOL:
        raise ConfigurationError(
            f"{name}: traces are sent by OTLP over HTTP only", remedy=f"set {_PROTOCOLS[0]} to {_PROTOCOL}"
        )
    name = _first(environ, _ENDPOINTS)
    if name is not None and not _is_url(environ[name]):
        raise ConfigurationError(f"{name} is no URL", remedy=f"for example {_DEFAULT_ENDPOINT}")


def _first(environ: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The variable that counts: that of traces alone before that of all that is sent. An empty one is as none."""
    return next((name for name in names if environ.get(name)), None)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _context(trace_id: int, span_id: int, flags: int = 1, *, remote: bool = False) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(trace_id, span_id, is_remote=remote, trace_flags=TraceFlags(flags))


def _within(span: Span) -> Any:
    """The context of the span's parent; an empty one for a rollout's."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    if span.parent_id is None:
        return Context()
    return set_span_in_context(NonRecordingSpan(_context(span.trace_id, span.parent_id)), Context())


def _tell(started: Any, one: Happening) -> None:
    started.add_event(one.name, dict(one.attributes), _nanoseconds(one.at))


def _nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1_000
