"""`vita-duplex train`: teach a VITA checkpoint, and write what was learned as a folder to serve."""

import argparse
from pathlib import Path

NEEDED = "it needs the extra [train]: pip install 'vita-duplex[train]', or make train-tools"


class TrainError(Exception):
    """It cannot be trained; the text says why, in one line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Continual training of VITA 1.0 and 1.5. docs/training.md goes from recordings to a better <2>."
    )
    parser.epilog = (
        "several GPUs: accelerate launch --config_file configs/train/fsdp2.yaml -m vita_duplex train run RECIPE · "
        "exit status: 0 done; 2 the recipe, its data or the model are wrong, or the run could not go on"
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="run|export")
    running = commands.add_parser("run", help="follow a recipe (configs/train has some)")
    running.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    running.add_argument("--model", type=Path, help="the checkpoint to go on from, in place of the recipe's")
    running.add_argument("--out", type=Path, help="folder of the run, in place of the recipe's")
    running.add_argument("--resume", action="store_true", help="go on from the last whole checkpoint in the folder")
    exporting = commands.add_parser("export", help="write a run's best checkpoint for `serve --model`")
    exporting.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    exporting.add_argument("target", type=Path, metavar="OUT", help="a folder that is new or empty")


def run(arguments: argparse.Namespace) -> int:
    """Errors: `TrainError`."""
    try:
        import accelerate  # noqa: F401 - the Trainer fails without it, and says so on fifty lines
        import matplotlib  # noqa: F401
        import tensorboard  # noqa: F401

        from vita_duplex.models.checkpoint import CheckpointMismatch
        from vita_duplex.train.export import export
        from vita_duplex.train.recipe import RecipeError, read_recipe
        from vita_duplex.train.run import train
        from vita_duplex.train.trainer import TrainingFailed
    except ImportError as error:
        raise TrainError(f"{error.name} is not installed; {NEEDED}") from error
    try:
        if arguments.what == "export":
            print(
                f"wrote {export(arguments.folder, arguments.target)}; now vita-duplex serve --model {arguments.target}"
            )
            return 0
        changes = {name: value for name in ("model", "out") if (value := getattr(arguments, name)) is not None}
        train(read_recipe(arguments.recipe, changes), resume=arguments.resume)
    except (RecipeError, TrainingFailed, CheckpointMismatch, OSError, ValueError) as error:
        raise TrainError(str(error)) from error
    return 0
