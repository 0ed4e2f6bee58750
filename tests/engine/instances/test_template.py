"""A dialogue in the chat templates of the families that people bring, whatever those insist on."""

import pytest

from tests.support.tiny_text import FAMILIES, tokenizer
from vita_duplex.engine.instances.template import Template
from vita_duplex.engine.instances.text_model import Dialogue, TemplateMessage
from vita_duplex.engine.messages import Call, CallMessage, Tool, Tools
from vita_duplex.engine.ports import PartFailed

DIALOGUE: list[TemplateMessage] = [
    ("system", "Be brief."),
    ("assistant", "lost"),
    ("user", "Hi"),
    ("user", "there"),
    ("assistant", "Yes?"),
    ("user", "Sing"),
]
CHATML = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi\nthere<|im_end|>\n<|im_start|>assistant\nYes?"
    "<|im_end|>\n<|im_start|>user\nSing<|im_end|>\n<|im_start|>assistant\n"
)
WRITTEN = {
    "qwen2": CHATML,
    "qwen3": f"{CHATML}<think>\n\n</think>\n\n",
    "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi\nthere<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nYes?<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nSing<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma2": "<bos><start_of_turn>user\nBe brief.\nHi\nthere<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n"
    "<start_of_turn>user\nSing<end_of_turn>\n<start_of_turn>model\n",
    "mistral": "<s>[INST]Hi\nthere[/INST]Yes?</s>[INST]Be brief.\n\nSing[/INST]",
    "phi3": "<|system|>\nBe brief.<|end|>\n<|user|>\nHi\nthere<|end|>\n<|assistant|>\nYes?<|end|>\n<|user|>\nSing"
    "<|end|>\n<|assistant|>\n",
    "deepseek-r1": "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi\nthere<｜Assistant｜>Yes?<｜end▁of▁sentence｜>"
    "<｜User｜>Sing<｜Assistant｜><think>\n",
    "base": "Be brief.\nUser: Hi\nthere\nAssistant: Yes?\nUser: Sing\nAssistant:",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_asked_in_its_own_form(family: str) -> None:
    template = Template(tokenizer(family))
    assert template.text(DIALOGUE) == WRITTEN[family]
    assert template.thinks == (family in ("qwen3", "deepseek-r1"))
    assert template.opens_thought == (family == "deepseek-r1")
    assert template.stops == (["\nUser:"] if family == "base" else [])


def test_a_template_that_takes_no_dialogue_says_so_in_one_line() -> None:
    refusing = tokenizer("qwen2")
    template = Template(refusing)
    refusing.chat_template = "{{ raise_exception('only tools here') }}"
    with pytest.raises(PartFailed, match="its chat template refuses the dialogue \\(only tools here\\)"):
        template.text(DIALOGUE)


@pytest.mark.parametrize("special", [True, False])
def test_marks_that_are_special_tokens_are_asked_for(special: bool) -> None:
    with_marks = tokenizer("mistral")
    with_marks.add_tokens(["[THINK]", "[/THINK]"], special_tokens=special)
    template = Template(with_marks)
    assert template.thinks
    assert template.marks_are_special == special


CALLED: Dialogue = [
    ("user", "Rain?"),
    ("assistant", "Let me look."),
    CallMessage(Call("call_1", "weather", '{"city": "Paris"}'), "sunny"),
    CallMessage(Call("call_2", "weather", "no JSON")),
]


def test_calls_and_outputs_are_written_in_the_models_own_form() -> None:
    text = Template(tokenizer("qwen2")).text([("system", "Be brief."), *CALLED], tools=Tools((Tool("weather"),)))
    assert '# Tools\n{"type": "function", "function": {"name": "weather"' in text
    assert text.endswith(
        "<|im_start|>assistant\nLet me look.<tool_call>\n"
        '{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\nsunny<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\nthere is no output yet<|im_end|>\n<|im_start|>assistant\n"
    )
    none = Template(tokenizer("qwen2")).text(CALLED, tools=Tools((Tool("weather"),), "none"))
    assert "# Tools" not in none


@pytest.mark.parametrize("family", ["llama3", "gemma2", "base"])
def test_a_model_that_knows_no_calls_reads_them(family: str) -> None:
    assert '[weather({"city": "Paris"}): sunny]' in Template(tokenizer(family)).text(CALLED)


def test_a_template_that_refuses_calls_gets_them_as_texts() -> None:
    refusing = tokenizer("qwen2")
    refusing.chat_template = "{% for m in messages if m.tool_calls %}{{ raise_exception('no') }}{% endfor %}" + (
        refusing.chat_template
    )
    assert '[weather({"city": "Paris"}): sunny]' in Template(refusing).text(CALLED)
