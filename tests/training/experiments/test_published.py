"""Published figures: the right ones for a model and a data set."""

from __future__ import annotations

from reid_edge.training.experiments.published import PUBLISHED, by_others, of_the_paper


def test_the_papers_figures_are_found_and_others_do_not_mix_in() -> None:
    assert str(of_the_paper("resnet50_bot", "Market-1501")) == "89.4/75.5"
    assert str(of_the_paper("mobilenetv3_large", "DukeMTMC-reID")) == "51.4/31.8"
    assert of_the_paper("osnet_x0_25", "LaST") is None
    assert [str(row) for row in by_others("osnet_x0_25", "Market-1501")] == ["91.2/75.0"], "not the one from MSMT17"
    assert [str(row) for row in by_others("resnet50_bot", "Market-1501")] == ["94.5/85.9", "94.4/86.1"]
    assert all(row.mAP < row.rank1 <= 100 for row in PUBLISHED)
