"""How models write calls of tools: known by their chat templates, kept from what is said, and read. Pure.

Sources: the chat templates of Hermes 2 Pro, Qwen2.5, Qwen3 and Llama 3.1 and 3.2; those of Mistral's models up to Nemo
(a list) and from Small 3.2 on (`[ARGS]`). vLLM's parser `mistral` takes the list for a tool named `[`, unless it has
Mistral's own tokenizer, so calls are read here.
"""

import json
import logging
import re
from dataclasses import dataclass

from vita_duplex.engine.instances.text_model import new_call
from vita_duplex.engine.messages import Call, Tools

log = logging.getLogger(__name__)

NAMED = re.compile(r"([\w-]+)(?:\[CALL_ID\]\w+)?\[ARGS\]\s*$")
"""What stands before the arguments where the name is not in the JSON."""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """A call is `before`, the tool's name, `between`, and arguments in JSON."""

    mark: str
    """What begins a call, wherever it stands."""
    before: str
    between: str
    bare: bool = False
    """Whether an answer that begins with a brace may be a call as well."""


HERMES = ToolFormat("<tool_call>", '<tool_call>\n{"name": "', '", "arguments":')
LLAMA = ToolFormat("<|python_tag|>", '{"name": "', '", "parameters":', bare=True)
MISTRAL = ToolFormat("[TOOL_CALLS]", '[TOOL_CALLS][{"name": "', '", "arguments":')
MISTRAL_NAMED = ToolFormat("[TOOL_CALLS]", "[TOOL_CALLS]", "[ARGS]")

OTHERS = ("<function=", "<arg_key>")
"""Marks of forms that have `<tool_call>`, too, and are not known here: Qwen3-Coder's and GLM's."""


def format_of(template: str | None) -> ToolFormat | None:
    """The form that a chat template teaches; None: it knows no tools, or writes calls in a form not known here."""
    if template is None or "tools" not in template:
        return None
    if MISTRAL.mark in template:
        return MISTRAL_NAMED if "[ARGS]" in template else MISTRAL
    if HERMES.mark in template:
        return None if any(mark in template for mark in OTHERS) else HERMES
    return LLAMA if "<|start_header_id|>" in template and "parameters" in template else None


class CallText:
    """Text deltas in, what of them is to be said out. From the mark of a call on everything is kept."""

    def __init__(self, form: ToolFormat | None) -> None:
        """None: no tools are offered, and everything is said."""
        self.kept = ""
        self._form = form
        self._held = ""
        self._begun = False

    def push(self, delta: str) -> str:
        if self._form is None:
            return delta
        if self.kept:
            self.kept += delta
            return ""
        text, self._held = self._held + delta, ""
        if self._form.bare and not self._begun and text.lstrip().startswith("{"):
            self.kept = text
            return ""
        said, mark, rest = text.partition(self._form.mark)
        if mark:
            self.kept = mark + rest
        else:
            held = _beginning(said, self._form.mark)
            said, self._held = said[: len(said) - held], said[len(said) - held :]
        self._begun = self._begun or bool(said.strip())
        return said

    def finish(self, delta: str, tools: Tools) -> tuple[str, list[Call]]:
        """Take the last delta; the rest of what is to be said, and the calls. A brace that began no call was an
        answer."""
        said = self.push(delta)
        calls = read_calls(self.kept, tools)
        if self._form and self.kept.startswith(self._form.mark):
            if not calls:
                log.warning("the model wrote a call that cannot be read, or of a tool that was not offered")
            return said, calls
        return said + self._held + ("" if calls else self.kept), calls


def _beginning(text: str, mark: str) -> int:
    """Characters at the end of a text that may become a mark."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0)


def read_calls(text: str, tools: Tools) -> list[Call]:
    """The calls of tools that are offered, as far as the text is whole; one if no more are wanted."""
    offered = [tool.name for tool in tools.offered]  # a model may write any value for a name
    calls, end = list[Call](), 0
    while (start := text.find("{", end)) >= 0:
        try:
            value, after = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            break
        if named := NAMED.search(text, end, start):
            name, arguments = named[1], value
        else:
            name, arguments = value.get("name"), value.get("arguments", value.get("parameters"))
        if name in offered:
            written = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
            calls.append(new_call(name, written))
        end = after
    return calls if tools.parallel else calls[:1]
