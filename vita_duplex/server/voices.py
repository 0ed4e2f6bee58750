"""The voices, as the settings name them; `vita-duplex voices` lists them."""

import asyncio
import math
import shutil
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path

from vita_duplex.config import Config, VoiceKind
from vita_duplex.engine.ports import PartFailed, Synthesiser
from vita_duplex.tts.text.normalise import normalise
from vita_duplex.tts.voices import kokoro
from vita_duplex.tts.voices.command import CommandVoice
from vita_duplex.tts.voices.fallback import WithFallback
from vita_duplex.tts.voices.hibari import HibariVoice
from vita_duplex.tts.voices.openai import OpenAiSpeech
from vita_duplex.tts.voices.queue import VoiceQueue
from vita_duplex.tts.voices.scripted import PITCHES_HZ, HummingVoice
from vita_duplex.tts.voices.tencent import TencentVoice

ABOUT: dict[VoiceKind, str] = {
    "hibari": "English, on this machine, 14 MB; the default",
    "kokoro": "Kokoro-82M: English and Chinese, on this machine, 280 MB",
    "openai": "any server with OpenAI's /v1/audio/speech, streamed",
    "tencent": "Tencent Cloud TextToVoice, Chinese and English",
    "command": "any program that turns text into WAV",
    "humming": "no words, for tests",
}
CLOUD: frozenset[VoiceKind] = frozenset({"openai", "tencent"})
LOCAL: frozenset[VoiceKind] = frozenset({"hibari", "kokoro", "command"})


def load_voices(config: Config) -> tuple[dict[str, Synthesiser], VoiceQueue | None]:
    """The voices to choose from, by name, and their queue if they are on this machine. They share a model or a
    connection, and the fallback. Blocks for seconds. Errors: `PartFailed`."""
    executor = ThreadPoolExecutor(config.tts.at_once, thread_name_prefix="voice")
    voices = _load(config, config.tts.kind, executor)
    if config.tts.fallback:
        fallback = _one(config, config.tts.fallback, executor)
        voices = {name: WithFallback(voice, fallback) for name, voice in voices.items()}
    return voices, VoiceQueue(config.tts.at_once) if config.tts.kind in LOCAL else None


def _load(config: Config, kind: VoiceKind, executor: Executor) -> dict[str, Synthesiser]:
    """By name; that of the settings first."""
    voice = config.tts
    match kind:
        case "hibari":
            return {"hibari": HibariVoice(executor)}
        case "kokoro":
            kokoro_voice = kokoro.KokoroVoice(kokoro_folder(config), voice.kokoro, executor)
            return {voice.kokoro.voice: kokoro_voice, **kokoro_voice.others()}
        case "openai":
            openai = OpenAiSpeech(voice.openai)
            return {voice.openai.voice: openai, **{name: openai.speaking_as(name) for name in voice.openai.voices}}
        case "tencent":
            tencent = TencentVoice(voice.tencent)
            types = voice.tencent.voices
            return {str(voice.tencent.voice_type): tencent, **{str(one): tencent.speaking_as(one) for one in types}}
        case "command":
            return {"command": CommandVoice(voice.command)}
        case "humming":
            return {name: HummingVoice(pitch_hz=pitch) for name, pitch in PITCHES_HZ.items()}


def _one(config: Config, kind: VoiceKind, executor: Executor) -> Synthesiser:
    return next(iter(_load(config, kind, executor).values()))


def kokoro_folder(config: Config) -> Path:
    return config.tts.kokoro.folder or config.engine.cache / "kokoro"


def run(config: Config, *, measure: bool) -> int:
    """Print a line per voice: whether it is chosen, what it is, what it needs; or measure the chosen one."""
    if measure:
        return _measure(config)
    for kind, about in ABOUT.items():
        chosen = "*" if kind == config.tts.kind else "+" if kind == config.tts.fallback else " "
        print(f"{chosen} {kind:<8} {about}: {_state(config, kind)}")
    print("* speaks, + is the fallback; choose with --set tts.kind=… and tts.fallback=…")
    return 0


FIRST_CLAUSES = ("Of course I can,", "The capital of France is Paris.", "当然可以，", "法国的首都是巴黎。")
REPLY = "The old lighthouse stands on the northern coast. Nobody has lived in it for years, but its lamp still works."


def _measure(config: Config) -> int:
    """Print the time to first audio of first clauses, median of five, and the real-time factor of a longer reply."""
    try:
        voice = load_voices(config)[0][config.tts.name]
    except PartFailed as failure:
        print(failure)
        return 1
    for text in FIRST_CLAUSES:
        firsts = sorted(1000 * asyncio.run(_timed(voice, text))[0] for _ in range(5))
        time_range = f"{firsts[2]:5.0f} ms ({firsts[0]:.0f} to {firsts[-1]:.0f}) to the first audio of"
        print(f"{time_range if firsts[-1] < math.inf else 'no sound for'} {text!r}")
    busy = time.process_time()
    _, seconds, length = asyncio.run(_timed(voice, REPLY))
    busy = time.process_time() - busy
    print(f"{seconds / length:5.2f} real-time factor, {busy / length:.2f} in CPU seconds, {length:.1f} s of speech")
    return 0


async def _timed(voice: Synthesiser, text: str) -> tuple[float, float, float]:
    """Seconds to the first samples, to the last ones, and their length."""
    first, count, begun = math.inf, 0, time.perf_counter()
    async with aclosing(voice.synthesise(normalise(text))) as speech:
        async for samples in speech:
            if isinstance(samples, PartFailed):
                continue  # the fallback speaks, and is measured
            first = min(first, time.perf_counter() - begun)
            count += len(samples)
    return first, time.perf_counter() - begun, count / voice.rate or math.inf


def _state(config: Config, kind: VoiceKind) -> str:
    """Whether a voice could be used, without loading it; and who speaks."""
    voice = config.tts
    match kind:
        case "hibari":
            return "ready" if find_spec("hibari") else "hibari-tts is not installed"
        case "kokoro":
            if not (find_spec("misaki") and find_spec("hibari")):
                return "install the extra [kokoro]"
            names = kokoro.readable(kokoro.voices(kokoro_folder(config)))
            return (
                f"ready ({', '.join(names)})"
                if names
                else f"nothing in {kokoro_folder(config)}; see tools/make_kokoro.py"
            )
        case "openai":
            names = list(dict.fromkeys((voice.openai.voice, *voice.openai.voices)))
            return f"{', '.join(names)} of {voice.openai.model} at {voice.openai.url}"
        case "tencent":
            if not find_spec("tencentcloud"):
                return "install the extra [tencent]"
            return (
                f"voice {', '.join(map(str, dict.fromkeys((voice.tencent.voice_type, *voice.tencent.voices))))}"
                if voice.tencent.secret_id.get_secret_value()
                else "set tts.tencent.secret_id and secret_key"
            )
        case "command":
            program = voice.command.program
            if not program:
                return "set tts.command.program"
            return " ".join(program) if shutil.which(program[0]) else f"{program[0]} is not installed"
        case "humming":
            return f"ready ({', '.join(PITCHES_HZ)})"
