"""The audio that a client sends: it goes to the session, or is recorded while turn detection is off."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.dialogue import AUDIO_LIMIT_S
from vita_duplex.engine.messages import Utterance
from vita_duplex.engine.notices import Notice, UserStarted, UserStopped, UtteranceCommitted, VerdictGiven
from vita_duplex.engine.session import Session
from vita_duplex.server.access.limits import AudioAllowance
from vita_duplex.server.audio.resample import Resampler
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.event_writer import Send
from vita_duplex.server.realtime.positions import Positions
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
        numbers: Iterator[int],
        settings: SessionSettings,
        allowance: AudioAllowance,
        send: Send,
    ) -> None:
        self._session = session
        self._events = events
        self._numbers = numbers
        self._settings = settings
        self._allowance = allowance
        self._send = send
        self._clock = asyncio.get_running_loop().time
        self._resampler = Resampler(settings.wire_in.rate, INPUT_RATE)
        self._overflowing = False
        self._recorded: list[Samples] = []  # with turn detection null: since the last commit
        self._recorded_samples = 0
        self._positions = Positions()
        self._silence = Silence()
        self._committed: dict[int, str | None] = {}  # speech that the client has ended, with that event's id

    def configure(self, new: SessionSettings) -> None:
        """Take audio by these settings from now on."""
        old, self._settings = self._settings, new
        if new.wire_in.rate != old.wire_in.rate:
            self._resampler = Resampler(new.wire_in.rate, INPUT_RATE)
        if new.turn_detection is None and old.turn_detection is not None:
            quiet = (new.endpoint.silence_ms + 100) * INPUT_RATE // 1000
            if self._session.hear(np.zeros(quiet, np.float32)):  # who was speaking has finished
                self._positions.advance(received=0, heard=quiet)
        if new.turn_detection is not None:
            self._forget_recording()

    def note(self, notice: Notice) -> None:
        self._silence.note(notice, self._positions.received)
        match notice:
            case VerdictGiven(utterances, _, accepted):
                for event_id in [self._committed.pop(one) for one in utterances if one in self._committed]:
                    if not accepted:  # nothing else would tell the client that its commit has an end
                        message = "What was committed was not meant for the assistant; it is forgotten."
                        error = ClientError("input_audio_buffer_commit_rejected", message, event_id=event_id)
                        self._send(self._events.client_error(error))
            case UtteranceCommitted(number):
                self._committed.pop(number, None)
            case _:
                pass

    def place(self, notice: Notice) -> Notice:
        """The notice with positions in all the audio that was received, of which the listener hears a part."""
        if isinstance(notice, UserStarted | UserStopped):
            return replace(notice, at_ms=self._positions.find_ms(notice.at_ms))
        return notice

    async def append(self, audio: bytes | str, event_id: str | None = None) -> None:
        """Take in audio in the session's input format, bytes or base64. Errors: `ClientError`.

        Audio that is refused is not decoded: a message holds up to 15 MB of it, which keeps all sessions waiting.
        """
        seconds = self._settings.duration(audio)
        fits = self._allowance.take(seconds, self._clock()) and self._has_room(seconds)
        if fits:
            fits = self._keep(self._resampler.push(self._settings.decode(audio, event_id)))
        else:
            self._positions.advance(received=int(seconds * INPUT_RATE), heard=0)
        if not fits and not self._overflowing:  # told once per overflow, not once per frame
            message = "Audio came far faster than real time, or more than can be kept; it is dropped."
            self._send(self._events.server_error("input_audio_overflow", message))
        self._overflowing = not fits
        if fits:
            await self._break_silence()

    async def commit(self, event_id: str | None) -> None:
        """End what is being said; with turn detection off, make a user's item of the recording.

        Errors: `ClientError`.
        """
        if self._settings.turn_detection is not None:
            if (number := await self._session.end_speech()) is None:
                message = "Nobody is speaking; the server commits by itself what was said."
                raise ClientError("input_audio_buffer_commit_empty", message, event_id=event_id)
            self._committed[number] = event_id
            return
        if self._recorded_samples < MIN_COMMIT_MS * INPUT_RATE // 1000:
            message = f"Less than {MIN_COMMIT_MS} ms of audio were appended since the last commit."
            raise ClientError("input_audio_buffer_commit_empty", message, event_id=event_id)
        number = next(self._numbers)
        recording = np.concatenate([*self._recorded, self._resampler.finish()])
        self._send(*self._events.committed(number))
        if self._settings.only_listens:
            self._session.write_down(Utterance(number, recording), self._settings.language)
        else:
            self._session.add_user_message(Utterance(number, recording))
        self._resampler = Resampler(self._settings.wire_in.rate, INPUT_RATE)
        self._forget_recording()

    def clear(self) -> None:
        """Forget the recording, and what is being said."""
        self._positions.advance(received=0, heard=-self._session.forget_audio())
        self._forget_recording()
        self._send(self._events.cleared())

    def _has_room(self, seconds: float) -> bool:
        """False: the recording would be longer than what a dialogue keeps of speech."""
        recorded = self._recorded_samples / INPUT_RATE
        is_recorded = self._settings.turn_detection is None
        return not is_recorded or recorded + seconds <= AUDIO_LIMIT_S

    def _keep(self, samples: Samples) -> bool:
        """Hand samples to the session, or record them for the next commit. False: too many wait for the session."""
        is_recorded = self._settings.turn_detection is None
        if is_recorded:
            self._recorded.append(samples)
            self._recorded_samples += len(samples)
        heard = not is_recorded and self._session.hear(samples)
        self._positions.advance(received=len(samples), heard=len(samples) if heard else 0)
        return is_recorded or heard

    def _forget_recording(self) -> None:
        self._recorded, self._recorded_samples = [], 0

    async def _break_silence(self) -> None:
        """Answer that nobody speaks, if the client wants that and it is so."""
        limit_ms = self._settings.idle_timeout_ms
        if limit_ms is None or not self._session.duplex.idle:
            return
        if (span := self._silence.over(limit_ms, self._positions.received)) is None:
            return
        number = next(self._numbers)
        self._send(*self._events.timed_out(number, *span))
        await self._session.ask(number, SILENCE)
