"""The flags that every loss of the family shares, and the one form to which they bring logits, labels and weights."""

from __future__ import annotations

import dataclasses

import torch
from monai.data import MetaTensor
from torch import Tensor

__all__ = ["TargetFlags", "flat_weight", "precise"]


@dataclasses.dataclass(frozen=True)
class TargetFlags:
    r"""How logits and labels are to be read, with MONAI's names.

    Attributes:
        include_background: whether class (or channel) 0 counts.
        to_onehot_y: a promise that the target holds class indices; never needed, since a target of one channel
            beside several of the input is taken so anyway. Nothing is expanded to one-hot.
        sigmoid: the channels are independent structures (multi-label).
        softmax: the channels exclude one another (multi-class); what holds when neither flag is set.

    Raises:
        ValueError: if both sigmoid and softmax are set.
    """

    include_background: bool = True
    to_onehot_y: bool = False
    sigmoid: bool = False
    softmax: bool = False

    def __post_init__(self) -> None:
        if self.sigmoid and self.softmax:
            raise ValueError("sigmoid and softmax exclude each other: set sigmoid for multi-label channels only.")

    @property
    def skipped_classes(self) -> int:
        """How many leading classes of :meth:`read`'s logits do not count: 1 for softmax without the background."""
        return int(not self.include_background and not self.sigmoid)

    def read(self, input: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        r"""Check the three and flatten their space.

        Args:
            input: logits.
            target: class indices, or one channel per class.
            weight: per voxel or per sample, or None.

        Shape:
            input (B, C, \*S); target (B, 1, \*S) or (B, C, \*S); weight (B, 1, \*S) or (B,).

        Returns:
            Logits (B, C, V); the label, either int64 indices (B, 1, V) or values (B, C, V), which are bool or
            floating for independent structures; weight (B, 1, V), (B, 1, 1) or None. Channels of independent
            structures without the background are left out here.

        Raises:
            ValueError: if shapes do not go together, one channel is to be read as classes, or an index is not one
                of a class (which is left to torch's own checks on a GPU and in compiled code).
        """
        input, target = _plain(input), _plain(target)
        self._check(input, target)
        logits, label = input.flatten(2), target.flatten(2)
        if target.shape[1] == 1 < input.shape[1]:
            label = label.long()
            _check_indices(label, input.shape[1])
            if self.sigmoid:
                label = label == torch.arange(input.shape[1], device=label.device)[:, None]
        elif self.sigmoid and not label.is_floating_point():
            _check_indices(label, 2)
            label = label.bool()
        if self.sigmoid and not self.include_background:
            logits, label = logits[:, 1:], label[:, 1:]
        return logits, label, None if weight is None else flat_weight(_plain(weight), input)

    def _check(self, input: Tensor, target: Tensor) -> None:
        if input.ndim < 3:
            raise ValueError(
                f"The input must be logits (B, C, *S) with at least one axis of space, got {_form(input)}."
            )
        classes = input.shape[1]
        if classes == 1 and not self.sigmoid:
            raise ValueError("One channel under softmax is always certain: set sigmoid=True, or give two channels.")
        if classes == 1 and not self.include_background:
            raise ValueError("Nothing is left of one channel without the background: set include_background=True.")
        if target.shape[:1] + target.shape[2:] != input.shape[:1] + input.shape[2:] or target.ndim != input.ndim:
            raise ValueError(f"Batch and space of target {_form(target)} and input {_form(input)} differ.")
        if target.shape[1] not in (1, classes):
            raise ValueError(
                f"The target must have one channel of class indices or the input's {classes} channels, "
                f"got {target.shape[1]}."
            )
        if self.to_onehot_y and target.shape[1] != 1:
            raise ValueError(f"to_onehot_y=True needs one channel of class indices, got {target.shape[1]} channels.")


def _check_indices(label: Tensor, classes: int) -> None:
    """Refuse labels that are not in 0 .. classes - 1, where reading the answer costs no waiting."""
    if torch.compiler.is_compiling() or label.device.type != "cpu" or label.dtype == torch.bool or not label.numel():
        return
    lowest, highest = (int(end) for end in label.aminmax())
    if lowest < 0 or highest >= classes:
        raise ValueError(
            f"The target holds {lowest if lowest < 0 else highest}: class indices must be from 0 to "
            f"{classes - 1} here. Give voxels that are to be ignored a class and the weight 0."
        )


def precise(dtype: torch.dtype) -> torch.dtype:
    """Half precision becomes float32; the others stay."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def _form(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def flat_weight(weight: Tensor, input: Tensor) -> Tensor:
    r"""A weight per voxel or per sample with its space flattened.

    Args:
        weight: the weight.
        input: the logits that it belongs to.

    Shape:
        weight (B, 1, \*S) or (B,); input (B, C, \*S); result (B, 1, V) or (B, 1, 1).

    Raises:
        ValueError: for any other shape.
    """
    if weight.shape == input.shape[:1]:
        return weight[:, None, None]
    if weight.shape == (input.shape[0], 1, *input.shape[2:]):
        return weight.flatten(2)
    raise ValueError(
        f"The weight must have the form {(input.shape[0],)} or {(input.shape[0], 1, *input.shape[2:])}, "
        f"got {_form(weight)}."
    )
