"""`reid-edge train`: a recipe and a data set to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reid_edge.errors import InputError

from .parts import choices
from .parts.console import given, say, tell
from .parts.options import DATA, DEVICE, MOST_SEED, RECIPE, WHAT, Layout, Threads, writable_folder

__all__ = ["EXAMPLES", "train"]

EXAMPLES = """train --arch osnet_x0_25 --data Market-1501 --out runs/osnet
train --resume --out runs/osnet
train --resume --out runs/osnet --epochs 240"""

START = "Start and teacher"
RUN = "Run"


def _architectures(incomplete: str) -> list[str]:
    """For a shell's completion."""
    from reid_edge.core.registry import added_names
    from reid_edge.training.models.names import ARCHITECTURE_NAMES

    return [name for name in (*ARCHITECTURE_NAMES, *added_names("architectures")) if name.startswith(incomplete)]


def train(
    arch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Architecture: resnet50_bot, osnet_x0_25 (or another width), mobilenetv3_large.",
            autocompletion=_architectures,
            rich_help_panel=WHAT,
        ),
    ] = None,
    recipe: Annotated[
        choices.Recipe | None,
        typer.Option(
            help="Settings to begin with: the architecture's own, a short fine-tuning, distillation from a teacher "
            "without labels, INT8 quantisation-aware, or the seed paper's.",
            show_default="default",
            rich_help_panel=WHAT,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A recipe as TOML, in place of --arch and --recipe.", rich_help_panel=WHAT),
    ] = None,
    dump_config: Annotated[
        bool, typer.Option("--dump-config", help="Print the recipe as TOML, and stop.", rich_help_panel=WHAT)
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Start from a torchvision, torchreid or reid-edge file, or from public weights by name (reid-edge "
            "models), as imagenet: fetched once, checked and kept.",
            rich_help_panel=START,
        ),
    ] = None,
    finetune: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Short for --weights FILE --recipe finetune; a reid-edge file names its architecture.",
            rich_help_panel=START,
        ),
    ] = None,
    qat: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Fine-tune this checkpoint with INT8 fake quantisation, towards its own FP32 embeddings; needs no "
            "labels.",
            rich_help_panel=START,
        ),
    ] = None,
    merged_streams: Annotated[
        bool,
        typer.Option(
            "--merged-streams",
            help="With --qat, round where INT8 files of merged streams do (export --optimize-for gpu).",
            rich_help_panel=START,
        ),
    ] = False,
    quantize_residuals: Annotated[
        bool,
        typer.Option(
            "--quantize-residuals",
            help="With --qat, also round the skip input of residual adds.",
            rich_help_panel=START,
        ),
    ] = False,
    teacher: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Distil this model too: a checkpoint, .onnx, or foreign .pth.", rich_help_panel=START
        ),
    ] = None,
    teacher_arch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Architecture of a teacher's foreign .pth.",
            autocompletion=_architectures,
            rich_help_panel=START,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs to train; scales the schedule too. The recipe's own by default. With --resume, more than "
            "before go on with a finished run.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MOST_SEED, help="Seed of every random draw.", show_default="0", rich_help_panel=RECIPE),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Base learning rate.", rich_help_panel=RECIPE)] = None,
    identities: Annotated[
        int | None, typer.Option("--identities", "-P", help="Identities in a batch.", rich_help_panel=RECIPE)
    ] = None,
    crops: Annotated[
        int | None, typer.Option("--crops", "-K", help="Crops of each identity in a batch.", rich_help_panel=RECIPE)
    ] = None,
    size: Annotated[
        tuple[int, int] | None, typer.Option(help="Input height and width in pixels.", rich_help_panel=RECIPE)
    ] = None,
    precision: Annotated[
        choices.TrainPrecision | None,
        typer.Option(
            help="Mixed precision; auto: mixed on a GPU, what a short measurement finds faster on a CPU.",
            show_default="auto",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="DATASET",
            help="Data set: a folder or a manifest; repeatable, to train on several. The first is evaluated on.",
            rich_help_panel=DATA,
        ),
    ] = None,
    layout: Layout = None,
    max_bad_crops: Annotated[
        int | None,
        typer.Option(min=0, help="Unreadable crops to leave out at most.", show_default="10", rich_help_panel=DATA),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            callback=writable_folder,
            help="Folder for model.pth, checkpoint.pth, history.json and curves.",
            rich_help_panel=RUN,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in --out from its checkpoint; its folder knows its recipe and data. An option given "
            "again must agree; give data that moved at its new place.",
            rich_help_panel=RUN,
        ),
    ] = False,
    eval_every: Annotated[
        int | None,
        typer.Option(
            min=1, help="Evaluate on query and gallery crops every N epochs.", show_default="10", rich_help_panel=RUN
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.", show_default="auto", rich_help_panel=DEVICE),
    ] = None,
    threads: Threads = None,
) -> None:
    """Train a model with the bag of tricks: P x K batches, batch-hard triplet, label-smoothed ID and center loss."""
    from reid_edge.api.train_model import train_model
    from reid_edge.api.train_plan import training_config
    from reid_edge.training.options import RunOptions, StartFrom, Teacher

    start = StartFrom(
        weights=weights,
        finetune=finetune,
        qat=qat,
        merged_streams=merged_streams,
        quantize_residuals=quantize_residuals,
    )
    run = RunOptions(resume=resume, device=device, eval_every=eval_every, max_bad_crops=max_bad_crops, threads=threads)
    replaced = {
        "seed": seed,
        "precision": choices.value_of(precision),
        "learning_rate": lr,
        "identities_per_batch": identities,
        "crops_per_identity": crops,
        "input_hw": size,
    }
    recipe_options: dict[str, Any] = {"arch": arch, "recipe": choices.value_of(recipe), "config": config}
    recipe_options |= {"epochs": epochs, "settings": given(replaced), "start": start}
    if dump_config:
        for line in training_config(**recipe_options).to_toml().splitlines():
            tell(line)
        return
    if out is None or not (data or resume):
        raise InputError("give --data PATH to train on and --out DIR for the model")
    report = train_model(
        data,
        out,
        **recipe_options,
        teacher=Teacher(model=teacher, arch=teacher_arch) if teacher else None,
        layout=choices.value_of(layout),
        run=run,
    )
    say(f"wrote {report.model}; next:")
    say(f"  reid-edge eval {report.model} --data {report.data}")
    say(f"  reid-edge export {report.model} --out {out}")
