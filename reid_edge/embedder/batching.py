"""When a batch leaves: full, or before its oldest crop is late. Pure arithmetic, without threads or a clock."""

from __future__ import annotations

__all__ = ["BatchPolicy"]

_MEMORY = 0.2
"""Weight of the newest run in a running mean: five runs of another speed are enough to be believed."""


class BatchPolicy:
    """Decides how many of the waiting crops run next, under a bound on the latency of each.

    A crop may have to wait for one whole run before its own: no batch takes longer than half of ``max_latency_s``
    (None: no bound), as far as the runs so far tell. It waits for more crops only while more are on their way.

    >>> policy = BatchPolicy(max_batch=32, max_latency_s=0.1)
    >>> policy.ran(8, 0.020)  # 8 crops took 20 ms: 20 of them fill half of the bound
    >>> policy.limit
    20
    >>> policy.to_run(5, oldest_s=0.03, more=True), policy.to_run(5, oldest_s=0.03, more=False)
    (0, 5)
    """

    def __init__(self, max_batch: int, max_latency_s: float | None = None) -> None:
        self.max_batch = max_batch
        self.max_latency_s = max_latency_s
        self.limit = max_batch
        """The largest batch that takes at most half of the bound; at least 1."""
        self._seconds: dict[int, float] = {}  # by the size of the batch

    def ran(self, size: int, seconds: float) -> None:
        """Learn that a batch of ``size`` took ``seconds``."""
        known = self._seconds.get(size, seconds)
        self._seconds[size] = known + _MEMORY * (seconds - known)
        if self.max_latency_s is not None:
            sizes = range(self.max_batch, 1, -1)
            self.limit = next((n for n in sizes if 2 * self.run_seconds(n) <= self.max_latency_s), 1)

    def run_seconds(self, size: int) -> float:
        """How long a batch of ``size`` takes: as the next larger one that ran, or in proportion to the largest.

        Both err on the slow side. 0 before the first run.
        """
        if not self._seconds:
            return 0.0
        larger = [known for known in self._seconds if known >= size]
        nearest = min(larger) if larger else max(self._seconds)
        return self._seconds[nearest] * max(1.0, size / nearest)

    def to_run(self, waiting: int, oldest_s: float, more: bool) -> int:
        """How many of ``waiting`` crops run now; 0 to wait.

        ``oldest_s`` is how long the oldest has been there, ``more`` whether crops are being prepared.
        """
        if waiting >= self.limit or not more or self.patience_s(waiting, oldest_s) <= 0:
            return min(waiting, self.limit)
        return 0

    def patience_s(self, waiting: int, oldest_s: float) -> float:
        """How much longer a batch of ``waiting`` crops can wait for more; infinite without a bound."""
        if self.max_latency_s is None:
            return float("inf")
        return self.max_latency_s - self.run_seconds(waiting) - oldest_s
