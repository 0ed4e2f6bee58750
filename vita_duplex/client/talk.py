"""`vita-duplex talk`: plays a recording to a running server and keeps what was heard, and when."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vita_duplex.client.connection import URL, open_session
from vita_duplex.client.conversation import Conversation, Said, Witness
from vita_duplex.client.errors import TalkError
from vita_duplex.client.latency import STEPS, steps_s
from vita_duplex.client.messages import Record
from vita_duplex.client.recording import OUTPUT_RATE, Pcm, Recording, read_recording, write_stereo
from vita_duplex.client.timeline import of_conversation
from vita_duplex.client.timeline_picture import draw
from vita_duplex.engine.audio import INPUT_RATE

FRAME = INPUT_RATE // 50
FRAME_S = FRAME / INPUT_RATE
LEAD_IN_S = 0.3
"""Silence before the question: a microphone is open before anybody speaks."""


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


async def converse(
    url: str,
    question: Recording,
    second: Recording | None = None,
    *,
    at_s: float = 1.0,
    limit_s: float = 60.0,
    key: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Conversation:
    """Play the question in real time, then silence until the reply was heard to its end.

    The second recording starts `at_s` after the first reply audio was heard. `tell` gets a line for
    everything worth knowing as it happens. Errors: `TalkError`.
    """
    witness = Witness(tell)
    microphone = Microphone(question, second, at_s)
    async with open_session(url, witness, key) as session:
        conversation = witness.conversation
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
            if microphone.pending(conversation.answered) or not witness.player.idle:
                active = session.now()
            elif witness.settled(session.now()):
                return conversation
            elif session.now() - max(active, witness.last_event) > limit_s:
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
        heads = ["turn", "status", "answer after", *steps, "ASR", "held", "heard", "stalled"]
        lines += [
            table([heads, *(_turn_row(conversation, record) for record in turns)], left=2),
            "",
            EXPLAINED,
        ]
    verdicts = conversation.verdicts
    rejected = sum(not one.accepted for one in verdicts)
    lines.append(f"judged: {len(verdicts)}, of them not for the assistant: {rejected}")
    lines.append(f"role swaps: {conversation.swaps}, stale samples: {conversation.stale_samples}")
    return "\n".join(lines)


EXPLAINED = """\
Seconds. 'answer after' is the end of speech to the first audio in the listener's ear. The six steps after
it add up to it, but for the way to the client; 'ASR' happens inside the first two.
"""


def _turn_row(conversation: Conversation, record: Record) -> list[str]:
    response_id = record.response_id or ""
    heard = conversation.first_heard(response_id)
    answer = heard - record.speech_end if heard is not None and record.speech_end is not None else None
    held = sum(one.end - one.start for one in conversation.held if one.response_id == response_id)
    steps = steps_s(record).values() if answer is not None else [None] * len(STEPS)
    seconds = [answer, *steps, record.asr_s, held / OUTPUT_RATE]
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
    parser.add_argument("--timeline", type=Path, metavar="PICTURE.svg", help="draw who spoke, listened and waited when")
    parser.add_argument("--url", default=URL, help=f"the server (default: {URL})")
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        default=os.environ.get("VITA_API_KEY"),
        help="for a server that wants one (default: $VITA_API_KEY, which others on this machine cannot read)",
    )
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
    if args.timeline is not None and args.timeline.suffix != ".svg":
        raise TalkError(f"cannot draw {args.timeline}: its name has to end in .svg")
    talk = converse(args.url, question, second, at_s=args.at, limit_s=args.limit, key=args.api_key, tell=_print)
    conversation = asyncio.run(talk)
    print(f"\n{summary(conversation)}")
    if args.out is not None:
        write_stereo(conversation.stereo(), args.out)
        print(f"wrote {args.out}")
    if args.timeline is not None:
        _write_picture(conversation, args.timeline)
        print(f"wrote {args.timeline}")
    return _exit_status(conversation)


def _write_picture(conversation: Conversation, path: Path) -> None:
    try:
        draw(of_conversation(conversation)).write(path)
    except OSError as error:
        raise TalkError(f"cannot write {path}: {error.strerror}") from error


def _print(line: str) -> None:
    print(line, flush=True)


def _exit_status(conversation: Conversation) -> int:
    if conversation.answered:
        return 0
    if conversation.all_rejected:
        print("no reply: the server judged everything it heard as not meant for the assistant (<2>)")
        return 3
    failed = conversation.errors[-1].error.message if conversation.errors else "it has no audio"
    raise TalkError(f"the reply failed: {failed}")
