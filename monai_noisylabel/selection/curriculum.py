"""Curriculum selection: thresholds that follow how well each class is learned, and the vote of two networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["Status", "agreement_vote", "class_status", "curriculum_thresholds", "prediction_counts"]

Status = Literal["rate", "count"]


def prediction_counts(
    confidence: Tensor, predicted: Tensor, num_classes: int, tau: float = 0.95, weight: Tensor | None = None
) -> Tensor:
    r"""How many voxels are predicted as each class, and how many of these with confidence.

    Args:
        confidence: probability of the predicted class, p^.
        predicted: the class of largest probability, y^, int64.
        num_classes: classes C including background; 2 for a structure of a multi-label problem.
        tau: confidence that counts, in (0, 1); the paper that brought in such thresholds: 0.95.
        weight: voxels of weight 0 are not counted.

    Shape:
        confidence and predicted (B, K, V), for K problems of exclusive classes each; weight broadcasts to them;
        result (K, C, 2), int64: predicted, and of these confident.

    Example:
        >>> confidence, predicted = torch.tensor([[[0.99, 0.6, 0.97]]]), torch.tensor([[[0, 1, 1]]])
        >>> prediction_counts(confidence, predicted, num_classes=2).tolist()
        [[[1, 1], [2, 1]]]
    """
    problems = predicted.shape[1]
    offset = num_classes * torch.arange(problems, device=predicted.device)[:, None]
    bins = 2 * (predicted + offset) + (confidence > tau)
    if weight is not None:
        bins = bins[(weight > 0).expand_as(bins)]
    doubtful, confident = torch.bincount(bins.flatten(), minlength=2 * problems * num_classes).view(-1, 2).unbind(1)
    return torch.stack([doubtful + confident, confident], 1).view(problems, num_classes, 2)


def class_status(counts: Tensor, status: Status = "rate") -> Tensor:
    r"""How well every class is learned, out of what a network predicts.

    - ``"rate"``: the share of the voxels predicted as the class that are so with confidence; 0 where there are none.
    - ``"count"``: the number of the confident ones. A class of few voxels then always counts as badly learned.

    Args:
        counts: predicted voxels and the confident ones among them (:func:`prediction_counts`), or running means of
            them.
        status: see above.

    Shape:
        counts (\*, C, 2); result (\*, C).

    Raises:
        ValueError: for an unknown status.

    Example:
        >>> counts = torch.tensor([[1000.0, 900.0], [40.0, 30.0]])
        >>> class_status(counts).tolist(), class_status(counts, "count").tolist()
        ([0.9, 0.75], [900.0, 30.0])

    References:
        B. Zhang et al., FlexMatch: boosting semi-supervised learning with curriculum pseudo labeling, NeurIPS 2021, for
        the count.

    Deviation:
        The paper's abstract says that thresholds follow the learning of each class, not how that is measured; the rate
        is a design decision. With a background of 84 % the count leaves every other class a threshold near 0.
    """
    if status not in get_args(Status):
        raise ValueError(f"status must be one of {get_args(Status)}, got {status!r}.")
    predicted, confident = counts.unbind(-1)
    if status == "count":
        return confident
    return torch.where(predicted > 0, confident / predicted, 0)


def curriculum_thresholds(status: Tensor, tau: float = 0.95) -> Tensor:
    r"""The confidence that a class must reach, low as long as the class is learned worse than others.

    .. math:: T_c = \tau \frac{\beta_c}{2 - \beta_c}, \qquad \beta_c = \frac{s_c}{\max_{c'} s_{c'}}

    The curve is convex: the thresholds of badly learned classes stay low and rise late. The best learned class has
    the threshold tau. When no class is learned at all, all thresholds are 0.

    Args:
        status: s_c >= 0 (:func:`class_status`).
        tau: the largest threshold, in (0, 1); FlexMatch: 0.95.

    Shape:
        status and result (\*, C).

    Example:
        >>> curriculum_thresholds(torch.tensor([0.8, 0.4, 0.0])).tolist()  # beta 1, 1/2, 0
        [0.95, 0.3167, 0.0]

    References:
        E. Guo, Z. Wang, Z. Zhao, L. Zhou, Imbalanced medical image segmentation with pixel-dependent noisy labels, for
        a dynamic threshold of convex curvature per class and network.
        B. Zhang et al., FlexMatch: boosting semi-supervised learning with curriculum pseudo labeling, NeurIPS 2021, for
        this curve.
    """
    best = status.amax(-1, keepdim=True)
    beta = torch.where(best > 0, status / best, 0)
    return tau * beta / (2 - beta)


def agreement_vote(
    confidences: Sequence[Tensor], predictions: Sequence[Tensor], label: Tensor, thresholds: Tensor
) -> Tensor:
    r"""The voxels whose label all networks predict, each with the confidence that it asks of that class.

    .. math:: \text{clean} \iff \hat y^1 = \hat y^2 = y \ \wedge\ \hat p^1 > T^1_{\hat y^1} \ \wedge\
              \hat p^2 > T^2_{\hat y^2}

    Robust to wrong voxels that the networks do not both believe in. Not against errors that most labels share, which
    both networks learn.

    Args:
        confidences: p^ of every network.
        predictions: y^ of every network, int64.
        label: given label y, int64.
        thresholds: T of every network, problem and class (:func:`curriculum_thresholds`).

    Shape:
        confidences, predictions and label (B, K, V), for K problems of exclusive classes each; thresholds (N, K, C) for
        N networks; result (B, K, V), a weight map: 1 for clean and 0 for noisy.

    Example:
        >>> confidences = [torch.tensor([[[0.9, 0.9, 0.5]]]), torch.tensor([[[0.8, 0.8, 0.9]]])]
        >>> predictions, label = [torch.tensor([[[0, 1, 1]]])] * 2, torch.tensor([[[0, 0, 1]]])
        >>> agreement_vote(confidences, predictions, label, torch.tensor([[[0.7, 0.6]]] * 2)).tolist()
        [[[1.0, 0.0, 0.0]]]

    References:
        E. Guo, Z. Wang, Z. Zhao, L. Zhou, Imbalanced medical image segmentation with pixel-dependent noisy labels.
    """
    problem = torch.arange(label.shape[1], device=label.device)[:, None]
    clean = torch.ones_like(label, dtype=torch.bool)
    for confidence, predicted, limits in zip(confidences, predictions, thresholds, strict=True):
        clean &= (predicted == label) & (confidence > limits[problem, label])
    return clean.float()
