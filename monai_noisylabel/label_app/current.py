"""A dataset with the labels that were reviewed so far, for training and for judging labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from monai_noisylabel.data.dataset_spec import DatasetSpec, volume_of
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
    reviewed: dict[str, list[str]] = {}
    for case, entry in review.decisions().items():
        review.verified_files(entry)
        reviewed[case] = [str(path) for path in workspace.reviewed_files(case).values()]
    train, val, test = ([_replaced(item, reviewed) for item in items] for items in (spec.train, spec.val, spec.test))
    return replace(spec, train=train, val=val, test=test)


def _replaced(item: Mapping[str, Any], reviewed: Mapping[str, list[str]]) -> dict[str, Any]:
    """An item with its reviewed label: one file where it was one and still is, else one per structure."""
    files = reviewed.get(volume_of(item))
    if files is None:
        return dict(item)
    return {**item, "label": files[0] if isinstance(item["label"], str) and len(set(files)) == 1 else files}
