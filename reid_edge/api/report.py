"""The door to pages: what a command measured, as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.progress import phase
from reid_edge.errors import InputError

if TYPE_CHECKING:
    from reid_edge.benchmarks.results import BenchReport
    from reid_edge.benchmarks.scored import ScoredModel
    from reid_edge.data.datasets import Dataset
    from reid_edge.scoring.test_set import TestSet

__all__ = ["PageOptions", "bench_page", "report"]

_MOST_QUERIES = 1000


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """What of the queries a page shows: lists of the ``queries`` with the lowest AP, and activation maps of some.

    ``with_crops`` embeds crops: they are pictures of people, so that the page is as private as the data set. Maps show
    crops too, and need it.
    """

    queries: int = 100
    with_crops: bool = False
    activation_maps: int = 0

    def check(self) -> None:
        """Raise InputError for options that do not fit together."""
        if not 0 <= self.queries <= _MOST_QUERIES:
            raise InputError(f"{self.queries} ranked lists: give --queries (queries=) 0 to {_MOST_QUERIES}")
        if self.activation_maps < 0:
            raise InputError(
                f"{self.activation_maps} maps cannot be drawn: give --activation-maps (activation_maps=) 0 or more"
            )
        if self.activation_maps and not self.with_crops:
            raise InputError("activation maps show the crops of people: give --with-crops (with_crops=) too")


def report(
    path: Path | str,
    *,
    html: Path | str | None = None,
    models: Sequence[Path | str] = (),
    data: Path | str | Dataset | TestSet | None = None,
    layout: str | None = None,
    part: str = "test",
    page: PageOptions | None = None,
) -> Path:
    """Write what a command measured as one HTML page, and return the page's path.

    ``path`` is a file of ``bench --json`` or ``eval --json``, or the folder of a training run, of an ablation or of
    ``reproduce``. The page is ``html``, by default beside a file with the suffix ``.html``, in a folder as
    ``report.html``. With ``models`` and ``data`` (read by ``layout`` and ``part``) the models are run once more, and
    the page of a benchmark or an evaluation also has CMC and ROC curves and ranked lists, as ``page`` says (None: the
    defaults of `PageOptions`).

    Raises InputError for a path that holds none of these, or damaged ones, and what `reid_edge.evaluate` raises.

    >>> import json, reid_edge
    >>> from reid_edge.data.synthetic.dataset import synthesize
    >>> people = synthesize(scratch / "people", identities=2, test_identities=4, cameras=2, progress=False)
    >>> figures = scratch / "eval.json"
    >>> _ = figures.write_text(json.dumps(reid_edge.evaluate(model_file, people).to_dict()))
    >>> reid_edge.report(figures).name
    'eval.html'
    """
    from reid_edge.api.measured_files import page_of

    page = page or PageOptions()
    page.check()
    if bool(models) != (data is not None):
        raise InputError(
            "ranked lists need models and a data set: give --model and --data (models=, data=), or neither"
        )
    source = Path(path)
    if models and source.is_dir():
        raise InputError(
            "a folder has no ranked lists: leave --model and --data out (model=, data=), or give a bench.json"
        )
    out = Path(html) if html else source / "report.html" if source.is_dir() else source.with_suffix(".html")
    write, distance = page_of(source)
    with phase("the page"):
        if data is None:
            return write(out)
        dataset, scored = _scored(models, data, layout, part, page, distance)
        return write(out, scored, dataset, with_crops=page.with_crops)


def bench_page(
    found: BenchReport,
    html: Path | str,
    *,
    data: Path | str | Dataset | TestSet | None = None,
    layout: str | None = None,
    part: str = "test",
    page: PageOptions | None = None,
) -> Path:
    """Write the page of a benchmark, and return its path.

    With ``data`` each model of ``found`` is run once more, for curves and ranked lists. Raises what `report` raises.
    """
    from reid_edge.benchmarks.html.pages.bench import write_bench_page

    page = page or PageOptions()
    page.check()
    with phase("the page"):
        if data is None:
            return write_bench_page(found, html)
        models = dict.fromkeys(row.path for row in found.rows)
        distance = found.settings["distance"]
        dataset, scored = _scored(list(models), data, layout, part, page, distance)
        return write_bench_page(found, html, scored, dataset, with_crops=page.with_crops)


def _scored(
    models: Sequence[Path | str],
    data: Path | str | Dataset | TestSet,
    layout: str | None,
    part: str,
    page: PageOptions,
    distance: str,
) -> tuple[Dataset, list[ScoredModel]]:
    """The data set, and every model scored on it; lists and maps of the first alone, which the page shows."""
    from reid_edge.benchmarks.scored import score_model
    from reid_edge.scoring.evaluation import dataset_of
    from reid_edge.scoring.test_set import TestSet

    opened = data if isinstance(data, TestSet) else TestSet(dataset_of(data, layout, part))
    try:
        scored = [
            score_model(
                model,
                opened,
                distance=distance,
                worst=0 if row else page.queries,
                activation_maps=0 if row else page.activation_maps,
            )
            for row, model in enumerate(models)
        ]
    finally:
        if opened is not data:
            opened.close()
    return opened.dataset, scored
