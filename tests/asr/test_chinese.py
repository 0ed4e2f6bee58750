"""A Chinese answer, spoken by a Chinese voice and written down by other ears: `make chinese` installs both.

The voice is Kokoro, the ears Whisper base. What they make of it is compared by characters, digits and traditional
characters written alike.
"""

import os
import re

import jiwer
import numpy as np
import pytest
import soxr
from wetext import Normalizer

from vita_duplex.config import AsrConfig
from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.server import voices
from vita_duplex.server.asr import load_asr
from vita_duplex.settings import load_config
from vita_duplex.tts.text.normalise import normalise
from vita_duplex.tts.text.sentences import Sentences

ANSWER = (
    "法国的首都是巴黎，它位于塞纳河畔。今天天气很好，我们可以一起去公园散步。水在一百摄氏度时沸腾。"
    "你可以先把水烧开，然后把鸡蛋放进去煮8分钟。太阳系中最大的行星是木星。"
    "我觉得你应该早点睡觉，这样明天才有精神。中国的人口约为14亿，面积960万平方公里。请问你还有什么别的问题吗？"
)
MOST_WRONG = 0.15


def plain(text: str) -> str:
    """As it is said, in simplified characters, without marks."""
    return re.sub(r"\W", "", Normalizer(lang="zh", operator="tn", traditional_to_simple=True).normalize(text))


@pytest.mark.real
async def test_a_chinese_answer_is_understood_by_other_ears() -> None:
    pytest.importorskip("ctranslate2", reason="the extra `whisper` is not installed: make chinese")
    pytest.importorskip("misaki", reason="the extra `kokoro` is not installed: make chinese")
    config = load_config(None, os.environ, ["tts.kind=kokoro"])
    if not voices.kokoro.voices(voices.kokoro_folder(config)):
        pytest.skip("no Kokoro prepared by tools/make_kokoro.py: make chinese")
    by_name, _ = voices.load_voices(config)
    voice = by_name[config.tts.name]
    ears = load_asr(AsrConfig(kind="whisper"), needed=False)
    assert ears is not None
    sentences = Sentences()
    pieces = [*sentences.push(ANSWER, 0.0), *sentences.finish()]
    assert len(pieces) >= 8
    said, heard = [], []
    for piece in pieces:
        spoken = np.concatenate([samples async for samples in voice.synthesise(normalise(piece))])
        words = await ears.transcribe(soxr.resample(spoken, voice.rate, INPUT_RATE), "zh")
        said.append(plain(piece))
        heard.append(plain(words.text))
        print(f"{jiwer.cer(said[-1], heard[-1]):4.0%} {piece} → {words.text}")
    wrong = jiwer.cer(said, heard)
    print(f"{wrong:4.1%} of {sum(map(len, said))} characters")
    assert wrong <= MOST_WRONG
