"""The echo guard: takes the assistant's own voice out of what the microphone hears.

The canceller is WebRTC's AEC3 (package pywebrtc-audio, Apache-2.0); it follows delays up to some 450 ms and any gain
and colour by itself. What it needs is what the loudspeaker plays at the same moment: the server knows what it sent.
Nobody is deaf at any time; while nothing is played the microphone's samples pass untouched. By default the guard finds
out by itself whether there is an echo (`echo_presence.py`): where there is none a canceller would only do harm.
"""

import asyncio
from collections import deque
from concurrent.futures import Executor

import numpy as np
import soxr
from numpy.typing import NDArray

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.notices import Notice, TurnAudio, TurnEnded, TurnHeld, TurnResumed
from vita_duplex.engine.ports import PartFailed, Windows
from vita_duplex.vad.echo_presence import EchoPresence

FRAME = INPUT_RATE // 100
"""Samples that AEC3 takes at a time."""
TAIL = INPUT_RATE
"""Samples after the last that was played in which its echo may still come: 600 ms of delay and a room."""

ENVELOPE = 400
"""Frames (4 s) of loudness by which a long delay is found."""
LONGEST_LAG = 70
"""Frames (700 ms)."""
FAR_LAG, NEAR_LAG = 46, 10
"""A delay of more than 460 ms is brought to 100 ms, well inside what AEC3 finds itself."""
SURE = 0.5
"""Correlation of the loudnesses from which a delay counts."""


class Playback:
    """What the client plays, by the position in the microphone's samples at which it does. Pure."""

    def __init__(self, *, client_pauses: bool) -> None:
        """`client_pauses`: on a hold the client falls silent at once; otherwise it plays what it was sent."""
        self._client_pauses = client_pauses
        self._parts: deque[tuple[int, Samples]] = deque()
        self._paused: list[Samples] = []
        self.until = 0
        """Where what was sent ends."""

    def play(self, samples: Samples, at: int) -> None:
        """Sent at this position: heard then, or behind what was sent before."""
        begin = max(at, self.until)
        self._parts.append((begin, samples))
        self.until = begin + len(samples)

    def hold(self, at: int) -> None:
        if self._client_pauses:
            self._paused = self._drop(at)

    def resume(self, at: int) -> None:
        paused, self._paused = self._paused, []
        for samples in paused:
            self.play(samples, at)

    def stop(self, at: int) -> None:
        """The rest is not played."""
        self._paused = []
        self._drop(at)

    def between(self, start: int, count: int) -> Samples:
        """What is played there, silence elsewhere. What was played before is forgotten."""
        while self._parts and self._parts[0][0] + len(self._parts[0][1]) <= start:
            self._parts.popleft()
        found = np.zeros(count, np.float32)
        for begin, samples in self._parts:
            if begin >= start + count:
                break
            part = samples[max(0, start - begin) : start + count - begin]
            found[max(0, begin - start) :][: len(part)] = part
        return found

    def _drop(self, at: int) -> list[Samples]:
        """Cut what comes from there on, and return it."""
        kept: deque[tuple[int, Samples]] = deque()
        dropped: list[Samples] = []
        for begin, samples in self._parts:
            before = max(0, at - begin)
            if before:
                kept.append((begin, samples[:before]))
            if before < len(samples):
                dropped.append(samples[before:])
        self._parts, self.until = kept, min(self.until, at)
        return dropped


class Canceller:
    """AEC3 for pieces of any length; what comes out is 10 ms late. Not thread-safe."""

    def __init__(self) -> None:
        """Errors: `PartFailed` if the package is missing."""
        try:
            from pywebrtc_audio import EchoCanceller
        except ImportError as error:
            raise PartFailed("echo guard", "the package pywebrtc-audio is not installed; run `make install`") from error
        self._aec = EchoCanceller(INPUT_RATE)
        self._heard, self._played = np.zeros(0, np.float32), np.zeros(0, np.float32)  # less than a frame
        self._clean = np.zeros(FRAME, np.float32)
        self._shift = 0  # frames by which the reference is delayed
        self._line = np.zeros(LONGEST_LAG * FRAME, np.float32)  # what was played before
        self._loudness = np.full((2, ENVELOPE), -80.0, np.float32)  # heard and played, dB per frame
        self._quiet = TAIL
        self._since = 0  # frames since a delay was looked for

    def clean(self, heard: Samples, played: Samples, *, cancel: bool = True) -> Samples:
        """What of `heard` is no echo of what was `played` at the same time or before, both of the same length; without
        `cancel` all of it, as late."""
        count = len(heard)
        heard, played = np.concatenate([self._heard, heard]), np.concatenate([self._played, played])
        whole = len(heard) // FRAME * FRAME
        self._heard, self._played = heard[whole:], played[whole:]
        if not cancel:
            self._line = np.append(self._line, played[:whole])[-len(self._line) :]
            self._quiet = 0
        if not cancel or (self._quiet > TAIL and not played[:whole].any()):
            self._clean = np.append(self._clean, heard[:whole])  # as each frame would
            whole = 0
        for at in range(0, whole, FRAME):
            self._clean = np.append(self._clean, self._frame(heard[at : at + FRAME], played[at : at + FRAME]))
        clean, self._clean = self._clean[:count], self._clean[count:]
        return clean

    def _frame(self, heard: Samples, played: Samples) -> Samples:
        self._quiet = 0 if played.any() else self._quiet + FRAME
        self._line = np.append(self._line[FRAME:], played)
        if self._quiet > TAIL:
            return heard
        self._loudness[:, :-1] = self._loudness[:, 1:]
        self._loudness[:, -1] = _decibels(heard), _decibels(played)
        self._since += 1
        if self._since >= ENVELOPE // 8:
            self._since = 0
            self._align()
        end = len(self._line) - self._shift * FRAME
        return np.asarray(self._aec.process(heard, self._line[end - FRAME : end].copy()), np.float32)

    def _align(self) -> None:
        found = lag(*self._loudness)
        if found is not None and not self._shift <= found <= self._shift + FAR_LAG:
            self._shift = max(0, found - NEAR_LAG)
            self._aec.reset()  # anew, it is careful until it knows the echo


def lag(heard: NDArray[np.float32], played: NDArray[np.float32]) -> int | None:
    """Frames by which one loudness follows the other, by their correlation; None if it does not. Pure."""
    later = heard[LONGEST_LAG:] - heard[LONGEST_LAG:].mean()
    found = [played[LONGEST_LAG - n : len(played) - n] for n in range(LONGEST_LAG)]
    before = np.stack(found) - np.mean(found, axis=1, keepdims=True)
    scale = np.linalg.norm(before, axis=1) * np.linalg.norm(later)
    if not scale.all():
        return None
    likeness = before @ later / scale
    best = int(likeness.argmax())
    return best if likeness[best] >= SURE else None


def _decibels(frame: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(frame)) + 1e-8))


class EchoGuard:
    """Of one session: told what its client is told, cleans what its microphone hears. Off the event loop."""

    def __init__(self, voice_rate: int, executor: Executor, *, client_pauses: bool, auto: bool = False) -> None:
        """`auto`: echo is taken out only where there is any. Errors: `PartFailed` if the canceller is missing."""
        self._voice_rate = voice_rate
        self._executor = executor
        self._playback = Playback(client_pauses=client_pauses)
        self._canceller = Canceller()
        self._presence = EchoPresence() if auto else None
        self._turn: int | None = None
        self._resampler = soxr.ResampleStream(voice_rate, INPUT_RATE, 1)

    def note(self, notice: Notice, at: int) -> None:
        """Something is told to the client when the microphone has got to this position."""
        match notice:
            case TurnAudio(turn, samples) if len(samples):
                if turn != self._turn:
                    self._turn = turn
                    self._resampler = soxr.ResampleStream(self._voice_rate, INPUT_RATE, 1)
                self._playback.play(self._resampler.resample_chunk(samples), at)
            case TurnHeld():
                self._playback.hold(at)
            case TurnResumed():
                self._playback.resume(at)
            case TurnEnded(_, status) if status != "completed":
                self._playback.stop(at)

    async def clean(self, windows: Windows, start: int) -> Windows:
        """The microphone's next windows, from this position on, without echo."""
        played = self._playback.between(start, windows.size)
        heard, loop = windows.reshape(-1), asyncio.get_running_loop()
        silent = not played.any() and start > self._playback.until + 2 * TAIL
        if self._presence and not silent:
            self._presence.note(heard, played)
            if self._presence.due:
                await loop.run_in_executor(self._executor, self._presence.look)
        cancel = self._presence is None or self._presence.present
        if silent or not cancel:
            clean = self._canceller.clean(heard, played, cancel=cancel)  # copies; not worth the way to a thread
        else:
            clean = await loop.run_in_executor(self._executor, self._canceller.clean, heard, played)
        return clean.reshape(windows.shape)
