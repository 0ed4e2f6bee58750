"""A dialogue as a model's own chat template writes it, whatever the template insists on."""

from collections.abc import Sequence
from typing import Any

from vita_duplex.engine.instances.text_model import PART, TemplateMessage
from vita_duplex.engine.instances.thoughts import opened, thinks
from vita_duplex.engine.ports import PartFailed


class Template:
    """The chat template of one tokenizer; a base model without one gets a plain dialogue."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._own: str | None = tokenizer.chat_template
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        marks = [token for token in added if thinks(str(token))]
        self.marks_are_special = any(token.special for token in marks)
        """Whether the marks of a thought are tokens that are left out of texts, unless one asks for them."""
        self.thinks = self._own is not None and (bool(marks) or thinks(self._own))
        """Whether the model may think before it answers."""
        self.opens_thought = self.thinks and opened(self.text([("user", "Hi")]))
        """Whether each answer begins inside a thought."""

    @property
    def stops(self) -> list[str]:
        """Texts that end an answer."""
        return ["\nUser:"] if self._own is None else []

    def tokens(self, messages: Sequence[TemplateMessage], open_turn: bool = True) -> list[int]:
        """The ids of a dialogue, and of the beginning of the assistant's turn. Errors: `PartFailed`."""
        text = self.text(messages, open_turn)
        return list(self._tokenizer.encode(text, add_special_tokens=self._own is None))

    def text(self, messages: Sequence[TemplateMessage], open_turn: bool = True) -> str:
        """Errors: `PartFailed` when the template takes no dialogue of users and assistants."""
        from jinja2 import TemplateError  # comes with vLLM

        merged = merge_roles(messages)
        if self._own is None:
            return plain_dialogue(merged, open_turn)
        try:
            return self._apply(merged, open_turn)
        except TemplateError:  # some templates (Gemma's) refuse system messages
            pass
        try:
            return self._apply(system_as_user(merged), open_turn)
        except TemplateError as exc:
            raise PartFailed(PART, f"its chat template refuses the dialogue ({exc})") from exc

    def _apply(self, messages: Sequence[TemplateMessage], open_turn: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                [{"role": role, "content": text} for role, text in messages],
                tokenize=False,
                add_generation_prompt=open_turn,
                enable_thinking=False,  # Qwen3's: thoughts are not for the ear; other templates ignore it
            )
        )


def merge_roles(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """Neighbours of one role as one message, and a user first, as most templates insist."""
    merged: list[TemplateMessage] = []
    for role, text in messages:
        if merged and merged[-1][0] == role:
            merged[-1] = (role, f"{merged[-1][1]}\n{text}")
        elif role != "assistant" or any(earlier == "user" for earlier, _ in merged):
            merged.append((role, text))
    return merged


def system_as_user(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    return merge_roles([("user" if role == "system" else role, text) for role, text in messages])


def plain_dialogue(messages: Sequence[TemplateMessage], open_turn: bool) -> str:
    """For models without a chat template."""
    lines = [text if role == "system" else f"{role.title()}: {text}" for role, text in messages]
    return "\n".join([*lines, "Assistant:"] if open_turn else lines)
