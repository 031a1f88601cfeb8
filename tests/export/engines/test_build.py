"""Engines by the real builder: TensorRT-RTX, which builds without a GPU, of the three models in three precisions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_network import CARD, SIDE, images_of, network, random_weights

from reid_edge.card import ModelCard
from reid_edge.cli import main
from reid_edge.cuda import find_gpu
from reid_edge.engine import open_engine
from reid_edge.engine_card import EngineCard
from reid_edge.engine_onnx import OnnxEngine
from reid_edge.engine_tensorrt import _differs, _rebuild
from reid_edge.errors import GateError, InputError, MissingExtraError, ModelError
from reid_edge.export.api_check import calls_made, lacking
from reid_edge.export.build import BuildOptions, Built, engine_from_onnx, parse_batches
from reid_edge.export.calibrate import ranges_over
from reid_edge.export.fp16 import fp16_from_fp32
from reid_edge.export.graph import write_onnx
from reid_edge.export.int8_layers import default_keep, layers
from reid_edge.export.quantize import quantized
from reid_edge.export.quantize_cpu import quantized_for_cpu
from reid_edge.export.verify import verify_or_remove
from reid_edge.tensorrt_api import Log, layer_lines, load_backend

OPTIONS = BuildOptions("tensorrt-rtx", (1, 4, 8))


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest) -> None:
    """The builder that works anywhere; on a GPU, whichever there is."""
    try:
        load_backend(None if request.node.get_closest_marker("gpu") else "tensorrt-rtx")
    except MissingExtraError as error:
        pytest.skip(f"needs the rtx-build extra: {error}")


def quiet(_: str) -> None:
    pass


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small_fp32.onnx"
    write_onnx(network(random_weights()), CARD, path)
    return path


def test_an_engine_and_its_card_are_written(small: Path, tmp_path: Path) -> None:
    said: list[str] = []
    built = engine_from_onnx(small, tmp_path / "out", OPTIONS, said.append)
    assert built.path == tmp_path / "out" / "small_fp32.engine"
    assert built.path.stat().st_size == built.bytes > 1000
    assert sorted(path.name for path in built.path.parent.iterdir()) == ["small_fp32.engine", "small_fp32.engine.json"]
    card = EngineCard.read(built.path)
    assert card == built.card and card.model == CARD and card.batches == (1, 4, 8)
    assert (card.backend, card.gpu) == ("tensorrt-rtx", "") and card.version.startswith("1.")
    assert built.source == "build log" and built.kernels("Float") >= 4 and built.kernels("Int8") == 0
    assert "building with tensorrt-rtx" in said[0]


def test_an_engine_is_built_once_for_all_that_it_depends_on(small: Path, tmp_path: Path) -> None:
    first = engine_from_onnx(small, tmp_path, OPTIONS, quiet)
    again = engine_from_onnx(small, tmp_path, OPTIONS, quiet)
    assert again.seconds == 0 and again.card == first.card and again.layers == first.layers
    assert engine_from_onnx(small, tmp_path, BuildOptions("tensorrt-rtx", (1, 4, 8), force=True), quiet).seconds > 0
    assert engine_from_onnx(small, tmp_path, BuildOptions("tensorrt-rtx", (1, 4, 9)), quiet).seconds > 0
    write_onnx(network({**random_weights(), "model.fc.0.bias": np.ones(8)}), CARD, small)
    assert engine_from_onnx(small, tmp_path, BuildOptions("tensorrt-rtx", (1, 4, 9)), quiet).seconds > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["osnet_x0_25", "mobilenetv3_large", "resnet50_bot"])
def test_every_model_builds_in_every_precision(name: str, tmp_path: Path) -> None:
    """The kernels are of the type that the file asks for: what the builder compiled, not what we hope."""
    pytest.importorskip("torch", reason="needs the train extra")
    from test_export import lived_in

    from reid_edge.export.onnx import onnx_from_model
    from reid_edge.training.checkpoint import card_of

    model = lived_in(name)
    card = card_of(model, input_hw=(128, 64))
    fp32 = onnx_from_model(model, card)
    crops = np.random.default_rng(0).integers(0, 256, (4, 128, 64, 3), dtype=np.uint8)
    kept = default_keep(fp32)
    int8 = quantized(fp32, ranges_over(fp32, crops, "minmax"), kept)
    graphs = {"fp32": fp32, "fp16": fp16_from_fp32(fp32), "int8": fp16_from_fp32(int8), "int8 and fp32": int8}
    built: dict[str, Built] = {}
    for precision, graph in graphs.items():
        write_onnx(graph, card.with_(precision=precision[:4]), tmp_path / f"{precision}.onnx")
        built[precision] = engine_from_onnx(tmp_path / f"{precision}.onnx", tmp_path, OPTIONS, quiet)
    products = sum(len(nodes) for nodes in layers(fp32).values())
    rounded = sum(len(nodes) for layer, nodes in layers(fp32).items() if layer not in kept)
    assert built["fp32"].kernels("Half") == built["fp32"].kernels("Int8") == 0
    # Some products are fused or become other kernels; most must be there under their own type.
    assert built["fp32"].kernels("Float") > 0.7 * products
    assert built["fp16"].kernels("Half") > 0.7 * (products - 2) and built["fp16"].kernels("Float") <= 2
    assert built["int8"].kernels("Int8") > 0.9 * rounded and built["int8 and fp32"].kernels("Int8") > 0.9 * rounded
    assert built["int8"].kernels("Float") <= 2
    assert bool(built["int8 and fp32"].kernels("Float")) == bool(kept)
    assert built["fp16"].bytes < built["fp32"].bytes


def test_a_cpus_int8_file_is_refused_with_the_parsers_words(tmp_path: Path) -> None:
    u8s8 = quantized_for_cpu(network(random_weights()), images_of(4))
    write_onnx(u8s8, CARD.with_(precision="int8"), tmp_path / "cpu.onnx")
    with pytest.raises(ModelError, match=r"tensorrt-rtx 1\.\S+ cannot (read|build)"):
        engine_from_onnx(tmp_path / "cpu.onnx", tmp_path, OPTIONS, quiet)
    assert not list(tmp_path.glob("*.engine*"))


def test_an_option_that_this_version_lacks_is_named(small: Path, tmp_path: Path) -> None:
    half = tmp_path / "small_fp16.onnx"
    write_onnx(fp16_from_fp32(network(random_weights())), CARD.with_(precision="fp16"), half)
    with pytest.raises(InputError, match=r"tensorrt-rtx 1\.\S+ finds 0 DLA cores here: leave --dla out"):
        engine_from_onnx(half, tmp_path, BuildOptions("tensorrt-rtx", (8, 8, 8), dla=0), quiet)
    with pytest.raises(InputError, match="takes one batch size"):
        engine_from_onnx(half, tmp_path, BuildOptions("tensorrt-rtx", dla=0), quiet)
    with pytest.raises(InputError, match="leave --timing-cache out"):
        engine_from_onnx(small, tmp_path, BuildOptions("tensorrt-rtx", timing_cache=tmp_path / "c"), quiet)
    with pytest.raises(InputError, match="backend 'trt' is unknown: give one of tensorrt, tensorrt-rtx"):
        load_backend("trt")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    onnx.save(network(random_weights()), str(tmp_path / "theirs.onnx"))
    with pytest.raises(ModelError, match=r"theirs\.onnx was not written by reid-edge export"):
        engine_from_onnx(tmp_path / "theirs.onnx", tmp_path, OPTIONS, quiet)


def test_batches_are_three_growing_numbers() -> None:
    assert parse_batches("2:2:8") == (2, 2, 8)
    for wrong in ("8", "1:2", "4:2:8", "0:1:2", "a:b:c", "1:2:3:4"):
        with pytest.raises(InputError, match="write them as 1:16:64"):
            parse_batches(wrong)


def test_the_key_changes_with_each_thing_an_engine_depends_on() -> None:
    card = EngineCard(CARD, "00", "tensorrt", "10.3.0", "Orin, 8.7", {"batches": [1, 2, 3]})
    changed = [{"onnx_sha256": "01"}, {"backend": "tensorrt-rtx"}, {"version": "10.3.1"}, {"gpu": "Orin, 8.6"}]
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
    with pytest.raises(ModelError, match="is no card of an engine"):
        EngineCard.read(engine)
    assert EngineCard.beside(engine) is None


def test_layers_are_read_from_a_description() -> None:
    text = (
        "Name: a, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 2\n"
        "Name: b, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [-1,4], Datatype: Int8, Format: y }],"
        " Constants: [ { Name: w, Datatype: Float }], Outputs: [ { Name: z, Datatype: Half }], TacticName: t\n"
    )
    assert layer_lines(text) == [("b", "correlation", ("Int8",), ("Half",))]
    log = Log([("ERROR", "bad  thing"), ("VERBOSE", "x"), ("ERROR", "bad thing"), ("INTERNAL_ERROR", "worse")])
    assert log.errors() == ["bad thing", "worse"]


def test_the_command_builds_any_of_our_files(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(
            ["export", str(small), "--fp16", "--engine", "--backend", "tensorrt-rtx", "--out", str(out), "--name", "n"]
        )
    assert ended.value.code == 0
    assert {path.name for path in out.glob("*.engine")} == {"small_fp32.engine", "n_fp16.engine"}
    assert json.loads((out / "n_fp16.engine.json").read_text())["model"]["precision"] == "fp16"
    said = capsys.readouterr().out
    assert "build log" in said and ("not verified" in said or find_gpu())


def test_without_a_gpu_an_engine_does_not_open_and_says_why(small: Path, tmp_path: Path) -> None:
    built = engine_from_onnx(small, tmp_path, OPTIONS, quiet)
    if find_gpu():
        pytest.skip("this machine has a GPU")
    with pytest.raises((ModelError, MissingExtraError), match=r"no NVIDIA driver|needs cuda-bindings or pycuda"):
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
    built = engine_from_onnx(small, tmp_path, OPTIONS, quiet)
    images = images_of(16)
    with OnnxEngine(small) as exact:
        reference = exact.run(images)
    found = verify_or_remove(built.path, OnnxEngine(small), reference, images)
    assert found.parity and found.parity.batches == (1, 4, 8) and built.path.exists()
    other = {**random_weights(), "model.fc.0.weight": -random_weights()["model.fc.0.weight"]}
    write_onnx(network(other), CARD, tmp_path / "other.onnx")
    with pytest.raises(GateError, match=r"small_fp32\.engine was built, and removed again: fp32 differs"):
        verify_or_remove(built.path, OnnxEngine(tmp_path / "other.onnx"), reference, images)
    assert not list(tmp_path.glob("*.engine*"))


def test_an_engine_that_is_not_its_cards_is_built_again_and_never_loaded(small: Path, tmp_path: Path) -> None:
    built = engine_from_onnx(small, tmp_path, OPTIONS, quiet)
    assert built.card.engine_sha256 == hashlib.sha256(built.path.read_bytes()).hexdigest()
    built.path.write_bytes(b"of another model")
    if find_gpu():
        with pytest.raises(ModelError, match="is not the engine that its card tells of"), open_engine(built.path):
            pass
    again = engine_from_onnx(small, tmp_path, OPTIONS, quiet)
    assert again.seconds > 0 and again.path.stat().st_size == again.bytes > 1000


def test_the_command_that_builds_an_engine_again_has_its_options(small: Path, tmp_path: Path) -> None:
    card = engine_from_onnx(small, tmp_path, BuildOptions("tensorrt-rtx", (1, 4, 8), workspace_mib=512), quiet).card
    said = _rebuild(tmp_path / "small_fp32.engine", card)
    options = "--backend tensorrt-rtx --batch 1:4:8 --workspace 512"
    assert said == f"run  reid-edge export {small} --engine {options} --out {tmp_path}"


def test_options_beyond_all_reason_are_refused(small: Path, tmp_path: Path) -> None:
    for text in ("1:²:64", "1:16:2147483648", "0:1:2", "4:2:8", "1:2", "1:2:99999"):
        with pytest.raises(InputError, match="are not LEAST:USUAL:MOST"):
            parse_batches(text)
    for options, said in (
        (BuildOptions("tensorrt-rtx", workspace_mib=10**14), "MiB of workspace are not between 1 and"),
        (BuildOptions("tensorrt-rtx", dla=0), "computes FP16 and INT8"),
    ):
        with pytest.raises(InputError, match=said):
            engine_from_onnx(small, tmp_path, options, quiet)


def test_what_an_engine_tells_of_itself_is_compared_with_its_card(small: Path, tmp_path: Path) -> None:
    """The buffers have the card's sizes: one of other tensors would be read and written beyond them."""
    card = engine_from_onnx(small, tmp_path, OPTIONS, quiet).card
    images, embeddings = ((-1, SIDE, SIDE, 3), "UINT8"), ((-1, 8), "FLOAT")
    assert _differs({"images": images, "embeddings": embeddings}, (1, 4, 8), card) == ""
    for found, batches, said in (
        ({"images": images, "embeddings": ((-1, 512), "FLOAT")}, (1, 4, 8), "embeddings of FLOAT [-1, 512] where"),
        ({"images": (images[0], "FLOAT"), "embeddings": embeddings}, (1, 4, 8), "images of FLOAT"),
        ({"images": ((-1, 3, SIDE, SIDE), "UINT8"), "embeddings": embeddings}, (1, 4, 8), "images of UINT8 [-1, 3,"),
        ({"images": ((2, *images[0][1:]), "UINT8"), "embeddings": embeddings}, (1, 4, 8), "images of UINT8 [2, "),
        ({"images": images, "embeddings": embeddings}, (1, 4, 4), "batches (1, 4, 4) where its card says (1, 4, 8)"),
        ({"input": images, "embeddings": embeddings}, (1, 4, 8), "tensors embeddings, input where ours"),
    ):
        assert _differs(found, batches, card).startswith(said)


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
def test_an_engine_on_a_gpu_gives_what_its_file_gives(small: Path, tmp_path: Path) -> None:
    """Every batch of the profile, ragged ones, and an answer that no later call writes into."""
    if not find_gpu():
        pytest.skip("needs an NVIDIA GPU, its driver and cuda-bindings or pycuda")
    built = engine_from_onnx(small, tmp_path, BuildOptions(batches=(2, 4, 8)), quiet)
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
    moved = built.card.with_(gpu="another GPU")
    EngineCard.path_for(built.path).write_text(moved.to_json())
    with pytest.raises(ModelError, match="was built for another GPU"), open_engine(built.path):
        pass
