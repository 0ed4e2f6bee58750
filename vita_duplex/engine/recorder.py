"""Writes the record of every turn, from what the core is told and decides, and from what the client is told. Pure."""

from collections.abc import Mapping, Sequence

from vita_duplex.engine import events as ev
from vita_duplex.engine.notices import Notice, TurnAudio
from vita_duplex.engine.turn import Turn
from vita_duplex.engine.turn_record import SampleCounts, TurnRecord
from vita_duplex.engine.utterances import Span


class Recorder:
    """The records of one session's turns that are not over."""

    def __init__(self, began: float, spans: Mapping[int, Span]) -> None:
        """`began`: the `now` of the session's beginning. `spans`: where its undecided utterances lie."""
        self._began = began
        self._spans = spans
        self._records: dict[int, TurnRecord] = {}

    def step(self, now: float, event: ev.Event | None, commands: Sequence[ev.Command]) -> None:
        """Take in one step of the core, before the shell carries it out."""
        at = now - self._began
        match event:
            case ev.VerdictReached(turn) if (record := self._records.get(turn)) and record.verdict is None:
                record.verdict = at
            case ev.ReplyEnded(turn) if record := self._records.get(turn):
                record.generated = at
        for command in commands:
            self._note(command, at)

    def _note(self, command: ev.Command, at: float) -> None:
        match command:
            case ev.Begin():
                self._begin(command, at)
            case ev.Abort(_, turn):
                self._records[turn].aborted = at
            case ev.Accept(turn):
                self._note_speech(self._records[turn])
            case ev.GiveFloor(turn):
                self._records[turn].floor = at
            case ev.Hold(turn):
                self._records[turn].holds.append((at, None))
            case ev.Resume(turn):
                _end_hold(self._records[turn], at)
            case ev.Reject(turn, _, reason):
                record = self._records[turn]
                self._note_speech(record)
                record.status, record.reason, record.finished = "rejected", reason, at
            case ev.Finish(turn, status, cause):
                record = self._records[turn]
                record.cut_in_hold = _end_hold(record, at)
                record.status, record.reason, record.finished = status, cause, at
            case _:
                pass

    def _begin(self, command: ev.Begin, at: float) -> None:
        """A request that another one replaces was aborted; nothing more happens to it."""
        self._records = {
            number: record for number, record in self._records.items() if record.floor is not None or record.status
        }
        record = TurnRecord(command.turn, command.utterances, command.slot, "", at, abstained=command.abstained)
        self._records[command.turn] = record

    def _note_speech(self, record: TurnRecord) -> None:
        spans = [self._spans[number] for number in record.utterances if number in self._spans]
        if spans:
            record.speech_start, record.speech_end = self._at(spans[0].started), self._at(spans[-1].ended)
            record.endpoint = self._at(spans[-1].endpoint)

    def note(self, notice: Notice, now: float) -> None:
        """Take in what the client is told."""
        match notice:
            case TurnAudio(turn, samples) if len(samples):
                record = self._records[turn]
                if record.first_audio_sent is None:
                    record.first_audio_sent = now - self._began

    def close(self, turn: Turn) -> TurnRecord:
        """The whole record of a turn that is over."""
        record, request, speech = self._records.pop(turn.number), turn.request, turn.speech
        first, *others = (instance.name for instance in request.instances)
        record.instance = first
        record.moves = [(at - self._began, name) for at, name in zip(request.moves, others, strict=True)]
        record.first_token, record.text_chars = self._at(request.first_delta), len(request.text)
        if verdict := request.verdict:
            record.state, record.p1, record.asr_s = verdict.state, verdict.p1, verdict.asr_s
        record.first_clause, record.first_synthesised = (
            self._at(speech.first_clause),
            self._at(speech.first_synthesised),
        )
        record.underruns = speech.underruns
        record.samples = SampleCounts(speech.synthesised, turn.ledger.sent, turn.heard)
        return record

    def _at(self, moment: float | None) -> float | None:
        return None if moment is None else moment - self._began


def _end_hold(record: TurnRecord, at: float) -> bool:
    """False if there was none."""
    if not record.holds or record.holds[-1][1] is not None:
        return False
    record.holds[-1] = (record.holds[-1][0], at)
    return True
