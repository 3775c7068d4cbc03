"""Teachers that each leave out a part of the data, and a student that learns after them, behind one module."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["FoldNetworks"]


class FoldNetworks(nn.Module):
    r"""One teacher per fold of the training set, and a student, all trained by one trainer.

    Every image of a batch passes through one network, whose number comes along
    (:class:`~monai_noisylabel.data.FoldBatch`): teacher k is the network number k, which has not learned from fold k
    and so predicts it out of sample; the student is the last one. A network that no image passes through gets no
    gradient, so that an optimizer leaves it and its momenta alone.

    Called without numbers, as in validation and inference, it is one plain network: the first teacher in the first
    ``teacher_epochs`` epochs, the student from then on, and wherever nobody sets the epoch.

    Args:
        student: the network that is evaluated and saved in the end.
        teachers: at least two networks of the same form, each with its own initialisation.
        teacher_epochs: E, the epochs in which the teachers learn, at least 1; the student learns in those after them.

    Attributes:
        epoch: the training epoch, from 0; :class:`~monai_noisylabel.handlers.EpochStart` sets it.

    Shape:
        image (B, Cin, \*S); numbers (B,), or (1,) for all images of a batch; result (B, C, \*S).

    Raises:
        ValueError: for fewer than two teachers, a network that is there twice, or less than one epoch.

    Example:
        >>> networks = FoldNetworks(nn.Conv2d(1, 3, 1), [nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 1)], teacher_epochs=5)
        >>> image = torch.zeros(4, 1, 8, 8)
        >>> logits = networks(image, torch.tensor([0, 1, 1, 0]))
        >>> logits.shape, torch.equal(logits[1:3], networks.teachers[1](image[1:3])), networks.teaching
        (torch.Size([4, 3, 8, 8]), True, False)

    References:
        M. Zhang et al., Characterizing label errors: confident learning for noisy-labeled image segmentation, MICCAI
        2020.
    """

    def __init__(self, student: nn.Module, teachers: Sequence[nn.Module], teacher_epochs: int) -> None:
        super().__init__()
        if len(teachers) < 2:
            raise ValueError(f"There must be a teacher per fold, and two folds at least; got {len(teachers)} teachers.")
        if len({student, *teachers}) < 1 + len(teachers):
            raise ValueError("Student and teachers must be different networks: build each of them anew.")
        if teacher_epochs < 1:
            raise ValueError(f"The teachers need at least 1 epoch, got {teacher_epochs}.")
        self.teachers = nn.ModuleList(teachers)
        self.student = student
        self.teacher_epochs = teacher_epochs
        self.epoch = teacher_epochs

    @property
    def teaching(self) -> bool:
        """Whether this is an epoch of the teachers."""
        return self.epoch < self.teacher_epochs

    @property
    def folds(self) -> int:
        """Number of folds, and of the student."""
        return len(self.teachers)

    def forward(self, image: Tensor, numbers: Tensor | None = None) -> Tensor:
        """Logits of every image by the network of its number."""
        networks: list[Callable[[Tensor], Tensor]] = [*self.teachers, self.student]
        if numbers is None:
            return networks[0 if self.teaching else -1](image)
        numbers = numbers.expand(len(image))
        rows = [(numbers == number).nonzero()[:, 0] for number in range(len(networks))]
        used = [(network, of_it) for network, of_it in zip(networks, rows, strict=True) if len(of_it)]
        if len(used) == 1:
            return used[0][0](image)
        return torch.cat([network(image[of_it]) for network, of_it in used])[torch.cat(rows).argsort()]
