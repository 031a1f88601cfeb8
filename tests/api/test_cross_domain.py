"""Every model on every set: the same figures as `evaluate`, a table of 80 columns, a picture, the domain shift."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_onnx import tiny_card, tiny_model
from onnx import helper, numpy_helper
from rich.console import Console

import reid_edge
from reid_edge.api.cross_domain.cameras import statistics_crops
from reid_edge.api.cross_domain.heat_map import heat_map_svg
from reid_edge.api.cross_domain.report import CrossDomainReport, cross_domain_table
from reid_edge.cli import main
from reid_edge.data.datasets import Dataset
from reid_edge.data.images import read_crop
from reid_edge.data.records import Crop, Listing, Split
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.embedder.cameras import CameraStatistics
from reid_edge.embedder.embedder import Embedder
from reid_edge.errors import InputError
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.io import write_onnx
from reid_edge.scoring.bootstrap import PairedLoss, paired_loss
from reid_edge.scoring.metrics import score

HW = (64, 32)


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("towns")
    return [
        synthesize(folder / f"town{i}", identities=2, test_identities=4, cameras=2, size_hw=HW, seed=i) for i in (1, 2)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, of the left half of a crop: another embedding for the mirror image."""
    half = tiny_model(input_hw=(HW[0], HW[1] // 2))
    half.graph.input[0].type.tensor_type.shape.dim[2].dim_value = HW[1]
    for name, value in (("first", 0), ("end", HW[1] // 2), ("width", 2)):
        half.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    first = next(node for node in half.graph.node if "images" in node.input)
    first.input[0] = "left"
    half.graph.node.insert(0, helper.make_node("Slice", ["images", "first", "end", "width"], ["left"]))
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    write_onnx(Graph(half), tiny_card(input_hw=HW), path)
    return path


@pytest.fixture(scope="module")
def report(towns: list[Path], model: Path) -> CrossDomainReport:
    return reid_edge.cross_domain([model], towns, flip=True, cameras=True)


def test_a_plain_cell_is_what_evaluate_finds(report: CrossDomainReport, towns: list[Path], model: Path) -> None:
    assert (report.models, report.datasets) == (("tiny",), ("town1", "town2"))
    assert report.settings == ("plain", "flip", "cameras") and len(report.cells) == 6
    for town in towns:
        assert report.cell("tiny", town.name).metrics.to_dict() == reid_edge.evaluate(model, town).metrics.to_dict()
    assert report.cell("tiny", "town1").metrics.mAP != report.cell("tiny", "town2").metrics.mAP
    with pytest.raises(InputError, match="was not measured"):
        report.cell("tiny", "town3")


def test_flip_and_cameras_are_what_their_definitions_say(
    report: CrossDomainReport, towns: list[Path], model: Path
) -> None:
    """Two training persons are too few for statistics, so that these are the gallery's."""
    split = reid_edge.open_dataset(towns[0]).split
    crops = (*split.query, *split.gallery)
    with Embedder(model) as embedder:
        pixels = [read_crop(crop.path, HW, "opencv") for crop in crops]
        plain = embedder.embed(pixels)
        mirrored = embedder.embed([np.ascontiguousarray(each[:, ::-1]) for each in pixels])
    seen = np.array([crop.camid for crop in crops])
    own = len(split.query)
    by_camera = CameraStatistics.fit(plain[own:], seen[own:].tolist()).normalise(plain, seen.tolist())
    for setting, rows in (("flip", plain + mirrored), ("cameras", by_camera)):
        sides = [(rows[: len(split.query)], split.query), (rows[len(split.query) :], split.gallery)]
        arrays = [x for part, own in sides for x in (part, [c.pid for c in own], [c.camid for c in own])]
        found = report.cell("tiny", "town1", setting).metrics
        assert found.mAP == pytest.approx(score(*arrays).mAP, abs=1e-6), setting
        assert found.mAP != report.cell("tiny", "town1").metrics.mAP
    assert report.cell("tiny", "town1", "cameras").statistics == "gallery"


def test_statistics_are_of_other_persons_where_there_are_enough() -> None:
    gallery = tuple(Crop(Path(f"g{i}-{camera}"), 1, camera) for i in range(10) for camera in (1, 2))
    train = tuple(Crop(Path(f"{camera}-{i}"), 5, camera) for camera in (1, 3, 2) for i in range(300))

    def found(train: tuple[Crop, ...], gallery: tuple[Crop, ...] = gallery, **facts: bool) -> tuple[str, int]:
        split = Split(train, gallery[:1], gallery)
        source, crops = statistics_crops(Dataset("set", "manifest", Path(), Listing(split), **facts))
        return source, len(crops)

    assert found(train) == ("train", 400), "of cameras 1 and 2"
    assert found(train[:699]) == ("gallery", 20), "camera 2 has 99"
    assert found((), gallery[:19]) == ("", 0), "camera 2 has 9"
    assert found(train, same_camera_filter=False) == ("", 0)
    source, crops = statistics_crops(Dataset("set", "manifest", Path(), Listing(Split(train, gallery, gallery))))
    assert (crops[0].path.name, crops[199].path.name) == ("1-0", "1-299"), "spread over all of a camera's"


def test_a_shift_is_the_paired_loss_against_the_native_model(report: CrossDomainReport) -> None:
    cell, other = (report.cell("tiny", town) for town in ("town1", "town2"))
    worse = replace(cell.metrics, mAP=0.1, average_precision=cell.metrics.average_precision / 2)
    cells = (replace(cell, model="native", home=True), replace(cell, model="foreign", metrics=worse), other)
    (shift,) = CrossDomainReport(cells, "cosine").shifts
    assert (shift.dataset, shift.native, shift.foreign) == ("town1", "native", "foreign")
    half = cell.metrics.average_precision / 2
    assert shift.lost == paired_loss(cell.metrics.average_precision, half, cell.metrics.persons)
    assert str(shift).startswith("on town1, foreign is behind native by ") and "95 % [" in str(shift)
    ahead = replace(shift, lost=PairedLoss(-0.02, -0.03, -0.005, 9))
    assert str(ahead) == "on town1, foreign is ahead of native by 2.0 mAP, 95 % [0.5, 3.0]"


def test_the_table_fits_80_columns(report: CrossDomainReport) -> None:
    names = [f"a_model_with_a_long_name_{i}_fp32_trained_somewhere" for i in range(2)]
    cells = [
        replace(cell, model=name, dataset=f"{cell.dataset} of a far country {n}", home=n == 2)
        for name in names
        for cell in report.cells
        for n in range(3)
    ]
    long = CrossDomainReport(tuple(cells), "cosine")
    assert len(long.datasets) == 6
    stream = StringIO()
    Console(file=stream, width=80).print(cross_domain_table(long))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert stream.getvalue().count("flip averaging") == 2, "four sets a table"
    plain = report.cell("tiny", "town1").metrics
    assert f"{100 * plain.rank(1):.1f} / {100 * plain.mAP:.1f}*" in stream.getvalue()


def test_the_heat_map_is_sound_svg_with_every_figure(report: CrossDomainReport) -> None:
    cells = tuple(replace(cell, dataset=f"<{cell.dataset}>", home=cell.dataset == "town1") for cell in report.cells)
    root = ET.fromstring(heat_map_svg(CrossDomainReport(cells[:-1], "cosine")))
    space = "{http://www.w3.org/2000/svg}"
    texts = [each.text for each in root.iter(f"{space}text")]
    for cell in cells[:-1]:
        assert f"{100 * cell.metrics.mAP:.1f}" in texts and cell.dataset in texts
    boxes = [each.attrib for each in root.iter(f"{space}rect")][1:]
    assert len(boxes) == 6 and sum("stroke" in box for box in boxes) == 3
    assert sum(box["fill"] == "#eee" for box in boxes) == 1, "what was not measured"


def test_the_command_writes_table_picture_and_json(
    towns: list[Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "domains.json", tmp_path / "domains.svg"
    arguments = [str(model), "--data", str(towns[0]), "--data", str(towns[1])]
    with pytest.raises(SystemExit) as ended:
        main(["cross-domain", *arguments, "--heat-map", str(picture), "--json", str(out)])
    assert not ended.value.code
    assert "town1" in capsys.readouterr().out and "<svg" in picture.read_text()
    content = json.loads(out.read_text())
    assert [cell["dataset"] for cell in content["cells"]] == ["town1", "town2"] and content["shifts"] == []


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--data", "{town}", "--data", "{town}"], "town1 is given twice"),
        (["--data", "{town}", "--heat-map", "map.png"], "does not end in .svg"),
        (["--data", "{town}", "--distance", "cosin"], "did you mean cosine"),
        (["{model}", "--data", "{town}"], "models./tiny is given twice"),
    ],
)
def test_bad_use_is_one_line(
    towns: list[Path], model: Path, arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [each.format(town=towns[0], model=model) for each in arguments]
    with pytest.raises(SystemExit) as ended:
        main(["cross-domain", str(model), *filled])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and len(error.strip().splitlines()) == 1
    assert re.search(what, error), error
