"""Data-parallel training: what each rank gets, and two gloo processes against one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from helpers import ddp_step  # noqa: E402
from helpers.log import logged  # noqa: E402

from reid_edge.data.synthetic.dataset import synthesize  # noqa: E402
from reid_edge.errors import InputError  # noqa: E402
from reid_edge.training.models.checkpoint import load_checkpoint  # noqa: E402
from reid_edge.training.parallel import ALONE, World, only_main_logs  # noqa: E402
from reid_edge.training.run_folder import CHECKPOINT_NAME  # noqa: E402


def _torchrun(processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def test_ranks_share_a_batch_by_identity() -> None:
    batch = np.array([10, 11, 20, 21, 30, 31, 40, 41])
    assert World(0, 2).share(batch, 2).tolist() == [10, 11, 20, 21]
    assert World(1, 2).share(batch, 2).tolist() == [30, 31, 40, 41]
    assert ALONE.share(batch, 2).tolist() == batch.tolist()
    with pytest.raises(InputError, match="4 identities in a batch cannot be shared by 3 processes"):
        World(0, 3).share(batch, 2)


def test_only_the_main_process_logs() -> None:
    package = logging.getLogger("reid_edge.training.loop")
    with logged() as said:
        for rank in (0, 1):
            with only_main_logs(World(rank, 2)):
                package.info("epoch of rank %d", rank)
                package.warning("note of rank %d", rank)
        package.info("after")
    assert said == ["epoch of rank 0", "note of rank 0", "after"]


@pytest.mark.slow
def test_two_processes_take_the_step_that_one_takes(tmp_path: Path) -> None:
    """Every loss, the weights and the centers after two steps; batch norm is fixed, so they must agree."""
    _torchrun(2, str(ddp_step.__file__), str(tmp_path / "two.pth"))
    together = torch.load(tmp_path / "two.pth", weights_only=True)
    alone = ddp_step.steps()
    assert {"loss/id", "loss/triplet", "loss/center", "loss/distill", "centers"} < alone.keys() == together.keys()
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.long
def test_a_run_in_two_processes_resumes_and_one_process_equals_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    people = synthesize(tmp_path / "set", identities=8, test_identities=4, seed=3)
    options = f"--arch osnet_x0_25 --data {people} -P 4 -K 2 --size 64 32 --seed 1 --threads 1 --device cpu".split()
    module = ["-m", "reid_edge.training", *options, "--epochs", "2"]
    said = _torchrun(2, *module, "--out", str(tmp_path / "two")).stdout
    assert said.count("epoch 2: id ") == 1, "one rank speaks for both"
    assert load_checkpoint(tmp_path / "two" / CHECKPOINT_NAME).training["history"][1]["metrics"]["rank1"] >= 0
    assert "resuming" in _torchrun(2, *module, "--out", str(tmp_path / "two"), "--resume").stdout
    _torchrun(1, *module, "--out", str(tmp_path / "one"))
    subprocess.run(
        [sys.executable, "-m", "reid_edge", "train", *options, "--epochs", "2", "--out", str(tmp_path / "none")],
        check=True,
        capture_output=True,
    )
    one, none = (load_checkpoint(tmp_path / name / "model.pth").model for name in ("one", "none"))
    for name, value in none.items():
        assert torch.equal(one[name], value), f"{name} differs under torchrun"
