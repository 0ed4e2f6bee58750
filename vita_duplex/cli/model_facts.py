"""What can be told of a model before it is loaded: for `vita-duplex check --model`."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vita_duplex.engine.instances.text_model import TemplateMessage
from vita_duplex.engine.instances.thoughts import thinks
from vita_duplex.engine.instances.tool_format import format_of
from vita_duplex.engine.instances.vllm_engine import CPU_KV_CACHE_MIB, on_cpu
from vita_duplex.models.layouts import is_vita, model_type

SAMPLE: list[TemplateMessage] = [("system", "Be brief."), ("user", "Hi")]
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def facts(folder: Path, settings: dict[str, Any], kv_cache_mib: int | None) -> Iterator[tuple[str, str]]:
    """Names of facts and what they are. The folder is whole (`naming.check_whole`)."""
    text = settings.get("text_config") or settings
    names = settings.get("architectures") or ["?"]
    weights = parameters(folder)
    yield "family", f"{'VITA: ' if is_vita(settings) else ''}{names[0]} ({model_type(settings)})"
    yield "weights", f"{_count(weights)} parameters, {_memory(weights, text)}"
    yield "context", f"{_context(text)}{_kept(text, kv_cache_mib)}"
    if is_vita(settings):
        return
    template = chat_template(folder)
    unread = "its template takes tools, but calls in its form are not read here"
    takes = "its template takes tools" if format_of(template) else unread
    yield "tools", takes if "tools" in template else "its template knows no tools"
    yield "thinks", THINKS if thinks(template) else "no"
    yield "samples", _sampling(folder)
    yield "asked", asked(folder) if template else "as a plain dialogue: it has no chat template (a base model?)"


THINKS = "its template knows thoughts; they are not said, and the first word waits for them"


def parameters(folder: Path) -> int:
    """Weights in the shards of a folder, by their headers."""
    total = 0
    for shard in folder.glob("*.safetensors"):
        with shard.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total


def chat_template(folder: Path) -> str:
    """The text of a folder's chat template; empty if it has none."""
    own = folder / "chat_template.jinja"
    if own.exists():
        return own.read_text(encoding="utf-8")
    try:
        template = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return ""
    return json.dumps(template) if isinstance(template, list) else template or ""


def asked(folder: Path) -> str:
    """How a short dialogue is written for the model."""
    from transformers import AutoTokenizer  # comes with vLLM, and takes seconds

    from vita_duplex.engine.instances.template import Template

    return repr(Template(AutoTokenizer.from_pretrained(folder)).text(SAMPLE))


def _count(weights: int) -> str:
    return f"{weights / 1e9:.1f} billion" if weights >= 1e9 else f"{weights / 1e6:.1f} million"


def _memory(weights: int, text: dict[str, Any]) -> str:
    own = str(text.get("dtype") or text.get("torch_dtype") or "float32")
    dtype = "float32" if on_cpu() else own
    return f"{weights * BYTES.get(dtype, 2) / 1e9:.2g} GB of memory as {dtype}"


def _context(text: dict[str, Any]) -> str:
    return f"made for {text['max_position_embeddings']} tokens" if "max_position_embeddings" in text else "not told"


def _kept(text: dict[str, Any], kv_cache_mib: int | None) -> str:
    """How many tokens of all dialogues fit into the memory for them, where that is known before loading."""
    mib = kv_cache_mib or (CPU_KV_CACHE_MIB if on_cpu() else None)
    heads = text.get("num_attention_heads")
    if mib is None or not heads or "num_hidden_layers" not in text:
        return ""
    width = text.get("head_dim") or text["hidden_size"] // heads
    token = 2 * text["num_hidden_layers"] * (text.get("num_key_value_heads") or heads) * width * (4 if on_cpu() else 2)
    return f"; {mib} MiB hold {mib * 2**20 // token} of them ({token / 1000:.0f} kB each)"


def _sampling(folder: Path) -> str:
    """What the model says of its own sampling."""
    wanted = ("temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens")
    try:
        own = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        own = {}
    return ", ".join(f"{name} {own[name]}" for name in wanted if own.get(name) is not None) or "as vLLM does by itself"
