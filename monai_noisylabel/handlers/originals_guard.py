"""The promise that a training leaves the user's labels alone, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ignite.engine import Engine, Events

from monai_noisylabel.data.originals import fingerprint, verify_originals
from monai_noisylabel.handlers.processes import is_main

__all__ = ["OriginalsGuard"]


class OriginalsGuard:
    """Takes the checksums of the given label files when a training starts, and compares them when it ends.

    Args:
        items: dataset items; the files under ``label`` are guarded, each once.

    Raises:
        OriginalChangedError: at the end, naming every file that changed, whoever changed it.
    """

    def __init__(self, items: Iterable[Mapping[str, Any]]) -> None:
        labels = [item["label"] for item in items]
        self.paths = sorted({path for label in labels for path in ([label] if isinstance(label, str) else label)})
        self._fingerprints: dict[str, str] = {}

    def attach(self, engine: Engine) -> None:
        """Guard the files during the run of ``engine``."""
        engine.add_event_handler(Events.STARTED, self._take)
        engine.add_event_handler(Events.COMPLETED, self._compare)

    def _take(self, engine: Engine) -> None:
        if is_main():
            self._fingerprints = fingerprint(self.paths)

    def _compare(self, engine: Engine) -> None:
        verify_originals(self._fingerprints)
