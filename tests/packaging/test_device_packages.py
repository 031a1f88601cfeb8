"""What happens where neither the device nor the extras ``cpu`` and ``gpu`` brought OpenCV and ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reid_edge.api.export_model import export_model
from reid_edge.data.images import resize
from reid_edge.errors import MissingExtraError


def test_an_export_without_onnx_runtime_is_refused_before_the_model_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="needs the export extra")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "model.pth").write_bytes(b"no weights")
    with pytest.raises(MissingExtraError, match="running ONNX files needs onnxruntime"):
        export_model(tmp_path / "model.pth", tmp_path / "models")


def test_only_a_resize_by_opencv_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    image = np.zeros((8, 4, 3), np.uint8)
    assert resize(image, (16, 8), "pillow-bilinear").shape == (16, 8, 3)
    with pytest.raises(MissingExtraError, match="needs cv2.* opencv-python-headless"):
        resize(image, (16, 8))


def test_a_training_without_opencv_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    """Importing torch takes seconds."""
    (tmp_path / "crops.csv").write_text("path,pid,camid,split\na.jpg,1,1,train\nb.jpg,2,1,train\n")
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"is not read")
    code = """
import sys
sys.modules["cv2"] = None
from reid_edge.cli import main
try:
    main(["train", "--arch", "osnet_x0_25", "--data", "crops.csv", "--out", "run"])
finally:
    print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "False\n"), done.stderr
    assert (
        "crops needs cv2" in done.stderr and "opencv-python-headless" in done.stderr and not (tmp_path / "run").exists()
    )
