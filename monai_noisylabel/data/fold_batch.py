"""Which network each sample of a batch is shown to: teachers of the other folds, then the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["FoldBatch", "HasFolds"]


class HasFolds(Protocol):
    """Networks of folds, as :class:`~monai_noisylabel.networks.FoldNetworks`."""

    @property
    def folds(self) -> int:
        """Number of folds K; teachers have the numbers 0 to K - 1, the student K."""

    @property
    def teaching(self) -> bool:
        """Whether the teachers learn now, or the student."""


class FoldBatch:
    r"""Prepares a training batch for networks that each leave out a fold: images, labels, numbers of the networks.

    While the teachers learn, a sample of fold f goes to every teacher but number f, so that with K folds the batch
    becomes K - 1 times as long (with two folds it stays as it is). Then the student gets all samples.

    Args:
        networks: whose turn it is to learn.
        fold_key: key of the sample's fold, of :func:`~monai_noisylabel.data.with_folds`.

    Shape:
        image (B, ...), label (B, ...), fold (B,); results ((K - 1) B, ...) and numbers ((K - 1) B,), or as they are.

    Raises:
        KeyError: at call, if the samples do not tell their fold.

    Example:
        >>> from types import SimpleNamespace
        >>> prepare = FoldBatch(SimpleNamespace(folds=3, teaching=True))
        >>> batch = {"image": torch.zeros(2, 1, 4), "label": torch.zeros(2, 1, 4), "fold": torch.tensor([0, 2])}
        >>> image, label, (numbers,), _ = prepare(batch)
        >>> image.shape, numbers  # fold 0 for the teachers 1 and 2, fold 2 for 0 and 1
        (torch.Size([4, 1, 4]), tensor([1, 0, 2, 1]))
    """

    def __init__(self, networks: HasFolds, fold_key: str = "fold") -> None:
        self.networks = networks
        self.fold_key = fold_key

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple[Tensor], dict[str, Any]]:
        """Images, labels and numbers, as MONAI's trainers take them."""
        if self.fold_key not in batchdata:
            raise KeyError(f"The samples have no {self.fold_key!r}: give their items one with with_folds.")
        image, label = (
            batchdata[key].to(device=device, non_blocking=non_blocking, **kwargs) for key in ("image", "label")
        )
        fold, folds = batchdata[self.fold_key], self.networks.folds
        if not self.networks.teaching:
            return image, label, (torch.full_like(fold, folds),), {}
        numbers = torch.cat([(fold + step) % folds for step in range(1, folds)])
        return torch.cat([image] * (folds - 1)), torch.cat([label] * (folds - 1)), (numbers,), {}
