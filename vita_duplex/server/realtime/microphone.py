"""The audio that a client sends: it goes to the session, or is recorded while turn detection is off."""

import asyncio
from collections.abc import Iterator

import numpy as np

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.messages import Utterance
from vita_duplex.engine.notices import Notice
from vita_duplex.engine.session import Session
from vita_duplex.server.access.limits import AudioAllowance
from vita_duplex.server.audio.resample import Resampler
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.conversation_items import ConversationItems
from vita_duplex.server.realtime.event_writer import Send
from vita_duplex.server.realtime.server_events import ServerEvents
from vita_duplex.server.realtime.session_settings import SessionSettings
from vita_duplex.server.realtime.silence import Silence

MIN_COMMIT_MS = 100
"""Less than this is no utterance; OpenAI has the same limit."""

SILENCE = "(I have said nothing for a while. Say briefly what helps me to go on.)"
"""What is asked in the user's place after `idle_timeout_ms`, for silence itself is no question to a model."""


class Microphone:
    """The input audio buffer of the reference."""

    def __init__(
        self,
        session: Session,
        events: ServerEvents,
        items: ConversationItems,
        numbers: Iterator[int],
        settings: SessionSettings,
        allowance: AudioAllowance,
        send: Send,
    ) -> None:
        self._session = session
        self._events = events
        self._items = items
        self._numbers = numbers
        self._settings = settings
        self._allowance = allowance
        self._send = send
        self._clock = asyncio.get_running_loop().time
        self._resampler = Resampler(settings.wire_in.rate, INPUT_RATE)
        self._overflowing = False
        self._recorded: list[Samples] = []  # with turn detection null: since the last commit
        self._recorded_samples = 0
        self._silence = Silence()

    def configure(self, new: SessionSettings) -> None:
        """Take audio by these settings from now on."""
        old, self._settings = self._settings, new
        if new.wire_in.rate != old.wire_in.rate:
            self._resampler = Resampler(new.wire_in.rate, INPUT_RATE)
        if new.turn_detection is None and old.turn_detection is not None:
            quiet = (new.endpoint.silence_ms + 100) * INPUT_RATE // 1000
            self._session.hear(np.zeros(quiet, np.float32))  # who was speaking has finished
        if new.turn_detection is not None:
            self._forget_recording()

    def note(self, notice: Notice) -> None:
        self._silence.note(notice)

    async def append(self, data: bytes, event_id: str | None = None) -> None:
        """Audio in the session's input format. Errors: `ClientError`."""
        samples = self._resampler.push(self._settings.decode(data, event_id))
        fits = self._allowance.take(len(samples) / INPUT_RATE, self._clock()) and self._keep(samples)
        if not fits and not self._overflowing:  # told once per overflow, not once per frame
            message = "Audio came far faster than real time, or more than can be kept; it is dropped."
            self._send(self._events.server_error("input_audio_overflow", message))
        self._overflowing = not fits
        if fits:
            self._silence.hear(len(samples))
            await self._break_silence()

    def commit(self, event_id: str | None) -> None:
        """Make a user's item of the recording. Errors: `ClientError`."""
        if self._settings.turn_detection is not None:
            message = "The server commits by itself while turn_detection is on."
            raise ClientError("input_audio_buffer_commit_automatic", message, event_id=event_id)
        if self._recorded_samples < MIN_COMMIT_MS * INPUT_RATE // 1000:
            message = f"Less than {MIN_COMMIT_MS} ms of audio were appended since the last commit."
            raise ClientError("input_audio_buffer_commit_empty", message, event_id=event_id)
        number = self._items.next_waiting(event_id)
        recording = np.concatenate([*self._recorded, self._resampler.finish()])
        self._session.add_user_message(Utterance(number, recording))
        self._resampler = Resampler(self._settings.wire_in.rate, INPUT_RATE)
        self._forget_recording()
        self._send(*self._events.committed(number))

    def clear(self) -> None:
        """Forget the recording, and what the session has not listened to yet."""
        self._session.forget_audio()
        self._forget_recording()
        self._send(self._events.cleared())

    def _keep(self, samples: Samples) -> bool:
        """False: there is no room for them."""
        return self._session.hear(samples) if self._settings.turn_detection is not None else self._record(samples)

    def _record(self, samples: Samples) -> bool:
        """Keep for the next commit; False if it were longer than an utterance may be."""
        limit = int(self._settings.endpoint.max_utterance_s * INPUT_RATE)
        if self._recorded_samples + len(samples) > limit:
            return False
        self._recorded.append(samples)
        self._recorded_samples += len(samples)
        return True

    def _forget_recording(self) -> None:
        self._recorded, self._recorded_samples = [], 0

    async def _break_silence(self) -> None:
        """Answer that nobody speaks, if the client wants that and it is so."""
        limit_ms = self._settings.idle_timeout_ms
        if limit_ms is None or not self._session.duplex.idle or (span := self._silence.over(limit_ms)) is None:
            return
        number = next(self._numbers)
        self._send(*self._events.timed_out(number, *span))
        await self._session.ask(number, SILENCE)
