"""Watches a session from the side: metrics, traces and a log line per turn, all from the turn's record."""

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from vita_duplex.engine.notices import Notice, PartTrouble, TurnRecorded, WordsFailed
from vita_duplex.engine.turn_record import TurnRecord
from vita_duplex.server.observe.metrics import Metrics, SessionMeter, stages
from vita_duplex.server.observe.traces import SessionTracer

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)


class SessionWatch:
    """Takes the notices of one session; make it when the session begins."""

    def __init__(self, metrics: Metrics, tracer: "Tracer | None", session_id: str) -> None:
        self._metrics = metrics
        self._meter = SessionMeter(metrics)
        self._tracer = SessionTracer(tracer, session_id, time.time()) if tracer else None

    def see(self, notice: Notice) -> None:
        match notice:
            case TurnRecorded(record):
                now = asyncio.get_running_loop().time()
                record.loop_lag_s = self._metrics.lag.worst_s(now - _seconds(record))
                self._meter.turn(record)
                if self._tracer:
                    self._tracer.turn(record)
                log.info("turn %d %s", record.turn, record.status, extra=_fields(record))
            case PartTrouble(part):
                self._metrics.failure(part)
                log.warning("%s failed", part, extra={"part": part})
            case WordsFailed():
                self._metrics.failure("asr")
                log.warning("asr failed", extra={"part": "asr"})
            case _:
                pass

    def shed(self, frames: int) -> None:
        """So many camera frames are shown to no model."""
        self._metrics.shed(frames)


def _fields(record: TurnRecord) -> dict[str, object]:
    """What a log may know of a turn: numbers and names, no word of it."""
    seconds = {f"{stage}_s": round(value, 3) for stage, value in stages(record).items()}
    fields = {"turn": record.turn, "status": record.status, "reason": record.reason, "state": record.state}
    seconds["loop_lag_s"] = round(record.loop_lag_s, 3)
    return {**fields, "instance": record.instance, "holds": len(record.holds), **seconds}


def _seconds(record: TurnRecord) -> float:
    """How long the turn lasted."""
    return 0.0 if record.finished is None else record.finished - record.begun
