"""Calls are known by the form of the family, kept from what is said, and read whole, whatever stands around them."""

import json

import pytest

from vita_duplex.engine.instances.tool_format import (
    HERMES,
    LLAMA,
    MISTRAL,
    MISTRAL_NAMED,
    CallText,
    ToolFormat,
    format_of,
    read_calls,
)
from vita_duplex.engine.messages import Tool, Tools

PARIS, ROME = '{"city": "Paris"}', '{"city": "Rome"}'
WEATHER, TIMER = Tool("get_weather"), Tool("set-timer")
TOOLS = Tools((WEATHER, TIMER))

WRITTEN: list[tuple[ToolFormat, str, str, list[tuple[str, str]]]] = [
    # Qwen2.5, Qwen3 and Hermes: one block a call, words before it
    (
        HERMES,
        f'Let me look.\n<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>\n'
        f'<tool_call>\n{{"name": "get_weather", "arguments": {ROME}}}\n</tool_call>',
        "Let me look.\n",
        [("get_weather", PARIS), ("get_weather", ROME)],
    ),
    # SmolLM2: a list in one block
    (
        HERMES,
        f'<tool_call>[{{"name": "get_weather", "arguments": {PARIS}}}, {{"name": "set-timer", "arguments": {{}}}}]'
        "</tool_call>",
        "",
        [("get_weather", PARIS), ("set-timer", "{}")],
    ),
    # Llama 3.1 and 3.2: bare, or behind a token of its own, several with semicolons
    (LLAMA, f'{{"name": "get_weather", "parameters": {PARIS}}}', "", [("get_weather", PARIS)]),
    (
        LLAMA,
        f'<|python_tag|>{{"type": "function", "name": "get_weather", "parameters": {PARIS}}}; '
        f'{{"name": "get_weather", "parameters": {ROME}}}',
        "",
        [("get_weather", PARIS), ("get_weather", ROME)],
    ),
    (LLAMA, 'A set is {1, 2}, an object {"name": 1}.', 'A set is {1, 2}, an object {"name": 1}.', []),
    (LLAMA, '{"city": "Paris"} is JSON.', '{"city": "Paris"} is JSON.', []),
    # Mistral up to Nemo: a list; from Small 3.2 on: names outside of the JSON
    (
        MISTRAL,
        f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {PARIS}}}, '
        f'{{"name": "get_weather", "arguments": {ROME}}}]',
        "",
        [("get_weather", PARIS), ("get_weather", ROME)],
    ),
    (
        MISTRAL_NAMED,
        f"Sure.[TOOL_CALLS]get_weather[ARGS]{PARIS}[TOOL_CALLS]set-timer[CALL_ID]a1b2c3d4e[ARGS]{{}}",
        "Sure.",
        [("get_weather", PARIS), ("set-timer", "{}")],
    ),
    # what is no call of an offered tool is neither made nor said
    (HERMES, f'Hm. <tool_call>{{"name": "rm", "arguments": {PARIS}}}</tool_call>', "Hm. ", []),
    (HERMES, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par', "", []),
    (HERMES, "<tool_call>[1, {}]</tool_call>", "", []),
    (HERMES, f'<tool_call>{{"name": ["get_weather"], "arguments": {PARIS}}}', "", []),
    (HERMES, f'<tool_call>{{"name": "get_weather", "arguments": {json.dumps(PARIS)}}}', "", [("get_weather", PARIS)]),
    (HERMES, "1 < 2 and <tool", "1 < 2 and <tool", []),
    (HERMES, '<tool_call>{"name": "get_weather", "arguments": null}</tool_call>', "", [("get_weather", "{}")]),
]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(("form", "text", "said", "calls"), WRITTEN)
def test_calls_are_kept_from_what_is_said_however_they_are_cut(
    form: ToolFormat, text: str, said: str, calls: list[tuple[str, str]], size: int
) -> None:
    calling = CallText(form)
    pieces = [calling.push(text[at : at + size]) for at in range(0, len(text), size)]
    rest, found = calling.finish("", TOOLS)
    assert "".join(pieces) + rest == said
    assert [(call.name, call.arguments) for call in found] == calls
    assert len({call.id for call in found}) == len(calls)


def test_words_come_at_once_while_they_cannot_become_a_call() -> None:
    calling = CallText(HERMES)
    assert [calling.push(piece) for piece in ("One", " <", "b> two", "<tool", "_cal", "l>x")] == [
        "One",
        " ",
        "<b> two",
        "",
        "",
        "",
    ]
    assert CallText(None).push("<tool_call>") == "<tool_call>", "nothing is offered"


def test_one_call_is_made_where_no_more_are_wanted() -> None:
    [*_, (_, text, _, calls)] = [one for one in WRITTEN if len(one[3]) > 1]
    assert len(read_calls(text, TOOLS)) == len(calls) > 1
    assert len(read_calls(text, Tools(TOOLS.tools, parallel=False))) == 1
    assert read_calls(text, Tools(TOOLS.tools, "none")) == []


def test_nesting_without_end_is_no_call() -> None:
    assert read_calls(f'<tool_call>{{"name": "get_weather", "arguments": {"[" * 100_000}', TOOLS) == []


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ('{% if tools %}<tool_call>\n{"name": <function-name>', HERMES),
        ('<|start_header_id|>{% if tools %}{"name": function name, "parameters": dictionary', LLAMA),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS][", MISTRAL),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]{{ name }}[ARGS]", MISTRAL_NAMED),
        ("{% if tools %}<tool_call>\n<function=name>", None),
        ("{% if tools %}<tool_call>{{ name }}\n<arg_key>", None),
        ("{% if tools %}functools[", None),
        ("{{ messages }} <tool_call>", None),
        (None, None),
    ],
)
def test_the_form_is_known_by_the_chat_template(template: str | None, form: ToolFormat | None) -> None:
    assert format_of(template) is form


PLAIN = [one for one in WRITTEN if one[3] and not any(mark in one[1] for mark in ("[{", "[CALL_ID]", "null", '"{'))]
"""vLLM 0.32 reads no lists, keeps the id in the name, and gives null and texts as they are."""


@pytest.mark.real  # for the time it takes to import vLLM
@pytest.mark.parametrize(
    ("form", "text", "said", "calls"),
    [*PLAIN, (MISTRAL_NAMED, f"[TOOL_CALLS]get_weather[ARGS]{PARIS}", "", [("get_weather", PARIS)])],
)
def test_vllms_own_parsers_read_the_same(form: ToolFormat, text: str, said: str, calls: list[tuple[str, str]]) -> None:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.tool_parsers import ToolParserManager

    from tests.support.tiny_text import tokenizer

    name = {HERMES.mark: "hermes", LLAMA.mark: "llama3_json", MISTRAL.mark: "mistral"}[form.mark]
    own = tokenizer("mistral")
    own.add_tokens(["<|python_tag|>", "[TOOL_CALLS]", "[ARGS]"], special_tokens=True)
    parser = ToolParserManager.get_tool_parser(name)(own, None)
    request = ChatCompletionRequest.model_validate({"messages": [{"role": "user", "content": "Hi"}]})
    found = parser.extract_tool_calls(text, request).tool_calls
    assert [(one.function.name, json.loads(one.function.arguments)) for one in found] == [
        (its, json.loads(arguments)) for its, arguments in calls
    ]
    assert [(one.name, json.loads(one.arguments)) for one in read_calls(text, TOOLS)] == [
        (its, json.loads(arguments)) for its, arguments in calls
    ]
