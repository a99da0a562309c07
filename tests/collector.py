"""A receiver of traces: OTLP over HTTP, taken apart as the protocol says; it may fail, or keep everybody waiting."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Seen:
    """A span as it came over the wire."""

    name: str
    trace: str
    id: str
    parent: str | None
    began: int
    ended: int
    attributes: dict[str, Any]
    error: str | None
    happenings: list[tuple[str, dict[str, Any]]]
    links: list[tuple[str, str]]
    kind: int
    service: str


@dataclass
class Collector:
    """`status`: what it answers; `hold`: while it is set, nobody is answered."""

    url: str = ""
    status: int = 200
    hold: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    requests: int = 0
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Seen] = field(default_factory=list)

    def named(self, name: str, **attributes: Any) -> list[Seen]:
        """Spans of that name, whose attributes (with `orchestrator.` before them) are these."""
        wanted = {f"orchestrator.{key}": value for key, value in attributes.items()}
        return [span for span in self.spans if span.name == name and wanted.items() <= span.attributes.items()]

    def one(self, name: str, **attributes: Any) -> Seen:
        (found,) = self.named(name, **attributes)
        return found

    def below(self, span: Seen) -> list[Seen]:
        return [one for one in self.spans if one.parent == span.id and one.trace == span.trace]

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        self.bodies.append(body)
        self.headers.append(headers)
        told = ExportTraceServiceRequest.FromString(body)
        for of_resource in told.resource_spans:
            service = _values(of_resource.resource.attributes).get("service.name", "")
            for scope in of_resource.scope_spans:
                self.spans += [_seen(span, service) for span in scope.spans]


def _seen(span: Any, service: str) -> Seen:
    return Seen(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex() or None,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        error=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else None,
        happenings=[(event.name, _values(event.attributes)) for event in span.events],
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        kind=span.kind,
        service=service,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """One that listens, here and now."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.requests += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if collector.hold.is_set():
                collector.released.wait(60)
            if collector.status == 200:
                assert self.path == "/v1/traces"
                collector.take(body, dict(self.headers))
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return None

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            return None  # who asked has hung up

    with Server(("127.0.0.1", port), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        try:
            yield collector
        finally:
            collector.released.set()
            server.shutdown()
            serving.join()
