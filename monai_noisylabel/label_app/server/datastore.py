"""MONAI Label's datastore over a review: what is saved is checked and written down, and what was given stays."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore

from monai_noisylabel.label_app.review import Review
from monai_noisylabel.label_app.scores import read_scores
from monai_noisylabel.label_app.workspace import CLEANSED, FINAL, ORIGINAL

__all__ = ["ReviewDatastore", "user_of"]

CONFIG = "datastore_v2.json"


def user_of(request: Mapping[str, Any]) -> str:
    """Who a request is from, by what it says itself: MONAI Label tells nothing else.

    Args:
        request: its parameters. 3D Slicer sends as ``client_id`` the user that its settings name.
    """
    return str(request.get("user") or request.get("client_id") or "unknown")


class ReviewDatastore(LocalDatastore):
    """Saves labels of a review.

    - ``final`` is a decision: checked, written in the form of the given label, and put into the journal.
    - ``cleansed`` is a proposal: checked, and put into the journal.
    - ``original`` is the given label, and images are copies of the dataset's: neither can be replaced or removed.
    - Any other tag is stored as it is.

    MONAI Label's own list of files is only a list: one that a crash has left unreadable is put aside and made again.

    Args:
        review: the review.
    """

    def __init__(self, review: Review) -> None:
        self.review = review
        root = review.workspace.root
        _put_aside_broken(root / CONFIG)
        super().__init__(
            str(root),
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
        )
        self.show_scores()

    def show_scores(self) -> None:
        """Put the scores of all cases where clients see them."""
        changed = False
        for case, score in read_scores(self.review.workspace.root).items():
            known = self._datastore.objects.get(case)
            if known is not None and not score.for_viewer().items() <= known.image.info.items():
                known.image.info.update(score.for_viewer())
                changed = True
        if changed:
            self._update_datastore_file()

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label under a tag; 422 if it does not fit its image, 409 if the tag's labels stay as they are."""
        tag, info = getattr(label_tag, "value", label_tag), dict(label_info or {})
        user = user_of(info)
        note = str(info.get("note") or "")
        if tag == ORIGINAL:
            _refuse("the label under the tag original is the one of the dataset; save under another tag")
        try:
            if tag == FINAL:
                entry = self.review.submit(image_id, Path(label_filename), info.get("label_info"), user, note)
                info |= {"decision": entry.decision, "time": entry.time, "user": user}
            elif tag == CLEANSED:
                self.review.propose(image_id, Path(label_filename), info.get("label_info"), user, note)
        except ValueError as error:
            raise HTTPException(422, f"The label of {image_id} was not saved: {error}") from None
        self._remove_other_endings(image_id, tag, label_filename)
        return str(super().save_label(image_id, label_filename, tag, info))

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label; one that was decided on is withdrawn, and its case is open again."""
        tag = getattr(label_tag, "value", label_tag)
        if tag == ORIGINAL:
            _refuse("the label under the tag original is the one of the dataset and is not removed")
        if tag == FINAL and label_id in self.review.workspace.items:
            self.review.withdraw(label_id, user_of({}))
        super().remove_label(label_id, tag)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> NoReturn:
        """Images are those of the dataset."""
        _refuse("a review has the images of its dataset; no others can be added")

    def remove_image(self, image_id: str) -> NoReturn:
        """Images are those of the dataset."""
        _refuse("a review keeps the images of its dataset")

    def _remove_other_endings(self, case: str, tag: str, file: str) -> None:
        """Remove what an earlier save of the same label has left in another format."""
        known = self._datastore.label(case, tag)
        if known is not None and known.ext != self._to_id(os.path.basename(file))[1]:
            Path(self._datastore.label_path(tag), f"{case}{known.ext}").unlink(missing_ok=True)


def _put_aside_broken(path: Path) -> None:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (UnicodeDecodeError, json.JSONDecodeError):
        path.replace(path.with_suffix(".broken"))


def _refuse(why: str) -> NoReturn:
    raise HTTPException(409, why)
