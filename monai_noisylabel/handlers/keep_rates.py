"""Keep rates for the losses that select voxels: known from clean labels, estimated while training, or given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.engines import Evaluator, Trainer
from torch import Tensor

from monai_noisylabel.data.unaugmented import unaugmented
from monai_noisylabel.estimation import (
    class_statistics,
    class_thresholds,
    confident_counts,
    confusion_counts,
    keep_rates,
    with_class_shares,
)
from monai_noisylabel.handlers.decollated import decollated
from monai_noisylabel.handlers.exclusive_problems import label_names, problem_labels, problem_probabilities
from monai_noisylabel.handlers.processes import is_main, own_share, sum_over_all
from monai_noisylabel.selection import as_keep_rates

__all__ = ["HasKeepRates", "KeepRates"]

logger = logging.getLogger(__name__)

Count = Callable[[int, Tensor, Tensor], Tensor]

_NO_COUNTS = torch.zeros((), dtype=torch.int64)


class HasKeepRates(Protocol):
    """A loss that selects voxels by the share of each class that is right."""

    keep_rates: Tensor
    """Form (C,), or (K, 2) for the labels 0 and 1 of K structures."""
    class_balanced: bool
    """Whether all classes count alike in its mean, however rare."""


class KeepRates:
    """Sets the keep rates of a loss and publishes them with every epoch's metrics, as ``keep_rate/<class>``.

    The loss's buffer ``keep_rates`` is written in place, so that a checkpoint of the loss holds them and a resumed
    run goes on with them. List it before :class:`~monai_noisylabel.handlers.RunReport` and
    :class:`~monai_noisylabel.handlers.TrainingState`. In a distributed run every process counts its share of the
    cases, and all get the same rates.

    Sources:

    - ``"estimated"``: after ``warm_up`` epochs, or once the network has learned all classes, it predicts the training
      set without augmentation, and the rates are the diagonal of the confident joint over its row sums
      (:func:`~monai_noisylabel.estimation.estimated_keep_rates`); until then nothing is left out. Needs no clean
      labels. Probabilities of a loss that weighs all classes alike are brought to the classes' shares first
      (:func:`~monai_noisylabel.estimation.with_class_shares`). Three passes over the training set, memory for one
      batch, and a pass per epoch of waiting.
    - ``"oracle"``: the precision of the training labels, counted once at the start from the items' ``label`` and
      ``clean_label`` (:func:`~monai_noisylabel.estimation.oracle_keep_rates`). For studies with simulated noise.
    - numbers: one for all, or one per class (background first), or a pair per structure (labels 0 and 1).

    Args:
        loss: the loss, with a buffer ``keep_rates``.
        source: ``"estimated"``, ``"oracle"`` or numbers in [0, 1].
        classes: names of the K foreground structures.
        num_classes: classes including background (multi-class), or None (multi-label).
        sweep: for an estimate: evaluator over the un-augmented training set whose batches hold ``label`` and whose
            outputs hold ``pred``, the logits.
        dataset: for the oracle: the training set, with its augmentation.
        truth_known: whether the items' ``clean_label`` is the truth, as with simulated noise, and not just a copy.
        warm_up: epochs before the estimate. A network that has memorised the labels finds all of them right. There is
            one estimate only: later ones follow the memorisation, keep more wrong labels and thereby further it.
        latest: epoch after which the rates are estimated in any case; None: ``warm_up``. Between the two the estimate
            waits until every class is learned.
        learned: mean probability of a class over the voxels labelled so, t in (0, 1], from which it counts as learned.
            A network that has not learned a class finds most of its labels wrong.

    Raises:
        ValueError: for an unknown source, numbers that are no shares, a warm-up of less than 1 epoch, or
            if what the source needs is not given; at the start of the training, if clean labels are not known.

    Example:
        >>> from monai_noisylabel.losses import CoTeachingLoss
        >>> loss = CoTeachingLoss(num_classes=2)
        >>> engine = Engine(lambda engine, batch: None)
        >>> KeepRates(loss, [1.0, 0.75], classes=["liver"], num_classes=2).attach(engine)
        >>> engine.run([0]).metrics
        {'keep_rate/background': 1.0, 'keep_rate/liver': 0.75}

    Deviation:
        Confident learning asks networks that did not train on the labels in question. The estimate here comes from
        the network in training itself, early on: it costs two passes instead of another training.

    References:
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, for known rates. C. Northcutt et al., Confident learning: estimating uncertainty in dataset labels, JAIR
        2021, for estimated ones.
    """

    def __init__(
        self,
        loss: HasKeepRates,
        source: str | float | Sequence[float] | Sequence[Sequence[float]] = "estimated",
        *,
        classes: Sequence[str],
        num_classes: int | None,
        sweep: Evaluator | None = None,
        dataset: Dataset | None = None,
        truth_known: bool = True,
        warm_up: int = 3,
        latest: int | None = None,
        learned: float = 0.5,
    ) -> None:
        if warm_up < 1:
            raise ValueError(f"warm_up must be at least 1 epoch, got {warm_up}.")
        if latest is not None and latest < warm_up:
            raise ValueError(f"latest must not come before warm_up, {warm_up} epochs, got {latest}.")
        if not 0 < learned <= 1:
            raise ValueError(f"learned must be a probability greater than 0, got {learned}.")
        self.loss = loss
        self.source = source
        self.num_classes = num_classes
        self.names = label_names(classes, num_classes)
        self.sweep: Any = sweep
        self.dataset: Any = dataset
        self.truth_known = truth_known
        self.warm_up, self.latest, self.learned = warm_up, warm_up if latest is None else latest, learned
        self.given = self._check(len(classes))
        self._count: Count = lambda problem, probability, label: _NO_COUNTS
        self._counts = _NO_COUNTS
        self._shares: list[Tensor] = []
        if source == "estimated" and sweep is not None:
            sweep.add_event_handler(Events.ITERATION_COMPLETED, self._count_batch)

    def attach(self, engine: Engine) -> None:
        """Set the rates at the start or after the due epoch of the trainer ``engine``."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def due(self, epoch: int, max_epochs: int) -> bool:
        """Whether an estimate is tried after ``epoch`` (from 1): in time, none made, and an epoch left to use it."""
        in_time = self.warm_up <= epoch <= self.latest and epoch < max_epochs
        return self.source == "estimated" and in_time and bool((self.loss.keep_rates == 1).all())

    def start(self, engine: Trainer) -> None:
        """Set the rates that are known from the start."""
        if self.given is not None:
            self._set(self.given, "as given")
        elif self.source == "oracle":
            self._set(self.count(), "from clean labels")
        elif self.warm_up >= engine.state.max_epochs and is_main():
            logger.warning(
                f"Keep rates are estimated after {self.warm_up} epochs and the training has {engine.state.max_epochs}: "
                "nothing will be left out. Lower warm_up."
            )

    def __call__(self, engine: Trainer) -> None:
        """Publish the rates that the epoch was trained with; estimate them if that is due."""
        rates = self.loss.keep_rates.flatten().tolist()
        engine.state.metrics.update({f"keep_rate/{name}": rate for name, rate in zip(self.names, rates, strict=True)})
        epoch = engine.state.epoch
        if not self.due(epoch, engine.state.max_epochs):
            return
        estimate = self.estimate(epoch, self.learned if epoch < self.latest else 0.0)
        if estimate is None:
            return
        self._set(estimate, f"estimated after epoch {epoch}")
        doubted = self.loss.keep_rates.flatten() < 0.5
        if doubted.any() and is_main():
            names = [name for name, low in zip(self.names, doubted.tolist(), strict=True) if low]
            logger.warning(
                f"Most voxels labelled {', '.join(names)} are taken to be wrong. Either they are, or the network "
                "has learned too little to judge them: then raise warm_up."
            )

    def count(self) -> Tensor:
        """Rates from the clean labels of all training cases.

        Raises:
            ValueError: if they are not known.
        """
        view, counts = unaugmented(self.dataset), _NO_COUNTS
        for index in own_share(len(view)):
            item = view[index]
            if not self.truth_known or "clean_label" not in item:
                raise ValueError(
                    "Keep rates from the source 'oracle' need the clean label of every training case beside the given "
                    f"one, and that of case {item.get('case', index)!r} is not known. Simulate noise, which keeps the "
                    "clean label, or choose the source 'estimated', or give numbers."
                )
            given, clean = (problem_labels(item[key], self.num_classes) for key in ("label", "clean_label"))
            parts = [confusion_counts(*pair, self.num_classes or 2) for pair in zip(given, clean, strict=True)]
            counts = counts + torch.stack(parts)
        return keep_rates(sum_over_all(counts))

    def estimate(self, epoch: int, learned: float = 0.0) -> Tensor | None:
        """Rates by passes of the network over the training set; None if a class is not ``learned``."""
        self._shares = []
        statistics = self._swept(epoch, _statistics)
        if min(float(class_thresholds(part).min()) for part in statistics) < learned:
            return None
        if self.loss.class_balanced:
            self._shares = [part[1] / part[1].sum() for part in statistics]
            statistics = self._swept(epoch, _statistics)
        limits = [class_thresholds(part) for part in statistics]
        return keep_rates(self._swept(epoch, lambda problem, p, label: confident_counts(p, label, limits[problem])))

    def _swept(self, epoch: int, count: Count) -> Tensor:
        """Sum of the counts of every training sample, seen by whichever process."""
        self._count, self._counts = count, _NO_COUNTS
        self.sweep.run(global_epoch=epoch)
        return sum_over_all(self._counts)

    def _count_batch(self, engine: Engine) -> None:
        for item, output in decollated(engine):
            probabilities = problem_probabilities(output["pred"], self.num_classes)
            if self._shares:
                pairs = zip(probabilities, self._shares, strict=True)
                probabilities = [with_class_shares(p, shares) for p, shares in pairs]
            labels = [label.to(probabilities[0].device) for label in problem_labels(item["label"], self.num_classes)]
            problems = enumerate(zip(probabilities, labels, strict=True))
            self._counts = self._counts + torch.stack([self._count(n, *problem).cpu() for n, problem in problems])

    def _set(self, rates: Tensor, why: str) -> None:
        self.loss.keep_rates.copy_(rates.view_as(self.loss.keep_rates))
        named = zip(self.names, rates.flatten().tolist(), strict=True)
        if is_main():
            logger.info(f"Keep rates, {why}: {', '.join(f'{name} {rate:.3f}' for name, rate in named)}.")

    def _check(self, structures: int) -> Tensor | None:
        """The rates as given, or None where they are found out, if everything for that is there."""
        classes = self.num_classes or structures
        if self.loss.keep_rates.numel() != len(self.names):
            raise ValueError(
                f"The loss has keep rates of the form {tuple(self.loss.keep_rates.shape)}, which does not fit the "
                f"rates {', '.join(self.names)}."
            )
        if self.source not in ("estimated", "oracle"):
            if isinstance(self.source, str):
                raise ValueError(f"source must be 'estimated', 'oracle' or numbers, got {self.source!r}.")
            return as_keep_rates(self.source, classes, multi_label=self.num_classes is None)
        if self.source == "estimated" and self.sweep is None:
            raise ValueError("Estimated keep rates need a sweep, an evaluator over the un-augmented training set.")
        if self.source == "oracle" and self.dataset is None:
            raise ValueError("Keep rates from the source 'oracle' need the training dataset, with its clean labels.")
        return None


def _statistics(problem: int, p: Tensor, label: Tensor) -> Tensor:
    return class_statistics(p, label)
