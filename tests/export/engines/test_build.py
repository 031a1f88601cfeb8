"""Engines by the real builder: TensorRT-RTX, which builds without a GPU, of the three models in three precisions."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.graphs.tokens_network import tokens_network, tokens_weights
from helpers.small_network import CARD, SIDE, images_of, network, random_weights

from reid_edge.api.adopt_engine import adopt_engine
from reid_edge.api.export_model import export_model
from reid_edge.card import ModelCard
from reid_edge.cli import main
from reid_edge.engines.cuda import find_gpu
from reid_edge.engines.engine_card import EngineCard
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.engines.registry import open_engine
from reid_edge.engines.tensorrt_api import Log, layer_lines, load_backend, placed_layers
from reid_edge.engines.tensorrt_plan import _differs, rebuild
from reid_edge.errors import DeviceError, GateError, InputError, MissingExtraError, ModelError
from reid_edge.export.engines.api_check import calls_made, lacking
from reid_edge.export.engines.build import Built, engine_from_onnx
from reid_edge.export.engines.checked import build_engines, verify_or_remove
from reid_edge.export.engines.compile import compiled
from reid_edge.export.engines.options import EngineOptions, parse_profile
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.io import read_graph, write_onnx
from reid_edge.export.graph.traffic import layer_costs, macs_by_type
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.cpu import quantized_for_cpu
from reid_edge.export.int8.layers import default_keep
from reid_edge.export.int8.qdq import quantized
from reid_edge.export.parity.crops import ParityCrops

OPTIONS = EngineOptions(backend="tensorrt-rtx", batches=(1, 4, 8))
MOST_KERNELS = {"resnet50_bot": 57, "mobilenetv3_large": 81, "osnet_x0_25": 200}
"""In FP16, by TensorRT-RTX 1.7.1."""


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest) -> None:
    """The builder that works anywhere; on a GPU, whichever there is."""
    try:
        load_backend(None if request.node.get_closest_marker("gpu") else "tensorrt-rtx")
    except MissingExtraError as error:
        pytest.skip(f"needs the rtx-build extra: {error}")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small_fp32.onnx"
    write_onnx(network(random_weights()), CARD, path)
    return path


def test_an_engine_and_its_card_are_written(small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "reid_edge"):
        built = engine_from_onnx(small, tmp_path / "out", OPTIONS)
    assert built.path == tmp_path / "out" / "small_fp32.engine"
    assert built.path.stat().st_size == built.bytes > 1000
    assert sorted(path.name for path in built.path.parent.iterdir()) == ["small_fp32.engine", "small_fp32.engine.json"]
    card = EngineCard.read(built.path)
    assert card == built.card and card.model == CARD and card.batches == (1, 4, 8)
    assert (card.backend, card.gpu) == ("tensorrt-rtx", {}) and card.version.startswith("1.")
    assert built.source == "build log" and built.kernels("Float") >= 4 and built.kernels("Int8") == 0
    assert "building with tensorrt-rtx" in caplog.messages[0]


def test_an_engine_is_built_once_for_all_that_it_depends_on(small: Path, tmp_path: Path) -> None:
    first = engine_from_onnx(small, tmp_path, OPTIONS)
    again = engine_from_onnx(small, tmp_path, OPTIONS)
    assert again.seconds == 0 and again.card == first.card and again.layers == first.layers
    assert (
        engine_from_onnx(small, tmp_path, EngineOptions(backend="tensorrt-rtx", batches=(1, 4, 8), force=True)).seconds
        > 0
    )
    assert engine_from_onnx(small, tmp_path, EngineOptions(backend="tensorrt-rtx", batches=(1, 4, 9))).seconds > 0
    write_onnx(network({**random_weights(), "model.fc.0.bias": np.ones(8)}), CARD, small)
    assert engine_from_onnx(small, tmp_path, EngineOptions(backend="tensorrt-rtx", batches=(1, 4, 9))).seconds > 0


def test_a_transformer_has_int8_and_fp16_kernels(tmp_path: Path) -> None:
    fp32 = tokens_network(tokens_weights())
    int8 = quantized(fp32, ranges_over(fp32, images_of(), "minmax", 1))
    found = {}
    for precision, graph in {"fp16": fp16_from_fp32(fp32), "int8": fp16_from_fp32(int8)}.items():
        write_onnx(graph, CARD.with_(precision=precision), tmp_path / f"{precision}.onnx")
        built = engine_from_onnx(tmp_path / f"{precision}.onnx", tmp_path, OPTIONS)
        found[precision] = {kind: built.kernels(kind) for kind in ("Int8", "Half", "Float")}
    assert found["fp16"]["Half"] >= 3 and found["fp16"]["Int8"] == found["fp16"]["Float"] == 0, found
    assert found["int8"]["Int8"] == 3 and found["int8"]["Float"] == 0, found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["osnet_x0_25", "mobilenetv3_large", "resnet50_bot"])
def test_every_model_builds_in_every_precision(name: str, tmp_path: Path) -> None:
    """The kernels are of the type that the file asks for: what the builder compiled, not what we hope."""
    pytest.importorskip("torch", reason="needs the train extra")
    from helpers.networks import settled_model

    from reid_edge.export.graph.from_torch import onnx_from_model
    from reid_edge.training.models.checkpoint import card_of

    model = settled_model(name)
    card = card_of(model, input_hw=(128, 64))
    fp32 = onnx_from_model(model, card)
    crops = np.random.default_rng(0).integers(0, 256, (4, 128, 64, 3), dtype=np.uint8)
    kept = default_keep(fp32)
    int8 = quantized(fp32, ranges_over(fp32, crops, "minmax"), kept)
    graphs = {"fp32": fp32, "fp16": fp16_from_fp32(fp32), "int8": fp16_from_fp32(int8), "int8 and fp32": int8}
    built: dict[str, Built] = {}
    for precision, graph in graphs.items():
        write_onnx(graph, card.with_(precision=precision[:4]), tmp_path / f"{precision}.onnx")
        built[precision] = engine_from_onnx(tmp_path / f"{precision}.onnx", tmp_path, OPTIONS)
    products = sum(len(nodes) for nodes in fp32.layers.values())
    rounded = sum(len(nodes) for layer, nodes in fp32.layers.items() if layer not in kept)
    assert built["fp32"].kernels("Half") == built["fp32"].kernels("Int8") == 0
    # Some products are fused or become other kernels; most must be there under their own type.
    assert built["fp32"].kernels("Float") > 0.7 * products
    assert built["fp16"].kernels("Half") > 0.7 * (products - 2) and built["fp16"].kernels("Float") <= 2
    assert built["int8"].kernels("Int8") > 0.9 * rounded and built["int8 and fp32"].kernels("Int8") > 0.9 * rounded
    assert built["int8"].kernels("Float") <= 2
    assert bool(built["int8 and fp32"].kernels("Float")) == bool(kept)
    assert built["fp16"].bytes < built["fp32"].bytes
    kernels = {precision: sum(built[precision].layers.values()) for precision in ("fp32", "fp16")}
    assert kernels["fp16"] <= MOST_KERNELS[name], "see docs/measurements/kernels.md for where they go"
    expected = layer_costs(graphs["fp16"])
    assert sum(macs_by_type(expected).values()) == card.macs, "the card's count is PyTorch's"
    if name != "osnet_x0_25":  # whose gates the builder fuses in ways of its own
        assert len(expected) == kernels["fp16"] == kernels["fp32"]


def test_a_cpus_int8_file_is_refused_with_the_parsers_words(tmp_path: Path) -> None:
    u8s8 = quantized_for_cpu(network(random_weights()), images_of(4))
    write_onnx(u8s8, CARD.with_(precision="int8"), tmp_path / "cpu.onnx")
    with pytest.raises(ModelError, match=r"tensorrt-rtx 1\.\S+ cannot (read|build)"):
        engine_from_onnx(tmp_path / "cpu.onnx", tmp_path, OPTIONS)
    assert not list(tmp_path.glob("*.engine*"))


def test_an_option_that_this_version_lacks_is_named(small: Path, tmp_path: Path) -> None:
    half = tmp_path / "small_fp16.onnx"
    write_onnx(fp16_from_fp32(network(random_weights())), CARD.with_(precision="fp16"), half)
    with pytest.raises(InputError, match=r"tensorrt-rtx 1\.\S+ finds 0 DLA cores here: leave --dla \(dla=\) out"):
        engine_from_onnx(half, tmp_path, EngineOptions(backend="tensorrt-rtx", batches=(8, 8, 8), dla=0))
    with pytest.raises(InputError, match=r"takes an FP16 or INT8 \.onnx and one batch size: .* --profile 8:8:8"):
        engine_from_onnx(half, tmp_path, EngineOptions(backend="tensorrt-rtx", dla=0))
    with pytest.raises(InputError, match="computes FP16 and INT8: add --fp16 or --int8"):  # before anything is written
        export_model(
            small,
            tmp_path / "out",
            engine=EngineOptions(backend="tensorrt-rtx", batches=(8, 8, 8), dla=0),
        )
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="leave --timing-cache"):
        engine_from_onnx(small, tmp_path, EngineOptions(backend="tensorrt-rtx", timing_cache=tmp_path / "c"))
    with pytest.raises(InputError, match="backend 'trt' is unknown: give one of tensorrt, tensorrt-rtx"):
        load_backend("trt")


def test_an_fp32_file_beside_one_for_the_accelerator_runs_on_the_gpu(small: Path, tmp_path: Path) -> None:
    options = EngineOptions(backend="tensorrt-rtx", batches=(8, 8, 8), dla=0)
    options.check_for(["fp32", "fp16"])
    ((built,), _) = build_engines([small], tmp_path / "out", options, ParityCrops(count=2))
    assert built.card.options["dla"] is None
    half = tmp_path / "small_fp16.onnx"
    write_onnx(fp16_from_fp32(network(random_weights())), CARD.with_(precision="fp16"), half)
    with pytest.raises(InputError, match="finds 0 DLA cores here"):
        build_engines([half], tmp_path / "out", options, ParityCrops(count=2))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    onnx.save(network(random_weights()).model, str(tmp_path / "theirs.onnx"))
    with pytest.raises(ModelError, match=r"theirs\.onnx was not written by reid-edge export"):
        engine_from_onnx(tmp_path / "theirs.onnx", tmp_path, OPTIONS)


def test_batches_are_three_growing_numbers() -> None:
    assert parse_profile("2:2:8") == (2, 2, 8)
    for wrong in ("8", "1:2", "4:2:8", "0:1:2", "a:b:c", "1:2:3:4"):
        with pytest.raises(InputError, match="write it as 1:16:64"):
            parse_profile(wrong)


def test_the_key_changes_with_each_thing_an_engine_depends_on() -> None:
    card = EngineCard(CARD, "00", "tensorrt", "10.3.0", {"name": "Orin"}, options={"batches": [1, 2, 3]})
    changed = [
        {"onnx_sha256": "01"},
        {"backend": "tensorrt-rtx"},
        {"version": "10.3.1"},
        {"gpu": {"name": "Orin", "driver": "13.2"}},
    ]
    keys = {card.key, *(card.with_(**one).key for one in [*changed, {"options": {"batches": [1, 2, 4]}}])}
    assert len(keys) == 6
    assert card.with_(layers={"conv Half -> Half": 3}).key == card.key


@pytest.mark.parametrize("damage", ["", "[]", '{"schema": 2}', '{"schema": 1, "options": {"batches": [1]}}'])
def test_a_damaged_engine_card_is_refused(tmp_path: Path, damage: str) -> None:
    engine = tmp_path / "x.engine"
    engine.write_bytes(b"plan")
    with pytest.raises(ModelError, match=r"has no card beside it .* build the engine again"):
        EngineCard.read(engine)
    EngineCard.path_for(engine).write_text(damage)
    with pytest.raises(ModelError, match="is not an engine card"):
        EngineCard.read(engine)
    assert EngineCard.beside(engine) is None


def test_layers_are_read_from_a_description() -> None:
    text = (
        "Name: a, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 2\n"
        "Name: b, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [-1,4], Datatype: Int8, Format: y }],"
        " Constants: [ { Name: w, Datatype: Float }], Outputs: [ { Name: z, Datatype: Half }], TacticName: t\n"
    )
    assert layer_lines(text) == [("b", "correlation", ("Int8",), ("Half",))]


def test_a_log_keeps_errors_and_layers_and_stays_small() -> None:
    """The verbose lines of an engine that runs for months would fill the memory."""
    log = Log()
    for severity, message in (
        ("ERROR", "bad  thing"),
        ("VERBOSE", "x"),
        ("ERROR", "bad thing"),
        ("INTERNAL_ERROR", "worse"),
        ("VERBOSE", "Name: b, LayerType: conv, Inputs: [ { Datatype: Half }], Outputs: [ { Datatype: Half }]"),
        ("INFO", "[GpuLayer] POOLING: /pool"),
        ("INFO", "[DlaLayer] {ForeignNode[a...b]}"),
    ):
        log.add(severity, message)
    assert log.errors() == ["bad thing", "worse"]
    assert [kind for _, kind, _, _ in layer_lines(log.layers())] == ["conv"]
    assert placed_layers(log.layers()) == {"DLA": 1, "GPU": 1}
    backend = load_backend("tensorrt-rtx")
    logger = log.logger(backend)
    for at in range(30_000):
        logger.log(backend.api.ILogger.Severity.VERBOSE, f"step {at}: {'x' * 100}")
        logger.log(backend.api.ILogger.Severity.ERROR, f"error {at}")
    assert sum(len(text) for text in (*log.errors(), log.layers())) < 2000 and log.errors()[-1] == "error 29999"


def test_an_engine_says_what_left_the_accelerator(small: Path, tmp_path: Path) -> None:
    built = engine_from_onnx(small, tmp_path, OPTIONS)
    assert built.notes == () and built.card.placed == {}
    on_dla = replace(built, card=built.card.with_(placed={"DLA": 2, "GPU": 14}))
    assert on_dla.notes == ("14 layers fell back to the GPU, 2 parts run on the deep-learning accelerator",)
    assert on_dla.to_dict()["placed"] == {"DLA": 2, "GPU": 14}
    (note,) = replace(built, card=built.card.with_(placed={"DLA": 0, "GPU": 14})).notes
    assert note.endswith(": build it without --dla (dla=)")


def test_int8_on_rtx_has_a_note_with_the_reason(tmp_path: Path) -> None:
    model = network(random_weights())
    int8 = fp16_from_fp32(quantized(model, ranges_over(model, images_of(), "minmax", 1)))
    write_onnx(int8, CARD.with_(precision="int8"), tmp_path / "small_int8.onnx")
    built = engine_from_onnx(tmp_path / "small_int8.onnx", tmp_path, OPTIONS)
    assert built.kernels("Int8") > 0
    (note,) = built.notes
    assert f"{built.kernels('Int8')} of {built.kernels('Int8')} INT8 layers write FP32 on TensorRT-RTX: FP16 is" in note
    said = built.to_dict()
    assert said["notes"] == [note] and said["reads"]["Int8"] > 0 and said["writes"]["Int8"] == 0
    assert said["all_writes"]["Int8"] > 0, "what rounds for the convolutions writes INT8"
    tensorrt = replace(built, card=built.card.with_(backend="tensorrt"))
    assert tensorrt.notes == ()


def test_int8_on_rtx_warns_and_the_table_shows_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network(random_weights())
    int8 = quantized(model, ranges_over(model, images_of(), "minmax", 1))
    write_onnx(int8, CARD.with_(precision="int8"), tmp_path / "small_int8.onnx")
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "export",
                str(tmp_path / "small_int8.onnx"),
                "--engine",
                "--backend",
                "tensorrt-rtx",
                "--out",
                str(tmp_path),
            ]
        )
    assert ended.value.code == 0
    shown = capsys.readouterr()
    assert "small_int8.engine: " in shown.err and "write FP32 on TensorRT-RTX" in shown.err
    built = engine_from_onnx(tmp_path / "small_int8.onnx", tmp_path, EngineOptions(backend="tensorrt-rtx"))
    cells = next(line for line in shown.out.splitlines() if line.startswith(" small_int8.engine")).split()
    assert list(map(int, cells[4:10])) == [*built.to_dict()["reads"].values(), *built.to_dict()["writes"].values()]


def test_adopting_needs_the_gpu_and_says_so_in_a_line(small: Path, tmp_path: Path) -> None:
    if find_gpu():
        pytest.skip("this machine has a GPU")
    built = engine_from_onnx(small, tmp_path, OPTIONS)
    EngineCard.path_for(built.path).unlink()
    with pytest.raises((InputError, MissingExtraError), match="no GPU here|needs cuda-bindings or pycuda") as found:
        adopt_engine(built.path, small)
    assert "\n" not in str(found.value) and not EngineCard.path_for(built.path).exists()
    with pytest.raises(InputError, match="does not exist: give the path of the ONNX file that it was built from"):
        adopt_engine(built.path, tmp_path / "none.onnx")


def test_the_command_builds_any_of_our_files(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(
            ["export", str(small), "--fp16", "--engine", "--backend", "tensorrt-rtx", "--out", str(out), "--name", "n"]
        )
    assert ended.value.code == 0
    assert {path.name for path in out.glob("*.engine")} == {"small_fp32.engine", "n_fp16.engine"}
    assert json.loads((out / "n_fp16.engine.json").read_text())["model"]["precision"] == "fp16"
    shown = capsys.readouterr()
    assert "build log" in shown.out and ("not verified" in shown.err or find_gpu())


def test_without_a_gpu_an_engine_does_not_open_and_says_why(small: Path, tmp_path: Path) -> None:
    built = engine_from_onnx(small, tmp_path, OPTIONS)
    if find_gpu():
        pytest.skip("this machine has a GPU")
    with pytest.raises((DeviceError, MissingExtraError), match=r"no NVIDIA driver|needs cuda-bindings or pycuda"):
        with open_engine(built.path):
            pass
    (tmp_path / "lone.engine").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"lone\.engine has no card beside it"), open_engine(tmp_path / "lone.engine"):
        pass
    assert isinstance(built.card.model, ModelCard)


def test_the_calls_that_we_make_are_all_there() -> None:
    names = calls_made()
    assert {"Builder.build_serialized_network", "IExecutionContext.execute_async_v3", "ILogger"} <= set(names)
    assert {"MemoryPoolType.WORKSPACE", "ICudaEngine.num_io_tensors", "Runtime.engine_host_code_allowed"} <= set(names)
    assert not lacking(load_backend("tensorrt-rtx").api, names)
    assert lacking(load_backend("tensorrt-rtx").api, ["Builder.build_everything"]) == ["Builder.build_everything"]


def test_an_engine_that_disagrees_is_removed(small: Path, tmp_path: Path) -> None:
    """The engine itself cannot run here: ONNX files of the same and of other weights answer for it."""
    built = engine_from_onnx(small, tmp_path, OPTIONS)
    images = images_of(16)
    found = verify_or_remove(built.path, OnnxEngine(small), small, images)
    assert found.parity and found.parity.batches == (1, 4, 8) and built.path.exists()
    other = {**random_weights(), "model.fc.0.weight": -random_weights()["model.fc.0.weight"]}
    write_onnx(network(other), CARD, tmp_path / "other.onnx")
    with pytest.raises(
        GateError,
        match=r"small_fp32\.engine was built, and removed again: beside ONNX Runtime on small_fp32\.onnx, engine ",
    ):
        verify_or_remove(built.path, OnnxEngine(tmp_path / "other.onnx"), small, images)
    assert not list(tmp_path.glob("*.engine*"))


def test_an_engine_that_is_not_its_cards_is_built_again_and_never_loaded(small: Path, tmp_path: Path) -> None:
    built = engine_from_onnx(small, tmp_path, OPTIONS)
    assert built.card.engine_sha256 == hashlib.sha256(built.path.read_bytes()).hexdigest()
    built.path.write_bytes(b"of another model")
    if find_gpu():
        with pytest.raises(ModelError, match="is not the engine that its card describes"), open_engine(built.path):
            pass
    again = engine_from_onnx(small, tmp_path, OPTIONS)
    assert again.seconds > 0 and again.path.stat().st_size == again.bytes > 1000


def test_the_command_that_builds_an_engine_again_has_its_options(small: Path, tmp_path: Path) -> None:
    card = engine_from_onnx(
        small, tmp_path, EngineOptions(backend="tensorrt-rtx", batches=(1, 4, 8), workspace_mib=512)
    ).card
    said = rebuild(tmp_path / "small_fp32.engine", card)
    options = "--backend tensorrt-rtx --profile 1:4:8 --workspace 512"
    assert said == f"run  reid-edge export {small} --engine {options} --out {tmp_path}"


def test_options_beyond_all_reason_are_refused(small: Path, tmp_path: Path) -> None:
    for text in ("1:²:64", "1:16:2147483648", "0:1:2", "4:2:8", "1:2", "1:2:99999"):
        with pytest.raises(InputError, match="is not MIN:OPT:MAX"):
            parse_profile(text)
    for options, said in (
        (EngineOptions(backend="tensorrt-rtx", workspace_mib=10**14), "MiB of workspace are not between 1 and"),
        (EngineOptions(backend="tensorrt-rtx", dla=0), "computes FP16 and INT8"),
    ):
        with pytest.raises(InputError, match=said):
            engine_from_onnx(small, tmp_path, options)


def test_what_an_engine_tells_of_itself_is_compared_with_its_card(small: Path, tmp_path: Path) -> None:
    """The buffers have the card's sizes: one of other tensors would be read and written beyond them."""
    card = engine_from_onnx(small, tmp_path, OPTIONS).card
    images, embeddings = ((-1, SIDE, SIDE, 3), "UINT8"), ((-1, 8), "FLOAT")
    assert _differs({"images": images, "embeddings": embeddings}, ((1, 4, 8),), card) == ""
    for found, profile, said in (
        ({"images": images, "embeddings": ((-1, 512), "FLOAT")}, (1, 4, 8), "embeddings of FLOAT [-1, 512] where"),
        ({"images": (images[0], "FLOAT"), "embeddings": embeddings}, (1, 4, 8), "images of FLOAT"),
        ({"images": ((-1, 3, SIDE, SIDE), "UINT8"), "embeddings": embeddings}, (1, 4, 8), "images of UINT8 [-1, 3,"),
        ({"images": ((2, *images[0][1:]), "UINT8"), "embeddings": embeddings}, (1, 4, 8), "images of UINT8 [2, "),
        ({"images": images, "embeddings": embeddings}, (1, 4, 4), "profiles 1:4:4 where its card says 1:4:8"),
        (
            {"input": images, "embeddings": embeddings},
            (1, 4, 8),
            "tensors embeddings, input in place of embeddings, images",
        ),
    ):
        assert _differs(found, (profile,), card).startswith(said)


def test_an_engine_of_two_profiles_says_so_in_its_card_and_its_rebuild(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading profiles back from the file needs a GPU; without one, the network's configuration is what is seen."""
    options = EngineOptions(backend="tensorrt-rtx", profiles=((1, 1, 4), (5, 8, 16)))
    assert options.batches == (1, 8, 16) and options.distinct_batches == (1, 4, 5, 8, 16)
    with caplog.at_level(logging.INFO, "reid_edge"):
        built = engine_from_onnx(small, tmp_path, options)
    assert "batches 1:1:4 and 5:8:16" in caplog.text
    card = EngineCard.read(built.path)
    assert card.profiles == ((1, 1, 4), (5, 8, 16)) and card.batches == (1, 8, 16)
    assert "--profile 1:1:4 --profile 5:8:16" in rebuild(built.path, card)
    assert engine_from_onnx(small, tmp_path, options).seconds == 0, "up to date"
    one = engine_from_onnx(small, tmp_path, EngineOptions(backend="tensorrt-rtx", batches=(1, 8, 16)))
    assert one.seconds > 0 and one.card.profiles == ((1, 8, 16),) and "profiles" not in one.card.options
    assert one.bytes < built.bytes, "the second profile has kernels of its own"
    images, embeddings = ((-1, SIDE, SIDE, 3), "UINT8"), ((-1, 8), "FLOAT")
    found = {"images": images, "embeddings": embeddings}
    assert _differs(found, ((1, 1, 4), (5, 8, 16)), card) == ""
    assert "profiles 1:8:16 where its card says 1:1:4, 5:8:16" in _differs(found, ((1, 8, 16),), card)


def test_profiles_are_added_to_the_builders_configuration_in_order(small: Path) -> None:
    """With the real builder: an engine of two profiles is compiled twice over, and one with a wrong profile is not."""
    backend = load_backend("tensorrt-rtx")
    graph, card = read_graph(small)
    onnx, log = graph.model.SerializeToString(), Log()
    two = compiled(onnx, card, backend, EngineOptions(profiles=((1, 1, 4), (5, 8, 16))), log)
    assert two
    with pytest.raises(InputError, match="at most 8 profiles"):
        EngineOptions(profiles=((1, 1, 4),) * 9).check()
    with pytest.raises(InputError, match="is not MIN:OPT:MAX"):
        EngineOptions(profiles=((1, 1, 4), (5, 4, 16))).check()


def test_types_are_read_from_all_ways_in_which_inspectors_tell_them() -> None:
    told = (
        "Name: a, LayerType: CaskConvolution, Inputs: [ { Name: x, Location: Device, Dimensions: [1,3], "
        "Format/Datatype: Row major linear FP16 format }], Outputs: [ { Name: y, Format/Datatype: Channel major FP16 "
        'format where channel % 8 == 0 }], ParameterType: Convolution, Weights: {"Type": "Half", "Count": 9}\n'
        "Name: b, LayerType: CaskGemm, Inputs: [ { Name: x, Format/Datatype: N/A due to dynamic shapes }], "
        "Outputs: [ { Name: y, Format/Datatype: N/A due to dynamic shapes }]\n"
        "Name: c, LayerType: wait, Inputs: [], Outputs: []\n"
    )
    assert layer_lines(told) == [("a", "CaskConvolution", ("Half",), ("Half",)), ("b", "CaskGemm", (), ())]


@pytest.mark.gpu
def test_an_engine_on_a_gpu_gives_what_its_file_gives(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every batch of the profile, ragged ones, and an answer that no later call writes into."""
    if not find_gpu():
        pytest.skip("needs an NVIDIA GPU, its driver and cuda-bindings or pycuda")
    built = engine_from_onnx(small, tmp_path, EngineOptions(batches=(2, 4, 8)))
    assert built.card.gpu and built.source == "inspector"
    with open_engine(built.path) as engine, open_engine(small) as exact:
        assert engine.max_batch == 8 and engine.card == CARD
        for count in (1, 2, 3, 8):
            images = images_of(count, seed=count)
            answer = engine.run(images)
            kept = answer.copy()
            engine.run(images_of(8, seed=99))
            assert np.array_equal(answer, kept)
            np.testing.assert_allclose(answer, exact.run(images), atol=2e-3)
        with pytest.raises(ModelError, match=r"a batch of 9 is outside 1\.\.8"):
            engine.run(images_of(9))
    path = EngineCard.path_for(built.path)
    other = built.card.with_(gpu={**built.card.gpu, "multiprocessors": built.card.gpu["multiprocessors"] + 8})
    path.write_text(other.to_json())
    with pytest.raises(ModelError, match=r"another GPU \(multiprocessors \d+, here"), open_engine(built.path):
        pass
    path.write_text(built.card.with_(gpu={**built.card.gpu, "driver": "1.0"}).to_json())
    with caplog.at_level("WARNING", "reid_edge"), open_engine(built.path):
        assert "was built with the driver of CUDA 1.0" in caplog.text


@pytest.mark.gpu
def test_an_engine_without_a_card_is_adopted_only_with_its_own_file(small: Path, tmp_path: Path) -> None:
    if not find_gpu():
        pytest.skip("needs an NVIDIA GPU, its driver and cuda-bindings or pycuda")
    built = engine_from_onnx(small, tmp_path, EngineOptions(batches=(2, 4, 8)))
    plan = built.path.read_bytes()
    EngineCard.path_for(built.path).unlink()
    other = {**random_weights(), "model.fc.0.weight": -random_weights()["model.fc.0.weight"]}
    write_onnx(network(other), CARD, tmp_path / "other.onnx")
    assert adopt_engine(built.path, tmp_path / "other.onnx").refused
    assert not EngineCard.path_for(built.path).exists() and built.path.read_bytes() == plan
    assert not adopt_engine(built.path, small).refused
    assert EngineCard.read(built.path).batches == (2, 4, 8)
    with open_engine(built.path) as engine:
        assert engine.run(images_of(3)).shape == (3, 8)
