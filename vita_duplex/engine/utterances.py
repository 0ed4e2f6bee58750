"""The utterances of a session: their audio, where they lie, and what the client is told of them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.events import SpeechEnded, SpeechForgotten, SpeechGrew, SpeechPaused, SpeechStarted
from vita_duplex.engine.messages import Situation, Utterance
from vita_duplex.engine.notices import Notice, UserStarted, UserStopped, VoiceActivity
from vita_duplex.engine.ports import Heard


@dataclass(slots=True)
class Span:
    """Where an utterance lies."""

    start_ms: int
    """In received audio, like `end_ms`."""
    end_ms: int
    started: float
    """In the seconds of `now`, like `ended` and `endpoint`."""
    ended: float
    situation: Situation
    """What the utterance was said into."""
    endpoint: float | None = None
    """When the listener declared it over."""
    told_start: bool = False
    """Of an utterance that ended a reply while it went on; of others the client hears when they are accepted."""


class Utterances:
    """Keeps what the core has not decided about. Pure; `now` is an argument."""

    def __init__(self, tell: Callable[[Notice], None]) -> None:
        self.spans: dict[int, Span] = {}
        """Of those that were spoken."""
        self._tell = tell
        self._kept: dict[int, Utterance] = {}
        self._latest: dict[int, Utterance] = {}  # what a glance is shown of the one that is being spoken
        self._newest_speech = 0
        self._unjudged: int | None = None  # speech that the core is not told of

    def are_news(self, heard: Heard) -> bool:
        """False for what the listener says late or twice."""
        number, starts = heard.event.utterance, isinstance(heard.event, SpeechStarted)
        if number < self._newest_speech or (starts and number == self._newest_speech):
            return False
        if starts:
            self._newest_speech = number
        return True

    def get(self, numbers: Collection[int]) -> tuple[Utterance, ...]:
        return tuple(self._kept[number] for number in numbers)

    def latest(self, number: int) -> Utterance:
        """The latest of an utterance that is being spoken."""
        return self._latest[number]

    def keep(self, utterance: Utterance) -> None:
        self._kept[utterance.number] = utterance

    def forget_all_but(self, wanted: Collection[int]) -> None:
        """Drop the audio of utterances that nobody will ask about any more."""
        for kept in (self._kept, self._latest, self.spans):
            for number in [number for number in kept if number not in wanted]:
                del kept[number]

    # ── speech that is judged ──────────────────────────────────────────────────────────

    def note(self, heard: Heard, now: float, situation: Situation) -> None:
        """Take in speech. The client is told of it when it is accepted: whoever hears of its start waits for more."""
        number = heard.event.utterance
        match heard.event:
            case SpeechStarted():
                started = now - (heard.now - heard.start) / INPUT_RATE
                self.spans[number] = Span(_ms(heard.start), _ms(heard.end), started, now, situation)
                self._tell(VoiceActivity(True))
            case SpeechForgotten():
                self._tell(VoiceActivity(False))
                self.give_up(number)
            case SpeechGrew():
                self._latest = {number: Utterance(number, heard.samples)}
            case SpeechPaused() | SpeechEnded():
                ended = isinstance(heard.event, SpeechEnded)
                if ended:
                    self._tell(VoiceActivity(False))
                if number in self.spans:  # else ignored from its start: speech during a reply with `barge_in: off`
                    self._note_end(heard, now, ended=ended)
            case _:
                pass

    def _note_end(self, heard: Heard, now: float, *, ended: bool) -> None:
        number, span = heard.event.utterance, self.spans[heard.event.utterance]
        span.end_ms = _ms(heard.end)
        span.ended = now - (heard.now - heard.end) / INPUT_RATE
        self.keep(Utterance(number, heard.samples))
        if ended:
            span.endpoint = now

    def tell(self, number: int) -> None:
        """Tell the client of an utterance's start and end."""
        if span := self.spans.get(number):  # else typed
            self.tell_start(number)
            self._tell(UserStopped(number, span.end_ms))

    def tell_start(self, number: int) -> None:
        """Tell the client of an utterance's start, once."""
        span = self.spans[number]
        if not span.told_start:
            span.told_start = True
            self._tell(UserStarted(number, span.start_ms))

    def give_up(self, number: int) -> None:
        """An utterance was not meant for us; whoever was told of its start is told of its end."""
        if (span := self.spans.get(number)) and span.told_start:
            self._tell(UserStopped(number, span.end_ms))

    def situation(self, numbers: Collection[int]) -> Situation:
        """What the first of these utterances was said into; the default for typed ones."""
        return next((self.spans[number].situation for number in numbers if number in self.spans), Situation())

    def seconds(self, number: int) -> float | None:
        """Length of its speech; None if it was typed."""
        span = self.spans.get(number)
        return span.ended - span.started if span else None

    # ── speech that nobody judges ──────────────────────────────────────────────────────

    def is_unjudged(self, heard: Heard, *, judging: bool) -> bool:
        """Whether this belongs to speech that began while no speech was judged."""
        if isinstance(heard.event, SpeechStarted) and not judging:
            self._unjudged = heard.event.utterance
        return heard.event.utterance == self._unjudged

    def commit(self, heard: Heard) -> Utterance | None:
        """Tell of speech that nobody judges; return it when it is over."""
        number = heard.event.utterance
        match heard.event:
            case SpeechStarted():
                self._tell(VoiceActivity(True))
                self._tell(UserStarted(number, _ms(heard.start)))
            case SpeechEnded():
                self._tell(VoiceActivity(False))
                self._tell(UserStopped(number, _ms(heard.end)))
                self._unjudged = None
                return Utterance(number, heard.samples)
            case SpeechForgotten():
                self._tell(VoiceActivity(False))
                self._tell(UserStopped(number, _ms(heard.end)))
                self._unjudged = None
            case _:
                pass
        return None


def _ms(samples: int) -> int:
    return samples * 1000 // INPUT_RATE
