"""Folds by patient: who predicts whom out of sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.model_selection import GroupKFold

__all__ = ["patient_folds", "with_folds"]


def patient_folds(items: Sequence[Mapping[str, Any]], folds: int, seed: int = 0) -> list[int]:
    """Fold of every item, 0 to ``folds`` - 1, such that no patient is in two folds.

    A network that has seen a patient's label, at another time or in another slice, has seen this label's
    errors; only a network that never saw the patient predicts out of sample.

    Args:
        items: training items, each with the key ``patient``.
        folds: number of folds, at least 2. The paper of confident learning for segmentation takes 2.
        seed: seed of the draw. The folds do not depend on the order of the items.

    Raises:
        ValueError: if there are fewer than 2 folds, or fewer patients than folds.

    Example:
        >>> items = [{"patient": name} for name in ("ann", "ben", "ann", "cid", "dot")]
        >>> patient_folds(items, 2)
        [1, 1, 1, 0, 0]
    """
    patients = sorted({str(item["patient"]) for item in items})
    if folds < 2:
        raise ValueError(f"{folds} folds: at least 2 are needed for a prediction out of sample.")
    if len(patients) < folds:
        raise ValueError(
            f"{folds} folds of {len(patients)} patients: every fold needs a patient of its own; choose fewer "
            "folds. If several patients share one name, check `patient` in the manifest."
        )
    split = GroupKFold(folds, shuffle=True, random_state=seed).split(patients, groups=patients)
    fold_of = {patients[index]: fold for fold, (_, members) in enumerate(split) for index in members}
    return [fold_of[str(item["patient"])] for item in items]


def with_folds(items: Sequence[Mapping[str, Any]], folds: int, seed: int = 0) -> list[dict[str, Any]]:
    """The same items, each with its fold under the key ``fold``; arguments and errors as :func:`patient_folds`.

    Example:
        >>> [item["fold"] for item in with_folds([{"patient": "ann"}, {"patient": "ben"}], 2)]
        [1, 0]
    """
    of_item = patient_folds(items, folds, seed)
    return [{**item, "fold": fold} for item, fold in zip(items, of_item, strict=True)]
