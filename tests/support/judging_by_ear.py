"""Tiny checkpoints that judge by ear: a chirp is a query, a tone is noise, whatever else was said.

The random weights of the golden ones judge arbitrarily. Here two channels of the text model are wired by hand. The
first is written by the last layer of the audio connector only: above zero for the chirp, below for the tone, fitted to
what the encoder makes of both. A head of the first layer whose queries are zero attends to all positions alike and
brings the mean of it into the second channel, which only the output layer reads: for the state token of a query and
against those of noise and of typing. All else stays as it is, and answers are random words without an end.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from tests.support import sounds
from vita_duplex.models.audio_encoder import AudioTower, AudioTowerConfig, tower_name
from vita_duplex.models.audio_features import RATE, AudioFeatures
from vita_duplex.models.checkpoint import AUDIO, PROJECTOR

QUERY, NOISE = sounds.chirp(1.6), sounds.tone(600.0, 3.0)

EAR, VERDICT = 126, 127
"""Channels of 128."""
HEAD = 32
"""Width of a head; the first two of four share their keys and values."""
LOUDNESS = 1.0
"""In the first channel, of a token of the query; the others are about 1."""
AGAINST = -12.0
"""Of a token of noise, times as much: 0.4 s of it, a glance, have to outweigh the queries in the same prompt."""
GAIN = 38.0
"""Enough to be sure among the three, too little for a state token in the middle of an answer."""

LAST = f"{AUDIO}adpter.project."
FIRST = "model.layers.0."


def judging_by_ear(original: Path, folder: Path, states: tuple[int, int, int], end: int) -> Path:
    """A checkpoint made of a golden one; `states` are the ids for a query, noise, typing; `end` ends an answer."""
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("model*"))
    tensors = {name: one for shard in sorted(original.glob("*.safetensors")) for name, one in load_file(shard).items()}
    settings = json.loads((original / "config.json").read_text())["audio_config"]
    telling = LOUDNESS * told_apart(AudioTowerConfig.of_settings(settings, 128), tensors)
    both = [EAR, VERDICT]
    for name, tensor in tensors.items():
        if name.endswith(("o_proj.weight", "w2.weight", "down_proj.weight")) or name.startswith(
            (f"{PROJECTOR}2", LAST)
        ):
            tensor[both] = 0  # nobody writes them
        elif name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensor[:, both] = 0
        elif name.startswith(f"{FIRST}self_attn.q_proj"):
            tensor[:HEAD] = 0
        elif name.startswith(f"{FIRST}self_attn.v_proj"):
            tensor[0] = 0
    tensors[f"{LAST}weight"][EAR], tensors[f"{LAST}bias"][EAR] = telling[:-1], telling[-1]
    tensors[f"{FIRST}input_layernorm.weight"][EAR] = 1
    tensors[f"{FIRST}self_attn.v_proj.weight"][0, EAR] = 1
    tensors[f"{FIRST}self_attn.o_proj.weight"][:, [0, HEAD]] = 0
    tensors[f"{FIRST}self_attn.o_proj.weight"][VERDICT, 0] = 1
    head = tensors["lm_head.weight"]
    head[[*states, end]] = 0
    head[states, VERDICT] = torch.tensor([GAIN, -GAIN, -GAIN / 2], dtype=head.dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@torch.inference_mode()
def told_apart(config: AudioTowerConfig, tensors: dict[str, Tensor]) -> Tensor:
    """Weights and, last, the bias with which the connector's last layer tells one sound from the other."""
    tower = AudioTower(config)
    named = {tower_name(name.removeprefix(AUDIO)): one for name, one in tensors.items() if name.startswith(AUDIO)}
    tower.load_state_dict({name: one for name, one in named.items() if name}, strict=True)
    given, wanted = [], []
    tower.connector.project.register_forward_pre_hook(lambda _layer, inputs: given.append(inputs[0][0]))
    for sound, value in ((QUERY, 1.0), (NOISE, AGAINST)):
        # As the endpointer leaves it, early and at the end; and what glances are shown.
        for said_s, closing_s in ((9.0, 0.2), (9.0, 0.4), (0.42, 0.0), (0.61, 0.0), (0.88, 0.0), (1.28, 0.0)):
            clip = np.pad(sound[: round(said_s * RATE)], (round(0.3 * RATE), round(closing_s * RATE)))
            tower.encode([torch.from_numpy(AudioFeatures().extract(clip))])
            wanted.append(torch.full((len(given[-1]),), value))
    values = torch.cat(wanted)
    inputs = F.pad(torch.cat(given), (0, 1), value=1.0) / values.abs()[:, None]  # so that an error counts by its share
    ridge = 1e-3 * torch.eye(inputs.shape[1])
    return torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ values.sign())
