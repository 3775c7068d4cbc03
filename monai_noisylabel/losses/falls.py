"""A loss with its derivatives, in the form that gradients by the logits are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from .probabilities import Probabilities

__all__ = ["AtLabel", "ClassTotal", "Falls"]


class ClassTotal(NamedTuple):
    """A sum over the classes of f(log p_c), falling functions, which a loss may be normalised by."""

    value: Tensor
    """S, of shape (B, 1, V); 1 for a loss without."""
    fall: Callable[[Probabilities], Tensor] | None = None
    """-f'(log p_c), element by element."""
    fall_sum: Tensor | None = None
    """Its sum over the classes, to be broadcast to (B, 1, V)."""


class Falls(NamedTuple):
    """A loss of every voxel, and how fast it falls: its derivatives with the sign changed."""

    value: Tensor
    by_log_p: Tensor
    by_total: Tensor | None = None
    """None where the loss does not depend on a sum over the classes."""

    def weighted(self, weight: Tensor | float | None) -> Falls:
        """Those of the weight times the loss."""
        if weight is None:
            return self
        by_total = None if self.by_total is None else weight * self.by_total
        return Falls(weight * self.value, weight * self.by_log_p, by_total)

    def summed(self) -> Falls:
        """Their sums over the classes."""
        by_total = None if self.by_total is None else self.by_total.sum(1, keepdim=True)
        return Falls(self.value.sum(1, keepdim=True), self.by_log_p.sum(1, keepdim=True), by_total)

    def share_of_p(self, total: ClassTotal) -> Tensor:
        """What p_c is multiplied by in the gradient by the logits: a - b sum of f_k of :func:`label_loss`."""
        if total.fall_sum is None or self.by_total is None:
            return self.by_log_p
        return self.by_log_p.addcmul(total.fall_sum, self.by_total, value=-1)


class AtLabel(NamedTuple):
    """The loss where the label is: at the class of its index, or at every class by its share in the label."""

    label: Tensor
    """Class indices (B, 1, V), int64, or shares (B, C, V)."""
    probabilities: Probabilities
    """Those of the label's class, or of all."""
    falls: Falls
    """Those of the loss, times the shares and the weight."""

    def take_from(self, classes: Tensor) -> Tensor:
        """Take the falls by the label's log-probability away from classes (B, C, V), in place."""
        if self.label.shape[1] == 1:
            return classes.scatter_add_(1, self.label, -self.falls.by_log_p)
        return classes.sub_(self.falls.by_log_p)
