"""The three losses of the bag of tricks, and a teacher's; each reads like its equation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "CenterLoss",
    "batch_hard_triplet",
    "embedding_distillation",
    "pairwise_euclidean",
    "similarity_distillation",
    "smoothed_cross_entropy",
]


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """ID loss: cross entropy against (1 - e) one-hot + e/C (Szegedy et al., CVPR 2016, section 7).

    ``logits`` [N, C], ``labels`` int64 [N] -> scalar.
    """
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def pairwise_euclidean(features: Tensor) -> Tensor:
    """Euclidean distances [N, N] between the rows of ``features`` [N, D], with a gradient that is finite at 0."""
    squares = features.pow(2).sum(dim=1)
    squared = squares[:, None] + squares[None, :] - 2 * features @ features.T
    return squared.clamp_min(1e-12).sqrt()


def batch_hard_triplet(features: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """Mean over anchors of [margin + hardest positive - hardest negative]+ (Hermans et al., 2017, equation 5).

    ``features`` [N, D] are un-normalised and taken before the BNNeck (BoT, section 3.5); ``labels`` int64 [N].
    Every identity needs another crop in the batch and every batch a second identity, as P x K batches have. An anchor
    is its own positive at distance 0, which is never the hardest.
    """
    distances = pairwise_euclidean(features.float())  # [N, N]
    same = labels[:, None] == labels[None, :]
    positive = distances.masked_fill(~same, float("-inf")).amax(dim=1)  # [N]
    negative = distances.masked_fill(same, float("inf")).amin(dim=1)  # [N]
    return F.relu(margin + positive - negative).mean()


class CenterLoss(nn.Module):
    """Mean over the batch of ||f - c_y||^2, with a learned center per identity (Wen et al., ECCV 2016).

    BoT uses it with weight 5e-4 beside the other two, the centers learned by SGD (lr 0.5) on the loss without that
    weight: see `rescale_gradient`.
    """

    def __init__(self, identities: int, dim: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(identities, dim))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """``features`` [N, D], ``labels`` int64 [N] -> scalar."""
        squared = (features.float() - self.centers[labels]).pow(2).sum(dim=1)  # [N]
        return squared.clamp(1e-12, 1e12).mean()

    def rescale_gradient(self, weight: float) -> None:
        """Divide the centers' gradient by ``weight``, so that the small weight acts on the features alone."""
        if self.centers.grad is not None and weight > 0:
            self.centers.grad /= weight


def embedding_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the batch of 1 - cos(student, teacher), each crop with its own: [N, D] and [N, D] -> scalar.

    Unlike `similarity_distillation` it also holds what all crops share, and needs embeddings of the same space.

    >>> embedding_distillation(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]])).item()
    0.39999...
    """
    return (1 - F.cosine_similarity(student.float(), teacher.detach().float(), dim=1)).mean()


def similarity_distillation(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """Mean over the batch of KL(p || q), where p and q are the teacher's and the student's similarity distributions.

    ``student`` [N, D] and ``teacher`` [N, T] may differ in width: only their cosine similarities within the batch are
    compared, as a softmax at ``temperature`` over the N - 1 other crops (the distribution of Fang et al., *SEED*, ICLR
    2021, section 3.2, over the batch instead of a queue). No labels. The gradient reaches the student alone.
    """
    p = _log_similarities(teacher.detach().float(), temperature)  # [N, N - 1]
    q = _log_similarities(student.float(), temperature)  # [N, N - 1]
    return F.kl_div(q, p, reduction="batchmean", log_target=True)


def _log_similarities(embeddings: Tensor, temperature: float) -> Tensor:
    unit = F.normalize(embeddings, dim=1)
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    cosines = (unit @ unit.T)[others].view(len(unit), -1)
    return F.log_softmax(cosines / temperature, dim=1)
