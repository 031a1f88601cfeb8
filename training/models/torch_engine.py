"""A PyTorch model behind the Engine contract: the reference that every export is compared with."""

from __future__ import annotations

from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.engine import check_batch

from .models import DeployModel, ReidModel

__all__ = ["TorchEngine"]


class TorchEngine:
    """Runs a `ReidModel` in float32 and evaluation mode; the model is put back in its mode on exit.

    The engine borrows the model: what training changes in it is seen by the next `run`.
    """

    def __init__(
        self, model: ReidModel, card: ModelCard, device: str | torch.device = "cpu", max_batch: int = 256
    ) -> None:
        self.card = card
        self.max_batch = max_batch
        self._model = model
        self._device = torch.device(device)
        self._was_training = model.training
        self._deploy: DeployModel | None = None

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed uint8 [N, H, W, 3] RGB -> float32 [N, D], rows of L2 norm 1."""
        assert self._deploy is not None, "use TorchEngine in a with statement"
        check_batch(images, self.card, self.max_batch)
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
            embeddings: NDArray[np.float32] = self._deploy(batch).float().cpu().numpy()
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
