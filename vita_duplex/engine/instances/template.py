"""A dialogue as a model's own chat template writes it, whatever the template insists on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from vita_duplex.engine.instances.streamed_calls import described
from vita_duplex.engine.instances.text_model import NO_TOOLS, PART, Dialogue, TemplateMessage, is_system
from vita_duplex.engine.instances.thoughts import opened, thinks
from vita_duplex.engine.instances.tool_format import format_of
from vita_duplex.engine.messages import CallMessage, Tools
from vita_duplex.engine.ports import PartFailed


class Template:
    """The chat template of one tokenizer; a base model without one gets a plain dialogue."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._own: str | None = tokenizer.chat_template
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        marks = [token for token in added if thinks(str(token))]
        self.tool_format = format_of(self._own)
        """How the model writes calls; None: it cannot, or in a form not known here."""
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

    def tokens(self, messages: Dialogue, open_turn: bool = True, tools: Tools = NO_TOOLS) -> list[int]:
        """The ids of a dialogue, and of the beginning of the assistant's turn. Errors: `PartFailed`."""
        text = self.text(messages, open_turn, tools)
        return list(self._tokenizer.encode(text, add_special_tokens=self._own is None))

    def text(self, messages: Dialogue, open_turn: bool = True, tools: Tools = NO_TOOLS) -> str:
        """Errors: `PartFailed` when the template takes no dialogue of users and assistants."""
        from jinja2 import TemplateError  # comes with vLLM

        plain = merge_roles(without_calls(messages))
        if self._own is None:
            return plain_dialogue(without_calls(plain), open_turn)
        refused: TemplateError | None = None
        # Some templates (Gemma's) refuse system messages, some calls in unexpected places.
        for form in (merge_roles(messages) if self.tool_format else plain, plain, system_as_user(plain)):
            try:
                return self._apply(form, open_turn, tools)
            except TemplateError as exc:
                refused = exc
        raise PartFailed(PART, f"its chat template refuses the dialogue ({refused})") from refused

    def _apply(self, messages: Dialogue, open_turn: bool, tools: Tools) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                as_json(messages, dict),
                tools=described(tools.offered) or None,
                tokenize=False,
                add_generation_prompt=open_turn,
                enable_thinking=False,  # Qwen3's: thoughts are not for the ear; other templates ignore it
            )
        )


def merge_roles(messages: Dialogue) -> list[TemplateMessage | CallMessage]:
    """Neighbours of one role as one message, and a user first, as most templates insist."""
    merged: list[TemplateMessage | CallMessage] = []
    for message in messages:
        before = merged[-1] if merged else None
        if isinstance(message, CallMessage):
            merged.append(message)
        elif isinstance(before, tuple) and before[0] == message[0]:
            merged[-1] = (message[0], f"{before[1]}\n{message[1]}")
        elif message[0] != "assistant" or any(not is_system(earlier) for earlier in merged):
            merged.append(message)
    return merged


def as_json(messages: Dialogue, write: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
    """In the form of OpenAI's chat completions, which is that of chat templates but for the arguments of calls: `write`
    makes them of an object. Each call is followed by its output: all servers take that, however calls were made."""
    told: list[dict[str, Any]] = []
    for message in messages:
        if not isinstance(message, CallMessage):
            told.append({"role": message[0], "content": message[1]})
            continue
        # Mistral's templates and servers take ids of nine letters and figures only.
        its_id = hashlib.sha256(message.call.id.encode()).hexdigest()[:9]
        function = {"name": message.call.name, "arguments": write(read_arguments(message.call.arguments))}
        if not told or told[-1]["role"] != "assistant":
            told.append({"role": "assistant", "content": ""})
        told[-1]["tool_calls"] = [{"id": its_id, "type": "function", "function": function}]
        told.append({"role": "tool", "tool_call_id": its_id, "name": message.call.name, "content": message.told})
    return told


def read_arguments(text: str) -> dict[str, Any]:
    """Arguments that are no JSON object are none: servers and templates refuse the whole dialogue for them."""
    try:
        arguments = json.loads(text)
    except ValueError:
        return {}
    return arguments if isinstance(arguments, dict) else {}


def without_calls(messages: Dialogue) -> list[TemplateMessage]:
    """For templates that know no calls."""
    return [("assistant", message.text) if isinstance(message, CallMessage) else message for message in messages]


def system_as_user(messages: Dialogue) -> list[TemplateMessage | CallMessage]:
    return merge_roles(
        [("user", message[1]) if isinstance(message, tuple) and is_system(message) else message for message in messages]
    )


def plain_dialogue(messages: Sequence[TemplateMessage], open_turn: bool) -> str:
    """For models without a chat template."""
    lines = [text if role == "system" else f"{role.title()}: {text}" for role, text in messages]
    return "\n".join([*lines, "Assistant:"] if open_turn else lines)
