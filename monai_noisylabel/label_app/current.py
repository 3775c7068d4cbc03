"""A dataset with the labels that were reviewed so far, for training and for judging labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from monai_noisylabel.data.dataset_spec import DatasetSpec
from monai_noisylabel.label_app.review import Review
from monai_noisylabel.label_app.workspace import open_workspace

__all__ = ["current_dataset", "with_reviewed_labels"]


def current_dataset(studies: str | os.PathLike[str]) -> DatasetSpec:
    """The dataset of a review, with reviewed labels where there are any and given ones elsewhere.

    Args:
        studies: folder of the review.

    Raises:
        FileNotFoundError: if the folder is none.
        ValueError: if a reviewed label is not what was handed in.
    """
    return with_reviewed_labels(Review(open_workspace(studies)))


def with_reviewed_labels(review: Review) -> DatasetSpec:
    """As :func:`current_dataset`."""
    spec, workspace = review.workspace.spec, review.workspace
    in_place_of: dict[str, str] = {}
    for case, entry in review.decisions().items():
        review.verified_files(entry)
        in_place_of |= {given: str(path) for given, path in workspace.reviewed_files(case).items()}
    train, val, test = ([_replaced(item, in_place_of) for item in items] for items in (spec.train, spec.val, spec.test))
    return replace(spec, train=train, val=val, test=test)


def _replaced(item: Mapping[str, Any], in_place_of: Mapping[str, str]) -> dict[str, Any]:
    label = item["label"]
    if isinstance(label, str):
        return {**item, "label": in_place_of.get(label, label)}
    return {**item, "label": [in_place_of.get(path, path) for path in label]}
