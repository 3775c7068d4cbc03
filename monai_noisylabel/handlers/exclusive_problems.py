"""Labels and predictions as problems of exclusive classes: one, or two classes for each structure that may overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["label_names", "problem_labels", "problem_probabilities"]


def label_names(classes: Sequence[str], num_classes: int | None) -> list[str]:
    """Names of the classes, or of the labels 0 and 1 of every structure (``num_classes`` None)."""
    if num_classes is not None:
        return ["background", *classes]
    return [name for structure in classes for name in (f"no_{structure}", structure)]


def problem_labels(label: Any, num_classes: int | None) -> list[Tensor]:
    """Class indices of every problem."""
    channels = torch.as_tensor(label).as_subclass(Tensor)
    return list(channels > 0) if num_classes is None else [channels[0]]


def problem_probabilities(logits: Tensor, num_classes: int | None) -> list[Tensor]:
    """Probabilities of the classes of every problem, in float32."""
    z = logits.as_subclass(Tensor).float()
    if num_classes is not None:
        return [z.softmax(0)]
    return [torch.stack([(-channel).sigmoid(), channel.sigmoid()]) for channel in z]
