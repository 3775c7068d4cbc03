"""The turn of confident learning: teachers have learned, labels are judged, the student learns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ignite.engine import Events
from monai.engines import Evaluator, Trainer
from torch import Tensor

from monai_noisylabel.handlers.best_teachers import BestTeachers
from monai_noisylabel.handlers.confident_relabel import ConfidentRelabel
from monai_noisylabel.handlers.exclusive_problems import label_names
from monai_noisylabel.handlers.processes import is_main, wait_for_all
from monai_noisylabel.handlers.relabelled import dice_to_clean
from monai_noisylabel.metrics import precision_recall
from monai_noisylabel.selection import ConfidentLimits

__all__ = ["ConfidentLearning"]

logger = logging.getLogger(__name__)


class ConfidentLearning:
    """After the teachers' last epoch: sweep the training set once, and commit what it found wrong as a label round.

    Until then the given labels are learned from, by teachers that leave out a fold each; from then on the student
    learns, from the given label and the one that wrong voxels seem to have
    (:class:`~monai_noisylabel.networks.FoldNetworks`, :class:`~monai_noisylabel.losses.SpatialLabelSmoothingLoss`).

    Robust to any error that a network does not make which has not seen the label: displaced, missing and added
    structures, classes mistaken for each other. Not to errors that most labels share.

    The record of the round holds the calibrated confident joint, the share of every class that was found wrong and,
    where the true labels are known, precision and recall of that and the Dice of the labels. Among the epoch's metrics
    are ``given_to_true/<class> to <class>``, of the voxels given a class the share that seems to be truly of another
    (or of the same), and ``found_wrong/<class>``.

    Args:
        sweep: evaluator over the un-augmented training set, by the teachers out of sample, with ``relabel`` among its
            handlers.
        relabel: what judges the labels.
        classes: names of the K foreground structures.
        after_epoch: the teachers' last epoch, from 1.
        best: remembers the teachers' weights of their best epoch.
        weights: whether they judge with the weights of this epoch, as in the released code of Zhang et al., or of their
            last one.

    Raises:
        ValueError: for other weights; at the start of the training, if it leaves the student no epoch.

    References:
        C. Northcutt et al., Confident learning: estimating uncertainty in dataset labels, JAIR 2021.
        M. Zhang et al., Characterizing label errors: confident learning for noisy-labeled image segmentation, MICCAI
        2020.
    """

    def __init__(
        self,
        sweep: Evaluator,
        relabel: ConfidentRelabel,
        classes: Sequence[str],
        *,
        after_epoch: int,
        best: BestTeachers,
        weights: Literal["best", "last"] = "best",
    ) -> None:
        if weights not in ("best", "last"):
            raise ValueError(f"weights must be 'best' or 'last', got {weights!r}.")
        self.sweep = sweep
        self.relabel = relabel
        self.classes = tuple(classes)
        self.names = label_names(classes, relabel.num_classes)
        self.after_epoch = after_epoch
        self.best = best
        self.weights = weights

    def attach(self, engine: Trainer) -> None:
        """Act at the end of the due epoch of the trainer ``engine``."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def start(self, engine: Trainer) -> None:
        """See that the student gets its turn."""
        if not self.after_epoch < (engine.state.max_epochs or 0):
            raise ValueError(
                f"The teachers learn for {self.after_epoch} epochs, and the training has {engine.state.max_epochs}: "
                "none is left for the student. Raise max_epochs, or lower the teachers' epochs."
            )

    def __call__(self, engine: Trainer) -> None:
        """The round, if it is due."""
        if engine.state.epoch != self.after_epoch:
            return
        teachers_of = (self.best.restore() if self.weights == "best" else 0) or engine.state.epoch
        self.sweep.run(global_epoch=engine.state.epoch)
        relabelled = sum(change.changed > 0 for change in self.relabel.changes)
        if is_main():
            self._commit(engine.state.epoch, teachers_of, relabelled)
        wait_for_all()
        engine.state.metrics["labels_relabel"] = relabelled
        for name, row in self._shares().items():
            engine.state.metrics.update({f"given_to_true/{name} to {other}": share for other, share in row.items()})
        for name, (given, _, found, _) in zip(self.names, self.relabel.voxels.tolist(), strict=True):
            engine.state.metrics[f"found_wrong/{name}"] = found / max(1, given)

    def _commit(self, epoch: int, teachers_of: int, relabelled: int) -> None:
        changes, voxels = self.relabel.changes, self.relabel.voxels
        known = self.relabel.truth_key is not None
        parameters = {
            "epoch": epoch,
            "teachers_of_epoch": teachers_of,
            "samples": len(changes),
            "relabelled": relabelled,
            "voxels_found_wrong": int(voxels[:, 2].sum()),
            "rule": self.relabel.rule,
            "thresholds": dict(zip(self.names, _joined(self.relabel.limits), strict=True)),
            "joint": self._joint(),
            "found_wrong": {name: _found(row, known) for name, row in self._named(voxels)},
            **({"found_wrong_overall": _found(voxels.sum(0), known)} if known else {}),
            **dice_to_clean(changes, self.classes),
        }
        number = self.relabel.store.commit(
            f"confident learning after epoch {epoch}", method="confident_learning", parameters=parameters
        )
        logger.info(
            f"Label round {number} after epoch {epoch}: wrong voxels in {relabelled} of {len(changes)} cases, "
            + ", ".join(f"{int(row[2])} of {int(row[0])} voxels given {name}" for name, row in self._named(voxels))
            + "."
        )

    def _named(self, rows: Tensor) -> list[tuple[str, Tensor]]:
        return list(zip(self.names, rows, strict=True))

    def _joint(self) -> dict[str, dict[str, int]]:
        """Estimated voxels of every true class, by given class."""
        joint: dict[str, dict[str, int]] = {}
        first = 0
        for limits in self.relabel.limits:
            names = self.names[first : first + len(limits.joint)]
            first += len(names)
            joint |= {
                name: dict(zip(names, row.tolist(), strict=True)) for name, row in zip(names, limits.joint, strict=True)
            }
        return joint

    def _shares(self) -> dict[str, dict[str, float]]:
        """The joint with rows that sum to 1; no row for a class that is never given."""
        joint = self._joint()
        totals = {name: sum(row.values()) for name, row in joint.items()}
        return {
            name: {other: count / totals[name] for other, count in row.items()}
            for name, row in joint.items()
            if totals[name]
        }


def _joined(limits: Sequence[ConfidentLimits]) -> list[float | None]:
    """Thresholds of all problems; None for a class that is never given."""
    values = [value for part in limits for value in part.thresholds.tolist()]
    return [value if value <= 1 else None for value in values]


def _found(row: Tensor, truth_known: bool) -> Mapping[str, Any]:
    """How many voxels were found wrong, and how many of them rightly so."""
    given, both, found, wrong = row.tolist()
    result: dict[str, Any] = {"voxels": given, "found_wrong": found}
    if truth_known:
        precision, recall = precision_recall(row[1:])
        result |= {"truly_wrong": wrong, "found_and_truly_wrong": both, "precision": precision, "recall": recall}
    return result
