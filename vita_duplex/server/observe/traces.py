"""OpenTelemetry: a trace per turn, made from its record when the turn is over."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vita_duplex.config import ConfigError
from vita_duplex.engine.turn_record import TurnRecord

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

SERVICE = "vita-duplex"
NS = 1_000_000_000


def open_tracer() -> "Tracer":
    """Spans go where the standard environment variables say. Errors: `ConfigError`."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError("observe.traces: OpenTelemetry is not installed; install the extra [traces]") from error
    resource = Resource({SERVICE_NAME: SERVICE}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer(SERVICE)


def spans(record: TurnRecord) -> Iterator[tuple[str, float, float]]:
    """Name, start and end of what a turn was made of."""
    moments = {
        "speech": (record.speech_start, record.speech_end),
        "endpoint": (record.speech_end, record.endpoint),
        "verdict": (record.begun, record.verdict),
        "first token": (record.verdict, record.first_token),
        "first clause": (record.first_token, record.first_clause),
        "synthesis": (record.first_clause, record.first_synthesised),
        "generation": (record.first_token, record.generated),
        "audible": (record.first_audio_sent, record.finished),
    }
    for name, (start, end) in moments.items():
        if start is not None and end is not None and start <= end:
            yield name, start, end
    for start, end in record.holds:
        yield "hold", start, record.finished or start if end is None else end


class SessionTracer:
    """Traces the turns of one session; `epoch` is when it began, in seconds of Unix time."""

    def __init__(self, tracer: "Tracer", session_id: str, epoch: float) -> None:
        self._tracer = tracer
        self._session_id = session_id
        self._epoch = epoch

    def turn(self, record: TurnRecord) -> None:
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        start = record.begun if record.speech_start is None else record.speech_start
        attributes: dict[str, str | int | float] = {
            "session.id": self._session_id,
            "vita_duplex.turn": record.turn,
            "vita_duplex.instance": record.instance,
            "vita_duplex.status": record.status or "",
            "vita_duplex.reason": record.reason or "",
            "vita_duplex.state": record.state or "",
        }
        turn = self._tracer.start_span("turn", attributes=attributes, start_time=self._ns(start))
        if record.status == "failed":
            turn.set_status(Status(StatusCode.ERROR, record.reason))
        for name, begun, ended in spans(record):
            span = self._tracer.start_span(name, set_span_in_context(turn), start_time=self._ns(begun))
            span.end(self._ns(ended))
        turn.end(self._ns(record.finished or start))

    def _ns(self, moment: float) -> int:
        return int((self._epoch + moment) * NS)
