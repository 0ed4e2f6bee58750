"""Samples with their media loaded, as rows and padded batches."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vita_duplex.client.errors import TalkError
from vita_duplex.client.recording import read_recording
from vita_duplex.models.audio_features import AudioError, AudioFeatures, token_count
from vita_duplex.models.configuration import VitaConfig
from vita_duplex.models.prompts import STATES, wording
from vita_duplex.models.tiling import Tiling, UnusableImage, open_image
from vita_duplex.models.video import UnusableVideo, basic
from vita_duplex.models.video import sample as sample_frames
from vita_duplex.train.labels import LabelSettings, label
from vita_duplex.train.model import IGNORED
from vita_duplex.train.sample import Medium, Sample, SampleError

UNUSABLE = (SampleError, AudioError, UnusableImage, UnusableVideo, TalkError, OSError)
"""What is wrong with an item, not with the run."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sample, ready for a batch."""

    ids: list[int]
    labels: list[int]
    weights: list[float]
    states: list[int]
    pixels: list[Tensor]
    """[tiles, 3, S, S] of each picture or film."""
    features: list[Tensor]
    """[frames, 80] of each clip."""
    last_state: int
    """Of the last answer, in the order of `STATES`; -1 where it has no state token."""
    situation: int


class Encoder:
    """Loads a sample's media and writes it as a row."""

    def __init__(self, config: VitaConfig, tokenizer: Any, settings: LabelSettings, max_tiles: int, max_length: int):
        vision = config.vision_config
        self._tiling = Tiling(max_tiles=max_tiles, tile=vision.image_size, patch=vision.patch_size)
        self._frames = Tiling(max_tiles=1, tile=vision.image_size, patch=vision.patch_size)
        self._wording = wording(config.prompt_style)
        self._tokenizer = tokenizer
        self._settings = settings
        self._max_length = max_length
        self._features = AudioFeatures()

    def encode(self, sample: Sample, situation: int = 0) -> Row:
        """Errors: `UNUSABLE`."""
        media = [(medium, self._load(medium, sample.tiled)) for medium in sample.media]
        left = [self._tokens(medium, loaded) for medium, loaded in media]
        row = label(sample, self._tokenizer, self._wording, lambda _: left.pop(0), self._settings)
        if len(row.ids) > self._max_length:
            raise SampleError(f"it has {len(row.ids)} tokens; max_length is {self._max_length}")
        last = sample.turns[-1].state
        return Row(
            row.ids,
            row.labels,
            row.weights,
            row.states,
            [loaded for medium, loaded in media if medium.kind != "audio"],
            [loaded for medium, loaded in media if medium.kind == "audio"],
            -1 if last is None or not row.states else STATES.index(last),
            situation,
        )

    def _load(self, medium: Medium, tiled: bool) -> Tensor:
        if medium.kind == "audio":
            samples = read_recording(medium.path).samples / np.float32(2**15)
            return torch.from_numpy(self._features.extract(samples.astype(np.float32)))
        encoded = medium.path.read_bytes()
        if medium.kind == "image":
            return torch.from_numpy((self._tiling if tiled else self._frames).pixels(open_image(encoded)))
        pictures = sample_frames(encoded, basic, mirrored=False)
        return torch.from_numpy(np.concatenate([self._frames.pixels(one) for one in pictures]))

    def _tokens(self, medium: Medium, loaded: Tensor) -> int:
        return token_count(len(loaded)) if medium.kind == "audio" else len(loaded) * self._tiling.tokens_per_tile


class Rows(Dataset):
    """Samples as rows. One that cannot be used is noted in a file, and the next usable one takes its place."""

    def __init__(self, samples: Sequence[Sample], encoder: Encoder, skipped: Path) -> None:
        self.samples = samples
        self.situations = sorted({sample.situation for sample in samples})
        self._encoder = encoder
        self._skipped = skipped

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Row:
        for step in range(len(self.samples)):
            sample = self.samples[(index + step) % len(self.samples)]
            try:
                return self._encoder.encode(sample, self.situations.index(sample.situation))
            except UNUSABLE as error:
                with self._skipped.open("a", encoding="utf-8") as log:  # a line at a time: several processes write
                    log.write(json.dumps({"item": sample.name, "why": str(error)}) + "\n")
        raise SampleError("none of the items can be used; `vita-duplex data check` says why")


def collate(rows: Sequence[Row]) -> dict[str, Tensor]:
    """A batch, padded on the right; see `VitaForTraining.forward`. `states` and `wanted` are for measuring."""
    length = max(len(row.ids) for row in rows)

    def padded(lists: Sequence[Sequence[float]], value: float, dtype: torch.dtype) -> Tensor:
        return torch.tensor([[*one, *[value] * (length - len(one))] for one in lists], dtype=dtype)

    states = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, row in enumerate(rows):
        states[number, row.states] = True
    batch = {
        "input_ids": padded([row.ids for row in rows], 0, torch.long),
        "attention_mask": padded([[1] * len(row.ids) for row in rows], 0, torch.long),
        "labels": padded([row.labels for row in rows], IGNORED, torch.long),
        "weights": padded([row.weights for row in rows], 0.0, torch.float),
        "states": states,
        "wanted": torch.tensor([[row.last_state, row.situation] for row in rows]),
    }
    pixels = [one for row in rows for one in row.pixels]
    features = [one for row in rows for one in row.features]
    if pixels:
        batch["pixel_values"] = torch.cat(pixels)
    if features:
        batch["audio_features"] = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
        batch["audio_frames"] = torch.tensor([len(one) for one in features])
    return batch
