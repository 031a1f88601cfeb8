"""Losses against hand-worked answers and loops written from the papers."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.training.recipe.losses import (  # noqa: E402
    CenterLoss,
    batch_hard_triplet,
    embedding_distillation,
    pairwise_euclidean,
    similarity_distillation,
    smoothed_cross_entropy,
)


def test_smoothed_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    log_z = math.log(math.exp(2) + 2)
    target = [0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3]
    expected = -(target[0] * (2 - log_z) + target[1] * -log_z + target[2] * -log_z)
    assert float(smoothed_cross_entropy(logits, torch.tensor([0]), 0.1)) == pytest.approx(expected, rel=1e-6)


def test_batch_hard_triplet_by_hand_on_a_line() -> None:
    """Person 0 at 0 and 2, person 1 at 3 and 7: hardest positives 2, 2, 4, 4; hardest negatives 3, 1, 1, 5."""
    features = torch.tensor([[0.0], [2.0], [3.0], [7.0]])
    labels = torch.tensor([0, 0, 1, 1])
    expected = (max(0, 0.3 + 2 - 3) + (0.3 + 2 - 1) + (0.3 + 4 - 1) + max(0, 0.3 + 4 - 5)) / 4
    assert float(batch_hard_triplet(features, labels, 0.3)) == pytest.approx(expected, rel=1e-5)


def test_batch_hard_triplet_equals_three_nested_loops() -> None:
    torch.manual_seed(3)
    features = torch.randn(24, 8, dtype=torch.float64).float()
    labels = torch.arange(6).repeat_interleave(4)[torch.randperm(24)]
    total = 0.0
    for a in range(24):
        positives = [float((features[a] - features[p]).norm()) for p in range(24) if labels[p] == labels[a] and p != a]
        negatives = [float((features[a] - features[n]).norm()) for n in range(24) if labels[n] != labels[a]]
        total += max(0.0, 0.3 + max(positives) - min(negatives))
    assert float(batch_hard_triplet(features, labels, 0.3)) == pytest.approx(total / 24, rel=1e-4)


def test_pairwise_euclidean_has_a_finite_gradient_between_equal_rows() -> None:
    features = torch.ones(3, 4, requires_grad=True)
    pairwise_euclidean(features).sum().backward()
    assert features.grad is not None and torch.isfinite(features.grad).all()


def test_center_loss_and_its_gradient_by_formula() -> None:
    center = CenterLoss(identities=2, dim=2)
    with torch.no_grad():
        center.centers.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    features = torch.tensor([[3.0, 4.0], [1.0, 3.0]], requires_grad=True)
    weight = 5e-4
    loss = weight * center(features, torch.tensor([0, 1]))
    assert float(loss.detach()) == pytest.approx(weight * (25 + 4) / 2)
    loss.backward()
    # d/dc of mean ||f - c||^2 is 2 (c - f) / N; the weight is divided out again.
    center.rescale_gradient(weight)
    assert center.centers.grad is not None
    torch.testing.assert_close(center.centers.grad, torch.tensor([[-3.0, -4.0], [0.0, -2.0]]))
    assert features.grad is not None
    torch.testing.assert_close(features.grad, weight * torch.tensor([[3.0, 4.0], [0.0, 2.0]]))


def test_similarity_distillation_worked_by_hand() -> None:
    """The teacher's crops 0 and 1 are equal and 2 is at a right angle; to the student all three are at right angles."""
    teacher = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    student = torch.eye(3) * torch.tensor([1.0, 5.0, 2.0])
    temperature = 0.5
    near, far = math.exp(1 / temperature), 1.0
    p = (near / (near + far), far / (near + far))  # rows 0 and 1; the student, and row 2, are even: 1/2, 1/2
    divergence = sum(share * math.log(share / 0.5) for share in p)
    found = similarity_distillation(student, teacher, temperature)
    assert float(found) == pytest.approx(2 * divergence / 3, rel=1e-5)
    assert float(similarity_distillation(3 * teacher, teacher, temperature)) == pytest.approx(0.0, abs=1e-6)


def test_similarity_distillation_teaches_the_student_alone() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 3, requires_grad=True), torch.randn(6, 5, requires_grad=True)
    similarity_distillation(student, teacher).backward()
    assert student.grad is not None and student.grad.abs().sum() > 0 and teacher.grad is None


def test_embedding_distillation_worked_by_hand() -> None:
    """A crop at its place costs nothing however long; one at 60 degrees half, one opposite two."""
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    student = torch.tensor([[9.0, 0.0], [0.5, 0.75**0.5], [0.0, -1.0]], requires_grad=True)
    found = embedding_distillation(student, teacher)
    assert found.item() == pytest.approx((0 + 0.5 + 2) / 3)
    found.backward()
    assert teacher.grad is None and student.grad is not None
    assert student.grad[1, 1] > 0 > student.grad[1, 0], "the student is not drawn to its teacher"
