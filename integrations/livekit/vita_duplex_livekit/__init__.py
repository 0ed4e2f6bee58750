"""A LiveKit AgentSession that pauses on speech and asks a vita-duplex server whether it was meant for the agent.

    session = AgentSession(stt=…, llm=…, tts=…, turn_handling={"turn_detection": "manual"})
    await session.start(agent, room=room)
    async with VerdictInterruptions(session, "ws://127.0.0.1:8000/v1/verdict"):
        ...

Only what LiveKit publishes is used: the session's audio input, its audio and text output, `interrupt`,
`commit_user_turn`, `clear_user_turn` and `update_options`. While the server cannot be reached the session takes turns
by `fallback`.
"""

import asyncio
from contextlib import suppress
from typing import Any, Literal, Self

from livekit import rtc
from livekit.agents import AgentSession, AgentStateChangedEvent
from livekit.agents.voice.io import AudioInput, TextOutput
from vita_duplex_verdict import Connected, Hold, Resume, Stop, Verdict, VerdictClient

TRANSCRIPT_S = 2.0
"""So long an accepted turn waits for the words of the session's STT."""


class VerdictInterruptions:
    """Attached to a session that was started, for as long as it is entered."""

    def __init__(
        self,
        session: AgentSession[Any],
        url: str,
        *,
        api_key: str | None = None,
        language: str | None = None,
        fallback: Literal["vad", "stt"] = "vad",
    ) -> None:
        self.held = 0
        """How often the agent was held, and of these …"""
        self.resumed = 0
        """… went on."""
        self.stopped = 0
        """How often the user took the floor from it."""
        self._session = session
        self._client = VerdictClient(url, api_key=api_key, language=language)
        self._fallback: Literal["vad", "stt"] = fallback
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        output = self._session.output.audio
        if output is None or not output.can_pause:
            raise ValueError("the session's audio output cannot be paused: hold needs that")
        if self._session.input.audio is None:
            raise ValueError("the session has no audio input")
        self._session.input.audio = _Ears(self._session.input.audio, self._client)
        self._session.output.transcription = _Words(self._session.output.transcription, self._client)
        self._session.on("agent_state_changed", self._note_state)
        self._listening = asyncio.create_task(self._listen(), name="verdicts")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._session.off("agent_state_changed", self._note_state)
        assert self._listening is not None
        self._listening.cancel()
        with suppress(asyncio.CancelledError):
            await self._listening

    def _note_state(self, event: AgentStateChangedEvent) -> None:
        if event.new_state == "speaking":
            self._client.reply_started()
        elif event.old_state == "speaking":
            self._client.reply_ended()

    async def _listen(self) -> None:
        events = self._client.events()
        try:
            async for event in events:
                match event:
                    case Connected(yes):
                        self._session.update_options(turn_detection="manual" if yes else self._fallback)
                    case Hold():
                        self.held += 1
                        self._pause(True)
                    case Resume():
                        self.resumed += 1
                        self._pause(False)
                    case Stop():
                        self.stopped += 1
                        self._session.interrupt(force=True)
                        self._pause(False)  # for the next reply
                    case Verdict(accepted=True):
                        self._session.commit_user_turn(transcript_timeout=TRANSCRIPT_S)
                    case Verdict():
                        self._session.clear_user_turn()
        finally:
            self._session.update_options(turn_detection=self._fallback)
            await events.aclose()

    def _pause(self, yes: bool) -> None:
        output = self._session.output.audio
        if output is not None:
            output.pause() if yes else output.resume()


class _Ears(AudioInput):
    """The microphone, as the session and the server hear it."""

    def __init__(self, source: AudioInput, client: VerdictClient) -> None:
        super().__init__(label="vita-duplex", source=source)
        self._client = client
        self._resampler: rtc.AudioResampler | None = None
        self._rate = 0

    async def __anext__(self) -> rtc.AudioFrame:
        frame = await super().__anext__()
        for part in self._resampled(frame):
            self._client.hear(bytes(part.data))
        return frame

    def _resampled(self, frame: rtc.AudioFrame) -> list[rtc.AudioFrame]:
        mono = frame
        if frame.num_channels > 1:
            first = frame.data[:: frame.num_channels].tobytes()
            mono = rtc.AudioFrame(first, frame.sample_rate, 1, frame.samples_per_channel)
        if mono.sample_rate == self._client.rate:
            return [mono]
        if mono.sample_rate != self._rate:
            self._rate = mono.sample_rate
            self._resampler = rtc.AudioResampler(mono.sample_rate, self._client.rate)
        assert self._resampler is not None
        return self._resampler.push(mono)


class _Words(TextOutput):
    """What the agent says, as it is heard where the output is in step with the sound."""

    def __init__(self, following: TextOutput | None, client: VerdictClient) -> None:
        super().__init__(label="vita-duplex", next_in_chain=following)
        self._client = client

    async def capture_text(self, text: str) -> None:
        self._client.reply_text(str(text))
        if self.next_in_chain:
            await self.next_in_chain.capture_text(text)

    def flush(self) -> None:
        if self.next_in_chain:
            self.next_in_chain.flush()
