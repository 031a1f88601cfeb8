"""OSNet-AIN through the whole export: instance norm is one node in every precision, in float also in an INT8 file."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

pytest.importorskip("torch", reason="needs the train extra")

from helpers.networks import settled_model  # noqa: E402

from reid_edge.api.export_model import export_model  # noqa: E402
from reid_edge.data.synthetic.dataset import synthesize  # noqa: E402
from reid_edge.export.int8.plan import Int8Options  # noqa: E402
from reid_edge.export.parity.limits import Checks  # noqa: E402
from reid_edge.training.models.checkpoint import card_of  # noqa: E402

HW = (64, 32)


@pytest.mark.long
def test_osnet_ain_passes_the_gate_in_every_precision(tmp_path: Path) -> None:
    crops = synthesize(tmp_path / "drawn", identities=8, test_identities=4, cameras=2, size_hw=HW, progress=False)
    model = settled_model("osnet_ain_x0_25")
    card = card_of(model, input_hw=HW, trained_on="nothing")
    report = export_model(
        (model, card),
        tmp_path / "models",
        precisions=("fp32", "fp16", "int8"),
        int8=Int8Options(calibrate=crops),
        checks=Checks(crops=64),
    )
    report.raise_if_refused()
    for file in report.files:
        nodes = onnx.load(file.path).graph.node
        makers = {value: node for node in nodes for value in node.output}
        norms = [node for node in nodes if node.op_type == "InstanceNormalization"]
        assert len(norms) == 5, "the stem's and four blocks'"
        assert all(makers[node.input[0]].op_type in ("Conv", "Cast") for node in norms), "nothing is rounded before one"
        rounded = [node for node in nodes if node.op_type == "QuantizeLinear"]
        assert bool(rounded) == ("int8" in file.path.name)
