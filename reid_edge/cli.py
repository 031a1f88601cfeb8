"""The command line. Every command imports its room inside its body, so that ``--help`` loads none of them."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import GateError, InputError, MissingExtraError, ReidEdgeError

if TYPE_CHECKING:
    from .engine import Engine
    from .export.build import BuildOptions
    from .training.config import TrainConfig

__all__ = ["app", "main"]

app = typer.Typer(
    help="Person re-identification from labelled crops to a verified engine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at a data set, or draw the built-in one.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Data = Annotated[Path, typer.Option("--data", help="Data set: a folder in a known layout, or a CSV/Parquet manifest.")]
Layout = Annotated[
    str | None,
    typer.Option(help="market1501, dukemtmc, last, msmt17, manifest or (to distil) crops; found out by default."),
]
Part = Annotated[str, typer.Option("--split", help="Which part to score on: test, or val where there is one (LaST).")]
Model = Annotated[Path, typer.Option("--model", help="An ONNX file written by reid-edge export.")]
Architecture = Annotated[
    str | None,
    typer.Option("--model", help="Architecture of a torchreid or torchvision file, e.g. osnet_x0_25."),
]
Resize = Annotated[str | None, typer.Option(help="opencv or pillow-bilinear, instead of what the model card says.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the figures here as JSON.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; the backend's own choice by default.")]
Distance = Annotated[str, typer.Option(help="euclidean, cosine, cityblock, minkowski[:p] or correlation.")]

# What to install when a module is missing: {module: (extra, what needs it)}.
_EXTRAS = {
    "torch": ("train", "training, and reading checkpoints,"),
    "torchvision": ("train", "training"),
    "tomlkit": ("train", "reading and writing recipes"),
    "onnx": ("export", "writing ONNX files"),
    "onnxscript": ("export", "writing ONNX files"),
    "pyarrow": ("parquet", "reading Parquet manifests"),
    "matplotlib": ("report", "drawing plots"),
    "scipy": ("train", "isotonic calibration"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a gate failed, 2 bad use or bad input, 130 interrupted."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except ReidEdgeError as error:
        _stop(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        if module not in _EXTRAS:
            raise
        _stop(str(MissingExtraError(module, *_EXTRAS[module])), 2)
    except OSError as error:
        _stop(_os_message(error), 2)
    except KeyboardInterrupt:
        _stop("interrupted", 130)


def _stop(message: str, code: int) -> None:
    print(f"reid-edge: {message}", file=sys.stderr)
    sys.exit(code)


def _os_message(error: OSError) -> str:
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space left to write{where}: free some, or write elsewhere; what was there before is untouched"
    return f"{error.strerror or error}{where}"


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from . import __version__

        print(f"reid-edge {__version__}")
        raise typer.Exit


@app.command(epilog=r"Example: `reid-edge train --model osnet_x0_25 --data Market-1501 --out runs/osnet`")
def train(
    model: Annotated[
        str | None, typer.Option(help="resnet50_bot, osnet_x0_25 (or another width) or mobilenetv3_large.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Folder or manifest; given again, trained on too: their people are others."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for checkpoint.pth, model.pth and history.json.")] = None,
    recipe: Annotated[
        str, typer.Option(help="default, finetune (short), distill (a teacher, no labels), qat or seed (the paper's).")
    ] = "default",
    config: Annotated[Path | None, typer.Option(help="A recipe as TOML, instead of --model and --recipe.")] = None,
    dump_config: Annotated[bool, typer.Option("--dump-config", help="Print the recipe as TOML, and stop.")] = False,
    epochs: Annotated[
        int | None, typer.Option(help="The model's recipe by default, shrunk or stretched to this.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Start from a torchvision, torchreid or reid-edge file.")] = None,
    finetune: Annotated[
        Path | None, typer.Option(help="Short for --weights FILE --recipe finetune; our own files name their model.")
    ] = None,
    qat: Annotated[
        Path | None,
        typer.Option(help="Fine-tune this checkpoint under INT8's rounding, towards itself in FP32; no labels needed."),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Learn a model's ranking too: a checkpoint, an ONNX file, or a .pth.")
    ] = None,
    teacher_model: Annotated[str | None, typer.Option(help="Architecture of a teacher's foreign .pth.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out was saved.")] = False,
    seed: Annotated[int | None, typer.Option(help="Decides every random draw; 0 by default.")] = None,
    lr: Annotated[float | None, typer.Option(help="Base learning rate.")] = None,
    people: Annotated[int | None, typer.Option("--people", "-P", help="People in a batch.")] = None,
    crops: Annotated[int | None, typer.Option("--crops", "-K", help="Crops of each person in a batch.")] = None,
    size: Annotated[tuple[int, int] | None, typer.Option(help="Input height and width in pixels.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    eval_every: Annotated[int, typer.Option(min=1, help="Score on query and gallery every so many epochs.")] = 10,
    max_bad_crops: Annotated[int, typer.Option(min=0, help="Leave out up to so many unreadable crops.")] = 10,
    layout: Layout = None,
    threads: Threads = None,
) -> None:
    """Train a model with the bag of tricks: P x K batches, batch-hard triplet, label-smoothed ID and center loss."""
    import torch

    from .datasets import mixed, open_dataset
    from .training.checkpoint import load_checkpoint
    from .training.config import TrainConfig
    from .training.loop import CHECKPOINT_NAME
    from .training.loop import train as train_model
    from .training.recipes import recipe_for

    if threads:
        torch.set_num_threads(threads)
    if finetune:
        weights, recipe = finetune, "finetune"
        model = model or (None if config else load_checkpoint(finetune).card.architecture)
    if qat:
        weights, recipe, teacher = qat, "qat", teacher or qat
        teacher_model = teacher_model or (model if teacher == qat else None)
        model = model or (None if config else load_checkpoint(qat).card.architecture)
    if (model is None) == (config is None):
        raise InputError("give --model NAME for its recipe, or --config FILE with a recipe of yours")
    asked = {
        "seed": seed,
        "precision": precision,
        "learning_rate": lr,
        "people_per_batch": people,
        "crops_per_person": crops,
        "input_hw": size,
    }
    if config:
        settings = TrainConfig.from_toml(config)
        settings = settings.for_epochs(epochs) if epochs else settings
    else:
        settings = recipe_for(str(model), epochs, recipe)
    settings = replace(settings, **_given(asked))
    if qat:
        settings = _shaped_like(settings, qat, teacher_model)
    if dump_config:
        print(settings.to_toml(), end="")
        return
    if not data or out is None:
        raise InputError("give --data PATH to train on and --out DIR for the model")
    dataset = mixed([open_dataset(path, layout) for path in data])
    _show_notices(dataset.notices)
    path = train_model(
        settings,
        dataset,
        out,
        weights=weights,
        teacher=_engine(teacher, teacher_model, threads) if teacher else None,
        quantization=_quantization(qat, teacher_model, data[0], layout, threads) if qat else None,
        resume=resume,
        device=device,
        eval_every=eval_every,
        max_bad_crops=max_bad_crops,
        say=_say,
    )
    print(f"wrote {path}; next:")
    print(f"  reid-edge eval {path} --data {data[0]}")
    print(f"  reid-edge export {path} --out {out}")
    print(f"(the run is in {out / CHECKPOINT_NAME}; an interrupted one goes on with --resume)")


@app.command(epilog=r"Example: `reid-edge reproduce --market Market-1501 --last LaST --out reproduction`")
def reproduce(
    out: Annotated[Path, typer.Option(help="Folder for the runs, table1.md, table1.csv and the CMC figures.")] = Path(
        "reproduction"
    ),
    market: Annotated[Path | None, typer.Option(help="Market-1501.")] = None,
    duke: Annotated[Path | None, typer.Option(help="DukeMTMC-reID; adds fine-tuning both ways.")] = None,
    last: Annotated[Path | None, typer.Option(help="LaST, to score on.")] = None,
    part: Annotated[str, typer.Option("--split", help="Of LaST: val, as in the paper, or test.")] = "val",
    model: Annotated[list[str] | None, typer.Option(help="One of the three models; again for more.")] = None,
    recipe: Annotated[
        list[str] | None, typer.Option(help="seed (the paper's), default (ours); again for both.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Fewer than the recipe's, for a try.")] = None,
    weights: Annotated[
        list[str] | None, typer.Option(metavar="MODEL=FILE", help="What a model starts from; random by default.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides every random draw; 0 by default.")] = None,
    people: Annotated[int | None, typer.Option("--people", "-P", help="People in a batch.")] = None,
    size: Annotated[tuple[int, int] | None, typer.Option(help="Input height and width in pixels.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Threads = None,
) -> None:
    """The paper's experiments on the data given: its Table I with its numbers beside ours, and CMC figures."""
    import torch

    from .training.plan import MODELS
    from .training.reproduce import reproduce as run_matrix

    if threads:
        torch.set_num_threads(threads)
    starts = dict(each.partition("=")[::2] for each in weights or [])
    if not all(starts.values()):
        raise InputError("give --weights MODEL=FILE, for example --weights resnet50_bot=resnet50.pth")
    written = run_matrix(
        out,
        market=market,
        duke=duke,
        last=last,
        last_part=part,
        models=tuple(model or MODELS),
        recipes=tuple(recipe or ("seed",)),
        epochs=epochs,
        weights={name: Path(path) for name, path in starts.items()},
        change=_given({"seed": seed, "people_per_batch": people, "input_hw": size}),
        device=device,
        say=_say,
    )
    for path in written:
        print(f"wrote {path}")


@app.command(
    epilog=r"Example: `reid-edge export runs/osnet/model.pth --out models --fp16 --int8 --calibrate Market-1501`"
)
def export(
    model_file: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A checkpoint, a torchreid/torchvision .pth, or one of our FP32 .onnx."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for NAME_fp32.onnx, NAME_fp16.onnx, NAME_int8.onnx.")] = Path(),
    model: Architecture = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Also write the FP16 graph.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Also write the INT8 graph; needs --calibrate.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="Data set whose training crops show INT8 its ranges.", metavar="DATASET")
    ] = None,
    target: Annotated[str, typer.Option(help="For whom INT8 is: tensorrt, or cpu (another file).")] = "tensorrt",
    rest: Annotated[str, typer.Option(help="What is not INT8 in TensorRT's INT8 file: fp16 or fp32.")] = "fp16",
    method: Annotated[str, typer.Option(help="How ranges are chosen: mse, percentile or minmax.")] = "mse",
    calibration_crops: Annotated[int, typer.Option(min=1, help="How many training crops.")] = 512,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer or block to keep in float, a file that --sensitivity wrote, 'default' (depthwise convolutions "
            "and gates) or 'none'; again for more."
        ),
    ] = None,
    sensitivity: Annotated[
        str | None, typer.Option(help="Measure what each layer (or block) loses in INT8: layer or block.")
    ] = None,
    gate: Annotated[
        list[str] | None, typer.Option(metavar="PRECISION.NAME=VALUE", help="Another threshold: int8.cosine_min=0.9.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Keep an INT8 file that makes the CPU slower; build engines anew.")
    ] = False,
    engine: Annotated[bool, typer.Option("--engine", help="Also build TensorRT engines, of every file.")] = False,
    batch: Annotated[str, typer.Option(help="Least, usual and largest batch of the engines.")] = "1:16:64",
    backend: Annotated[
        str | None, typer.Option(help="tensorrt or tensorrt-rtx; the first that is installed by default.")
    ] = None,
    workspace: Annotated[int | None, typer.Option(min=1, help="MiB of scratch memory an engine may use.")] = None,
    timing_cache: Annotated[Path | None, typer.Option(help="File that makes the next build quick.")] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Engines that newer TensorRTs run too, slower.")
    ] = False,
    dla: Annotated[int | None, typer.Option(min=0, help="Core of the deep-learning accelerator to build for.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Compare on these crops, and score R1 and mAP; the built-in synthetic crops by default."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="File name stem; the architecture's name by default.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which crops calibrate.")] = 0,
    resize: Resize = None,
    graph_layout: Annotated[
        str | None, typer.Option("--layout", help="What the graph takes: nhwc-uint8, or nchw-float (0..255, RGB).")
    ] = None,
    target_program: Annotated[
        str | None, typer.Option("--for", help="Also write what deepstream, triton or trtexec needs.")
    ] = None,
    layout: Annotated[str | None, typer.Option("--data-layout", help="Of the data sets; found out by default.")] = None,
    threads: Threads = None,
) -> None:
    """Write self-describing ONNX files, each only after it agreed with the model in FP32 on real or synthetic crops."""
    from .export.build import BuildOptions, parse_batches
    from .export.crops import parity_crops
    from .export.deploy import chosen_layout, deployed
    from .export.graph import read_ours
    from .export.int8 import Int8Options
    from .export.parity import overridden
    from .export.report import exported_table
    from .export.write import Plan, onnx_source, scorer, write_files
    from .tensorrt_api import require_backend

    own = model_file.suffix.lower() == ".onnx"
    wanted = [precision for precision, on in (("fp16", fp16), ("int8", int8)) if on]
    if own and (model or resize):
        raise InputError("an ONNX file of ours says its own --model and --resize: leave them out")
    planes = chosen_layout(graph_layout, target_program)
    options = Int8Options(calibrate, layout, calibration_crops, seed, method, _kept(keep), target, threads, rest)
    options.check()
    if int8 and target == "cpu" and (engine or target_program or planes != "nhwc-uint8"):
        raise InputError("--target cpu is for ONNX Runtime: leave --engine, --for and --layout out, or --target cpu")
    if sensitivity or (int8 and calibrate):
        options.dataset()
    require_backend(backend)
    # A file of ours has a layout already: planes are made of its FP32 file.
    anew = own and planes == "nchw-float" and read_ours(model_file)[1].layout != planes
    if own and not (wanted or sensitivity or engine or target_program or anew):
        raise InputError(f"{model_file} is an ONNX file already: add --fp16, --int8 or --engine")
    plan = Plan(
        wanted if own and not anew else ["fp32", *wanted],
        name,
        options,
        scorer(data, layout, threads=threads) if data else None,
        overridden(gate or []),
        force,
        planes,
    )
    plan.check()
    build = BuildOptions(backend, parse_batches(batch), workspace, version_compatible, dla, timing_cache, force)
    passed, refused = [model_file] if own and not anew else [], []
    if sensitivity or plan.precisions:
        source = (
            onnx_source(model_file, lambda card: parity_crops(card, data, layout))
            if own
            else _torch_source(model_file, model, resize, data, layout)
        )
        if sensitivity:
            from .export.sensitivity import write_sensitivity

            for line in write_sensitivity(source, options, sensitivity, out, plan.name):
                typer.echo(line)
        if files := write_files(source, out, plan):
            _print(exported_table(files))
        for file in files:
            if file.note:
                typer.echo(f"{file.path.name}: {file.note}")
        passed += [file.path for file in files if not file.refused]
        refused = [str(file.refused) for file in files if file.refused]
    if target_program:
        for path in passed:
            _show_written(deployed(path, out, target_program, build.batches, _tensorrt_version()))
    if engine and passed:
        _build_engines(passed, out, build, data, layout, gate or [])
    if refused:
        raise GateError("; ".join(refused))


@app.command(
    "verify-export",
    epilog=r"Example: `reid-edge verify-export models/*.onnx --reference runs/osnet/model.pth --data Market-1501`",
)
def verify_export(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="ONNX files or engines of ours.")],
    reference: Annotated[Path, typer.Option(help="What they must agree with: a checkpoint, .pth or FP32 .onnx.")],
    model: Architecture = None,
    data: Annotated[
        Path | None, typer.Option(help="Compare on these crops; the built-in synthetic ones by default.")
    ] = None,
    gate: Annotated[
        list[str] | None, typer.Option(metavar="PRECISION.NAME=VALUE", help="Another threshold: int8.cosine_min=0.9.")
    ] = None,
    layout: Layout = None,
    threads: Threads = None,
    json_file: Json = None,
) -> None:
    """Put files through the gate of export again: agreement, ranking, batches, batch-mates. Exit 1 if one fails."""
    from .export.crops import parity_crops
    from .export.parity import embed_in_batches, overridden
    from .export.report import verified_table
    from .export.verify import verify

    limits = overridden(gate or [])
    with _engine(reference, model, threads) as engine:
        crops = parity_crops(engine.card, data, layout)
        exact = embed_in_batches(engine, crops, 32)
    found = [verify(file, _engine(file, None, threads), exact, crops, limits) for file in files]
    _print(verified_table(found))
    if any(one.unrounded for one in found):
        typer.echo("FP16 was computed in FP32, as CPUs do: pip install 'reid-edge[export]' looks for overflows too")
    _write_json(
        json_file,
        {str(one.path): one.parity.to_dict() if one.parity else {"refused": str(one.refused)} for one in found},
    )
    if refused := [f"{one.path}: {one.refused}" for one in found if one.refused]:
        raise GateError("; ".join(refused))


@app.command(
    "eval",
    epilog=r"Example: `reid-edge eval models/osnet_x0_25_fp32.onnx --data Market-1501 --json eval.json`",
)
def evaluate(
    model_file: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint, a .pth or an .onnx file.")],
    data: Data,
    model: Architecture = None,
    distance: Distance = "cosine",
    resize: Resize = None,
    part: Part = "test",
    layout: Layout = None,
    batch: Annotated[int, typer.Option(min=1, help="Crops a batch.")] = 32,
    threads: Threads = None,
    json_file: Json = None,
) -> None:
    """Score a model: CMC (ranks 1, 5, 10, 20), mAP and mINP, by the protocol of the data set."""
    from .evaluation import evaluate as evaluate_model
    from .evaluation import evaluation_table

    with _engine(model_file, model, threads) as engine:
        result = evaluate_model(
            engine, data, distance, layout=layout, part=part, resize=resize, batch=batch, progress=True
        )
    _show_notices(result.notices)
    _print(evaluation_table(result))
    _write_json(json_file, result.to_dict())


@app.command(epilog=r"Example: `reid-edge bench models/*.onnx --data Market-1501 --batch 1 --batch 8`")
def bench(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="ONNX files or engines of ours.")],
    data: Annotated[Path | None, typer.Option(help="Data set to read crops from and to score on.")] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Batch size; give it again for more.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Measure each stage at least this long.")] = 2.0,
    distance: Distance = "cosine",
    part: Part = "test",
    layout: Layout = None,
    threads: Threads = None,
    json_file: Json = None,
) -> None:
    """Latency beside accuracy: a row per model and batch, and the change against the first row."""
    from .benchmarks.report import report_table
    from .benchmarks.run import bench as run_bench

    report = run_bench(
        models,
        data,
        tuple(batch or (1, 8, 32)),
        min_seconds=seconds,
        threads=threads,
        distance=distance,
        part=part,
        layout=layout,
    )
    _print(report_table(report))
    _write_json(json_file, report.to_dict())


@app.command(epilog=r"Example: `reid-edge embed crops/ --model models/osnet_x0_25_fp32.onnx --out gallery.npz`")
def embed(
    paths: Annotated[list[Path], typer.Argument(metavar="PATHS...", help="Crops, or folders of crops.")],
    model: Model,
    out: Annotated[Path, typer.Option(help="A gallery file (.npz): embeddings float32 [N, D] and labels [N].")],
    batch: Annotated[int, typer.Option(min=1, help="Crops a batch.")] = 32,
    threads: Threads = None,
) -> None:
    """Embed crops into a gallery file, which `rank --gallery` and `reid_edge.Gallery.load` read."""
    from .ranking import gallery_of

    gallery = gallery_of(paths, model, batch=batch, threads=threads)
    gallery.save(out)
    print(f"wrote {out}: {len(gallery)} embeddings of {gallery.dim} dimensions")


@app.command(epilog=r"Example: `reid-edge rank query.jpg --gallery crops/ --model models/osnet_x0_25_fp32.onnx`")
def rank(
    queries: Annotated[list[Path], typer.Argument(metavar="QUERY...", help="Crops to look for, or folders of crops.")],
    gallery: Annotated[Path, typer.Option(help="A folder of crops, or a gallery file written by embed.")],
    model: Model,
    top: Annotated[int, typer.Option(min=1, help="How many gallery crops to list for each query.")] = 10,
    picture: Annotated[Path | None, typer.Option(help="Draw each query with its ranked crops (PNG or JPEG).")] = None,
    distance: Distance = "cosine",
    threads: Threads = None,
    json_file: Json = None,
) -> None:
    """Rank a gallery by its distance from each query."""
    from .ranking import draw_ranking, rank_files, ranking_table

    found = rank_files(queries, gallery, model, top=top, distance=distance, threads=threads)
    _print(ranking_table(found))
    if picture:
        draw_ranking(found, picture)
        print(f"wrote {picture}")
    _write_json(json_file, found.to_dict())


@app.command(epilog=r"Example: `reid-edge pairs models/osnet_x0_25_fp32.onnx --data Market-1501 --out pairs`")
def pairs(
    model: Annotated[Path, typer.Argument(help="An ONNX file of ours, a checkpoint, or a .pth with --model.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for pair_head.npz, pairs.json and the reliability diagram.")],
    architecture: Architecture = None,
    people: Annotated[
        str, typer.Option(help="Whom to learn from: train, or test where the model was trained on the former.")
    ] = "train",
    calibration: Annotated[str, typer.Option(help="temperature or isotonic.")] = "temperature",
    seed: Annotated[int, typer.Option(help="Decides every random draw.")] = 0,
    layout: Layout = None,
    part: Part = "test",
    threads: Threads = None,
) -> None:
    """Train and calibrate a Siamese pair head for a model, and compare it with a plain cosine threshold."""
    import torch

    from .datasets import open_dataset
    from .embedder import Embedder
    from .training.pair_report import HEAD_NAME, make_pair_head, pair_table

    if threads:
        torch.set_num_threads(threads)
    dataset = open_dataset(data, layout, part)
    _show_notices(dataset.notices)
    with _engine(model, architecture, threads) as engine, Embedder(engine) as embedder:
        if people == "train" and embedder.card.trained_on.startswith(f"{dataset.name}:"):
            _show_notices(["the model was trained on these people and knows them too well: use --people test"])
        report = make_pair_head(embedder, dataset, out, people=people, calibration=calibration, seed=seed, say=_say)
    _print(pair_table(report))
    print(f"wrote {out / HEAD_NAME}; next:")
    print(f"  reid-edge verify A.jpg B.jpg --model {model} --head {out / HEAD_NAME}")


@app.command(
    epilog=r"Example: `reid-edge verify a.jpg b.jpg --model models/osnet_x0_25_fp32.onnx --head pair_head.npz`"
)
def verify(
    first: Annotated[Path, typer.Argument(help="A crop.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
    model: Model,
    head: Annotated[Path, typer.Option(help="What reid-edge pairs made for this model (.npz).")],
    prior: Annotated[
        float, typer.Option(help="How often two crops are one person before anybody looks; 1 / people, for a search.")
    ] = 0.5,
    threads: Threads = None,
    json_file: Json = None,
) -> None:
    """Say how probable it is that two crops show one person."""
    from .verification import verify as verify_pair

    verdict = verify_pair(first, second, model, head, prior=prior, threads=threads)
    answer = "one person" if verdict.same else "two people"
    probability = f"probability of one person {verdict.probability:.4f} at a prior of {prior:g}"
    print(f"{answer}: {probability} (cosine {verdict.cosine:.4f})")
    _write_json(json_file, verdict.to_dict())


@data_app.command(epilog=r"Example: `reid-edge data inspect Market-1501`")
def inspect(
    path: Annotated[Path, typer.Argument(help="A data set folder or a manifest.")],
    layout: Layout = None,
    part: Part = "test",
    check_images: Annotated[bool, typer.Option(help="Decode every crop; --no-check-images is quicker.")] = True,
    json_file: Json = None,
) -> None:
    """Name the layout, count people, cameras and crops of each split, and list what is wrong."""
    from .inspection import inspect_dataset, inspection_table

    inspection = inspect_dataset(path, layout, part, check_images=check_images)
    _print(inspection_table(inspection))
    _write_json(json_file, inspection.to_dict())


@data_app.command(epilog=r"Example: `reid-edge data synthesize drawn --people 200 --seed 1`")
def synthesize(
    out: Annotated[Path, typer.Argument(help="Folder to make; it must not exist, or hold the same set.")],
    people: Annotated[int | None, typer.Option(min=2, help="People to train on.")] = None,
    test_people: Annotated[int | None, typer.Option(min=2, help="Other people to test on.")] = None,
    cameras: Annotated[int | None, typer.Option(min=2, help="Cameras that see them.")] = None,
    seed: Annotated[int, typer.Option(help="Decides every pixel.")] = 0,
) -> None:
    """Draw pedestrians seen by several cameras, in Market-1501's layout: a data set that anybody may have."""
    from .synthetic import synthesize as draw

    asked = {"people": people, "test_people": test_people, "cameras": cameras}
    print(f"wrote {draw(out, seed=seed, **_given(asked))}")


@app.command(epilog=r"Example: `reid-edge demo --out demo`")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demonstration makes.")] = Path("demo"),
    model: Annotated[str, typer.Option(help="Architecture to train.")] = "mobilenetv3_large",
    epochs: Annotated[int | None, typer.Option(help="Fewer is quicker.")] = None,
    seed: Annotated[int, typer.Option(help="Decides the drawn people and the training.")] = 0,
) -> None:
    """The main job on the built-in people: draw, train, export, evaluate, benchmark, rank."""
    from .demo import run_demo

    run_demo(out, model=model, epochs=epochs, seed=seed, say=_say, show=_print)


def _shaped_like(settings: TrainConfig, checkpoint: Path, architecture: str | None) -> TrainConfig:
    """A recipe for the very model in a checkpoint: its options, input size and resize."""
    from .training.checkpoint import load_model

    network, card = load_model(checkpoint, architecture)
    return replace(settings, options=network.options, input_hw=card.input_hw, resize=card.resize)


def _quantization(
    checkpoint: Path, architecture: str | None, data: Path, layout: str | None, threads: int | None
) -> dict[str, Any]:
    """The INT8 ranges of a checkpoint, measured on the training crops of ``data``."""
    from .export.int8 import Int8Options, trained_ranges
    from .export.onnx import onnx_from_model
    from .training.checkpoint import load_model

    network, card = load_model(checkpoint, architecture)
    return trained_ranges(onnx_from_model(network, card), card, Int8Options(data, layout, threads=threads))


def _show_written(paths: Sequence[Path]) -> None:
    for path in paths:
        typer.echo(f"wrote {path}")
        if path.suffix == ".sh":
            typer.echo("  " + path.read_text(encoding="utf-8").splitlines()[-1])


def _tensorrt_version() -> str | None:
    """Of the TensorRT that is installed, or None."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tensorrt")
    except PackageNotFoundError:
        return None


def _build_engines(
    files: Sequence[Path], out: Path, options: BuildOptions, data: Path | None, layout: str | None, gate: list[str]
) -> None:
    """Build an engine of each file; where there is a GPU, each must agree with ONNX Runtime's answer for its file."""
    from .engine_onnx import OnnxEngine
    from .export.build import engine_from_onnx
    from .export.crops import parity_crops
    from .export.parity import embed_in_batches, overridden
    from .export.report import built_table, verified_table
    from .export.verify import verify_or_remove

    built, found, refused = [], [], []
    for file in files:
        engine = engine_from_onnx(file, out, options, typer.echo)
        if engine.card.gpu:
            crops = parity_crops(engine.card.model, data, layout)
            with OnnxEngine(file, providers=["CPUExecutionProvider"]) as exact:
                reference = embed_in_batches(exact, crops, 32)
            try:
                candidate = _engine(engine.path, None, None)
                found.append(verify_or_remove(engine.path, candidate, reference, crops, overridden(gate)))
            except GateError as error:
                refused.append(str(error))
                continue
        built.append(engine)
    if built:
        _print(built_table(built))
    if found:
        _print(verified_table(found))
    if refused:
        raise GateError("; ".join(refused))
    if not found:
        typer.echo(
            "no GPU: the engines were not run, and are not verified; reid-edge verify-export does it on the device"
        )


def _kept(names: list[str] | None) -> tuple[str, ...] | None:
    """The layers that --keep names, with the files of --sensitivity read; None for the default."""
    if names is None:
        return None
    from .export.sensitivity import keep_from_json

    if "none" in names and len(names) > 1:
        raise InputError("--keep none keeps no layer: leave it out, or the others")
    lists = [keep_from_json(name) if name.endswith(".json") else [name] for name in names if name != "none"]
    return tuple(one for some in lists for one in some)


def _torch_source(path: Path, model: str | None, resize: str | None, data: Path | None, layout: str | None) -> Any:
    from .export.onnx import parity_crops, torch_source
    from .images import check_method
    from .training.checkpoint import load_model

    network, card = load_model(path, model)
    if resize:
        card = card.with_(resize=check_method(resize))
    return torch_source(network, card, parity_crops(card, data, layout))


def _engine(path: Path, architecture: str | None, threads: int | None) -> Engine:
    """An engine for an ONNX file, or for anything that `load_model` reads."""
    from .engine import CHECKPOINT_SUFFIXES, open_engine
    from .files import require_file

    if require_file(path, "a model").suffix.lower() not in CHECKPOINT_SUFFIXES:
        return open_engine(path, threads=threads)
    import torch

    from .training.checkpoint import load_model
    from .training.inference import TorchEngine
    from .training.run import device_for

    if threads:
        torch.set_num_threads(threads)
    return TorchEngine(*load_model(path, architecture), device_for("auto"))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _say(message: str) -> None:
    print(message, flush=True)


def _show_notices(notices: Sequence[str]) -> None:
    for notice in notices:
        print(f"note: {notice}", file=sys.stderr)


def _print(renderable: Any) -> None:
    from rich.console import Console

    console = Console()
    # A table in a log or a pipe is not cut at 80 columns.
    console.width = console.width if console.is_terminal else 160
    console.print(renderable)


def _write_json(path: Path | None, content: dict[str, Any]) -> None:
    if path is None:
        return
    from .files import written_whole

    with written_whole(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")
