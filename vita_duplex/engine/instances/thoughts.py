"""What a reasoning model writes before and between its words, kept from the answer. Pure.

Source of the marks: the chat templates and model cards of Qwen3, DeepSeek-R1, GLM (`<think>`), Magistral (`[THINK]`),
Command A (`<|START_THINKING|>`), Kimi (`◁think▷`), Seed-OSS (`<seed:think>`), Gemma and gpt-oss (channels); the
rest are what people ask models for in prompts.
"""

import re
from dataclasses import dataclass

_WORDS = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis|seed:think"
_OPENING = re.compile(
    rf"<({_WORDS})>|\[(THINK)\]|◁(think)▷|<\|START_(THINKING)\|>|<\|channel\|?>(analysis|commentary|thought)\b",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"</(?:{_WORDS})>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<channel\|>|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)
_MARK_START = re.compile(r"[<\[◁][^<\[◁\s>\]▷]*(?:>[a-z]*(?:<[^<>\s]*)?)?$", re.IGNORECASE)
"""The end of a text that may become a mark with the next delta."""
LONGEST_MARK = 32
"""Characters; `<|channel|>final<|message|>` has 26."""


_OPENED = re.compile(rf"(?:{_OPENING.pattern})\s*$", re.IGNORECASE)
CHANNEL = "<|channel|>"


@dataclass(slots=True)
class Thoughts:
    """Text deltas in, the answer's deltas out: without thoughts, whose marks may be cut anywhere and never close."""

    inside: bool = False
    """Whether the model thinks now; from the beginning where the prompt has opened a thought."""
    _held: str = ""
    _after: bool = False

    @property
    def quiet(self) -> bool:
        """Whether the latest text was of a thought, of its marks or of the empty lines behind it."""
        return self.inside or self._after or bool(self._held)

    def push(self, delta: str) -> str:
        """The part of the text so far that is certain to be answer and was not given out yet."""
        text, answer = self._held + delta, ""
        while mark := (_CLOSING if self.inside else _OPENING).search(text):
            answer += self._told(text[: mark.start()])
            text, self.inside, self._after = text[mark.end() :], not self.inside, self.inside
        held = _MARK_START.search(text, max(0, len(text) - LONGEST_MARK))
        certain = held.start() if held else len(text)
        self._held = text[certain:]
        return answer + self._told(text[:certain])

    def finish(self) -> str:
        """What was held back because it looked like the beginning of a mark."""
        held, self._held = self._held, ""
        return self._told(held)

    def _told(self, text: str) -> str:
        """What of a text without opening marks is answer: no closing mark, and no empty line behind a thought."""
        if self.inside:
            return ""
        text = _CLOSING.sub("", text)
        if self._after:
            text = text.lstrip()
            self._after = not text
        return text


def opened(prompt: str) -> bool:
    """Whether a prompt ends with the beginning of a thought, as the template of DeepSeek-R1 leaves it."""
    return _OPENED.search(prompt, max(0, len(prompt) - 2 * LONGEST_MARK)) is not None


def thinks(template: str) -> bool:
    """Whether a chat template, or a token, knows thoughts."""
    return _OPENING.search(template) is not None or _CLOSING.search(template) is not None or CHANNEL in template
