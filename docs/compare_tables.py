"""What `tables` says of `reid-edge compare`: slow-downs found and false alarms, by each way to judge the same times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

__all__ = ["COMPARE", "COMPARE_FACTS", "compare", "compare_facts"]

Rows = dict[str, dict[str, Any]]
Times: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Judge: TypeAlias = "Callable[[Times, Times], float]"
"""The lower end of the interval of log(new / old): above the logarithm of the limit, a rule is broken."""

COMPARE = {
    "judged by": "",
    "10 %, busy: found": "d",
    "false alarms": "d",
    "10 %, CPU time: found": "d",
    "its false alarms": "d",
    "2 %, resampled CPU time: found": "d",
    "and false alarms": "d",
}
COMPARE_FACTS = {"trials": "d", "turns": "d", "seconds": ".1f", "load": ".1f", "resampled turns": "d"}
_RESAMPLED_TURNS = 60
_DRAWS = 1000
_OF_TURNS = {"p25": "25", "p10": "10", "minimum": "0", "median ratio of neighbouring runs": "runs"}


def compare(work: Path) -> Rows:
    """A row for each statistic of the turns' p50, and for the chosen one of what else turns give."""
    found = _trials(work)
    ways: dict[str, tuple[str, Judge]] = {name: ("50", judge) for name, judge in _JUDGES.items()}
    ways |= {f"the first, of turns' {name}": (rank, _JUDGES[CHOSEN]) for name, rank in _OF_TURNS.items()}
    return {name: {"judged by": name, **_counts(found, rank, judge)} for name, (rank, judge) in ways.items()}


def compare_facts(work: Path) -> Rows:
    """What was measured, and the load average meanwhile."""
    found = _trials(work)
    loads, first = found["loads"], found["trials"][0]["wall"]["50"]
    return {
        "facts": {
            "trials": len(found["trials"]) // 2,
            "turns": len(first[0]),
            "seconds": found["seconds"],
            "load": {"value": float(np.median(loads)), "low": min(loads), "high": max(loads)},
            "resampled turns": _RESAMPLED_TURNS,
        }
    }


def _trials(work: Path) -> Any:
    return json.loads((work / "compare.json").read_text(encoding="utf-8"))


def _counts(found: Any, rank: str, judge: Judge) -> dict[str, int]:
    """How often a judge finds the new times slower at all (`p50_rise>0%`)."""
    counts = {}
    names = iter(list(COMPARE)[1:])
    for clock in ("wall", "cpu"):
        slower = [[], []]  # type: list[list[bool]]
        for trial in found["trials"]:
            old, new = np.array(trial[clock][rank])
            slower[not trial["slowed"]].append(judge(old, new) > 0)
        counts |= {next(names): sum(each) for each in slower}
    old, new = np.array(found["long"]["cpu"][rank])
    for slowed in (1.02, 1.0):
        counts[next(names)] = sum(judge(*_resampled(old, slowed * new, seed)) > 0 for seed in range(20))
    return counts


def _resampled(old: Times, new: Times, seed: int) -> tuple[Times, Times]:
    """Pairs of turns drawn with replacement."""
    picked = np.random.default_rng(seed).integers(0, len(old), _RESAMPLED_TURNS)
    return old[picked], new[picked]


def _hodges_lehmann(old: Times, new: Times) -> float:
    from reid_edge.benchmarks.compare.ratios import paired_ratio

    found = paired_ratio(old.tolist(), new.tolist())
    assert found
    return float(np.log(found.low))


def _unpaired(old: Times, new: Times) -> float:
    from reid_edge.benchmarks.compare.ratios import unpaired_ratio

    found = unpaired_ratio(old.tolist(), new.tolist())
    assert found
    return float(np.log(found.low))


def _mean(old: Times, new: Times) -> float:
    from scipy import stats

    logs = np.log(new / old)
    return float(logs.mean() - stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs)))


def _trimmed(old: Times, new: Times) -> float:
    """A fifth cut off at each end; Yuen's interval by the winsorised variance."""
    from scipy import stats

    logs = np.sort(np.log(new / old))
    cut = len(logs) // 5
    kept = len(logs) - 2 * cut
    winsorised = np.clip(logs, logs[cut], logs[-cut - 1])
    error = winsorised.std(ddof=1) * np.sqrt(len(logs)) / kept * np.sqrt((len(logs) - 1) / (kept - 1))
    return float(logs[cut : len(logs) - cut].mean() - stats.t.ppf(0.975, kept - 1) * error)


def _median_by_signs(old: Times, new: Times) -> float:
    from scipy import stats

    logs = np.sort(np.log(new / old))
    below = int(stats.binom.ppf(0.025, len(logs), 0.5))
    return float(logs[below - 1 if stats.binom.cdf(below, len(logs), 0.5) > 0.025 else below])


def _median_by_bootstrap(old: Times, new: Times) -> float:
    logs = np.log(new / old)
    picked = np.random.default_rng(0).integers(0, len(logs), (_DRAWS, len(logs)))
    return float(np.percentile(np.median(logs[picked], axis=1), 2.5))


def _minima(old: Times, new: Times) -> float:
    """The quickest turn of each, by bootstrap."""
    picked = np.random.default_rng(0).integers(0, len(old), (_DRAWS, len(old)))
    return float(np.percentile(np.log(new[picked].min(axis=1) / old[picked].min(axis=1)), 2.5))


CHOSEN = "Hodges-Lehmann of pairs, signed ranks"
_JUDGES: dict[str, Judge] = {
    CHOSEN: _hodges_lehmann,
    "mean of pairs, t": _mean,
    "trimmed mean of pairs, Yuen": _trimmed,
    "median of pairs, signs": _median_by_signs,
    "median of pairs, bootstrap": _median_by_bootstrap,
    "Hodges-Lehmann of two samples, rank sums": _unpaired,
    "quickest turns, bootstrap": _minima,
}
