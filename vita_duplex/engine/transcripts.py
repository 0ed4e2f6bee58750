"""Words of utterances that were accepted before anybody knew them."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.dialogue import Dialogue
from vita_duplex.engine.messages import Utterance, Verdict
from vita_duplex.engine.notices import Notice, WordsFailed, WordsKnown
from vita_duplex.engine.ports import Asr, PartFailed
from vita_duplex.engine.settings import Configure

TRANSCRIBING_LIMIT = 4
"""Utterances whose words are being found at a time; further ones stay without, and the client is told."""


class Transcripts:
    """Tells the client the words of utterances that it was told of before."""

    def __init__(
        self,
        asr: Asr | None,
        transcriber: Asr | None,
        dialogue: Dialogue,
        tasks: asyncio.TaskGroup,
        tell: Callable[[Notice], None],
    ) -> None:
        """Without an `asr` no words are found. `transcriber`: the same for sessions that only listen."""
        self._asr, self._transcriber, self._dialogue, self._tasks, self._tell = asr, transcriber, dialogue, tasks, tell
        self._running = 0

    def take(self, utterances: Sequence[Utterance], verdict: Verdict) -> bool:
        """Use the words that came with a verdict. False: there are none."""
        if not verdict.transcripts:
            return False
        self._dialogue.put_words(tuple(one.number for one in utterances), " ".join(verdict.transcripts))
        for utterance, transcript in zip(utterances, verdict.transcripts, strict=True):
            seconds = len(utterance.samples) / INPUT_RATE if utterance.samples is not None else 0.0
            self._tell(WordsKnown(utterance.number, transcript, seconds))
        return True

    def find(self, utterances: Iterable[Utterance], settings: Configure) -> None:
        """Have the ASR find words. Nobody waits for them, and the dialogue keeps the sound."""
        asr = self._transcriber if settings.only_listens else self._asr
        for utterance in utterances:
            if asr is None or not settings.transcribes or utterance.samples is None:
                continue
            if self._running == TRANSCRIBING_LIMIT:
                self._tell(WordsFailed(utterance.number, "the ASR has too much to do"))
                continue
            self._running += 1
            work = self._transcribe(asr, utterance.number, utterance.samples, settings.language)
            self._tasks.create_task(work, name=f"transcribe {utterance.number}")

    async def _transcribe(self, asr: Asr, number: int, samples: Samples, language: str | None) -> None:
        try:
            transcript = await asr.transcribe(samples, language)
        except PartFailed as failure:
            self._tell(WordsFailed(number, failure.message))
        else:
            self._tell(WordsKnown(number, transcript.text, len(samples) / INPUT_RATE))
        finally:
            self._running -= 1
