"""The tables that `measure` writes: the columns of each, and its rows from what the commands left."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from camera_tables import CAMERAS, cameras
from compare_tables import COMPARE, COMPARE_FACTS, compare, compare_facts
from cpu_tables import (
    BF16,
    COLD_START,
    JPEG,
    LIMITS,
    SESSION,
    SESSION_MEMORY,
    bf16,
    cold_start,
    jpeg,
    limits,
    session,
    session_memory,
)
from crop_tables import FRAMES, RESIZING, SMALL, frames, resizing, small_crops
from domain_tables import DOMAINS, domains
from scoring_tables import COVERAGE, SCORING_SPEED, TRICKS, coverage, scoring_speed, tricks
from track_tables import TRACK_FACTORS, TRACKS, track_factors, tracks

__all__ = ["TABLES"]

Rows = dict[str, dict[str, Any]]

SCORES = {"R1": ".2f", "mAP": ".2f", "mINP": ".2f"}
ALL_SCORES = {"R1": ".2f", "R5": ".2f", "R10": ".2f", "mAP": ".2f", "mINP": ".2f"}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _scores(found: Mapping[str, Any]) -> dict[str, float]:
    """Per cent, of `Metrics.to_dict` or what `eval` writes."""
    names = {"R1": "rank1", "R5": "rank5", "R10": "rank10", "mAP": "mAP", "mINP": "mINP"}
    return {title: 100 * found[name] for title, name in names.items()}


def _interval(found: Mapping[str, float]) -> dict[str, float]:
    """Points, of a fraction with the ends of its interval."""
    return {name: 100 * found[key] for name, key in (("value", "mean"), ("low", "low"), ("high", "high"))}


def _evaluated(files: Mapping[str, dict[str, str]]) -> Callable[[Path], Rows]:
    """A row for each file of `eval --json`: what it says of itself, and its scores."""
    return lambda work: {name: {**row, **_scores(_json(work / f"{name}.json"))} for name, row in files.items()}


def _epochs(runs: Mapping[str, str]) -> Callable[[Path], Rows]:
    """A row for each evaluated epoch of the runs, folders by name; the losses are means over the epoch."""

    def rows(work: Path) -> Rows:
        found: Rows = {}
        for folder, name in runs.items():
            for epoch in _json(work / folder / "history.json"):
                if epoch["metrics"]:
                    losses = {f"{kind} loss": epoch["losses"].get(kind.lower()) for kind in ("ID", "triplet")}
                    row = {"model": name, "after epoch": epoch["epoch"], **_scores(epoch["metrics"]), **losses}
                    found[f"{Path(folder).name}-{epoch['epoch']}"] = row
        return found

    return rows


def _gate(work: Path) -> Rows:
    """The limits as the code has them."""
    from reid_edge.export.parity.limits import THRESHOLDS

    names = {"fp32": "FP32", "fp16": "FP16", "int8": "INT8", "engine": "engine, beside its own ONNX file"}
    return {
        name: {
            "": title,
            "cosine, minimum": THRESHOLDS[name].cosine_min,
            "cosine, 1st percentile": THRESHOLDS[name].cosine_p1,
            "maximum error": THRESHOLDS[name].max_error,
            "relative error": THRESHOLDS[name].relative_error,
            "between batches": THRESHOLDS[name].batch_error,
            "same top 10, %": 100 * THRESHOLDS[name].ranking,
            "ties within": THRESHOLDS[name].tie,
            "mAP lost, points": None if name == "engine" else 100 * THRESHOLDS[name].map_loss,
        }
        for name, title in names.items()
    }


GATE = {
    "": "",
    "cosine, minimum": "g",
    "cosine, 1st percentile": "g",
    "maximum error": "g",
    "relative error": "g",
    "between batches": "g",
    "same top 10, %": "g",
    "ties within": "g",
    "mAP lost, points": "g",
}


def _microseconds(work: Callable[[], object], repeats: int = 300) -> float:
    """The median time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1e6 * statistics.median(times)


def _decoding(work: Path) -> Rows:
    """Decode and resize one drawn crop, at the size of Market-1501's and at one from a large picture."""
    import numpy as np
    import simplejpeg
    from PIL import Image

    from reid_edge.data.images import RESIZES, read_crops, resize
    from reid_edge.data.synthetic.dataset import synthesize

    found: Rows = {name: {"step": name} for name in ("simplejpeg", "Pillow", *RESIZES)}
    found |= {f"whole {name}": {"step": f"file to input, {name}"} for name in RESIZES}
    for size_hw in ((128, 64), (400, 180)):
        column = f"{size_hw[1]}x{size_hw[0]} file"
        people = synthesize(work / f"people{size_hw[0]}", identities=1, test_identities=2, cameras=2, size_hw=size_hw)
        path = min((people / "query").glob("*.jpg"))
        content, pixels = path.read_bytes(), np.asarray(Image.open(path))
        found["simplejpeg"][column] = _microseconds(lambda content=content: simplejpeg.decode_jpeg(content))
        found["Pillow"][column] = _microseconds(lambda path=path: Image.open(path).load())
        for name in RESIZES:
            found[name][column] = _microseconds(lambda pixels=pixels, name=name: resize(pixels, (256, 128), name))
            found[f"whole {name}"][column] = _microseconds(
                lambda path=path, name=name: read_crops([path], (256, 128), name)
            )
    for name in ("simplejpeg", "Pillow"):
        found[name]["step"] = f"decode, {name}"
    for name in RESIZES:
        found[name]["step"] = f"resize, {name}"
    return found


def _demo(work: Path) -> Rows:
    """Before and after training, and each exported file, timed at batches of 1 and 8."""
    content = _json(work / "demo" / "demo.json")
    rows: Rows = {"untrained": {"model": "before training", **_scores(content["untrained"])}}
    for each in content["bench"]["rows"]:
        row = rows.setdefault(each["precision"], {"model": f"after, as {each['precision'].upper()} ONNX file"})
        row |= {"R1": 100 * each["rank1"], "mAP": 100 * each["mAP"], "file MB": each["file_bytes"] / 1e6}
        if each["batch"] == 1:
            row["ms for one crop"] = each["end_to_end_ms"]["p50"]
        else:
            row["crops/s in batches of 8"] = each["crops_per_s"]
    return rows


DEMO = {
    "model": "",
    "R1": ".1f",
    "mAP": ".1f",
    "file MB": ".1f",
    "ms for one crop": ".2f",
    "crops/s in batches of 8": ",.0f",
}


def _of_reference(work: Path) -> Rows:
    """The scores of `published`, beside those that an independent program found with the same weights."""
    rows = _evaluated(
        {
            "torch-pillow": {"backend": "PyTorch", "resize": "pillow-bilinear"},
            "fp32-pillow": {"backend": "ONNX FP32", "resize": "pillow-bilinear"},
            "fp16-pillow": {"backend": "ONNX FP16", "resize": "pillow-bilinear"},
            "torch": {"backend": "PyTorch", "resize": "opencv (the default)"},
        }
    )(work)
    found = {"R1": 62.23, "R5": 78.75, "R10": 84.71, "mAP": 40.50, "mINP": 15.60}
    return {"reference": {"backend": "an independent implementation", "resize": "Pillow bilinear", **found}, **rows}


def _precisions(models: Mapping[str, tuple[str, dict[str, str]]]) -> Callable[[Path], Rows]:
    """A row for each file of `export --json` and a precision in it, with what it loses against the FP32 file."""

    def rows(work: Path) -> Rows:
        found: Rows = {}
        for report, (precision, titles) in models.items():
            name, _, key = report.partition(" ")
            file = next(each for each in _json(work / f"{name}.json")["files"] if each["precision"] == precision)
            parity, lost = file["parity"], file["lost"]
            found[key or f"{name}-{precision}"] = {
                **titles,
                "MB": file["bytes"] / 1e6,
                "cosine": [parity[each] for each in ("cosine_min", "cosine_p1", "cosine_mean")],
                **_scores(file["metrics"]),
                "mAP lost": _interval(lost["mAP"]) if precision != "fp32" else None,
                "R1 lost": _interval(lost["rank1"]) if precision != "fp32" else None,
            }
        return found

    return rows


def _trained_for_int8(models: Mapping[str, tuple[str, dict[str, str]]]) -> Callable[[Path], Rows]:
    """A row for each INT8 file of a model trained for it, and what it loses against the FP32 file before that."""

    def rows(work: Path) -> Rows:
        from reid_edge.scoring.test_set import TestSet

        found = _precisions({name: ("int8", titles) for name, (_, titles) in models.items()})(work)
        with TestSet.open(work / "market1501-dev") as data:
            for name, (before, _) in models.items():
                pair = (work / "models" / file for file in (f"{before}_fp32.onnx", f"{name}_int8.onnx"))
                found[f"{name}-int8"] |= _lost_between(*pair, data)
        return found

    return rows


def _lost_between(before: Path, after: Path, data: Any) -> dict[str, dict[str, float]]:
    """What a file loses against another on the same queries, paired by person."""
    from reid_edge.api.evaluate import evaluate
    from reid_edge.export.parity.limits import THRESHOLDS
    from reid_edge.export.parity.scores import score_loss

    base, other = (evaluate(path, data, threads=1).metrics for path in (before, after))
    lost = score_loss(base, other, THRESHOLDS["int8"]).to_dict()
    return {"mAP lost": _interval(lost["mAP"]), "R1 lost": _interval(lost["rank1"])}


def _searches(work: Path) -> Rows:
    """A row for each set of layers in float that `export --int8 --json` tried, in their order."""
    found: Rows = {}
    for key, title in SEARCHED.items():
        (file,) = (each for each in _json(work / f"search-{key}.json")["files"] if each["precision"] == "int8")
        for i, trial in enumerate(file["int8"]["trials"]):
            found[f"{key}-{i}"] = {
                "weights": "" if i else title,
                "layers in float": trial["in_float"],
                "INT8, % of MACs": 100 * trial["share"],
                "cosine": [trial[each] for each in ("cosine_min", "cosine_p1", "cosine_mean")],
                "mAP lost": _interval(trial["map_lost"]) if trial["map_lost"] else None,
                "verdict": trial["verdict"].replace("_", " "),
            }
    return found


def _magnitudes(work: Path) -> Rows:
    """How large the values are that the last convolution reads of each of 512 drawn crops, by loss."""
    import numpy as np

    from reid_edge.export.graph.io import read_fp32
    from reid_edge.export.graph.session import open_session
    from reid_edge.export.parity.crops import parity_crops

    found: Rows = {}
    for key, name, title in (("demo", "demo", "no"), ("triplets", "mobilenet-triplets", "yes")):
        graph, card = read_fp32(work / "models" / f"{name}_fp32.onnx")
        (node,) = list(graph.layers.values())[-1]
        session = open_session(graph.with_outputs([node.input[0]]), 1)
        crops = parity_crops(card, work / "demo" / "people")
        maps = np.concatenate([session.run(None, {"images": crops[i : i + 32]})[-1] for i in range(0, len(crops), 32)])
        largest = np.abs(maps).max(axis=(1, 2, 3))  # [N]
        scores = next(f for f in _json(work / f"search-{key}.json")["files"] if f["precision"] == "fp32")["metrics"]
        percentiles = {title: float(np.percentile(largest, p)) for title, p in PERCENTILES.items()}
        found[key] = {"triplet loss": title, **_scores(scores), **percentiles}
    return found


def _imported(work: Path) -> Rows:
    """A file of another project: as it was imported, beside its original, and in the other precisions."""
    made, scores = (_json(work / f"imported-{each}.json") for each in ("fp32", "eval"))
    cosine = [made["parity"][each] for each in ("cosine_min", "cosine_p1", "cosine_mean")]
    row = {"weights": "OSNet x0.25, MSMT17, ONNX", "precision": "FP32, imported", "MB": made["bytes"] / 1e6}
    others = {
        "imported fp16": ("fp16", {"precision": "FP16"}),
        "imported int8": ("int8", {"precision": "INT8, calibrated"}),
    }
    return {"fp32": {**row, "cosine": cosine, **_scores(scores)}, **_precisions(others)(work)}


LOSSES = {
    "weights": "",
    "precision": "",
    "MB": ".2f",
    "cosine": ".5f",
    "R1": ".2f",
    "mAP": ".2f",
    "mAP lost": ".2f",
    "R1 lost": ".2f",
}


def _merged(work: Path) -> Rows:
    """A row for each form of OSNet: what TensorRT-RTX compiles of it, and how far it is from the graph as trained."""
    import numpy as np

    from reid_edge.export.engines.build import engine_from_onnx
    from reid_edge.export.engines.options import EngineOptions
    from reid_edge.export.graph.fp16 import fp16_from_fp32
    from reid_edge.export.graph.io import read_graph, write_onnx
    from reid_edge.export.graph.macs import node_macs
    from reid_edge.export.graph.merge_streams import merge_streams
    from reid_edge.export.graph.session import embed_graph
    from reid_edge.export.int8.layers import default_keep, quantized_values, thin_layers
    from reid_edge.export.int8.qdq import quantized
    from reid_edge.export.parity.crops import ParityCrops

    plain, card = read_graph(work / "models" / "plain_fp32.onnx")
    crops = ParityCrops(count=64).of(card)
    exact = embed_graph(plain, crops, threads=1)
    found: Rows = {}
    for form in ("", "gpu", "gpu-latency"):
        graph = (merge_streams(plain, form) if form else None) or plain
        kept = default_keep(graph) | (thin_layers(graph) if form else set())
        ranges = dict.fromkeys(quantized_values(graph), 1.0)  # no kernel depends on them
        files = {"fp32": graph, "fp16": fp16_from_fp32(graph), "int8": fp16_from_fp32(quantized(graph, ranges, kept))}
        kernels = []
        for precision, each in files.items():
            path = work / f"merged{form}_{precision}.onnx"
            write_onnx(each, card.with_(precision=precision, optimized_for=form), path)
            engine = engine_from_onnx(path, work / "engines", EngineOptions(backend="tensorrt-rtx"))
            kernels.append(sum(engine.layers.values()))
        found[form or "trained"] = {
            "form": f"`{form}`" if form else "as trained",
            "kernels in FP32 / FP16 / INT8": kernels,
            "M multiply-accumulates": sum(node_macs(graph).values()) / 1e6,
            "M weights": sum(array.size for array in graph.constants.values()) / 1e6,
            "largest difference of a feature": float(np.abs(embed_graph(graph, crops, threads=1) - exact).max()),
        }
    return found


MERGED = {
    "form": "",
    "kernels in FP32 / FP16 / INT8": "d",
    "M multiply-accumulates": ".0f",
    "M weights": ".2f",
    "largest difference of a feature": ".0e",
}


def _methods(work: Path) -> Rows:
    """What each calibration method loses, a row for each."""
    found: Rows = {}
    for name, title in METHODS.items():
        file = next(each for each in _json(work / f"method-{name}.json")["files"] if each["precision"] == "int8")
        found[name] = {
            "method": title,
            "mAP lost": _interval(file["lost"]["mAP"]),
            "R1 lost": _interval(file["lost"]["rank1"]),
            "cosine, minimum": file["parity"]["cosine_min"],
        }
    return found


METHODS = {
    "mse": "`mse` (default)",
    "percentile": "`percentile`",
    "minmax": "`minmax`",
    "none": "`mse`, everything in INT8 (`--keep none`)",
}


def _pairs(folders: Mapping[str, str]) -> Callable[[Path], Rows]:
    """The cosine and the head of each `pairs` folder, and how far apart they are."""

    def rows(work: Path) -> Rows:
        found: Rows = {}
        for folder, calibration in folders.items():
            content = _json(work / folder / "pairs.json")
            for name in ("cosine", "head"):
                each = content[name]
                found[f"{folder}-{name}"] = {
                    "score": {"cosine": "cosine", "head": "pair head"}[name] + calibration,
                    "AUC, %": 100 * each["auc"],
                    "EER, %": 100 * each["eer"],
                    "TAR, % at FAR 1 / 0.1 / 0.01 %": [100 * rate for rate in each["tar_at_far"]],
                    "NLL, nats": each["nll"],
                    "Brier": each["brier"],
                    "ECE": each["ece"],
                    "ECE, raw": each["before_calibration"]["ece"],
                }
        return found

    return rows


def _pair_facts(folder: str) -> Callable[[Path], Rows]:
    """What is said in sentences: counts, and the intervals of the head's gains in points."""

    def rows(work: Path) -> Rows:
        content = _json(work / folder / "pairs.json")
        gains = {
            f"{name} {end}": 100 * content[f"{name}_gain_95"][place]
            for name in ("auc", "tar")
            for place, end in enumerate(("low", "high"))
        }
        at_threshold = {
            f"{name} {rate}": 100 * content[name]["at_threshold"][rate]
            for name in ("cosine", "head")
            for rate in ("far", "tar")
        }
        counts = {name: content[name] for name in ("test_identities", "same_pairs", "different_pairs")}
        return {"facts": {**counts, **gains, **at_threshold}}

    return rows


PAIRS = {
    "score": "",
    "AUC, %": ".1f",
    "EER, %": ".1f",
    "TAR, % at FAR 1 / 0.1 / 0.01 %": ".1f",
    "NLL, nats": ".3f",
    "Brier": ".3f",
    "ECE": ".4f",
    "ECE, raw": ".3f",
}

PAIR_FACTS = {
    **dict.fromkeys(("test_identities", "same_pairs", "different_pairs"), ",d"),
    **dict.fromkeys(("auc low", "auc high", "tar low", "tar high", "cosine tar", "head tar"), ".1f"),
    **dict.fromkeys(("cosine far", "head far"), ".2f"),
}
EPOCHS = {"after epoch": "d", **SCORES, "ID loss": ".3f", "triplet loss": ".3f"}
RUNS = {"model": "", "after epoch": "d", **SCORES}
SCRATCH = {
    "plain": "MobileNetV3-Large, labels alone",
    "mobilenet-teacher": "MobileNetV3-Large, the fine-tuned OSNet as a teacher",
    "r50": "ResNet50 (BoT)",
    "r50-teacher": "ResNet50, the same teacher, cosine schedule, no erasing",
}
FINETUNED = {
    f"osnet5{suffix}-{precision}": {"file": precision.upper(), "resize": resize}
    for precision in ("fp32", "fp16")
    for suffix, resize in (("", "opencv, as trained"), ("-pillow", "pillow-bilinear"))
}
KILL = {"job": "", **dict.fromkeys(("kills", "within a write", "left a temporary file", "bad"), ",d")}
MSMT17 = {
    "msmt17 fp32": ("fp32", {"weights": "OSNet x0.25, MSMT17", "precision": "FP32"}),
    "msmt17 fp16": ("fp16", {"precision": "FP16"}),
    "msmt17 int8": ("int8", {"precision": "INT8, calibrated"}),
}
FORMS = {
    "merged-gpu fp16": ("fp16", {"weights": "MSMT17, `gpu`", "precision": "FP16"}),
    "merged-gpu int8": ("int8", {"precision": "INT8, calibrated"}),
    "merged-gpu-latency latency-fp16": ("fp16", {"weights": "MSMT17, `gpu-latency`", "precision": "FP16"}),
    "merged-gpu-latency latency-int8": ("int8", {"precision": "INT8, calibrated"}),
}
FINETUNED_FORMS = {
    "ft fp32": ("fp32", {"weights": "OSNet x0.25, fine-tuned, as trained", "precision": "FP32"}),
    "ft fp16": ("fp16", {"precision": "FP16"}),
    "ft int8": ("int8", {"precision": "INT8, calibrated"}),
    "ft-merged merged-fp16": ("fp16", {"weights": "its streams merged, `gpu-latency`", "precision": "FP16"}),
    "ft-merged merged-int8": ("int8", {"precision": "INT8, calibrated"}),
}
TRAINED = {
    "osnet20 osnet-fp32": ("fp32", {"weights": "OSNet x0.25, fine-tuned", "precision": "FP32"}),
    "osnet20 osnet-fp16": ("fp16", {"precision": "FP16"}),
    "osnet20 osnet-int8": ("int8", {"precision": "INT8, calibrated"}),
    "plain mobilenet-fp32": ("fp32", {"weights": "MobileNetV3-Large, 30 epochs", "precision": "FP32"}),
    "plain mobilenet-fp16": ("fp16", {"precision": "FP16"}),
    "plain mobilenet-int8": ("int8", {"precision": "INT8, calibrated"}),
    "plain-all mobilenet-all": ("int8", {"precision": "INT8, all layers (`--keep none`)"}),
    "r50 resnet-fp32": ("fp32", {"weights": "ResNet50 (BoT), distilled", "precision": "FP32"}),
    "r50 resnet-fp16": ("fp16", {"precision": "FP16"}),
    "r50 resnet-int8": ("int8", {"precision": "INT8, calibrated, all layers"}),
}


QAT = {
    "msmt17-qat msmt17": ("int8", {"weights": "OSNet x0.25, MSMT17"}),
    "osnet20-qat osnet": ("int8", {"weights": "OSNet x0.25, fine-tuned"}),
    "plain-qat mobilenet": ("int8", {"weights": "MobileNetV3-Large, 30 epochs"}),
    "r50-qat resnet": ("int8", {"weights": "ResNet50 (BoT), distilled"}),
}


QAT_MERGED = {
    "msmt17-merged-qat": ("msmt17", {"weights": "OSNet x0.25, MSMT17", "precision": "INT8, `gpu-latency`"}),
    "ft-merged-qat": ("ft", {"weights": "OSNet x0.25, fine-tuned", "precision": "INT8, `gpu-latency`"}),
}
SEARCHED = {
    "demo": "MobileNetV3-Large, the demonstration's",
    "triplets": "the same, trained with the triplet loss too",
    "hardly": "MobileNetV3-Large, one epoch",
    "r50": "ResNet50 (BoT), one epoch",
}
RESIDUALS = {
    "osnet": ("osnet_x0_25", "OSNet x0.25, MSMT17", "market1501-dev"),
    "resnet50": ("resnet50_bot", "ResNet50 (BoT)", "market1501-dev"),
    "mobilenetv3": ("mobilenetv3_large", "MobileNetV3-Large, the demonstration's", "demo/people"),
}
SKIPS = {
    "off": "float (default)",
    "on": "rounded",
    "qat-off": "float, trained for it",
    "qat-on": "rounded, trained for it",
}
PERCENTILES = {"largest value of a crop, median": 50, "95th percentile": 95, "99th percentile": 99, "maximum": 100}
SEARCH = {
    "weights": "",
    "layers in float": "d",
    "INT8, % of MACs": ".0f",
    "cosine": ".5f",
    "mAP lost": ".2f",
    "verdict": "",
}


def _residuals(work: Path) -> Rows:
    """What rounding the skip input of residual adds costs, and what TensorRT-RTX's kernels write.

    What is lost is against the FP32 model before it was trained for INT8.
    """
    found: Rows = {}
    for model, (arch, title, data) in RESIDUALS.items():
        for kind, skips in SKIPS.items():
            row: dict[str, Any] = {"model": title, "skip inputs": skips}
            if (report := work / f"residuals-{model}-{kind}.json").exists():
                (file,) = (each for each in _json(report)["files"] if each["precision"] == "int8")
                before = work / "models" / f"residuals-{model}-off_fp32.onnx"
                trained = kind.startswith("qat")
                row["mAP lost"] = (
                    _lost_between(before, work / file["path"], work / data)["mAP lost"]
                    if trained
                    else _interval(file["lost"]["mAP"])
                )
            row |= {} if kind.startswith("qat") else _written(arch, rounded=kind == "on")
            if len(row) > 2:
                found[f"{model}-{kind}"], title = row, ""
    return found


def _written(arch: str, *, rounded: bool) -> dict[str, float]:
    """What TensorRT-RTX's kernels of an INT8 file write for a crop, with skip inputs in float or ``rounded``.

    Of random weights at 256 x 128: neither kernels nor bytes depend on weights or activation ranges.
    """
    from reid_edge.engines.tensorrt_api import Log, layer_lines, load_backend
    from reid_edge.export.engines.compile import compiled
    from reid_edge.export.engines.kernels import bytes_written
    from reid_edge.export.engines.options import EngineOptions
    from reid_edge.export.graph.fp16 import fp16_from_fp32
    from reid_edge.export.graph.from_torch import onnx_from_model
    from reid_edge.export.int8.layers import default_keep
    from reid_edge.export.int8.qdq import quantized
    from reid_edge.export.int8.residuals import layers_before_adds, measured_values
    from reid_edge.training.models.checkpoint import card_of
    from reid_edge.training.models.registry import build_model

    model = build_model(arch)
    card = card_of(model)
    graph = onnx_from_model(model, card)
    kept = default_keep(graph)
    skips = layers_before_adds(graph, kept) if rounded else ()
    int8 = fp16_from_fp32(quantized(graph, dict.fromkeys(measured_values(graph), 1.0), kept, skips))
    log = Log()
    compiled(int8.model.SerializeToString(), card, load_backend("tensorrt-rtx"), EngineOptions(), log)
    written = bytes_written(log.layers())
    return {
        "kernels": len(layer_lines(log.layers())),
        "MB written": sum(written.values()) / 1e6,
        **{f"{kind} MB": written.get(name, 0) / 1e6 for kind, name in (("FP32", "Float"), ("INT8", "Int8"))},
    }


def _ladder(work: Path) -> Rows:
    """The cosine with the worst layers in float, by how many."""
    ladder = _json(work / "models" / "r50_sensitivity.json")["ladder"]
    return {
        str(each["kept"]): {"layers in float": each["kept"], "cosine, 1st percentile": each["cosine_p1"]}
        for each in ladder
    }


def _ablation(folder: Path) -> Rows:
    """A row for each change, a column for each seed, from the table that the ablation writes."""
    lines = (folder / "ablation.md").read_text(encoding="utf-8").splitlines()[2:]
    found: Rows = {}
    for line in lines:
        name, seeds, *figures, rank1, mean_ap = (cell.strip() for cell in line.strip("| ").split(" | "))
        row: dict[str, Any] = {"recipe": name}
        for place, seed in enumerate(seeds.split()):
            row[f"seed {seed}: R1 / mAP / mINP"] = [float(each.split()[place]) for each in figures]
        changes = {"change of R1": rank1, "change of mAP": mean_ap}
        found[name] = row | {title: float(value) for title, value in changes.items() if value != "-"}
    return found


ABLATION = {
    "recipe": "",
    "seed 0: R1 / mAP / mINP": ".1f",
    "seed 1: R1 / mAP / mINP": ".1f",
    "change of R1": "+.1f",
    "change of mAP": "+.1f",
}


def _speed(work: Path) -> Rows:
    """Images per second, from the lines that the comparison prints."""
    found: Rows = {}
    for line in (work / "versus.txt").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"(.+?) +([\d.]+) \(([\d.]+) to ([\d.]+)\)", line):
            median, low, high = map(float, match.groups()[1:])
            found[match[1]] = {"trained by": match[1], "images/s": median, "lowest": low, "highest": high}
    return found


def _fuzz(work: Path) -> Rows:
    """How reading damaged files ended, a row for each kind."""
    kinds = _json(work / "fuzz.json")["kinds"]
    return {
        name: {
            "kind": name,
            **{column: each[column] for column in ("refused", "same", "valid")},
            "bad": each["silent"] + each["crashed"] + each["slow"],
        }
        for name, each in kinds.items()
    }


def _kill(work: Path) -> Rows:
    """How killed runs ended, a row for each job."""
    return {
        each["job"]: {
            "job": each["job"],
            "kills": each["kills"],
            "within a write": each["in_a_write"],
            "left a temporary file": each["left_something"],
            "bad": len(each["faults"]),
        }
        for each in _json(work / "kill.json")
    }


ARCHITECTURES = {"resnet50_bot": "ResNet50", "mobilenetv3_large": "MobileNetV3-Large", "osnet_x0_25": "OSNet x0.25"}


def _kernels(work: Path) -> Rows:
    """Where the kernels of the exported files go, a row for each model."""
    found: Rows = {}
    for each in _json(work / "rewrites.json"):
        if each["rewrite"] == "as exported":
            kinds = {"convolutions and matmuls": 0, "pooling": 0, "generated": 0}
            for name, count in each["kinds"].items():
                kind = "generated" if name.startswith("kgen") else "pooling" if "pool" in name else ""
                kinds[kind or "convolutions and matmuls"] += count
            row = {"model": ARCHITECTURES[each["model"]], "kernels": each["kernels"], **kinds}
            found[each["model"]] = row | {"M MACs": each["macs"] / 1e6, "MB moved": each["bytes"] / 1e6}
    return found


def _rewrites(work: Path) -> Rows:
    """What each rewrite makes of a file, after what is exported; times with and without copies to concatenate."""
    found: Rows = {}
    for each in _json(work / "rewrites.json"):
        if each["model"] != "osnet_x0_25":
            exported = each["rewrite"] == "as exported"
            found[f"{each['model']} {each['rewrite']}"] = {
                "model": ARCHITECTURES[each["model"]] if exported else "",
                "rewrite": each["rewrite"],
                "kernels": each["kernels"],
                "M MACs": each["macs"] / 1e6,
                "MB moved": each["bytes"] / 1e6,
                "estimated ms, Orin Nano": [each[name] / 1e3 for name in ("estimated_us", "without_copies_us")],
                "maximum error": None if exported else each["max_error"],
            }
    return found


def _rooflines(work: Path) -> Rows:
    """Estimated least times in FP16, a row for each device and model."""
    found: Rows = {}
    for each in _json(work / "rewrites.json"):
        for device, batches in each["estimates"].items():
            found[f"{device} {each['model']}"] = {
                "device": f"`{device}`",
                "model": ARCHITECTURES[each["model"]],
                **{f"batch {batch}, ms": one["us"] / 1e3 for batch, one in batches.items()},
                **{f"batch {batch}: {BOUNDS}, %": _shares(batches[batch]) for batch in ("1", "64")},
            }
    return dict(sorted(found.items(), key=lambda row: list(ARCHITECTURES.values()).index(row[1]["model"])))


def _shares(estimate: Mapping[str, Any]) -> list[float]:
    return [100 * estimate["shares"][bound] for bound in BOUNDS.split(" / ")]


BOUNDS = "compute / memory / launch"
KERNELS = {
    "model": "",
    **dict.fromkeys(("kernels", "convolutions and matmuls", "pooling", "generated"), "d"),
    "M MACs": ",.0f",
    "MB moved": ".1f",
}
REWRITES = {
    "model": "",
    "rewrite": "",
    "kernels": "d",
    "M MACs": ",.0f",
    "MB moved": ".1f",
    "estimated ms, Orin Nano": ".3f",
    "maximum error": ".0e",
}
ROOFLINES = {
    "device": "",
    "model": "",
    **dict.fromkeys((f"batch {batch}, ms" for batch in (1, 8, 64)), ".2f"),
    **dict.fromkeys((f"batch {batch}: {BOUNDS}, %" for batch in (1, 64)), ".0f"),
}


def _stream(work: Path) -> Rows:
    """Each promise of a stream: what was measured, and the limit that it holds when."""
    content = _json(work / "stream.json")
    late, memory = content["latency"], content["memory"]
    return {
        "share": {
            "what": "throughput, % of the slowest stage alone",
            "measured": content["throughput"]["share"],
            "limit": "at least 95",
        },
        "busy": {
            "what": "the model runs, % of the stream's time",
            "measured": content["throughput"]["busy"],
            "limit": "",
        },
        "p99": {
            "what": "99th percentile of latency at 70 % load, ms",
            "measured": late["p99_ms"],
            "limit": f"under {late['bound_ms'] + late['batch_ms']:.0f}: the bound and one batch",
        },
        "memory": {
            "what": f"memory after {memory['crops']:,} crops, MiB more than after the first tenth",
            "measured": memory["growth_mib"],
            "limit": "flat",
        },
    }


def _stream_facts(work: Path) -> Rows:
    """What is said in sentences: rates, and how batches filled."""
    content = _json(work / "stream.json")
    late, rounds = content["latency"], content["throughput"]["rounds"]
    middle = {name: statistics.median(each[name][0] for each in rounds) for name in ("prepare", "engine", "stream")}
    facts = {"crops": late["crops"], "load": late["crops_per_s"], "bound": late["bound_ms"], "p50": late["p50_ms"]}
    overhead = content["throughput"]["overhead_ms"]
    return {"facts": {**middle, **facts, "largest batch": late["largest_batch"], "overhead": overhead}}


def _stream_soak(work: Path) -> Rows:
    """An hour, or as long as it ran, in one row."""
    content = _json(work / "stream-soak.json")
    memory = content["resident_mib"]
    columns = {name: content[name] for name in ("frames", "crops", "errors")}
    later = {"MiB after a minute": memory[min(1, len(memory) - 1)], "most MiB": max(memory)}
    latency = {"p50, ms": content["p50_ms"], "p99, ms": content["p99_ms"]}
    left = content.get("threads_left")
    return {"soak": {"minutes": content["seconds"] / 60, **columns, **latency, **later, "threads left": left}}


STREAM_FACTS = {
    **dict.fromkeys(("prepare", "engine", "stream", "crops", "load", "bound", "p50"), ",.0f"),
    "largest batch": "d",
    "overhead": ".2f",
}
STREAM_SOAK = {
    "minutes": ".0f",
    **dict.fromkeys(("frames", "crops", "errors"), ",d"),
    **dict.fromkeys(("p50, ms", "p99, ms", "MiB after a minute", "most MiB"), ",.0f"),
    "threads left": "d",
}

TABLES: dict[str, tuple[dict[str, str], Callable[[Path], Rows]]] = {
    "stream": ({"what": "", "measured": ".1f", "limit": ""}, _stream),
    "stream-facts": (STREAM_FACTS, _stream_facts),
    "stream-soak": (STREAM_SOAK, _stream_soak),
    "gate": (GATE, _gate),
    "small-crops": (SMALL, small_crops),
    "cameras": (CAMERAS, cameras),
    "tracks": (TRACKS, tracks),
    "track-factors": (TRACK_FACTORS, track_factors),
    "tricks": (TRICKS, tricks),
    "coverage": (COVERAGE, coverage),
    "scoring-speed": (SCORING_SPEED, scoring_speed),
    "resizing": (RESIZING, resizing),
    "frames": (FRAMES, frames),
    "jpeg": (JPEG, jpeg),
    "bf16": (BF16, bf16),
    "session": (SESSION, session("session.json")),
    "session-busy": (SESSION, session("session-busy.json")),
    "session-memory": (SESSION_MEMORY, session_memory),
    "limits": (LIMITS, limits),
    "cold-start": (COLD_START, cold_start),
    "compare": (COMPARE, compare),
    "compare-facts": (COMPARE_FACTS, compare_facts),
    "decoding": ({"step": "", "64x128 file": ".0f", "180x400 file": ".0f"}, _decoding),
    "demo": (DEMO, _demo),
    "published": ({"backend": "", "resize": "", **ALL_SCORES}, _of_reference),
    "precisions-msmt17": (LOSSES, _precisions(MSMT17)),
    "imported": (LOSSES, _imported),
    "qat": (LOSSES, _precisions(QAT)),
    "qat-merged": (LOSSES, _trained_for_int8(QAT_MERGED)),
    "int8-search": (SEARCH, _searches),
    "triplets": ({"triplet loss": "", "R1": ".1f", "mAP": ".1f", **dict.fromkeys(PERCENTILES, ".0f")}, _magnitudes),
    "residuals": (
        {
            "model": "",
            "skip inputs": "",
            "mAP lost": ".2f",
            "kernels": "d",
            **dict.fromkeys(("MB written", "FP32 MB", "INT8 MB"), ".2f"),
        },
        _residuals,
    ),
    "sensitivity": ({"layers in float": "d", "cosine, 1st percentile": ".3f"}, _ladder),
    "merged": (MERGED, _merged),
    "merged-scores": (LOSSES, _precisions(FORMS)),
    "merged-finetuned": (LOSSES, _precisions(FINETUNED_FORMS)),
    "methods": ({"method": "", "mAP lost": ".2f", "R1 lost": ".2f", "cosine, minimum": ".4f"}, _methods),
    "pairs": (PAIRS, _pairs({"pairs": "", "pairs-isotonic": ", isotonic"})),
    "pairs-facts": (PAIR_FACTS, _pair_facts("pairs")),
    "finetuned": (EPOCHS, _epochs({"runs/osnet5": "OSNet x0.25"})),
    "finetuned-exported": ({"file": "", "resize": "", **ALL_SCORES}, _evaluated(FINETUNED)),
    "finetuned-longer": (EPOCHS, _epochs({"runs/osnet20": "OSNet x0.25"})),
    "scratch": (RUNS, _epochs({f"runs/{folder}": title for folder, title in SCRATCH.items()})),
    "precisions-trained": (LOSSES, _precisions(TRAINED)),
    "pairs-finetuned": (PAIRS, _pairs({"pairs-finetuned": ""})),
    "pairs-finetuned-facts": (PAIR_FACTS, _pair_facts("pairs-finetuned")),
    "ablation": (ABLATION, lambda work: _ablation(work / "ablation")),
    "last-stride": (ABLATION, lambda work: _ablation(work / "last-stride")),
    "speed": ({"trained by": "", "images/s": ".1f", "lowest": ".1f", "highest": ".1f"}, _speed),
    "fuzz": ({"kind": "", **dict.fromkeys(("refused", "same", "valid", "bad"), ",d")}, _fuzz),
    "kill": (KILL, _kill),
    "kernels": (KERNELS, _kernels),
    "rewrites": (REWRITES, _rewrites),
    "rooflines": (ROOFLINES, _rooflines),
    "domains": (DOMAINS, domains),
}
"""Formats by column, and a function from the folder with a part's outputs to the rows; by the name of the JSON file."""
