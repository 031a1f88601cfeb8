"""Cosine and correlation against euclidean on raw features, in ranking and as thresholds.

    python examples/studies/distances.py market1501-dev distances.json models/osnet_fp32.onnx models/r50_fp32.onnx

The files of reid-edge end in an L2 norm, after which cosine and euclidean rank alike by algebra, and the question has
no meaning. This program takes the norm off a copy of each graph, embeds the queries and the gallery once, and scores
the raw features with three distances: rank-1 and mAP, and, with one threshold for all pairs, the equal error rate (EER)
and the share of genuine pairs that are missed where one impostor pair in a thousand matches (FNMR at FMR 1e-3). Each
difference to euclidean has a 95 % interval by a bootstrap over persons, paired: both distances on the same persons.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime

import reid_edge
from reid_edge.scoring.bootstrap import paired_loss
from reid_edge.scoring.distances import distance_by_name
from reid_edge.scoring.metrics import score
from reid_edge.scoring.test_set import TestSet

DISTANCES = ("euclidean", "cosine", "correlation")
DRAWS, SEED, BINS = 500, 0, 4096


def without_norm(path, out):
    """Write a copy of a model file whose output is what its final L2 norm divides."""
    model = onnx.load(path)
    (end,) = (node for node in model.graph.node if "embeddings" in node.output)
    if end.op_type != "Div":
        sys.exit(f"{path}: the embeddings come from {end.op_type}, not from the division of an L2 norm")
    end.op_type = "Identity"
    del end.input[1]
    onnx.save(model, out)
    return out


def raw_features(path, crops):
    """Features float32 [N, D] before the norm, of crops uint8 [N, H, W, 3]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    batches = (crops[start : start + 32] for start in range(0, len(crops), 32))
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: batch})[0] for batch in batches])


def counts_by_person(matrix, query, gallery):
    """Pairs by distance bin for each query person: genuine and impostor [P, BINS], and the persons [P].

    Bins are quantiles of all distances, finer where impostors are few, so that a threshold is as fine as the data.
    """
    pids, cameras = (np.array([getattr(crop, name) for crop in gallery]) for name in ("pid", "camid"))
    shares = np.concatenate([np.geomspace(1e-6, 0.02, BINS // 2), np.linspace(0.0201, 1, BINS // 2 - 1)])
    edges = np.unique(np.quantile(matrix, shares))
    persons, number = np.unique([crop.pid for crop in query], return_inverse=True)
    genuine, impostor = np.zeros((2, len(persons), len(edges) + 1))
    for row, crop, person in zip(matrix, query, number, strict=True):
        same = pids == crop.pid
        if not (same & (cameras != crop.camid)).any():
            continue
        at = edges.searchsorted(row)
        genuine[person] += np.bincount(at[same & (cameras != crop.camid)], minlength=len(edges) + 1)
        impostor[person] += np.bincount(at[~same], minlength=len(edges) + 1)
    return genuine, impostor


def error_rates(genuine, impostor):
    """EER and FNMR at FMR 1e-3 of counts by bin [..., BINS]: every bin's upper edge is a threshold."""
    true, false = (np.cumsum(each, axis=-1) for each in (genuine, impostor))
    fnmr, fmr = 1 - true / true[..., -1:], false / false[..., -1:]
    crossing = np.argmax(fmr >= fnmr, axis=-1)[..., None]
    eer = (np.take_along_axis(fmr, crossing, -1) + np.take_along_axis(fnmr, crossing, -1))[..., 0] / 2
    allowed = (fmr <= 1e-3).sum(axis=-1)  # 0: no pair may match
    missed = np.concatenate([np.ones_like(fnmr[..., :1]), fnmr], axis=-1)
    return eer, np.take_along_axis(missed, allowed[..., None], -1)[..., 0]


def interval(value, drawn):
    low, high = np.percentile(drawn, (2.5, 97.5))
    return {"value": 100 * float(value), "low": 100 * float(low), "high": 100 * float(high)}


def study(name, features, split):
    """A row for each distance: figures in per cent, and gains over euclidean with their intervals (more is better)."""
    query, gallery = split.query, split.gallery
    sides = []
    for crops, rows in ((query, features[: len(query)]), (gallery, features[len(query) :])):
        sides += [rows, [crop.pid for crop in crops], [crop.camid for crop in crops]]
    metrics = {each: score(*sides, distance=each) for each in DISTANCES}
    counts = {}
    for each in DISTANCES:
        counts[each] = counts_by_person(distance_by_name(each).against(sides[3])(sides[0]), query, gallery)
    persons = len(counts["euclidean"][0])
    drawn = np.random.default_rng(SEED).multinomial(persons, np.full(persons, 1 / persons), DRAWS)  # [draws, P]
    rates = {each: error_rates(*(part.sum(axis=0) for part in counts[each])) for each in DISTANCES}
    spread = {each: error_rates(*(drawn @ part for part in counts[each])) for each in DISTANCES}
    base, rows = metrics["euclidean"], {}
    for each in DISTANCES:
        found = metrics[each]
        row = {"model": name, "distance": each, "R1": 100 * found.rank(1), "mAP": 100 * found.mAP}
        row |= {"EER": 100 * float(rates[each][0]), "FNMR": 100 * float(rates[each][1])}
        if each != "euclidean":
            pairs = {
                "R1 gain": (base.first_match == 1, found.first_match == 1),
                "mAP gain": (base.average_precision, found.average_precision),
            }
            for title, (before, after) in pairs.items():
                lost = paired_loss(np.float64(before), np.float64(after), base.persons)
                row[title] = {"value": -100 * lost.mean, "low": -100 * lost.high, "high": -100 * lost.low}
            for title, i in (("EER gain", 0), ("FNMR gain", 1)):
                row[title] = interval(rates["euclidean"][i] - rates[each][i], spread["euclidean"][i] - spread[each][i])
        rows[f"{name} {each}"] = row
    norms = np.linalg.norm(features, axis=1)
    rows[f"{name} euclidean"]["norm"] = [float(np.median(norms)), 100 * float(norms.std() / norms.mean())]
    return rows


def answer(row):
    """A sentence: what a distance gains, where the interval leaves no doubt."""
    verdicts = []
    for title in ("R1 gain", "mAP gain", "EER gain", "FNMR gain"):
        gain = row[title]
        word = "better" if gain["low"] > 0 else "worse" if gain["high"] < 0 else "not shown to differ"
        verdicts.append(f"{title.split()[0]} {word} ({gain['value']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}])")
    return f"{row['model']}: {row['distance']} against euclidean: {', '.join(verdicts)}"


def main(data, out, models):
    rows = {}
    with TestSet.open(data) as test_set, TemporaryDirectory() as folder:
        split = test_set.dataset.split
        paths = [crop.path for crop in (*split.query, *split.gallery)]
        for path in models:
            with reid_edge.open_engine(path) as engine:
                card = engine.card
            crops = test_set.batch(paths, card.input_hw, card.resize)
            features = raw_features(without_norm(path, Path(folder) / "raw.onnx"), crops)
            rows |= study(Path(path).stem, features, split)
    for row in rows.values():
        if row["distance"] != "euclidean":
            print(answer(row))
    Path(out).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
