"""A run of training: from a recipe to the checkpoints of `transformers`' Trainer."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from vita_duplex.models.prompts import STATES, wording
from vita_duplex.models.tokens import state_tokens
from vita_duplex.train.batch import Encoder, Rows, collate
from vita_duplex.train.curves import draw
from vita_duplex.train.folder import load_model, load_tokenizer
from vita_duplex.train.formats import read_items
from vita_duplex.train.model import VitaForTraining
from vita_duplex.train.recipe import PARTS, Data, DataFile, Recipe, RecipeError
from vita_duplex.train.sample import Sample, SampleError
from vita_duplex.train.trainer import TrainingFailed, VitaTrainer, part_of

TEXT_LINEARS = r".*language_model\.model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
"""Where adapters go; experts of a mixture and layers that only end in such names (VITA's trap: "0") have none."""


def train(recipe: Recipe, *, resume: bool = False) -> dict[str, float]:
    """Follow a recipe; returns the last measurements. Every process of `accelerate launch` calls this.

    Errors: `RecipeError`, `TrainingFailed`, `CheckpointMismatch`.
    """
    set_seed(recipe.seed)
    last = _last_checkpoint(recipe.out)
    if last and not resume:
        raise RecipeError(f"{recipe.out} has a run already: --resume goes on with it, another `out` begins anew")
    recipe.out.mkdir(parents=True, exist_ok=True)
    trainer = _trainer(recipe)
    if trainer.is_world_process_zero():
        (recipe.out / "recipe.json").write_text(recipe.model_dump_json(indent=2), encoding="utf-8")
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        found = trainer.evaluate() if recipe.data.check else {}
    except torch.OutOfMemoryError as error:
        raise TrainingFailed(
            f"out of memory: halve `batch` ({recipe.batch}) and double `accumulate`, lower `max_length` or "
            "`data.max_tiles`, switch on gradient_checkpointing, or give lora"
        ) from error
    except OSError as error:
        raise TrainingFailed(f"the run stopped: {error}; --resume goes on from the last checkpoint") from error
    trainer.save_state()
    if trainer.is_world_process_zero():
        _write_report(recipe, trainer, found)
    return {str(key): float(value) for key, value in found.items()}


def _trainer(recipe: Recipe) -> VitaTrainer:
    tokenizer = load_tokenizer(recipe.model)
    model = _model(recipe)
    config = model.config
    encoder = Encoder(config, tokenizer, recipe.labels, recipe.data.max_tiles, recipe.max_length)
    deciding = state_tokens(tokenizer, wording(config.prompt_style)).deciding
    skipped = recipe.out / "skipped.jsonl"
    check = read_samples(recipe.data.check, recipe.data, recipe.seed)
    return VitaTrainer(
        model=_with_adapters(model, recipe),
        args=_arguments(recipe, has_check=bool(check)),
        train_dataset=Rows(read_samples(recipe.data.train, recipe.data, recipe.seed), encoder, skipped),
        eval_dataset=Rows(check, encoder, skipped) if check else None,
        data_collator=collate,
        processing_class=tokenizer,
        rates=recipe.learning_rates,
        deciding=[deciding[state] for state in STATES],
    )


def _model(recipe: Recipe) -> VitaForTraining:
    # Weights stay in float32; bfloat16 is for computing. An optimizer that rounds its steps to bfloat16 learns nothing.
    model = load_model(recipe.model, attn_implementation=recipe.attention)
    model.config.text_config.output_router_logits = (
        recipe.router_loss and model.config.text_config.model_type == "mixtral"
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad = part_of(name) in recipe.learning_rates
    return model


def _with_adapters(model: VitaForTraining, recipe: Recipe) -> Any:
    if not recipe.lora:
        return model
    from peft import LoraConfig, get_peft_model

    whole = [PARTS[part].removesuffix(".") for part in recipe.learning_rates if part != "text"]
    adapters = LoraConfig(
        r=recipe.lora.r,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=TEXT_LINEARS,
        modules_to_save=whole or None,
    )
    return get_peft_model(model, adapters)


def _arguments(recipe: Recipe, *, has_check: bool) -> TrainingArguments:
    checked: dict[str, Any] = {"eval_strategy": "no"}
    if has_check:
        checked = {"eval_strategy": "steps", "eval_steps": recipe.check_every, "metric_for_best_model": "auc"}
        checked |= {"greater_is_better": True, "load_best_model_at_end": True}
    return TrainingArguments(
        output_dir=str(recipe.out),
        num_train_epochs=recipe.epochs,
        max_steps=recipe.steps or -1,
        per_device_train_batch_size=recipe.batch,
        per_device_eval_batch_size=recipe.batch,
        gradient_accumulation_steps=recipe.accumulate,
        warmup_steps=recipe.warmup,
        lr_scheduler_type=recipe.schedule,
        weight_decay=recipe.weight_decay,
        bf16=recipe.bf16,
        gradient_checkpointing=recipe.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=max(1, min(10, recipe.check_every // 10)),
        logging_nan_inf_filter=False,
        report_to=["tensorboard"],
        save_strategy="steps",
        save_steps=recipe.check_every,
        save_total_limit=recipe.keep,
        dataloader_num_workers=recipe.workers,
        remove_unused_columns=False,
        label_names=["labels"],
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=not torch.accelerator.is_available(),
        **checked,
    )


def read_samples(files: list[DataFile], data: Data, seed: int) -> list[Sample]:
    """The items of all files that can be read, each file's share of them drawn by the seed.

    Errors: `RecipeError` for a file without an item that can be used.
    """
    samples = []
    for file in files:
        try:
            items = list(read_items(file.path))
        except (OSError, SampleError) as error:
            raise RecipeError(str(error)) from error
        if file.ratio < 1:
            items = random.Random(seed).sample(items, max(1, round(file.ratio * len(items))))
        usable = []
        for item in items:
            try:
                usable.append(item.sample(file.path, data.folders))
            except SampleError as error:
                last = f"{item.name}: {error}"
        if not usable:
            raise RecipeError(f"{file.path}: no item can be used ({last if items else 'it is empty'})")
        samples += usable
    return samples


def _last_checkpoint(out: Path) -> Path | None:
    """Of those that were written whole: the Trainer's state is written last."""
    found = [one for one in out.glob("checkpoint-*") if (one / "trainer_state.json").exists()]
    return max(found, key=lambda one: int(one.name.rsplit("-", 1)[1]), default=None)


def _write_report(recipe: Recipe, trainer: VitaTrainer, found: dict[str, Any]) -> None:
    draw(trainer.state.log_history, recipe.out / "curves.png")
    skipped = recipe.out / "skipped.jsonl"
    items = {json.loads(line)["item"] for line in skipped.read_text().splitlines()} if skipped.exists() else set()
    if items:
        print(f"{len(items)} items could not be used; {skipped} says why")
    best = trainer.state.best_model_checkpoint
    report = {"measured": found, "best": best, "skipped": len(items), "steps": trainer.state.global_step}
    (recipe.out / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
