"""Probabilities, their logarithms and powers out of logits, no more of them than a loss asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .falls import AtLabel, ClassTotal, Falls
from .voxel_target import precise

__all__ = ["ClassProbabilities", "ClassSums", "LabelAndOther", "Probabilities", "class_probabilities"]


class Probabilities:
    """Probabilities with their logarithms and powers, each computed when it is first asked for.

    Ask for logarithms first where both are needed: probabilities are cheaper out of them than out of the logits.

    Args:
        log_p: gives the logarithms.
        p: gives the probabilities, if they are wanted and the logarithms were not; or they themselves.
    """

    def __init__(self, log_p: Callable[[], Tensor], p: Callable[[], Tensor] | Tensor) -> None:
        self._make_log_p, self._make_p = log_p, None if isinstance(p, Tensor) else p
        self._log_p: Tensor | None = None
        self._powers: dict[float, Tensor] = {1: p} if isinstance(p, Tensor) else {}

    @property
    def log_p(self) -> Tensor:
        """Logarithms of the probabilities."""
        if self._log_p is None:
            self._log_p = self._make_log_p()
        return self._log_p

    @property
    def p(self) -> Tensor:
        """The probabilities."""
        if self._make_p is not None and self._log_p is None and 1 not in self._powers:
            self._powers[1] = self._make_p()
        return self.power(1)

    def power(self, q: float) -> Tensor:
        """p^q, as a power of 2: torch's CPU kernels take less than half the time of exp for it."""
        if q not in self._powers:
            self._powers[q] = torch.mul(self.log_p, q / math.log(2)).exp2_()
        return self._powers[q]


class ClassSums(Protocol):
    """What can be summed over the classes."""

    count: int
    """Number of classes."""

    def sum(self, term: Callable[[Probabilities], Tensor]) -> Tensor:
        """The sum over the classes of something made of each one's probabilities, (B, 1, V)."""
        ...


class ClassProbabilities(Probabilities):
    """Probabilities of all classes, (B, C, V), under softmax.

    Args:
        count: number of classes.
        log_p: see :class:`Probabilities`.
        p: see :class:`Probabilities`.
    """

    def __init__(self, count: int, log_p: Callable[[], Tensor], p: Callable[[], Tensor]) -> None:
        super().__init__(log_p, p)
        self.count = count

    def sum(self, term: Callable[[Probabilities], Tensor]) -> Tensor:
        """The sum over the classes, (B, 1, V)."""
        return term(self).sum(1, keepdim=True)

    def of_label(self, label: Tensor) -> Probabilities:
        """Those of the labels, class indices (B, 1, V)."""
        return Probabilities(lambda: self.log_p.gather(1, label), lambda: self.p.gather(1, label))

    def logit_gradient(self, falls: Falls, at_label: AtLabel, total: ClassTotal, out: Tensor | None) -> Tensor:
        """The gradient by the logits, (B, C, V); the probabilities must not be used after it.

        Args:
            falls: those of the loss, (B, 1, V).
            at_label: those where the label is.
            total: the sum over the classes that the loss is normalised by.
            out: where to write the gradient, if that has its type and form.
        """
        class_falls = None if total.fall is None else total.fall(self)
        gradient = torch.mul(self._take_p(), falls.share_of_p(total), out=out)
        if class_falls is not None and falls.by_total is not None:
            gradient.addcmul_(class_falls, falls.by_total)
        return at_label.take_from(gradient)

    def _take_p(self) -> Tensor:
        """The probabilities in the place of their logarithms, which are lost."""
        if self._log_p is None or 1 in self._powers:
            return self.p
        return self._log_p.mul_(1 / math.log(2)).exp2_()


class LabelAndOther:
    """Probabilities of two classes, the label's and the other one, out of the difference of their logits.

    Args:
        margin: logit of the label's class less that of the other, (B, 1, V).
    """

    count = 2

    def __init__(self, margin: Tensor) -> None:
        label = Probabilities(lambda: F.logsigmoid(margin), margin.sigmoid)
        self.label = label
        self.other = Probabilities(lambda: label.log_p - margin, lambda: 1 - label.p)

    def sum(self, term: Callable[[Probabilities], Tensor]) -> Tensor:
        """The sum over the two classes, (B, 1, V)."""
        return term(self.label) + term(self.other)


def class_probabilities(logits: Tensor) -> ClassProbabilities:
    """Softmax of logits (B, C, V) in float32 or better; of 0 and z for a single channel z."""
    logits = logits.to(precise(logits.dtype))
    if logits.shape[1] > 1:
        return ClassProbabilities(logits.shape[1], lambda: F.log_softmax(logits, 1), lambda: F.softmax(logits, 1))
    both = torch.cat([-logits, logits], 1)
    return ClassProbabilities(2, lambda: F.logsigmoid(both), both.sigmoid)
