"""Bias correction before quantisation-aware training: it begins where calibration ends, not behind it.

Rounding and clipping move the mean of a layer's outputs, channel by channel (Nagel et al., *Data-Free Quantization*,
ICCV 2019, section 4.2); `export.int8.bias` takes the error from the biases of a calibrated file. Here it is taken from
the bias of the batch norm after each rounded layer, which is trainable. Training need not find these shifts first, and
can begin with a step too small to move the embeddings elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from reid_edge.training.models.reid_model import ReidModel

from .parallel import ALONE, World

__all__ = ["correct_biases", "mean_shifts"]

_BATCH = 8

_Hook = Callable[[str, Tensor], Tensor | None]


@torch.no_grad()
def correct_biases(rounded: ReidModel, exact: ReidModel, images: Tensor, world: World = ALONE) -> None:
    """Subtract the `mean_shifts` from the biases of the batch norms, the same on all ranks of the ``world``."""
    shifts = mean_shifts(rounded, exact, images)
    for name, norm in _trained_norms(rounded):
        if name in shifts:  # a norm that no forward pass reads has none
            norm.bias.sub_(world.mean(shifts[name]).to(norm.bias))


@torch.no_grad()
def mean_shifts(rounded: ReidModel, exact: ReidModel, images: Tensor) -> dict[str, Tensor]:
    """What rounding adds to each output channel of a batch norm on average: float64 [C], by the name of the batch norm.

    ``rounded`` is the ``exact`` model with fake quantisation, ``images`` float32 [N, 3, H, W] are normalised crops.
    Each layer reads what the ``exact`` model computes, so that a shift is its own and not one passed on to it. Batch
    norms whose bias is not trained are left out. Both models are put into evaluation mode.
    """
    rounded.eval()
    exact.eval()
    sums: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()
    known: dict[str, list[Tensor]] = {}

    def keep(name: str, output: Tensor) -> None:
        known.setdefault(name, []).append(output.clone())  # a ReLU may work in place

    def compare(name: str, output: Tensor) -> Tensor:
        own = known[name].pop(0)
        error = (output - own).double().transpose(0, 1).flatten(1)  # [C, N...]
        sums[name] = sums.get(name, 0) + error.sum(1)
        counts[name] += error.shape[1]
        return own

    with _norm_hooks(exact, keep), _norm_hooks(rounded, compare):
        for batch in torch.split(images, _BATCH):
            exact(batch)
            rounded(batch)
    return {name: total / counts[name] for name, total in sums.items()}


def _trained_norms(model: ReidModel) -> Iterator[tuple[str, nn.BatchNorm1d | nn.BatchNorm2d]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.bias.requires_grad:
            yield name, module


@contextmanager
def _norm_hooks(model: ReidModel, hook: _Hook) -> Iterator[None]:
    """Call ``hook`` with the name and output of each batch norm; what it returns is its output from there on."""
    handles = [
        norm.register_forward_hook(lambda module, inputs, output, name=name: hook(name, output))
        for name, norm in _trained_norms(model)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
