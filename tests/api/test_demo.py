"""What the demonstration refuses, and how one that was stopped goes on; its page has tests of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reid_edge.api.demo.demo import advise_demo, demo_config, run_demo
from reid_edge.errors import InputError, Stopped
from reid_edge.training.run_record import RunRecord


@pytest.mark.long
def test_the_demonstration_ends_with_an_int8_file(tmp_path: Path) -> None:
    """From drawn people to a file that passed every gate, with at least half of its multiply-accumulates in INT8."""
    run_demo(tmp_path / "demo", show=lambda table: None)
    assert (tmp_path / "demo" / "models" / "mobilenetv3_large_int8.onnx").exists()
    files = json.loads((tmp_path / "demo" / "demo.json").read_text())["export"]["files"]
    (int8,) = (file for file in files if file["precision"] == "int8")
    assert int8["refused"] is None and int8["int8"]["share"] >= 0.5 and int8["parity"]["cosine_min"] >= 0.85


def test_without_torch_nobody_is_drawn(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from reid_edge.cli import main; main(['demo', '--out', 'demo'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and not (tmp_path / "demo").exists()
    assert "reid-edge: training needs torch: run  pip install torch" in done.stderr


@pytest.mark.parametrize("options", [{"epochs": 3}, {"arch": "osnet_x0_25"}, {"seed": 1}])
def test_another_demonstration_is_not_shown_as_this_one(options: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    config = demo_config("mobilenetv3_large", 2, 0)
    RunRecord(config=config, base=config, data=()).write(tmp_path / "run")
    with pytest.raises(InputError, match="--arch mobilenetv3_large --epochs 2 --seed 0: give the same options, or"):
        run_demo(tmp_path, **{"epochs": 2} | options)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (("mobilenetv3_large", None, 0), "reid-edge demo --out 'my demo'"),
        (("osnet_x0_25", 4, 1), "reid-edge demo --out 'my demo' --arch osnet_x0_25 --epochs 4 --seed 1"),
    ],
)
def test_stopped_it_goes_on_by_its_own_command(options: tuple[str, int | None, int], command: str) -> None:
    with pytest.raises(Stopped) as stopped, advise_demo(Path("my demo"), *options, "reid-edge"):
        raise Stopped("stopped in epoch 1: go on with  reid-edge train --resume --out 'my demo/run'", signal.SIGINT)
    assert str(stopped.value) == f"stopped while training, all saved: go on with  {command}"
    assert stopped.value.exit_code == 130
