"""Ctrl-C: the batch is finished, all is saved, one line says how to go on, and a second one ends at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.data.synthetic.dataset import synthesize  # noqa: E402
from reid_edge.training.models.checkpoint import load_checkpoint  # noqa: E402
from reid_edge.training.run_record import CHECKPOINT_NAME, read_record  # noqa: E402
from reid_edge.training.signals import stop_on_signal  # noqa: E402


@pytest.fixture
def interruptible() -> object:
    """Tests may run in the background, where a shell ignores ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_noted_once_and_then_ends_at_once(interruptible: None, capfd: pytest.CaptureFixture[str]) -> None:
    with stop_on_signal() as signalled:
        assert signalled() == 0
        signal.raise_signal(signal.SIGINT)
        assert signalled() == signal.SIGINT
        assert "ctrl-C again ends at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_after_sigterm_ends_at_once(interruptible: None) -> None:
    with stop_on_signal() as signalled:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert signalled() == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signal() as signalled:
            signal.raise_signal(signal.SIGINT)
            assert signalled() == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_is_interrupted_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    people = synthesize(tmp_path / "set", identities=4, test_identities=2, cameras=2, size_hw=(64, 32), progress=False)
    out = tmp_path / "a run"
    words = f"train --arch osnet_x0_25 --data {people} --epochs 10000 -P 4 -K 2 --size 64 32 --threads 1 --out"
    child = subprocess.Popen(
        [sys.executable, "-m", "reid_edge", *words.split(), str(out)],
        env={**os.environ, "REID_EDGE_CACHE": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stdout is not None
    while (line := child.stdout.readline()) and not line.startswith("epoch 1:"):
        pass
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    _, said = child.communicate(timeout=600)
    assert child.returncode == 130, said
    last = said.splitlines()[-1]
    assert last.startswith("reid-edge: stopped in epoch ")
    assert last.endswith(f" batches, all saved: go on with  reid-edge train --resume --out '{out}'")
    saved = load_checkpoint(out / CHECKPOINT_NAME).training
    assert f"epoch {len(saved['history']) + 1} after {saved['progress']['iteration']} batches" in last
    record = read_record(out)
    assert record is not None and (record.config.epochs, record.run.threads) == (10000, 1)
