"""The Trainer of `transformers`, with what VITA needs: a rate for each part, state tokens measured, NaN refused."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction, Trainer

from vita_duplex.models.prompts import STATES
from vita_duplex.train.measure import by_situation
from vita_duplex.train.model import IGNORED
from vita_duplex.train.recipe import PARTS, Part

MEASURES = ("states", "wanted")
"""Of a batch, what the model does not take."""


class TrainingFailed(RuntimeError):
    """A run that cannot go on; the text says why and what to change, in one line."""


class VitaTrainer(Trainer):
    """`deciding` are the ids that tell the states apart, in the order of `STATES`."""

    def __init__(self, *args: Any, rates: Mapping[Part, float], deciding: list[int], **kwargs: Any) -> None:
        super().__init__(*args, compute_metrics=self._compute_metrics, **kwargs)
        self._rates = rates
        self._deciding = torch.tensor(deciding)
        self._state_hits: list[Tensor] = []
        self._tokens = 0

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW with a group for each part. Frozen parameters are in none."""
        if getattr(self, "optimizer", None) is None:
            trained = [(n, p) for n, p in (model or self.model).named_parameters() if p.requires_grad]
            groups = [
                {"params": [p for n, p in trained if part_of(n) == part], "lr": rate}
                for part, rate in self._rates.items()
            ]
            found = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=self.args.weight_decay)
            self.optimizer: Any = found
        return self.optimizer

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        given = {name: value for name, value in inputs.items() if name not in MEASURES}
        outputs = model(**given)
        with torch.no_grad():
            told = inputs["states"][:, 1:] & (inputs["labels"][:, 1:] != IGNORED)
            logits = outputs.logits[:, :-1][told][:, self._deciding.to(told.device)]
            wanted = self._deciding.to(told.device)[logits.argmax(-1)]
            self._state_hits.append((wanted == inputs["labels"][:, 1:][told]).float())
            self._tokens += int(inputs["attention_mask"].sum())
        if not math.isfinite(float(outputs.loss.detach())):
            raise TrainingFailed(
                f"the loss is {float(outputs.loss.detach())} at step {self.state.global_step}: lower the learning "
                "rates, or look at the items of this batch; --resume goes on from the last checkpoint"
            )
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs and self._state_hits and (hits := torch.cat(self._state_hits)).numel():
            logs["state_accuracy"] = round(float(hits.mean()), 4)
            logs["tokens"] = self._tokens
        if "loss" in logs:
            self._state_hits.clear()
        super().log(logs, *args, **kwargs)

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        """Weights of the state tokens, [rows, 3], where the last answer begins; labels are `wanted`, [rows, 2]."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            outputs = model(**{name: value for name, value in inputs.items() if name not in MEASURES})
            places = inputs["states"].float().cumsum(1).argmax(1)  # of the last state token; 0 where there is none
            rows = torch.arange(len(places), device=places.device)
            logits = outputs.logits[rows, (places - 1).clamp(min=0)][:, self._deciding.to(places.device)]
        return outputs.loss.detach(), logits.float().softmax(-1), inputs["wanted"]

    def _compute_metrics(self, found: EvalPrediction) -> dict[str, float]:
        p1 = np.asarray(found.predictions, np.float64)[:, STATES.index("query")]
        wanted = np.asarray(found.label_ids)
        return by_situation(p1, wanted[:, 0], wanted[:, 1], self.eval_dataset.situations)


def part_of(name: str) -> Part | None:
    """The part of the model that a parameter belongs to, also inside the wrapper of an adapter or of FSDP."""
    return next((part for part, prefix in PARTS.items() if prefix in name), None)
