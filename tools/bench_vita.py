"""Measure VITA's parts on this machine's CPU (`make bench-vita`): front end, verdict, abort, encoder cache.

The released model does not fit a CPU. Its audio encoder does, and is measured at its real size. The rest is
measured on a stand-in: VITA's layout around a text model of SmolLM2-135M's size, with random weights. So times
are the CPU's, but what a warmed prefix or a cache saves is the code's.
"""

import asyncio
import json
import shutil
import statistics
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.engines import tower_runs, unfinished
from tests.support.paths import ROOT
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.instances.vita import VitaInstance, VitaInstanceConfig
from vita_duplex.engine.messages import AssistantMessage, Query, UserMessage, Utterance, Verdict

TINY = ROOT / "tests" / "golden" / "tiny_vita"
RATE = 16_000
PREFIX_TOKENS = 1500
RUNS = 3
TEXT = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 512,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100_000.0,
    "tie_word_embeddings": False,
}
"""SmolLM2-135M but for the vocabulary, which is the tiny checkpoint's tokenizer's."""
AUDIO = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}


def speech(seconds: float, seed: int) -> Samples:
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (0.1 * noise).astype(np.float32)


def median_s(work: Callable[[], object], runs: int = RUNS) -> float:
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # the first one finds caches cold


def front_end() -> list[tuple[str, str]]:
    """Features and the released encoder, on one core."""
    import torch

    from vita_duplex.models.audio_encoder import AudioTower, AudioTowerConfig
    from vita_duplex.models.audio_features import AudioFeatures
    from vita_duplex.models.configuration import VitaConfig

    torch.set_num_threads(1)
    seconds = 10.0
    clip, features = speech(seconds, 0), AudioFeatures()
    fbank_s = median_s(lambda: features.extract(clip))
    released = VitaConfig()
    sizes = AudioTowerConfig.of_settings(released.audio_config.to_dict(), released.text_config.hidden_size)
    tower = AudioTower(sizes).eval()
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter.data, std=0.02)
    frames = torch.from_numpy(features.extract(clip))
    with torch.inference_mode():
        encoder_s = median_s(lambda: tower.encode([frames]), 3)
    millions = sum(parameter.numel() for parameter in tower.parameters()) / 1e6
    return [
        ("features, 10 s of sound, one core", f"{seconds / fbank_s:.0f} x real time"),
        (f"audio encoder and connector, {millions:.0f}M, float32, one core", f"{seconds / encoder_s:.1f} x real time"),
    ]


def make_stand_in(folder: Path) -> None:
    """Write a checkpoint of random weights in the demo's layout."""
    import torch
    from safetensors.torch import save_file

    from vita_duplex.models.checkpoint import expected_shapes
    from vita_duplex.models.configuration import VitaConfig

    for file in TINY.iterdir():
        if file.is_file() and not file.name.startswith(("model", "config")):
            shutil.copy(file, folder)
    settings = json.loads((TINY / "config.json").read_text())
    settings |= {"text_config": TEXT, "audio_config": settings["audio_config"] | AUDIO, "vocab_size": 512}
    settings["torch_dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    shapes = expected_shapes(VitaConfig(**settings))
    save_file({name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}, folder / "model.safetensors")


def dialogue(seed: int, sound: Samples) -> Query:
    """A dialogue of about `PREFIX_TOKENS` that shares nothing with another seed's, and a question."""
    words = np.random.default_rng(seed).integers(0, 26, 4000)
    story = "".join(chr(ord("a") + int(one)) for one in words)
    history: list[Any] = [UserMessage(story[:40])]
    history.append(AssistantMessage(story[40:]))
    return Query(tuple(history), (Utterance(1, sound),), instructions=str(seed))


async def verdict_s(instance: VitaInstance, query: Query) -> float:
    start = time.perf_counter()
    async with aclosing(instance.answer(query)) as stream:
        assert isinstance(await anext(stream), Verdict)
        return time.perf_counter() - start


def trimmed(instance: VitaInstance, query: Query) -> Query:
    """The dialogue cut so that what stands before the sound is `PREFIX_TOKENS` long."""
    from vita_duplex.engine.instances.vita_dialogue import write_ahead

    asked, told = query.history
    assert isinstance(told, AssistantMessage)

    def tokens(letters: int) -> int:
        cut = replace(query, history=(asked, AssistantMessage(told.text[:letters])), utterances=())
        return instance._count(write_ahead(cut, instance._manner, 10**6, instance._count))

    letters = bisect_left(range(len(told.text)), PREFIX_TOKENS, key=tokens)
    return replace(query, history=(asked, AssistantMessage(told.text[:letters])))


async def engine(folder: Path) -> list[tuple[str, str]]:
    config = VitaInstanceConfig(model=str(folder), dtype="float32", max_model_len=4096, threads=1, max_num_seqs=4)
    instance = await asyncio.to_thread(VitaInstance.load, "a", config, 0, lambda share, phase: None)
    try:
        await verdict_s(instance, Query((), (Utterance(1, speech(2, 1)),)))
        cold, warm = [], []
        for seed in range(RUNS):
            query = trimmed(instance, dialogue(2 * seed, speech(2, 10 + seed)))
            cold.append(await verdict_s(instance, query))
            query = trimmed(instance, dialogue(2 * seed + 1, speech(2, 20 + seed)))
            await instance.warm(replace(query, utterances=()))
            warm.append(await verdict_s(instance, query))
        glances = {seconds: await glance_s(instance, seconds) for seconds in (0.7, 1.3, 4.0)}
        aborts = [await abort_s(instance, seed) for seed in range(10)]
        heard, runs = await cache_use(instance)
    finally:
        await asyncio.to_thread(instance.close)
    before, after = statistics.median(cold), statistics.median(warm)
    return [
        (f"verdict on 2 s of speech, cold prefix of {PREFIX_TOKENS} tokens", f"{1000 * before:.0f} ms"),
        ("the same, prefix warmed while the user speaks", f"{1000 * after:.0f} ms, {before / after:.1f} x faster"),
        *(
            (f"a glance at {length:g} s of speech, prefix warmed", f"{1000 * one:.0f} ms")
            for length, one in glances.items()
        ),
        ("closing an answer until the engine has let go", f"{1000 * statistics.median(aborts):.1f} ms"),
        (f"encoder cache, {heard} sounds in the requests of a dialogue", f"{heard - runs} hits, {runs} encoded"),
    ]


async def glance_s(instance: VitaInstance, seconds: float) -> float:
    """Median time of a look at so much of an utterance that goes on."""
    took = []
    for seed in range(RUNS):
        number = 1000 * round(10 * seconds) + seed
        query = trimmed(instance, dialogue(number, speech(seconds, number)))
        await instance.warm(replace(query, utterances=()))
        took.append(await verdict_s(instance, replace(query, unfinished=True)))
    return statistics.median(took)


async def abort_s(instance: VitaInstance, seed: int) -> float:
    stream = instance.answer(Query((), (Utterance(1, speech(1, 100 + seed)),)))
    for _ in range(3):
        await anext(stream)
    start = time.perf_counter()
    await stream.aclose()
    took = time.perf_counter() - start
    assert unfinished(instance.engine) == 0
    return took


async def cache_use(instance: VitaInstance, turns: int = 6) -> tuple[int, int]:
    """Sounds in the requests of a dialogue, and how many of them the encoder computed."""
    before = (await tower_runs(instance.engine))["audio_tower"]
    history: list[Any] = []
    heard = 0
    for turn in range(turns):
        utterance = Utterance(turn, speech(1.5, 200 + turn))
        async with aclosing(instance.answer(Query(tuple(history), (utterance,)))) as stream:
            await anext(stream)  # one request for the verdict,
            await anext(stream)  # one for the answer
        heard += 2 * (turn + 1)
        history += [UserMessage(None, (utterance,)), AssistantMessage(f"Answer number {turn}.")]
    return heard, (await tower_runs(instance.engine))["audio_tower"] - before


def main() -> None:
    rows = front_end()
    with tempfile.TemporaryDirectory() as folder:
        make_stand_in(Path(folder))
        rows += asyncio.run(engine(Path(folder)))
    print(__doc__.split("\n\n")[1])
    for what, value in rows:
        print(f"{what:<66} {value}")


if __name__ == "__main__":
    main()
