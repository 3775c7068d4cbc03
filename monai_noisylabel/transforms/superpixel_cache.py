"""Superpixels kept on disk, so that a run that starts again, or another one, need not compute them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SuperpixelCache"]

logger = logging.getLogger(__name__)


class SuperpixelCache:
    """Superpixel maps by the content of their images and the settings they were made with.

    A map appears in one step when it is complete, so workers, ranks and runs can share a folder. A file that cannot
    be read is made anew; a folder that cannot be written only costs time.

    Args:
        folder: where the maps lie; made when the first one is kept.
        settings: everything but the image that a map depends on, as JSON can hold it.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.settings = json.dumps(settings, sort_keys=True)

    def get(self, arrays: Mapping[str, np.ndarray | None], make: Callable[[], np.ndarray]) -> np.ndarray:
        """The map of an image: from its file, or from ``make``, whose result is kept.

        Args:
            arrays: what the map is made of, by name.
            make: computes the map, whole numbers from 0.
        """
        path = self.folder / f"{self._digest(arrays)}.npy"
        with contextlib.suppress(OSError, ValueError, EOFError):
            return np.load(path, allow_pickle=False)
        ids = make()
        self._keep(ids.astype(np.min_scalar_type(int(ids.max(initial=0)))), path)
        return ids

    def _digest(self, arrays: Mapping[str, np.ndarray | None]) -> str:
        digest = hashlib.blake2b(self.settings.encode(), digest_size=16)
        for name, array in sorted(arrays.items()):
            if array is not None:
                digest.update(f"/{name} {array.shape} {array.dtype}:".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _keep(self, ids: np.ndarray, path: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(prefix=".superpixels", dir=self.folder)
            with os.fdopen(handle, "wb") as stream:
                np.save(stream, ids)
            os.replace(draft, path)
        except OSError as error:
            logger.warning("Superpixels cannot be kept in %s (%s): they will be computed again.", self.folder, error)
