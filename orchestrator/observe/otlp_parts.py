"""What OpenTelemetry's SDK is given of ours. Imports it: only where traces are on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator


class Delivery(Protocol):
    """Asked before each span, and told how each batch went: this from the SDK's thread."""

    def has_room(self) -> bool:
        """Whether another span may wait; it counts as one that waits from now on."""
        ...

    def failed(self, spans: int) -> None: ...
    def succeeded(self, spans: int) -> None: ...


class Derived(IdGenerator):
    """Gives the next span the ids that were put here."""

    def __init__(self) -> None:
        self.trace_id, self.span_id = 1, 1

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class Exporter(SpanExporter):
    """The SDK's own, whose failures are told in our words; it logs each of them, with what may be a secret."""

    def __init__(self, delivery: Delivery) -> None:
        self._inner, self._delivery = OTLPSpanExporter(), delivery

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._inner.export(spans)
        except Exception:
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self._delivery.succeeded(len(spans))
        else:
            self._delivery.failed(len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class Queue(BatchSpanProcessor):
    """The SDK's own, for so many spans; it would throw away what is more without a word."""

    def __init__(self, delivery: Delivery, most: int) -> None:
        super().__init__(Exporter(delivery), max_queue_size=most)
        self._delivery = delivery

    def on_end(self, span: ReadableSpan) -> None:
        sampled = span.context is not None and span.context.trace_flags.sampled
        if sampled and self._delivery.has_room():
            super().on_end(span)


def resource(service: str, version: str, instance: str) -> Resource:
    """Who sends; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES count before what we say."""
    ours = Resource({"service.name": service, "service.version": version, "service.instance.id": instance})
    return Resource.create({}).merge(ours).merge(OTELResourceDetector().detect())
