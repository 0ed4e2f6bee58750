"""Prometheus metrics. Everything about turns derives from their records; gauges are read when they are scraped."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vita_duplex.engine.messages import Usage
from vita_duplex.engine.turn_record import TurnRecord
from vita_duplex.server.observe.lag import Lag

PREFIX = "vita_duplex"
BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
REMEMBERED = 8
"""Turns of a session that a later record may have to do with: the reply, and what was said into it."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the gauges show."""

    sessions: int = 0
    waiting: int = 0
    shedding: int = 0
    """`Step` of shedding."""
    draining: bool = False
    ready: Mapping[str, bool] = field(default_factory=dict)
    """By part."""
    generators: Mapping[str, int] = field(default_factory=dict)
    """Sessions that generate on an instance, by its name."""


def stages(record: TurnRecord) -> dict[str, float]:
    """Seconds a turn spent in each stage, as far as it came; 0 for what was done before the stage began.

    endpoint: end of speech → the utterance is over · verdict: → the verdict is there · first_token: the floor →
    the model's first token · first_audio: end of speech → first sample sent.
    """
    spans = {
        "endpoint": (record.speech_end, record.endpoint),
        "verdict": (record.endpoint, record.verdict),
        "first_token": (record.floor, record.first_token),
        "first_audio": (record.speech_end, record.first_audio_sent),
    }
    return {
        name: max(0.0, end - start) for name, (start, end) in spans.items() if start is not None and end is not None
    }


def interruption(reply: TurnRecord, other: TurnRecord) -> dict[str, float]:
    """Seconds from the user's first sound in `other`'s utterance until `reply` was held, and until it ended by it."""
    began, over = other.speech_start, other.endpoint
    if began is None or over is None:
        return {}
    held = [start for start, _ in reply.holds if began <= start <= over]
    found = {"hold": held[0] - began} if held else {}
    if reply.reason == "turn_detected" and other.floor is not None and reply.finished is not None:
        found |= {"stop": reply.finished - began} if began <= reply.finished <= other.floor else {}
    return found


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, state: Callable[[], ServerState]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Gauges(state))
        self._stages = Histogram(
            f"{PREFIX}_stage_seconds",
            "Seconds a turn spent in a stage",
            ["stage"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self.lag = Lag()
        self._lags = Histogram(
            f"{PREFIX}_loop_lag_seconds",
            "How late the event loop was with what was due, measured ten times a second",
            buckets=LAG_BUCKETS_S,
            registry=self._registry,
        )
        self._turns = self._counter("turns", "Turns by how they ended", "status", "reason")
        self._verdicts = self._counter("verdicts", "Verdicts by state token", "state", "accepted")
        self._abstained = self._counter("abstained", "Early verdicts too close to the threshold to decide")
        self._holds = self._counter("holds", "Holds of replies: resumed ones were false alarms", "outcome")
        self._failures = self._counter("failures", "Failures of parts", "part")
        self._shed_frames = self._counter("shed_frames", "Camera frames that no model was shown, to save load")
        self._refusals = self._counter("refusals", "Requests and sessions refused, by code", "code")
        self._requests = self._counter(
            "requests", "Answered or failed HTTP requests for text or speech", "path", "status"
        )
        self._tokens = self._counter("chat_tokens", "Tokens read and written for chat requests", "direction")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self._registry)

    def turn(self, record: TurnRecord) -> None:
        for stage, seconds in stages(record).items():
            self._stages.labels(stage).observe(seconds)
        self._turns.labels(record.status, record.reason or "").inc()
        if record.state is not None:
            self._verdicts.labels(record.state, str(record.status != "rejected").lower()).inc()
        self._abstained.inc(record.abstained)
        self._holds.labels("resumed").inc(len(record.holds) - record.cut_in_hold)
        self._holds.labels("cancelled").inc(record.cut_in_hold)

    def late(self, late_s: float, now: float) -> None:
        """The event loop was so late."""
        self.lag.note(late_s, now)
        self._lags.observe(late_s)

    def interruption(self, reply: TurnRecord, other: TurnRecord) -> None:
        for stage, seconds in interruption(reply, other).items():
            self._stages.labels(stage).observe(seconds)

    def failure(self, part: str) -> None:
        self._failures.labels(part).inc()

    def shed(self, frames: int) -> None:
        self._shed_frames.inc(frames)

    def refusal(self, code: str) -> None:
        self._refusals.labels(code).inc()

    def request(self, path: str, status: str) -> None:
        self._requests.labels(path, status).inc()

    def tokens(self, usage: Usage) -> None:
        self._tokens.labels("input").inc(usage.input_tokens)
        self._tokens.labels("output").inc(usage.output_tokens)

    def text(self) -> bytes:
        """In Prometheus' text format: ours, then the process's own, and vLLM's where it runs in this process."""
        return generate_latest(self._registry) + generate_latest(REGISTRY)


class SessionMeter:
    """Puts the turns of one session together."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._records: deque[TurnRecord] = deque(maxlen=REMEMBERED)

    def turn(self, record: TurnRecord) -> None:
        self._metrics.turn(record)
        for earlier in self._records:  # a rejected utterance is recorded before the reply it came into, a query after
            self._metrics.interruption(earlier, record)
            self._metrics.interruption(record, earlier)
        self._records.append(record)


class _Gauges(Collector):
    def __init__(self, state: Callable[[], ServerState]) -> None:
        self._state = state

    def collect(self) -> Iterator[GaugeMetricFamily]:
        state = self._state()
        yield GaugeMetricFamily(f"{PREFIX}_sessions", "Sessions running", value=state.sessions)
        yield GaugeMetricFamily(f"{PREFIX}_waiting", "Clients in the queue for a session", value=state.waiting)
        shedding = "What is left out: 1 half of the camera frames, 2 all of them, 3 further clients, who wait"
        yield GaugeMetricFamily(f"{PREFIX}_shedding", shedding, value=state.shedding)
        yield GaugeMetricFamily(f"{PREFIX}_draining", "1 while the server is stopping", value=state.draining)
        ready = GaugeMetricFamily(f"{PREFIX}_ready", "1 if the part works", labels=["part"])
        for part, works in state.ready.items():
            ready.add_metric([part], works)
        yield ready
        load = GaugeMetricFamily(
            f"{PREFIX}_instance_sessions", "Sessions generating on an instance", labels=["instance"]
        )
        for instance, sessions in state.generators.items():
            load.add_metric([instance], sessions)
        yield load
