"""A PyTorch model behind the Engine contract: the reference that every export is compared with."""

from __future__ import annotations

import logging
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.core.threads import usable_cores
from reid_edge.engines.base import COLLAPSED, check_batch
from reid_edge.engines.facts import EngineFacts, board_versions
from reid_edge.errors import InputError

from .deploy import DeployModel
from .reid_model import ReidModel

__all__ = ["TorchEngine", "device_for", "limit_torch_threads"]

logger = logging.getLogger(__name__)


def device_for(name: str) -> torch.device:
    """A torch device by name; "auto" is the GPU where there is one. Raises InputError when it cannot be used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used ({reason}): give --device cpu or cuda") from None
    return device


def limit_torch_threads(threads: int | None) -> None:
    """Bound torch's CPU threads, in the whole process: ``threads``, or what torch has, at most the usable cores."""
    torch.set_num_threads(threads or min(torch.get_num_threads(), usable_cores()))


class TorchEngine:
    """Runs a `ReidModel` in float32 and evaluation mode; the model is put back in its mode on exit.

    The engine borrows the model: weights that change meanwhile are used by the next `run`. ``sha256`` is the hash of
    the file that the model was read from.
    """

    backend = "torch"

    def __init__(
        self,
        model: ReidModel,
        card: ModelCard,
        device: str | torch.device = "cpu",
        max_batch: int = 256,
        sha256: str = "",
    ) -> None:
        self.card = card
        self.max_batch = max_batch
        self._model = model
        self._device = torch.device(device)
        self._sha256 = sha256
        self._was_training = model.training
        self._deploy: DeployModel | None = None
        self._warned = False

    @property
    def provider(self) -> str:
        """The device, e.g. "cpu" or "cuda:0"."""
        return str(self._device)

    @property
    def facts(self) -> EngineFacts:
        """What the model runs on; ``sha256`` is empty for a model that was read from no file."""
        threads = torch.get_num_threads() if self._device.type == "cpu" else None
        versions = {"torch": str(torch.__version__), **board_versions()}
        return EngineFacts(self.backend, self.provider, versions, threads, self._sha256)

    def __repr__(self) -> str:
        return f"<TorchEngine {self.card.architecture} on {self._device}: {'open' if self._deploy else 'closed'}>"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed uint8 [N, H, W, 3] RGB -> float32 [N, D], rows of L2 norm 1."""
        assert self._deploy is not None, "use TorchEngine in a with statement"
        check_batch(images, self.card, self.max_batch)
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
            embeddings: NDArray[np.float32] = self._deploy(batch).float().cpu().numpy()
        if not self._warned and (zeros := len(embeddings) - np.count_nonzero(embeddings.any(axis=1))):
            self._warned = True  # once is enough, and a score of such a model is still a score
            logger.warning("%d of %d embeddings of a batch are zero: %s", zeros, len(embeddings), COLLAPSED)
        return embeddings

    def __enter__(self) -> TorchEngine:
        self._was_training = self._model.training
        self._model.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._deploy = DeployModel(self._model, self.card.mean, self.card.std).to(self._device).eval()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deploy = None
        self._model.train(self._was_training)
