"""`vita-duplex ask`: one question about a picture, a film or a sound, without a server."""

import argparse
import asyncio
from contextlib import aclosing
from pathlib import Path

import numpy as np

from vita_duplex.client.errors import TalkError
from vita_duplex.client.recording import read_recording
from vita_duplex.config import Config, EngineConfig
from vita_duplex.engine.messages import Pixels, Query, Utterance, Verdict
from vita_duplex.engine.ports import Instance, PartFailed, Progress
from vita_duplex.models import video
from vita_duplex.models.tiling import UnusableImage, open_image
from vita_duplex.server.asr import load_asr
from vita_duplex.server.parts import instances

SHORTEST_S = 0.085
"""Less gives VITA's encoder not a single token."""


class AskError(Exception):
    """The question cannot be asked; the text says why, in one line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Ask a model one question. It is loaded, answers and is gone: a minute for the small default, several "
        "for a VITA checkpoint. A spoken question is judged first; noise, or speech that is not meant for the "
        "assistant, gets no answer."
    )
    parser.epilog = (
        'examples: vita-duplex ask --text "What is the capital of France?"  ·  '
        "vita-duplex ask --model demo_VITA_ckpt --image cat.jpg --audio question.wav  ·  "
        'vita-duplex ask --config configs/vita-4gpu.yaml --video walk.mp4 --text "What happens here?"  ·  '
        "exit status: 0 answered or judged as not meant; 2 the question or the model is wrong"
    )
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument("--image", type=Path, metavar="FILE", help="a picture to look at (JPEG, PNG, WebP …)")
    seen.add_argument("--video", type=Path, metavar="FILE", help="a film to look at: 4 to 16 of its frames")
    said = parser.add_mutually_exclusive_group(required=True)
    said.add_argument("--text", help="the question, typed")
    said.add_argument("--audio", type=Path, metavar="FILE", help="the question, spoken (WAV, FLAC, OGG, MP3 …)")
    parser.add_argument(
        "--model",
        metavar="DIR",
        help="a VITA checkpoint or a text model: folder or Hugging Face name (default: the bundled SmolLM2, "
        "which hears and reads English, and sees nothing)",
    )


def run(arguments: argparse.Namespace, config: Config, progress: Progress) -> int:
    """Errors: `AskError`."""
    engine = settings_for_ask(config.engine, arguments.video is not None)
    frames = read_frames(arguments.image, arguments.video)
    if frames and engine.kind != "vita":
        raise AskError(f"{config.model_name} sees nothing: pictures and films want a VITA checkpoint (--model DIR)")
    query = Query((), (read_question(arguments.text, arguments.audio),), frames=frames)
    try:
        asr = load_asr(config.asr, needed=True) if engine.reads else None
        [instance] = instances(engine, ["a"], asr, progress, engines=1)
        try:
            asyncio.run(ask(instance, query, config.duplex.threshold_in("idle")))
        finally:
            instance.close()
    except PartFailed as failure:
        raise AskError(str(failure)) from failure
    return 0


def settings_for_ask(engine: EngineConfig, is_video: bool) -> EngineConfig:
    """The settings of an engine for one question asked in peace: training's prompts, a film's frames in one tile each.

    Errors: `AskError`.
    """
    if engine.kind == "scripted":
        raise AskError("a scripted engine hears no question; take another configuration, or name a --model")
    if engine.kind == "remote":
        raise AskError("ask loads a model of its own, and asks no other server; name a --model")
    of_video = {"max_dynamic_patch": 1} if is_video else {}
    vita = engine.vita.model_copy(update={"layout": "conversation", **of_video})
    return engine.model_copy(update={"instances": 1, "vita": vita})


def read_frames(image: Path | None, clip: Path | None) -> tuple[Pixels, ...]:
    """What there is to see. Errors: `AskError`."""
    path = image or clip
    if path is None:
        return ()
    try:
        if image:
            return (np.asarray(open_image(path.read_bytes())),)
        pictures = video.sample(path.read_bytes(), video.basic, mirrored=False)
        return tuple(np.asarray(picture) for picture in pictures)
    except OSError as error:
        raise AskError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnusableImage, video.UnusableVideo) as error:
        raise AskError(f"{path}: {error}") from error


def read_question(text: str | None, audio: Path | None) -> Utterance:
    """What is asked. Errors: `AskError`."""
    if audio is None:
        if not (text or "").strip():
            raise AskError("the question is empty")
        return Utterance(1, text=text)
    try:
        recording = read_recording(audio)
    except TalkError as error:
        raise AskError(str(error)) from error
    if recording.duration_s < SHORTEST_S:
        raise AskError(f"{audio} is too short: {1000 * recording.duration_s:.1f} ms, at least {1000 * SHORTEST_S:.0f}")
    return Utterance(1, (recording.samples / 2**15).astype(np.float32))


async def ask(instance: Instance, query: Query, threshold: float) -> None:
    """Print the verdict and, if the question was meant, the answer as it comes."""
    async with aclosing(instance.answer(query)) as items:
        async for item in items:
            if isinstance(item, Verdict):
                print(describe_verdict(item), flush=True)
                if item.p3 <= 0.5 and item.p1 < threshold:
                    print("The utterance was judged not to be for the assistant; there is no answer.")
                    return
            elif isinstance(item, str):
                print(item, end="", flush=True)
    print()


def describe_verdict(verdict: Verdict) -> str:
    probabilities = f"<1> {verdict.p1:.2f}  <2> {verdict.p2:.2f}  <3> {verdict.p3:.2f}"
    meaning = {"<1>": "meant for the assistant", "<2>": "not meant for the assistant", "<3>": "typed"}[verdict.state]
    heard = [f"heard    {' '.join(verdict.transcripts)}"] if any(verdict.transcripts) and not verdict.p3 else []
    return "\n".join([*heard, f"verdict  {verdict.state} {meaning}  ({probabilities})", ""])
