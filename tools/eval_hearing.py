"""The ears measured: ends of turns, echo, level, noise. Prints one table in Markdown and draws the curves.

Speech is the human clips of `tests/data` and questions of the default voice; noises are those of `sounds.py`; rooms are
made of decaying noise. Time is virtual: positions are counted in samples, computing takes none, but the answer of the
end-of-turn model is taken to come 200 ms after it was asked (`ANSWER_S`), as on one busy core, and the words of the
early request after 50 ms and 40 ms for each second of speech (`WORDS_S`). Run it: `make eval`.

Ends of turns: each sentence is said whole, and with pauses of 0.4 to 1.2 s. The human clips and the synthetic ones are
cut at a quiet point in their middle. Nobody hesitates like that: people pause before the word they look for, mostly
behind a function word, and as often with an "um" as without (Maclay and Osgood 1959). So the synthetic sentences are
also said in two parts (`HESITATIONS`), of which the first breaks off before a content word. A cut-off is an utterance
that ends in the pause. Echo: ten minutes of replies, a quarter through each of four paths; a self-interruption is
96 ms of speech that nobody said. Interruptions are said over the same echo, one every nine seconds, and noticed if
128 ms of speech are found before they are over.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tests.asr.test_asr import at_level, in_a_room
from tests.support import sounds
from tests.support.virtual_time import InlineExecutor
from tests.vad.test_echo import room
from vita_duplex.asr.moonshine import Moonshine
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.cascade.completeness import completeness
from vita_duplex.engine.notices import TurnAudio
from vita_duplex.vad.echo import EchoGuard
from vita_duplex.vad.endpoint import WINDOW, Endpoint, EndpointConfig, Mark
from vita_duplex.vad.silero import Silero
from vita_duplex.vad.smart_turn import SmartTurn

ANSWER_S = 0.2
WORDS_S = (0.05, 0.04)
PAUSES_S = (0.4, 0.6, 0.9, 1.2)
HESITATIONS = (
    ("What is the capital of", "France?"),
    ("How do I boil an egg in", "seven minutes?"),
    ("Can you tell me a", "short joke about a dog?"),
    ("Why is the sky blue in the", "morning and red at night?"),
    ("Which planet is the", "largest in the solar system?"),
    ("Please remind me to", "call my mother tomorrow afternoon."),
    ("I would like to know", "how far it is to the moon."),
    ("Could you translate this", "sentence into Chinese for me?"),
)
"""Said with a comma behind the first part, and with "um" behind that."""
OTHER_HESITATIONS = (
    ("Who was the first person on the", "moon?"),
    ("Set a timer for", "twenty five minutes please."),
    ("Is there a train from Vienna to", "Budapest tonight?"),
    ("Tell me something about", "the history of chess."),
    ("What should I cook with", "three potatoes and an onion?"),
    ("How many people live in", "Argentina?"),
    ("I am looking for a book by", "that author from Norway."),
    ("Do you remember what I said", "about my birthday?"),
)
"""Written when the rules and the settings were there, and not looked at before they were."""
OTHER_CLIPS = ("card-001", "card-002", "card-003", "jfk-americans")
CLIPS = ("jfk-ask", "jfk-ask-not", "goforward", "something", "sense-0870", "sense-0880", "sense-0890", "sense-0920",
         "sense-0930", "card-005")  # fmt: skip
REPLIES = (
    "The capital of France is Paris. You can visit there and see many things, and it is a very old city.",
    "To boil an egg, put it into cold water, heat it until the water boils, and then wait for seven minutes.",
    "Jupiter is the largest planet in the solar system. It is a gas giant, and it has more than ninety moons.",
    "Once upon a time there was a small boat that went out on the sea and came back after many years.",
    "No, I am only a chatbot, but I can help you with questions about the world, or we just talk a little.",
)
INTERRUPTIONS = (
    "Stop.",
    "Wait, what about Germany?",
    "No, I meant the other one.",
    "Okay, and how old is he?",
    "Hold on a second.",
)
PATHS = ((120, -18.0), (20, -6.0), (300, -12.0), (450, -12.0))
"""Delay in ms and level in dB against what was sent, of the echo."""


def probabilities(silero: Silero, samples: Samples) -> NDArray[np.float32]:
    state, found = silero.start()[None], []
    for window in samples[: len(samples) // WINDOW * WINDOW].reshape(-1, WINDOW):
        probability, state = silero.probabilities(window[None], state)
        found.append(probability[0])
    return np.array(found, np.float32)


# ── ends of turns ──────────────────────────────────────────────────────────────────────


def speech_of(samples: Samples, silero: Silero) -> Samples:
    """Without silence before and after."""
    spoken = np.flatnonzero(probabilities(silero, np.pad(samples, (0, INPUT_RATE))) >= 0.5)
    return samples[max(0, int(spoken[0]) - 1) * WINDOW : (int(spoken[-1]) + 1) * WINDOW]


def hesitating(samples: Samples, pause_s: float) -> tuple[Samples, int, int]:
    """With a pause at the quietest 64 ms between 30 % and 70 %; where that begins and ends."""
    energy = np.convolve(np.square(samples), np.ones(2 * WINDOW), "same")
    low, high = len(samples) * 3 // 10, len(samples) * 7 // 10
    at = low + int(np.argmin(energy[low:high]))
    fade = np.linspace(1, 0, 160, dtype=np.float32)
    before, after = samples[:at].copy(), samples[at:].copy()
    before[-160:] *= fade
    after[:160] *= fade[::-1]
    pause = round(pause_s * INPUT_RATE)
    return np.concatenate([before, np.zeros(pause, np.float32), after]), at, at + pause


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence in a quiet room, with a pause in it or without; positions in samples."""

    samples: Samples
    found: NDArray[np.float32]
    """Probability of speech of each window."""
    pause: tuple[int, int] | None
    end: int
    sentence: int
    kind: Literal["human", "cut", "sought", "um"]
    """A human clip with a pause cut in; the voice, the same; the voice that seeks a word, silently or with "um"."""


def paused(before: Samples, after: Samples, pause_s: float) -> tuple[Samples, int, int]:
    """One behind the other, and where the pause between them begins and ends."""
    begin, pause = len(before), round(pause_s * INPUT_RATE)
    return np.concatenate([before, np.zeros(pause, np.float32), after]), begin, begin + pause


def sentences(silero: Silero, clips: Sequence[str], hesitations: Sequence[tuple[str, str]]) -> list[Said]:
    said: list[Said] = []

    def say(samples: Samples, pause: tuple[int, int] | None, sentence: int, kind: Any) -> None:
        whole = in_a_room(np.pad(at_level(samples, -20.0), (0, 2 * INPUT_RATE)))
        place = (pause[0] + INPUT_RATE, pause[1] + INPUT_RATE) if pause else None
        said.append(Said(whole, probabilities(silero, whole), place, INPUT_RATE + len(samples), sentence, kind))

    spoken = [(speech_of(sounds.clip(name), silero), "human") for name in clips]
    spoken += [(speech_of(sounds.speech(" ".join(parts)), silero), "cut") for parts in hesitations]
    for sentence, (one, kind) in enumerate(spoken):
        say(one, None, sentence, kind)
        for pause_s in PAUSES_S:
            samples, *pause = hesitating(one, pause_s)
            say(samples, (pause[0], pause[1]), sentence, kind)
    for sentence, (first, second) in enumerate(hesitations, len(clips)):
        after = speech_of(sounds.speech(second), silero)
        for kind, filler in (("sought", ","), ("um", ", um,")):
            before = speech_of(sounds.speech(first + filler), silero)
            for pause_s in PAUSES_S:
                samples, *pause = paused(before, after, pause_s)
                say(samples, (pause[0], pause[1]), sentence, kind)
    return said


class Hints:
    """What is made of each pause, asked once: by its sound, by its words."""

    def __init__(self) -> None:
        self._turn, self._asr = SmartTurn(), Moonshine()
        self._known: dict[tuple[int, int, int], tuple[float, float]] = {}

    def of(self, said: Said, mark: Mark) -> tuple[float, float]:
        key = id(said), mark.begin, mark.speech_end
        if key not in self._known:
            samples = said.samples[mark.begin : mark.keep_until]
            words = self._asr.transcribe(samples).text
            self._known[key] = self._turn.completeness(samples), completeness(words)
        return self._known[key]


Asked = Literal["nobody", "words", "sound", "both"]


def endings(said: Said, config: EndpointConfig, hints: Hints, asked: Asked) -> list[tuple[int, int]]:
    """Where utterances end, and where that is decided."""
    endpoint, found = Endpoint(config), []
    answers: list[tuple[float, int, float, bool]] = []  # when, about which pause, what, by its words
    for at, probability in enumerate(said.found):
        for answer in sorted(answers):
            if answer[0] <= at * WINDOW / INPUT_RATE:
                endpoint.hint(*answer[1:3], words=answer[3])
                answers.remove(answer)
        for mark in endpoint.push(float(probability)):
            if mark.kind == "paused" and asked != "nobody":
                now = endpoint.sample / INPUT_RATE
                sound, words = hints.of(said, mark)
                if asked != "words":
                    answers.append((now + ANSWER_S, mark.speech_end, sound, False))
                if asked != "sound":
                    heard_s = (mark.keep_until - mark.begin) / INPUT_RATE
                    answers.append((now + WORDS_S[0] + WORDS_S[1] * heard_s, mark.speech_end, words, True))
            elif mark.kind == "ended":
                found.append((mark.speech_end, endpoint.sample))
    return found


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of one sentence."""

    said: Said
    cut: bool
    """It ended in its pause."""
    wait_s: float
    """From the end of speech to the end of the utterance."""


def turns(sentences: Sequence[Said], config: EndpointConfig, hints: Hints, asked: Asked) -> list[Ending]:
    endings_of = []
    for said in sentences:
        found, (begin, end) = endings(said, config, hints, asked), said.pause or (0, 0)
        cut = said.pause is not None and any(begin < decided <= end + 3 * WINDOW for _, decided in found)
        endings_of.append(Ending(said, cut, (found[-1][1] - said.end) / INPUT_RATE if found else np.inf))
    return endings_of


def cut_off(found: Sequence[Ending]) -> float:
    return float(np.mean([one.cut for one in found if one.said.pause]))


def waited(found: Sequence[Ending]) -> float:
    """The median, also of what was cut off before."""
    return float(np.median([one.wait_s for one in found]))


def interval(found: Sequence[Ending]) -> tuple[float, float]:
    """Of the cut-offs, 95 %, by drawing sentences anew: the pauses of one sentence go together."""
    rng = np.random.default_rng(0)
    cuts: dict[int, list[bool]] = {}
    for one in found:
        if one.said.pause:
            cuts.setdefault(one.said.sentence, []).append(one.cut)
    drawn = [np.mean([cut for name in rng.choice(list(cuts), len(cuts)) for cut in cuts[name]]) for _ in range(2000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


# ── echo ───────────────────────────────────────────────────────────────────────────────


def guarded(microphone: Samples, sent: Samples) -> Samples:
    """Through the guard, `sent` (24 kHz) being told 256 ms ahead."""

    async def clean() -> Samples:
        guard, out = EchoGuard(24_000, InlineExecutor(), client_pauses=True, auto=True), []
        for at in range(0, len(microphone) - 4 * WINDOW, 4 * WINDOW):
            ahead = (at + 8 * WINDOW) * bool(at), at + 12 * WINDOW
            guard.note(TurnAudio(1, sent[ahead[0] * 3 // 2 : ahead[1] * 3 // 2], None), at)
            windows = await guard.clean(microphone[at : at + 4 * WINDOW].reshape(-1, WINDOW), at)
            out.append(windows.reshape(-1))
        return np.concatenate(out)

    return asyncio.run(clean())


def starts(found: NDArray[np.float32]) -> list[int]:
    """Windows at which speech begins to count."""
    endpoint, at = Endpoint(EndpointConfig()), []
    for number, probability in enumerate(found):
        at += [number for mark in endpoint.push(float(probability)) if mark.kind == "started"]
    return at


def sustained(found: NDArray[np.float32]) -> bool:
    endpoint = Endpoint(EndpointConfig())
    return any(mark.kind == "sustained" for probability in found for mark in endpoint.push(float(probability)))


@dataclass(frozen=True, slots=True)
class Echo:
    unguarded: int
    """Times it interrupted itself without the guard."""
    interrupted: int
    """And with it."""
    noticed: int
    people: int
    """Interruptions noticed, of so many."""


def echo(delay_ms: int, db: float, minutes: float) -> Echo:
    silero = Silero(amplify=True)
    replies = np.concatenate([np.pad(sounds.speech(text), (0, INPUT_RATE // 2)) for text in REPLIES])
    sent_16 = np.resize(replies, round(minutes * 60) * INPUT_RATE)
    sent = np.asarray(sounds.soxr.resample(sent_16, INPUT_RATE, 24_000), np.float32)
    back = room(sent_16, delay_ms, db, seed=delay_ms) + np.resize(sounds.white(10.0, 10 ** (-70 / 20)), sent_16.size)
    said = [at_level(sounds.speech(text)[4800:-8000], -26.0) for text in INTERRUPTIONS]
    said += [at_level(speech_of(sounds.clip(name), silero), -26.0) for name in ("jfk-ask", "goforward", "something")]
    people, places = np.zeros_like(sent_16), []
    for number, begin in enumerate(range(5 * INPUT_RATE, len(sent_16) - 8 * INPUT_RATE, 9 * INPUT_RATE)):
        one = said[number % len(said)]
        people[begin : begin + len(one)] += one
        places.append((begin // WINDOW, (begin + len(one)) // WINDOW + 2))
    alone = probabilities(silero, guarded(back, sent))
    over = probabilities(silero, guarded(back + people, sent))
    noticed = sum(sustained(over[begin:end]) for begin, end in places)
    return Echo(len(starts(probabilities(silero, back))), len(starts(alone)), noticed, len(places))


def headphones() -> tuple[float, int]:
    """Clips into a reply that the microphone does not hear: share of their speech that the guard leaves, and how many
    of them are noticed."""
    silero, whole, left, noticed = Silero(), 0, 0, 0
    replies = np.concatenate([sounds.speech(text) for text in REPLIES])
    for name in CLIPS:
        clip = np.pad(at_level(sounds.clip(name), -20.0), (2 * INPUT_RATE, INPUT_RATE))
        clip += np.resize(sounds.white(10.0, 10 ** (-70 / 20)), clip.size)
        sent = np.asarray(sounds.soxr.resample(np.resize(replies, clip.size), INPUT_RATE, 24_000), np.float32)
        guard = probabilities(silero, guarded(clip, sent))
        said = probabilities(silero, clip)[: len(guard)] >= 0.5
        whole, left, noticed = whole + said.sum(), left + (guard[said] >= 0.5).sum(), noticed + sustained(guard)
    return float(left / whole), noticed


# ── level and noise ────────────────────────────────────────────────────────────────────


def found_at(silero: Silero, name: str, dbfs: float, noise: str = "", snr_db: float = 0.0) -> NDArray[np.bool_]:
    samples = in_a_room(at_level(sounds.clip(name), dbfs))
    if noise:
        samples = sounds.mix(samples, getattr(sounds, noise)(), snr_db)
    return probabilities(silero, samples) >= 0.5


def recalls(conditions: Sequence[tuple[float, str, float]]) -> list[tuple[float, float]]:
    """Share of the speech found, and of the rest taken for speech, against the clean clips at −20 dBFS."""
    silero = Silero(amplify=True)
    clean = {name: found_at(silero, name, -20.0) for name in CLIPS}
    found = []
    for condition in conditions:
        truth = np.concatenate([clean[name] for name in CLIPS])
        now = np.concatenate([found_at(silero, name, *condition) for name in CLIPS])
        found.append((float(now[truth].mean()), float(now[~truth].mean())))
    return found


LEVELS = (-6.0, -10.0, -20.0, -30.0, -40.0, -50.0)
NOISES = ("white", "pink", "music")
SNRS = (20.0, 10.0, 5.0, 0.0)


def progress(what: str) -> None:
    print(f"{time.monotonic() - BEGAN:5.0f} s  {what}", file=sys.stderr, flush=True)


def print_turns(title: str, said: Sequence[Said], hints: Hints) -> list[list[tuple[float, float]]]:
    """The table, and for the picture median wait and cut-offs of all: silence alone, sound, sound and words."""
    kinds = {"human": "human", "cut": "synthetic, cut", "sought": "seeks a word", "um": "with “um”"}
    print(f"\n| {title}: cut off, median wait | " + " | ".join(kinds.values()) + " | all |")
    print("|" + "---|" * (len(kinds) + 2))

    def row(name: str, config: EndpointConfig, asked: Asked) -> tuple[float, float]:
        found, cells = turns(said, config, hints, asked), []
        for some in (*([one for one in found if one.said.kind == kind] for kind in kinds), found):
            low, high = interval(some)
            cells.append(f"{cut_off(some):.1%} ({low:.0%}–{high:.0%}), {waited(some):.2f} s")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        return waited(found), cut_off(found)

    silences = [row(f"silence of {ms} ms", EndpointConfig(silence_ms=ms), "nobody") for ms in SILENCES_MS]
    row("500 ms and words", EndpointConfig(hint=True), "words")
    bounds = [EndpointConfig(hint=True, quick_ms=quick, patient_ms=patient) for quick, patient in BOUNDS_MS]
    names = [f"{config.quick_ms} to {config.patient_ms} ms" for config in bounds]
    sound = [row(f"Smart-Turn, {name}", config, "sound") for name, config in zip(names, bounds, strict=True)]
    both = [row(f"Smart-Turn and words, {name}", config, "both") for name, config in zip(names, bounds, strict=True)]
    return [silences, sound, both]


SILENCES_MS = (320, 500, 600, 800, 1000)
BOUNDS_MS = ((320, 1600), (420, 1800))
BEGAN = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.5, help="of replies per echo path, of which there are four")
    parser.add_argument("--picture", type=Path, default=Path("docs/vad.svg"))
    args = parser.parse_args()
    with ProcessPoolExecutor(1) as aside:  # on the second core, while this one listens to sentences
        echoes = [aside.submit(echo, delay_ms, db, args.minutes) for delay_ms, db in PATHS]
        without_echo = aside.submit(headphones)
        by_level = aside.submit(recalls, [(level, "", 0.0) for level in LEVELS])
        by_noise = [aside.submit(recalls, [(-20.0, noise, snr) for snr in SNRS]) for noise in NOISES]

        silero, hints = Silero(amplify=True), Hints()
        progress("sentences are said")
        chosen, others = sentences(silero, CLIPS, HESITATIONS), sentences(silero, OTHER_CLIPS, OTHER_HESITATIONS)
        progress("ends of turns")
        print_turns("sentences it was chosen by", chosen, hints)
        progress("ends of turns, other sentences")
        curves = print_turns("other sentences", others, hints)

        progress("echo")
        print(f"\n| echo, {args.minutes:g} min of replies | no guard: interrupts itself | guarded | people noticed |")
        print("|---|---|---|---|")
        for (delay_ms, db), running in zip(PATHS, echoes, strict=True):
            heard = running.result()
            share = f"{heard.noticed} of {heard.people} = {heard.noticed / heard.people:.0%}"
            print(f"| {delay_ms} ms, {db:g} dB | {heard.unguarded} | {heard.interrupted} | {share} |", flush=True)
        left, noticed = without_echo.result()
        print(f"| none (headphones): {left:.0%} of the speech left | | | {noticed} of {len(CLIPS)} |", flush=True)

        progress("levels and noises")
        levels = by_level.result()
        print("\n| level | " + " | ".join(f"{level:g} dBFS" for level in LEVELS) + " |\n|" + "---|" * (len(LEVELS) + 1))
        print("| speech found | " + " | ".join(f"{recall:.0%}" for recall, _ in levels) + " |")
        noisy = {noise: running.result() for noise, running in zip(NOISES, by_noise, strict=True)}
    print("\n| speech found (other windows taken for it) | " + " | ".join(f"{snr:g} dB" for snr in SNRS) + " |")
    print("|" + "---|" * (len(SNRS) + 1))
    for noise, row in noisy.items():
        print(f"| {noise} | " + " | ".join(f"{recall:.0%} ({false:.0%})" for recall, false in row) + " |")
    draw(args.picture, curves, levels, noisy)
    progress(f"done; {args.picture}")


def draw(
    path: Path,
    curves: list[list[tuple[float, float]]],
    levels: list[tuple[float, float]],
    noisy: dict[str, list[tuple[float, float]]],
) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for points, name in zip(curves, ("silence alone", "Smart-Turn", "Smart-Turn and words"), strict=True):
        left.plot(*zip(*points, strict=True), "o-", label=name)
    left.set(xlabel="median wait, s", ylabel="cut off in a pause", ylim=(0, None))
    middle.plot(LEVELS, [recall for recall, _ in levels], "o-")
    middle.set(xlabel="level, dBFS", ylabel="speech found", ylim=(0, 1.02))
    for noise, row in noisy.items():
        right.plot(SNRS, [recall for recall, _ in row], "o-", label=noise)
    right.set(xlabel="signal to noise, dB", ylabel="speech found", ylim=(0, 1.02))
    left.legend()
    right.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
