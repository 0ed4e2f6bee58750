"""A dialogue in the chat templates of the families that people bring, whatever those insist on."""

import pytest

from tests.support.tiny_text import FAMILIES, tokenizer
from vita_duplex.engine.instances.template import Template
from vita_duplex.engine.instances.text_model import TemplateMessage
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
