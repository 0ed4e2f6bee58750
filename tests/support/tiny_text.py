"""Tiny text models in the layouts of known families: random weights, real configurations, and chat templates that write
what the family's own write and refuse what those refuse.

Formats from the model cards of Qwen2.5, Qwen3, Llama 3.1, Gemma 2, Mistral Nemo, Phi-3 and DeepSeek-R1.
"""

from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parents[2] / "README.md"

CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% if tools %}# Tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    'Return {"name": <function-name>, "arguments": <args-json-object>} within <tool_call></tool_call>.\n{% endif %}'
    "{% for message in messages %}<|im_start|>{{ 'user' if message.role == 'tool' else message.role }}\n"
    "{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
)
LLAMA = (
    "<|begin_of_text|>{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "<bos>{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "<start_of_turn>{{ 'model' if message.role == 'assistant' else 'user' }}\n{{ message.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "<s>{% set talk = messages | rejectattr('role', 'equalto', 'system') | list %}{% for message in talk %}"
    "{% if message.role == 'user' %}[INST]{% if loop.last and messages[0].role == 'system' %}"
    "{{ messages[0].content }}\n\n{% endif %}{{ message.content }}[/INST]{% else %}{{ message.content }}</s>{% endif %}"
    "{% endfor %}"
)
PHI = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
DEEPSEEK = (
    "<｜begin▁of▁sentence｜>{% for message in messages %}{% if message.role == 'user' %}<｜User｜>{{ message.content }}"
    "{% elif message.role == 'assistant' %}<｜Assistant｜>{{ message.content.split('</think>')[-1] }}"
    "<｜end▁of▁sentence｜>{% else %}{{ message.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
FAMILIES: dict[str, tuple[str, str | None, str, list[str]]] = {
    "qwen2": ("Qwen2Config", CHATML + "{% endif %}", "<|im_end|>", ["<|im_start|>"]),
    "qwen3": (
        "Qwen3Config",
        CHATML + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
        "<|im_end|>",
        ["<|im_start|>"],
    ),
    "llama3": ("LlamaConfig", LLAMA, "<|eot_id|>", ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]),
    "gemma2": ("Gemma2Config", GEMMA, "<end_of_turn>", ["<bos>", "<start_of_turn>"]),
    "mistral": ("MistralConfig", MISTRAL, "</s>", ["<s>", "[INST]", "[/INST]"]),
    "phi3": ("Phi3Config", PHI, "<|end|>", ["<|user|>", "<|assistant|>", "<|system|>"]),
    "deepseek-r1": ("Qwen2Config", DEEPSEEK, "<｜end▁of▁sentence｜>", ["<｜begin▁of▁sentence｜>", "<｜User｜>"]),
    "base": ("LlamaConfig", None, "</s>", ["<s>"]),
}
"""Configuration class, chat template, what ends a turn, and the other special tokens."""
CONTEXT = 1024


def tokenizer(family: str) -> Any:
    """Byte-level BPE with the family's special tokens and template."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    _, template, end, special = FAMILIES[family]
    trained = ByteLevelBPETokenizer()
    trained.train(str(CORPUS), vocab_size=512, min_frequency=2, special_tokens=[end, *special])
    made = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token=end, pad_token=end)
    if family in ("qwen3", "deepseek-r1"):
        made.add_tokens(["<think>", "</think>"])  # no special ones, as in the releases
    made.chat_template = template
    return made


def write(family: str, folder: Path, **settings: Any) -> Path:
    """A folder that `vita-duplex serve --model` takes; `settings` go into its generation_config.json."""
    import torch
    import transformers

    made = tokenizer(family)
    made.save_pretrained(folder)
    special = {"eos_token_id": made.eos_token_id, "pad_token_id": made.pad_token_id, "bos_token_id": None}
    config = getattr(transformers, FAMILIES[family][0])(
        vocab_size=-(-len(made) // 64) * 64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        **special,
    )
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = transformers.GenerationConfig(**special, **settings)
    model.save_pretrained(folder)
    return folder
