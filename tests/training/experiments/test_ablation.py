"""The ablation: each row changes what its name says, runs are not repeated, and the table is right."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.data.synthetic.dataset import synthesize  # noqa: E402
from reid_edge.errors import InputError  # noqa: E402
from reid_edge.training.experiments.ablation import ROWS, changed, full_recipe, main, table  # noqa: E402


def _differences(model: str, name: str) -> dict[str, tuple[object, object]]:
    full = full_recipe(model, 10, "default")
    row = changed(full, ROWS[name])
    assert row is not None
    before, after = full.to_dict(), row.to_dict()
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def test_a_row_changes_what_its_name_says_and_nothing_else() -> None:
    assert _differences("mobilenetv3_large", "all tricks") == {}
    assert _differences("mobilenetv3_large", "no random erasing") == {"erase": (0.5, 0.0)}
    assert _differences("mobilenetv3_large", "no label smoothing") == {"label_smoothing": (0.1, 0.0)}
    assert set(_differences("mobilenetv3_large", "no warm-up")) == {"warmup_epochs"}
    on = {"neck": True, "last_stride": 1}
    assert _differences("mobilenetv3_large", "last stride 2") == {"options": (on, {**on, "last_stride": 2})}
    assert _differences("mobilenetv3_large", "no BNNeck") == {"options": (on, {**on, "neck": False})}


def test_an_architecture_without_a_last_stride_has_no_such_row() -> None:
    assert changed(full_recipe("osnet_x0_25", 10, "default"), ROWS["last stride 2"]) is None


def test_the_change_is_the_mean_over_the_seeds_that_both_have() -> None:
    def of(rank1: float, mAP: float) -> dict[str, float]:  # noqa: N803 - the name the field knows it by
        return {"rank1": rank1, "mAP": mAP, "mINP": 0.1}

    scores = {"all tricks": {0: of(0.5, 0.4), 1: of(0.6, 0.4)}, "no warm-up": {0: of(0.4, 0.3), 1: of(0.7, 0.35)}}
    # R1: -10 and +10; mAP: -10 and -5. Seed 0 alone would say -10.
    last = table(scores).splitlines()[-1]
    assert last == "| no warm-up | 0 1 | 40.00 70.00 | 30.00 35.00 | 10.00 10.00 | +0.00 | -7.50 |"


def test_it_trains_the_rows_asked_for_and_does_not_repeat_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    data = synthesize(
        tmp_path / "d", identities=18, test_identities=4, cameras=2, images_per_camera=2, size_hw=(64, 32)
    )
    asked = f"--arch osnet_x0_25 --data {data} --out {tmp_path / 'a'} --epochs 1 --size 64 32 --threads 1".split()
    main([*asked, "--row", "all tricks", "--row", "with a teacher"])  # no teacher was given: one run
    first = sorted(tmp_path.glob("a/*/model.pth"))
    assert [path.parent.name for path in first] == ["all_tricks-0"]
    made = first[0].stat().st_mtime_ns
    main([*asked, "--row", "all tricks", "--row", "no center loss"])
    assert first[0].stat().st_mtime_ns == made
    printed = capsys.readouterr().out
    assert "| no center loss | 0 |" in printed
    assert (tmp_path / "a/ablation.md").read_text() in printed
    with pytest.raises(InputError, match="is unknown"):
        main([*asked, "--row", "no coffee"])
