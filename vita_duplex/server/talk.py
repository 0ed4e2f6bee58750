"""A client with a recording for a mouth: plays it to a running server and keeps what was heard, and when."""

import argparse
import asyncio
import base64
import binascii
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

URL = "ws://127.0.0.1:8000/v1/realtime"
INPUT_RATE = 16_000
OUTPUT_RATE = 24_000
FRAME = INPUT_RATE // 50
FRAME_S = FRAME / INPUT_RATE
LEAD_IN_S = 0.3
"""Silence before the question: a microphone is open before anybody speaks."""
SETTLED_S = 2.0
"""With everything answered and heard, this long without an event ends the conversation."""
UNJUDGED_S = 12.0
"""The same while speech has no verdict; a cough shorter than the shortest utterance never gets one."""
CONNECT_S = 10.0
PICTURES = (".png", ".svg", ".pdf")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST_S = 600

Pcm = NDArray[np.int16]
"""Mono PCM16, shape [n]."""


class TalkError(Exception):
    """The conversation could not be had; the text is one line for the person at the keyboard."""


# --- recordings -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recording:
    """Something to say."""

    name: str
    samples: Pcm
    """At 16 kHz."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / INPUT_RATE


def read_recording(path: Path) -> Recording:
    """Read any audio file: its first channel, at 16 kHz. Errors: `TalkError`."""
    if path.is_dir():
        raise TalkError(f"{path} is a folder, not a recording")
    try:
        if not path.stat().st_size:
            raise TalkError(f"{path} is empty")
        with path.open("rb") as raw, soundfile.SoundFile(raw) as file:
            rate: int = file.samplerate
            if file.frames > LONGEST_S * rate:
                raise TalkError(f"{path} is {file.frames / rate:.0f} s long; the most is {LONGEST_S} s (10 minutes)")
            samples = file.read(dtype="float32", always_2d=True)[:, 0]
    except OSError as error:
        raise TalkError(f"cannot read {path}: {error.strerror or error}") from error
    except soundfile.LibsndfileError as error:
        raise TalkError(f"{path} is not audio that can be read: {error.error_string}") from error
    if not len(samples):
        raise TalkError(f"{path} is empty")
    if not np.isfinite(samples).all():
        raise TalkError(f"{path} holds samples that are not numbers")
    return Recording(path.name, to_pcm(soxr.resample(samples, rate, INPUT_RATE)))


def to_pcm(samples: NDArray[np.float32]) -> Pcm:
    return np.rint(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)


# --- what the server says ---------------------------------------------------------------------------------


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float
    """When it arrived: seconds since the session began."""


class ErrorBody(BaseModel):
    code: str | None = None
    message: str = ""


class ServerError(_Event):
    type: Literal["error"]
    error: ErrorBody


class SessionCreated(_Event):
    type: Literal["session.created"]


class SessionUpdated(_Event):
    type: Literal["session.updated"]


class ResponseHead(BaseModel):
    id: str
    status: str | None = None


class ResponseCreated(_Event):
    type: Literal["response.created"]
    response: ResponseHead


class ResponseDone(_Event):
    type: Literal["response.done"]
    response: ResponseHead


class TextDelta(_Event):
    type: Literal["response.output_audio_transcript.delta"]
    response_id: str
    delta: str


class AudioDelta(_Event):
    type: Literal["response.output_audio.delta"]
    response_id: str
    delta: str


class Hold(_Event):
    type: Literal["vita.hold"]
    response_id: str


class Resume(_Event):
    type: Literal["vita.resume"]
    response_id: str


class Speech(_Event):
    type: Literal["vita.speech"]
    speaking: bool


class Verdict(_Event):
    """What the model made of one or more utterances."""

    type: Literal["vita.verdict"] = "vita.verdict"
    utterances: tuple[int, ...] = ()
    state: str | None = None
    p1: float | None = None
    p2: float | None = None
    p3: float | None = None
    accepted: bool
    reason: str = "verdict"
    transcript: str | None = None


class Roles(_Event):
    """Which instance answers and which one listens, from `at` on."""

    type: Literal["vita.roles"] = "vita.roles"
    generator: str
    monitor: str
    swaps: int = 0


class Record(BaseModel):
    """The server's account of one turn or of one rejected utterance, in seconds since the session began."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    turn: int | None = None
    response_id: str | None = None
    utterances: tuple[int, ...] = ()
    slot: int | None = None
    instance: str | None = None
    status: str | None = None
    speech_start: float | None = None
    speech_end: float | None = None
    endpoint: float | None = None
    begun: float | None = None
    ears_s: float | None = None
    verdict: float | None = None
    state: str | None = None
    p1: float | None = None
    floor: float | None = None
    first_token: float | None = None
    first_clause: float | None = None
    first_synthesised: float | None = None
    first_audio_sent: float | None = None
    holds: tuple[tuple[float, float | None], ...] = ()
    aborted: float | None = None
    generated: float | None = None
    finished: float | None = None
    text_chars: int | None = None
    samples: dict[str, int | None] = {}

    @property
    def is_reply(self) -> bool:
        return self.response_id is not None and self.status != "rejected"


class Timeline(_Event):
    type: Literal["vita.timeline"]
    record: Record


ServerEvent = Annotated[
    ServerError
    | SessionCreated
    | SessionUpdated
    | ResponseCreated
    | ResponseDone
    | TextDelta
    | AudioDelta
    | Hold
    | Resume
    | Speech
    | Verdict
    | Roles
    | Timeline,
    Field(discriminator="type"),
]
_server_event: TypeAdapter[ServerEvent] = TypeAdapter(ServerEvent)


def decode(message: str | bytes, now: float) -> ServerEvent | None:
    """One message of the server; None for the kinds that do not concern us. Errors: `TalkError`."""
    try:
        return _server_event.validate_python({**json.loads(message), "at": now})
    except ValidationError as error:
        if all(one["type"] == "union_tag_invalid" for one in error.errors()):
            return None
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise TalkError(f"the server sent an event that is not of the protocol: {where}") from error
    except (ValueError, TypeError) as error:
        raise TalkError("the server sent something that is not an event") from error


# --- the simulated loudspeaker ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heard:
    """An unbroken stretch of a reply, in samples at 24 kHz."""

    response_id: str
    start: int
    """Sample of the session at which it came out of the loudspeaker."""
    first: int
    """Its first sample within the reply."""
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class Held:
    """Silence in the middle of a reply because the server asked for it."""

    response_id: str
    start: int
    end: int


class Player:
    """Turn audio, holds and cuts into what is heard at which sample. Counts samples and keeps none."""

    def __init__(self) -> None:
        self.position = 0
        self.heard: list[Heard] = []
        self.held: list[Held] = []
        self._queue: list[tuple[str, int]] = []
        self._played: dict[str, int] = {}
        self._holding: dict[str, int] = {}

    @property
    def idle(self) -> bool:
        return not self._queue

    def receive(self, response_id: str, count: int, now: float) -> None:
        self.advance(now)
        if count:
            self._queue.append((response_id, count))

    def hold(self, response_id: str, now: float) -> None:
        self.advance(now)
        self._holding.setdefault(response_id, self.position)

    def resume(self, response_id: str, now: float) -> None:
        self.advance(now)
        if (start := self._holding.pop(response_id, None)) is not None:
            self.held.append(Held(response_id, start, self.position))

    def flush(self, response_id: str, now: float) -> None:
        """The reply was cancelled: nothing more of it is heard."""
        self.resume(response_id, now)
        self._queue = [(queued, count) for queued, count in self._queue if queued != response_id]

    def advance(self, now: float) -> None:
        """Play up to `now`; a time that has passed already changes nothing."""
        end = round(now * OUTPUT_RATE)
        while self.position < end:
            if not self._queue or self._queue[0][0] in self._holding:
                self.position = end
                return
            response_id, waiting = self._queue.pop(0)
            count = min(waiting, end - self.position)
            if waiting > count:
                self._queue.insert(0, (response_id, waiting - count))
            self._hear(response_id, count)

    def _hear(self, response_id: str, count: int) -> None:
        first = self._played.get(response_id, 0)
        start = self.position
        if self.heard and self.heard[-1].end == start and self.heard[-1].response_id == response_id:
            joined = self.heard.pop()
            self.heard.append(Heard(response_id, joined.start, joined.first, joined.count + count))
        else:
            self.heard.append(Heard(response_id, start, first, count))
        self._played[response_id] = first + count
        self.position += count


# --- the conversation -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """A recording and when it was played."""

    recording: Recording
    start: float

    @property
    def end(self) -> float:
        return self.start + self.recording.duration_s


@dataclass(slots=True)
class Reply:
    """One response of the server."""

    id: str
    created: float
    text: str = ""
    status: str | None = None
    """`completed`, `cancelled` or `failed`; None while it goes on."""
    done: float | None = None
    pieces: list[Pcm] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    """When each piece came."""
    stale_samples: int = 0
    """Sent although the response was done: has to be 0."""

    @property
    def audio(self) -> Pcm:
        """Everything that was received of it, at 24 kHz."""
        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.int16)


@dataclass(slots=True)
class Conversation:
    """Everything a client learns of a session; times are seconds since it began."""

    said: list[Said] = field(default_factory=list)
    replies: dict[str, Reply] = field(default_factory=dict)
    """By response id, in the order in which they were created."""
    heard: list[Heard] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    speech: list[Speech] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    roles: list[Roles] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    errors: list[ServerError] = field(default_factory=list)

    @property
    def answered(self) -> bool:
        return bool(self.heard)

    @property
    def all_rejected(self) -> bool:
        """The server judged what it heard, and none of it was meant for it."""
        return bool(self.verdicts) and not self.replies and not any(one.accepted for one in self.verdicts)

    @property
    def swaps(self) -> int:
        return self.roles[-1].swaps if self.roles else 0

    @property
    def statuses(self) -> list[str | None]:
        return [reply.status for reply in self.replies.values()]

    @property
    def transcripts(self) -> list[str]:
        """The words of the accepted utterances, as far as the server knows them."""
        return [one.transcript for one in self.verdicts if one.accepted and one.transcript]

    @property
    def texts(self) -> list[str]:
        return [reply.text for reply in self.replies.values()]

    @property
    def stale_samples(self) -> int:
        return sum(reply.stale_samples for reply in self.replies.values())

    def first_heard(self, response_id: str | None = None) -> float | None:
        """When the first sample of a reply, or of any, came out of the loudspeaker."""
        starts = (one.start for one in self.heard if response_id in (None, one.response_id))
        return next((start / OUTPUT_RATE for start in starts), None)

    def heard_samples(self, response_id: str) -> int:
        return sum(one.count for one in self.heard if one.response_id == response_id)

    def stalled_s(self, response_id: str) -> float:
        """Silence inside a reply that nobody asked for: its audio came too late (a busy machine, a slow way)."""
        spans = [one for one in self.heard if one.response_id == response_id]
        if not spans:
            return 0.0
        heard = sum(one.count for one in spans)
        held = sum(
            max(0, min(one.end, spans[-1].end) - max(one.start, spans[0].start))
            for one in self.held
            if one.response_id == response_id
        )
        return (spans[-1].end - spans[0].start - heard - held) / OUTPUT_RATE

    def stereo(self) -> Pcm:
        """The session as it was, at 24 kHz: left the user, right the replies as heard. Shape [n, 2]."""
        left = [
            (round(one.start * OUTPUT_RATE), soxr.resample(one.recording.samples, INPUT_RATE, OUTPUT_RATE))
            for one in self.said
        ]
        audio = {reply.id: reply.audio for reply in self.replies.values()}
        right = [(one.start, audio[one.response_id][one.first : one.first + one.count]) for one in self.heard]
        length = max((start + len(samples) for start, samples in [*left, *right]), default=0)
        tracks = np.zeros((length, 2), np.int16)
        for side, placed in enumerate((left, right)):
            for start, samples in placed:
                tracks[start : start + len(samples), side] = samples
        return tracks


STEPS = (
    ("endpoint wait", "endpoint"),
    ("verdict", "verdict"),
    ("first token", "first_token"),
    ("first clause", "first_clause"),
    ("synthesis", "first_synthesised"),
    ("sending", "first_audio_sent"),
)
"""From the end of speech to the first audio: what is waited for, and the moment that ends it."""


def answer_s(record: Record) -> float | None:
    """End of speech to the first reply audio that the server sent."""
    if record.speech_end is None or record.first_audio_sent is None:
        return None
    return record.first_audio_sent - record.speech_end


def steps_s(record: Record) -> dict[str, float]:
    """The parts of `answer_s`; they add up to it.

    A step that was ready before the one ahead of it (the verdict of an early start) was not waited for: 0.
    """
    reached = record.speech_end if record.speech_end is not None else 0.0
    parts = {}
    for name, moment in STEPS:
        at: float | None = getattr(record, moment)
        parts[name] = max(0.0, at - reached) if at is not None else 0.0
        reached += parts[name]
    return parts


class Listener:
    """Build the conversation from the server's events. Reads no clock."""

    def __init__(self, tell: Callable[[str], None] = lambda line: None) -> None:
        self.conversation = Conversation()
        self.player = Player()
        self.ready = False
        self.last_event = 0.0
        self._tell = tell
        self._unjudged = False
        self._promised = False
        self._speaking = False
        # one list, seen from both sides
        self.conversation.heard = self.player.heard
        self.conversation.held = self.player.held

    def receive(self, event: ServerEvent) -> None:
        now = self.last_event = event.at
        match event:
            case SessionCreated():
                pass
            case SessionUpdated():
                self.ready = True
            case ServerError(error=body):
                self.conversation.errors.append(event)
                self._say(now, "server", f"error: {body.message or body.code}")
            case Speech(speaking=speaking):
                self.conversation.speech.append(event)
                self._speaking = speaking
                self._unjudged = self._unjudged or speaking
            case Verdict():
                self._judged(event)
            case Roles(generator=generator, monitor=monitor, swaps=swaps):
                self.conversation.roles.append(event)
                self._say(now, "roles", f"{generator} generates, {monitor} monitors (swaps: {swaps})")
            case ResponseCreated(response=head):
                self.conversation.replies[head.id] = Reply(head.id, now)
                self._promised = False
            case TextDelta(response_id=response_id, delta=delta):
                self._reply(response_id, now).text += delta
            case AudioDelta(response_id=response_id, delta=delta):
                self._audio(self._reply(response_id, now), delta, now)
            case Hold(response_id=response_id):
                self.player.hold(response_id, now)
                self._say(now, "hold", "the reply pauses")
            case Resume(response_id=response_id):
                self.player.resume(response_id, now)
                self._say(now, "resume", "the reply goes on")
            case ResponseDone(response=head):
                self._done(head, now)
            case Timeline(record=record):
                self.conversation.records.append(record)
                self._promised = self._promised and record.status == "rejected"

    def settled(self, now: float) -> bool:
        """Everything that was said is judged, answered and heard."""
        conversation = self.conversation
        going_on = any(reply.done is None for reply in conversation.replies.values())
        if self._speaking or self._promised or going_on or not self.player.idle:
            return False
        if not conversation.verdicts and not conversation.replies:
            return False
        last_heard = self.player.heard[-1].end / OUTPUT_RATE if self.player.heard else 0.0
        still_s = now - max(self.last_event, last_heard)
        return still_s > (UNJUDGED_S if self._unjudged else SETTLED_S)

    def _reply(self, response_id: str, now: float) -> Reply:
        return self.conversation.replies.setdefault(response_id, Reply(response_id, now))

    def _judged(self, verdict: Verdict) -> None:
        self.conversation.verdicts.append(verdict)
        self._unjudged = False
        self._promised = verdict.accepted
        numbers = "+".join(str(number) for number in verdict.utterances)
        said = f'"{verdict.transcript}"' if verdict.transcript else f"utterance {numbers or '?'}"
        why = {"verdict": "", "deadline": ", no verdict in time"}.get(verdict.reason, f", {verdict.reason}")
        decided = "for us" if verdict.accepted else "not for us"
        p1 = f" p1 {verdict.p1:.2f}" if verdict.p1 is not None else ""
        self._say(verdict.at, "user", f"{said}  {verdict.state or '<->'}{p1}: {decided}{why}")

    def _audio(self, reply: Reply, delta: str, now: float) -> None:
        try:
            samples = np.frombuffer(base64.b64decode(delta, validate=True), "<i2").astype(np.int16)
        except (binascii.Error, ValueError) as error:
            raise TalkError("the server sent audio that is not base64 PCM16") from error
        if reply.done is not None:
            reply.stale_samples += len(samples)
            return
        reply.pieces.append(samples)
        reply.arrived.append(now)
        self.player.receive(reply.id, len(samples), now)

    def _done(self, head: ResponseHead, now: float) -> None:
        reply = self._reply(head.id, now)
        reply.status, reply.done = head.status, now
        if head.status == "cancelled":
            self.player.flush(head.id, now)
        self._say(now, "reply", f"{reply.text.strip() or '(no words)'}  [{head.status}]")

    def _say(self, now: float, who: str, what: str) -> None:
        self._tell(f"{now:7.2f}  {who:<6}  {what}")


class Microphone:
    """Frames of 20 ms: the recordings when their time has come, silence before, between and after."""

    def __init__(self, question: Recording, second: Recording | None = None, at_s: float = 1.0) -> None:
        self.said: list[Said] = []
        self._waiting = [question] if second is None else [question, second]
        self._at_s = at_s
        self._offset = 0

    @property
    def playing(self) -> bool:
        return bool(self.said) and self._offset < len(self.said[-1].recording.samples)

    def pending(self, reply_heard: bool) -> bool:
        """Something is still to be said; the second recording waits for a reply that may never come."""
        return self.playing or not self.said or (bool(self._waiting) and reply_heard)

    def frame(self, now: float, first_heard: float | None) -> Pcm:
        if not self.playing and self._waiting and now >= self._due(first_heard):
            self.said.append(Said(self._waiting.pop(0), now))
            self._offset = 0
        if not self.playing:
            return np.zeros(FRAME, np.int16)
        samples = self.said[-1].recording.samples[self._offset : self._offset + FRAME]
        self._offset += FRAME
        return np.pad(samples, (0, FRAME - len(samples)))

    def _due(self, first_heard: float | None) -> float:
        if not self.said:
            return LEAD_IN_S
        return first_heard + self._at_s if first_heard is not None else float("inf")


# --- the wire ---------------------------------------------------------------------------------------------

SESSION_UPDATE = {
    "type": "session.update",
    "session": {
        "type": "realtime",
        "audio": {
            "input": {"format": {"type": "audio/pcm", "rate": INPUT_RATE}},
            "output": {"format": {"type": "audio/pcm", "rate": OUTPUT_RATE}},
        },
    },
}


class Session:
    """An open session with a server."""

    def __init__(self, connection: ClientConnection, listener: Listener, began: float) -> None:
        self.listener = listener
        self._connection = connection
        self._began = began

    def now(self) -> float:
        """Seconds since `session.created`, which is the zero of the server's clock as well."""
        return asyncio.get_running_loop().time() - self._began

    async def send(self, frame: Pcm) -> None:
        await self._connection.send(frame.astype("<i2").tobytes())

    async def listen_until(self, end: float) -> None:
        """Take the server's events until that time of the session."""
        try:
            async with asyncio.timeout_at(self._began + end):
                while True:
                    await self.listen()
        except TimeoutError:
            self.listener.player.advance(self.now())

    async def listen(self) -> None:
        message = await self._connection.recv()
        event = decode(message, self.now())
        if event is not None:
            self.listener.receive(event)

    async def agree(self) -> None:
        """Settle the audio formats."""
        await self._connection.send(json.dumps(SESSION_UPDATE))
        while not self.listener.ready:
            await self.listen()
            for refusal in self.listener.conversation.errors:
                raise TalkError(f"refused by the server: {refusal.error.message or refusal.error.code}")


@asynccontextmanager
async def open_session(url: str = URL, listener: Listener | None = None) -> AsyncIterator[Session]:
    """Connect and agree on the audio formats. Errors, also later ones of the connection: `TalkError`."""
    try:
        # a proxy of the environment cannot reach a server on this machine
        proxy: Literal[True] | None = None if urlsplit(url).hostname in LOOPBACK else True
        connecting = connect(_with_events(url), max_size=None, open_timeout=CONNECT_S, proxy=proxy)
        async with connecting as connection:
            async with asyncio.timeout(CONNECT_S):
                first = decode(await connection.recv(), 0.0)
                session = Session(connection, listener or Listener(), asyncio.get_running_loop().time())
                if isinstance(first, ServerError):
                    raise TalkError(f"refused by the server: {first.error.message or first.error.code}")
                if not isinstance(first, SessionCreated):
                    raise TalkError(f"{url} does not answer as a realtime server")
                await session.agree()
            yield session
    except ConnectionClosed as error:
        raise TalkError(f"the server closed the connection ({_why(error)})") from error
    except InvalidStatus as error:
        raise TalkError(f"{url} refused the session: HTTP {error.response.status_code}") from error
    except InvalidURI as error:
        raise TalkError(f"{url} is not a WebSocket address (ws://… or wss://…)") from error
    except TimeoutError as error:
        raise TalkError(f"{url} did not answer within {CONNECT_S:.0f} s") from error
    except (OSError, InvalidHandshake) as error:
        raise TalkError(f"no server at {url}: {_os_reason(error)}") from error


def _with_events(url: str) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | {"vita_events": "true"}
    return urlunsplit(parts._replace(query=urlencode(query)))


def _why(error: ConnectionClosed) -> str:
    if error.rcvd is None:
        return "without saying why"
    return f"{error.rcvd.code}{' ' if error.rcvd.reason else ''}{error.rcvd.reason}"


def _os_reason(error: OSError | InvalidHandshake) -> str:
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "nobody listens there"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


async def converse(
    url: str,
    question: Recording,
    second: Recording | None = None,
    *,
    at_s: float = 1.0,
    limit_s: float = 60.0,
    tell: Callable[[str], None] = lambda line: None,
) -> Conversation:
    """Play the question in real time, then silence until the reply was heard to its end.

    The second recording starts `at_s` after the first reply audio was heard. `tell` gets a line for
    everything worth knowing as it happens. Errors: `TalkError`.
    """
    listener = Listener(tell)
    microphone = Microphone(question, second, at_s)
    async with open_session(url, listener) as session:
        conversation = listener.conversation
        conversation.said = microphone.said
        start = session.now()
        active = start
        frames = 0
        while True:
            now = session.now()
            n_said = len(microphone.said)
            frame = microphone.frame(now, conversation.first_heard())
            if len(microphone.said) > n_said:
                said = microphone.said[-1].recording
                tell(f"{now:7.2f}  user    plays {said.name} ({said.duration_s:.1f} s)")
            await session.send(frame)
            frames += 1
            await session.listen_until(start + frames * FRAME_S)
            if microphone.pending(conversation.answered) or not listener.player.idle:
                active = session.now()
            elif listener.settled(session.now()):
                return conversation
            elif session.now() - max(active, listener.last_event) > limit_s:
                raise TalkError(_gave_up(conversation, limit_s))


def _gave_up(conversation: Conversation, limit_s: float) -> str:
    if conversation.answered:
        return f"the server fell silent for {limit_s:g} s in the middle of its reply"
    if conversation.speech or conversation.verdicts:
        return f"no answer within {limit_s:g} s"
    name = conversation.said[0].recording.name
    return f"no answer within {limit_s:g} s: the server heard no speech in {name}"


# --- what people read -------------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns under the heads in the first row; the first `left` are words, the others numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def summary(conversation: Conversation) -> str:
    """The turns with their latencies, then what is to be said about the whole."""
    turns = sorted((one for one in conversation.records if one.is_reply), key=lambda one: one.turn or 0)
    lines = []
    if turns:
        steps = [name for name, _ in STEPS]
        heads = ["turn", "status", "answer after", *steps, "ears", "held", "heard", "stalled"]
        lines += [
            table([heads, *(_turn_row(conversation, record) for record in turns)], left=2),
            "",
            EXPLAINED,
        ]
    judged = conversation.verdicts
    rejected = sum(not one.accepted for one in judged)
    lines.append(f"judged: {len(judged)}, of them not for the assistant: {rejected}")
    lines.append(f"role swaps: {conversation.swaps}, stale samples: {conversation.stale_samples}")
    return "\n".join(lines)


EXPLAINED = """\
Seconds. 'answer after' is the end of speech to the first audio in the listener's ear. The six steps after
it add up to it, but for the way to the client; 'ears' (transcribing) happens inside the first two.
"""


def _turn_row(conversation: Conversation, record: Record) -> list[str]:
    response_id = record.response_id or ""
    heard = conversation.first_heard(response_id)
    answer = heard - record.speech_end if heard is not None and record.speech_end is not None else None
    held = sum(one.end - one.start for one in conversation.held if one.response_id == response_id)
    steps = steps_s(record).values() if answer is not None else [None] * len(STEPS)
    seconds = [answer, *steps, record.ears_s, held / OUTPUT_RATE]
    seconds += [conversation.heard_samples(response_id) / OUTPUT_RATE, conversation.stalled_s(response_id)]
    return [
        str(record.turn),
        record.status or "–",
        *("–" if one is None else f"{one:.2f}" for one in seconds),
    ]


# --- the command ------------------------------------------------------------------------------------------

EPILOG = """\
exit status: 0 a reply was heard; 1 something failed (one line says what); 2 wrong usage;
3 the server heard the recording and judged all of it as not meant for the assistant (<2>),
which may be just what you wanted to know."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Play a recording to a running server in real time and keep what it answers."
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("question", type=Path, metavar="QUESTION.wav", help="what to say: any rate, the first channel")
    parser.add_argument("--barge-in", type=Path, metavar="SECOND.wav", help="what to say into the reply")
    parser.add_argument(
        "--at",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="when the second recording starts, after the first reply audio was heard (default: 1)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="REPLY.wav",
        help="write the conversation: left what was said, right what was heard, as it was in time",
    )
    parser.add_argument("--timeline", type=Path, metavar="PICTURE.png", help="draw who spoke, listened and waited when")
    parser.add_argument("--url", default=URL, help=f"the server (default: {URL})")
    parser.add_argument(
        "--limit",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="give up when nothing comes for this long (default: 60)",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def run(args: argparse.Namespace) -> int:
    """`vita-duplex talk`."""
    try:
        return _talk(args)
    except TalkError as error:
        print(f"vita-duplex talk: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _talk(args: argparse.Namespace) -> int:
    question = read_recording(args.question)
    second = read_recording(args.barge_in) if args.barge_in else None
    for path in (args.out, args.timeline):
        if path is not None and not path.parent.is_dir():
            raise TalkError(f"cannot write {path}: there is no folder {path.parent}")
    if args.timeline is not None and args.timeline.suffix not in PICTURES:
        raise TalkError(f"cannot draw {args.timeline}: its name has to end in one of {', '.join(PICTURES)}")
    talk = converse(args.url, question, second, at_s=args.at, limit_s=args.limit, tell=_print)
    conversation = asyncio.run(talk)
    print(f"\n{summary(conversation)}")
    if args.out is not None:
        write_stereo(conversation, args.out)
        print(f"wrote {args.out}")
    if args.timeline is not None:
        from vita_duplex.server.timeline_picture import draw  # matplotlib takes a second to import

        draw(conversation, args.timeline)
        print(f"wrote {args.timeline}")
    return _verdict_on(conversation)


def _print(line: str) -> None:
    print(line, flush=True)


def write_stereo(conversation: Conversation, path: Path) -> None:
    try:
        with path.open("wb") as raw:
            soundfile.write(raw, conversation.stereo(), OUTPUT_RATE, subtype="PCM_16", format="WAV")
    except OSError as error:
        raise TalkError(f"cannot write {path}: {error.strerror or error}") from error


def _verdict_on(conversation: Conversation) -> int:
    if conversation.answered:
        return 0
    if conversation.all_rejected:
        print("no reply: the server judged everything it heard as not meant for the assistant (<2>)")
        return 3
    failed = conversation.errors[-1].error.message if conversation.errors else "it has no audio"
    raise TalkError(f"the reply failed: {failed}")
