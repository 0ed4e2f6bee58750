"""The verdict of the CPU default: from the words of an utterance, the probability that it was meant for us.

VITA says this with its first token. Small models without such a token get it from here: first what is certain
from the words alone (`wording.py`), else the mean of a rule on form and of a small linear head on the words.
The head was trained by `tools/train_judge.py` on texts made up by a grammar; `tests/test_judge.py` measures
both on real audio.
"""

import re
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vita_duplex.engine.cascade import wording
from vita_duplex.engine.messages import Situation
from vita_duplex.engine.ports import Transcript

SPEAKING = Situation("speaking")
ASKS_NAME = re.compile(r"\b(names?|who|whom|whose|called?|spell|e-?mail|address)\b", re.IGNORECASE)
"""In a question to which a name is an answer, and nobody who is called."""
REQUESTS = re.compile(r"(please |now )*(tell me|say|give me|spell|choose|name|pick|describe|try to)\b")
"""Sentences of an assistant that want an answer without a question mark."""

WEIGHTS = Path(__file__).with_name("judge.npz")
BUCKETS = 1 << 14
"""Places of the hashed word pairs; the 16 thousand half-precision weights are 32 kB."""

SHORT = 3
"""Words up to which a low log-probability is believed to mean that it was no speech."""
UNSURE_SHORT, UNSURE, UNSURE_ANSWER = -0.65, -0.9, -1.3
"""Mean log-probability per token below which a short transcript, and any other, is an invention.

99 of 100 queries of the development set lie above -0.5; what was made of noise goes down to -1.8.
"""
SECONDS_PER_WORD = 3.0
"""Whoever speaks for longer than this without a second word did not speak."""

NOT_SPEECH, BACKCHANNEL, ELSEWHERE, SHORT_QUERY, ANSWER = 0.02, 0.05, 0.15, 0.95, 0.9
"""Probabilities where one rule decides; only their order counts, no set is large enough to measure them."""
ASKS, TELLS = 0.9, 0.25
"""Probability that a question or command, and anything else, was meant for the assistant, said into a reply."""
OPEN, MOST = 0.45, 0.9
"""Of speech that goes on: when what it will be is not to be heard yet, and at most when it is not one of the words that
stop a reply."""
FEW_S, CUT_S = 1.5, 1.25
"""Seconds of it, silence before it included, in which few words mean nothing, and words that are hardly heard."""
FOR_US_IN_SILENCE = 1.6
"""By how much the odds that a statement was meant for the assistant are better in silence than among the head's texts,
half of which were: in a conversation of two most of what is said is."""
BEGINNINGS = wording.word_list("and, i, so, the, you")
"""As a whole utterance these are what an ASR makes of noise; while somebody speaks they begin a sentence."""
ANSWER_S = 12.0
"""Seconds for which a question of the assistant stays open."""
ANSWER_WORDS = 8
"""More words than this are judged as a statement, also behind a question."""


class Judge:
    """Judge transcripts. Reads its weights once; keeps nothing between calls."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        with np.load(weights) as stored:
            self._heads = {name: stored[name].astype(np.float32) for name in ("speaking", "silence")}

    def judge(self, transcript: Transcript, seconds: float, situation: Situation = SPEAKING) -> float:
        """Probability that the utterance, `seconds` long, was a query meant for the assistant."""
        spoken = wording.words(transcript.text)
        open_question = situation.reply == "after" and situation.seconds <= ANSWER_S and asks_user(situation.last_words)
        if self._is_no_speech(transcript, spoken, seconds, patient=open_question):
            return NOT_SPEECH
        named = open_question and ASKS_NAME.search(situation.last_words) is not None
        if wording.is_to_somebody_else(transcript.text, names_answer=named):
            return ELSEWHERE
        if situation.reply == "speaking":
            return self._into_reply(transcript, spoken)
        return self._in_silence(transcript, spoken, open_question=open_question)

    def glance(self, transcript: Transcript, seconds: float) -> float:
        """The same of speech into a reply that goes on. A word or two may become anything."""
        spoken = wording.words(transcript.text)
        if wording.STOPS.match(" ".join(spoken)):
            return SHORT_QUERY
        few = len(spoken) < SHORT or wording.is_invention(spoken)
        nod = wording.is_backchannel(spoken) and not BEGINNINGS.issuperset(spoken)
        known = nod or wording.is_to_somebody_else(transcript.text)
        if few and seconds < FEW_S and not (spoken and known) and not wording.asks(transcript.text):
            return OPEN
        if transcript.log_probability < UNSURE_SHORT and seconds < CUT_S and not (spoken and known):
            return OPEN  # the beginning of a word, misheard
        return min(MOST, self.judge(transcript, seconds))

    def _is_no_speech(self, transcript: Transcript, spoken: list[str], seconds: float, *, patient: bool) -> bool:
        """Whether nobody spoke. Behind a question (`patient`) digits with pauses and a soft "so" are speech, and so is
        what was hardly understood: a name, an address."""
        if not spoken or transcript.log_probability < (UNSURE_ANSWER if patient else UNSURE):
            return True
        if wording.is_invention(spoken) and not (patient and wording.is_backchannel(spoken)):
            return True
        return seconds > SECONDS_PER_WORD * len(spoken) and not patient

    def _into_reply(self, transcript: Transcript, spoken: list[str]) -> float:
        """Into a reply most of what is said is not meant for it."""
        if wording.is_backchannel(spoken):
            return BACKCHANNEL
        if wording.is_short_query(spoken):
            return SHORT_QUERY
        if len(spoken) <= SHORT and transcript.log_probability < UNSURE_SHORT:
            return NOT_SPEECH
        form = ASKS if wording.asks(transcript.text) else TELLS
        if form == TELLS and len(spoken) < SHORT:
            return TELLS  # a word or two outside all lists, perhaps a misheard sound: nothing to go by
        return (form + self.head(transcript, "speaking")) / 2

    def _in_silence(self, transcript: Transcript, spoken: list[str], *, open_question: bool) -> float:
        """In a silent conversation of two most of what is said is meant for the assistant."""
        if wording.is_backchannel(spoken):
            return ANSWER if open_question else BACKCHANNEL
        if wording.is_short_query(spoken):
            return SHORT_QUERY
        if not open_question and not wording.asks(transcript.text):
            if len(spoken) <= SHORT and transcript.log_probability < UNSURE_SHORT:
                return NOT_SPEECH
            if len(spoken) == 1:
                return TELLS  # perhaps a misheard sound: nothing to go by
        head = self.head(transcript, "silence")
        if wording.asks(transcript.text) or (open_question and len(spoken) <= ANSWER_WORDS):
            return (ANSWER + head) / 2
        odds = FOR_US_IN_SILENCE * head / (1 - head)
        return odds / (1 + odds)

    def head(self, transcript: Transcript, name: str) -> float:
        """The opinion of a trained head alone: `speaking` or `silence`."""
        weights = self._heads[name]
        return float(1 / (1 + np.exp(-(features(transcript) @ weights[:-1] + weights[-1]))))


def asks_user(last_words: str) -> bool:
    """Whether the assistant's last sentence asks the user for something."""
    return last_words.rstrip().endswith(("?", "？")) or REQUESTS.match(last_words.strip().lower()) is not None


def features(transcript: Transcript) -> NDArray[np.float32]:
    """Hashed words, pairs and classes of words (scaled to length 1), log-probability, number of words."""
    spoken = wording.words(transcript.text)
    end = "?" if "?" in transcript.text else "."
    line = ["<", *spoken, end]
    start = [wording.kind(word) for word in wording.without_openers(spoken)[:3]] + [end]
    kinds = [wording.kind(word) for word in spoken]
    grams = {
        *line,
        *(f"{one} {two}" for one, two in pairwise(line)),
        *(f"<{one}>" for one in kinds),
        *(f"<{one} {two}>" for one, two in pairwise(["<", *kinds, end])),
        *("^" + " ".join(start[:length]) for length in (1, 2, 3)),
        f"asks {wording.asks(transcript.text)}",
    }
    vector = np.zeros(BUCKETS + 2, np.float32)
    for gram in grams:
        vector[zlib.crc32(gram.encode()) % BUCKETS] = 1  # a hash that is the same in every process
    vector /= np.sqrt(vector.sum())
    vector[BUCKETS] = max(transcript.log_probability, -2.0)
    vector[BUCKETS + 1] = np.log(1 + len(spoken))
    return vector
