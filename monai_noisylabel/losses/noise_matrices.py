"""The noise transition matrices that a loss learns, of classes and of pairs of voxels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from monai_noisylabel.estimation.transition import class_priors, class_to_affinity, log_volume, transition_matrix

__all__ = ["NoiseMatrices"]


class NoiseMatrices(nn.Module):
    r"""T_C and T_A, learned, with the class shares that connect them.

    There is one pair of matrices for exclusive classes, and one for each structure where structures may overlap. An
    entry begins at sigmoid(-2) of the diagonal's: with two classes 0.11, with four 0.09.

    Args:
        classes: C classes including background, or 2 for structures.
        groups: G, 1 for exclusive classes, or the number of structures.

    Attributes:
        class_weights: parameter (G, C, C) of T_C (:func:`~monai_noisylabel.estimation.transition_matrix`).
        affinity_weights: parameter (G, 2, 2) of T_A.
        class_counts: buffer (G, C) of voxels per label counted so far.

    Example:
        >>> matrices = NoiseMatrices(classes=2)
        >>> matrices.count(torch.tensor([[[0, 0, 0, 1]]]))
        >>> matrices.implied_affinity()  # by T_C and shares of 3/4 and 1/4
        tensor([[[0.8097, 0.1903],
                 [0.1903, 0.8097]]], grad_fn=<StackBackward0>)
    """

    class_counts: Tensor

    def __init__(self, classes: int, groups: int = 1) -> None:
        super().__init__()
        self.class_weights = nn.Parameter(torch.full((groups, classes, classes), -2.0))
        self.affinity_weights = nn.Parameter(torch.full((groups, 2, 2), -2.0))
        self.register_buffer("class_counts", torch.zeros(groups, classes, dtype=torch.int64))

    @property
    def of_class(self) -> Tensor:
        """T_C (G, C, C), rows: clean, columns: noisy."""
        return transition_matrix(self.class_weights)

    @property
    def of_affinity(self) -> Tensor:
        """T_A (G, 2, 2), of pairs of different classes and of one class."""
        return transition_matrix(self.affinity_weights)

    def implied_affinity(self) -> Tensor:
        """The T_A that T_C implies under the class shares counted so far, (G, 2, 2)."""
        return class_to_affinity(self.of_class, class_priors(self.class_counts))

    def volume(self, shares: Tensor) -> Tensor:
        r"""The mean over the groups of log |det T_C| + log |det T_A|, with C s_c times its pull on each row of T_C.

        Voxels hold their class's row of T_C, all the weaker the fewer they are, while the volume pulls all rows alike:
        the rows of small classes would give way. With s_c the share of the voxels that are of class c, the pull of the
        volume and the hold of the voxels keep one proportion for all classes.

        Args:
            shares: s (G, C), of clean classes as far as known: the mean predicted probabilities.

        Deviation:
            The paper weighs all rows alike, and hardly moves them.
        """
        classes = self.of_class
        fixed, factor = classes.detach(), shares.shape[1] * shares[..., None]
        return (log_volume(fixed + factor * (classes - fixed)) + log_volume(self.of_affinity)).mean()

    def inconsistency(self) -> Tensor:
        """Mean square of T_A less what T_C implies."""
        return F.mse_loss(self.implied_affinity(), self.of_affinity)

    @torch.no_grad()
    def count(self, label: Tensor) -> None:
        r"""Add a batch's labels, of all processes of a distributed run, to the counts.

        Args:
            label: class indices (B, G, \*S).
        """
        classes = torch.arange(self.class_counts.shape[1], device=label.device)[:, None]
        counts = torch.stack([(part.flatten() == classes).sum(1) for part in label.unbind(1)])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
        self.class_counts += counts

    def parameter_group(self, lr: float = 1e-3) -> dict[str, Any]:
        """The optimizer's group for the matrices: its own learning rate (the paper: 1e-3), and no weight decay."""
        return {"params": [self.class_weights, self.affinity_weights], "lr": lr, "weight_decay": 0.0}

    def entries(self, classes: Sequence[str]) -> dict[str, Callable[[], Tensor]]:
        """What gives each entry of the matrices, by its name, to be published.

        Args:
            classes: names of the structures, without background.

        Example:
            >>> entries = NoiseMatrices(classes=2).entries(["liver"])
            >>> list(entries)[:3]
            ['class_transition/background to background', 'class_transition/background to liver',
             'class_transition/liver to background']
            >>> entries["affinity_transition/same to different"]().item()
            0.1065
        """
        alone = len(classes) + 1 == self.class_counts.shape[1]
        groups = [""] if alone else [f"_{name}" for name in classes]
        labels = ["background", *classes] if alone else ["absent", "present"]
        found: dict[str, Callable[[], Tensor]] = {}
        for kind, names in (("class", labels), ("affinity", ["different", "same"])):
            for g, group in enumerate(groups):
                for i, clean in enumerate(names):
                    for j, noisy in enumerate(names):
                        entry = functools.partial(self._entry, kind, g, i, j)
                        found[f"{kind}_transition{group}/{clean} to {noisy}"] = entry
        return found

    def _entry(self, kind: str, group: int, row: int, column: int) -> Tensor:
        matrix = self.of_class if kind == "class" else self.of_affinity
        return matrix[group, row, column].detach()
