"""OpenTelemetry traces, when they are asked for: a span for each request, with one for each level that was asked.

Where spans go is OpenTelemetry's own configuration (`OTEL_EXPORTER_OTLP_ENDPOINT` and its like). The client's
`traceparent` is the parent, and the level's span is the parent of what the endpoint traces. Nothing of the content is
in a span.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

from bisupervised import __version__
from bisupervised.decision_log.details import Details
from bisupervised.errors import MissingExtra
from bisupervised.records import LevelName, Outcome

#: A header line for the endpoint that is being asked: empty without traces.
TRACEPARENT: Final[ContextVar[bytes]] = ContextVar("bisupervised_traceparent", default=b"")


class Tracing:
    """Makes spans. `exporter` is OpenTelemetry's OTLP exporter unless another is given."""

    def __init__(self, exporter: Any = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                exporter = OTLPSpanExporter()
        except ImportError as error:
            raise MissingExtra("opentelemetry", "traces") from error
        self._provider = TracerProvider(resource=Resource.create({"service.name": "bisupervised"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("bisupervised.gateway", __version__)
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, cascade: str, traceparent: str | None) -> RequestTrace:
        """The span of one request, as a child of the client's."""
        parent = self._propagator.extract({"traceparent": traceparent}) if traceparent else None
        span = self._tracer.start_span(f"bisupervised {cascade}", context=parent, kind=self._trace.SpanKind.SERVER)
        return RequestTrace(self, span)

    def child(self, of: Any, name: str) -> tuple[Any, bytes]:
        """A level's span, and the header line for its endpoint."""
        context = self._trace.set_span_in_context(of)
        span = self._tracer.start_span(name, context=context, kind=self._trace.SpanKind.CLIENT)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=self._trace.set_span_in_context(span))
        return span, f"traceparent: {carrier['traceparent']}\r\n".encode() if "traceparent" in carrier else b""

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


class RequestTrace:
    """One request's spans."""

    def __init__(self, tracing: Tracing, span: Any) -> None:
        self._tracing = tracing
        self._span = span

    def ask(self, level: LevelName) -> Any:
        """A level is about to be asked: its span, to be ended by `answered`."""
        span, header = self._tracing.child(self._span, f"{level} model")
        TRACEPARENT.set(header)
        return span

    @staticmethod
    def answered(span: Any, failure: str | None) -> None:
        """The level has answered, or failed."""
        if failure is not None:
            span.set_attribute("error.type", failure)
        span.end()

    def end(self, outcome: Outcome, details: Details) -> None:
        """The request has ended."""
        given: dict[str, Any] = {
            "http.response.status_code": details.status,
            "bisupervised.id": outcome.id,
            "bisupervised.cascade": details.cascade,
            "bisupervised.mode": details.mode,
            "bisupervised.route": outcome.route.label,
            "bisupervised.served": details.served,
            "bisupervised.reason": outcome.reason.value,
            "bisupervised.thresholds": details.thresholds_id,
            "bisupervised.local.confidence": outcome.local_confidence,
            "bisupervised.remote.confidence": outcome.remote_confidence,
            "bisupervised.local.cost": outcome.local_cost,
            "bisupervised.remote.cost": outcome.remote_cost,
        }
        # What is not known (NaN, None) is not said.
        self._span.set_attributes({k: v for k, v in given.items() if v is not None and v == v})
        self._span.end()
