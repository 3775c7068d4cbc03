"""Which case a reviewer gets next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.strategy import Strategy

from monai_noisylabel.label_app.review import Review
from monai_noisylabel.label_app.scores import CaseScore
from monai_noisylabel.label_app.server.datastore import user_of

__all__ = ["NextCase"]

HELD = 30 * 60
"""Seconds for which a case that one client was given is not given to another."""


class NextCase(Strategy):
    """The undecided case with the highest score, of those that nobody else is at.

    A request may say ``{"skip": case}``, which puts a case behind all others, with a ``note`` why.

    Args:
        review: the review.
        description: what it is.
        key: the score to sort by; None: that of the label.
    """

    def __init__(
        self, review: Review, description: str, key: Callable[[CaseScore], float | None] | None = None
    ) -> None:
        super().__init__(description)
        self.review = review
        self.key = key

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any] | None:
        """What is known of the next case; None if all are decided."""
        if request.get("skip"):
            try:
                self.review.skip(str(request["skip"]), user_of(request), str(request.get("note") or ""))
            except ValueError as error:
                raise HTTPException(404, str(error)) from None
        cases = self.review.open_cases(self.key)
        free = [case for case in cases if not self._held(case, request, datastore)]
        return self.review.sample((free or cases)[0]) if cases else None

    def _held(self, case: str, request: Mapping[str, Any], datastore: Any) -> bool:
        """Whether another client was given a case lately."""
        given = datastore.get_image_info(case).get("strategy", {}).values()
        return any(
            entry.get("client_id") != request.get("client_id", entry.get("client_id"))
            and time.time() - entry.get("ts", 0) < HELD
            for entry in given
        )
