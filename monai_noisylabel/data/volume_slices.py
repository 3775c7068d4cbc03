"""Slices of preprocessed volumes for 2D training, without reading a volume again for each of its slices."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform

__all__ = ["VolumeSlices"]

Item = dict[Hashable, Any]


class VolumeSlices(MapTransform, InvertibleTransform):
    """Applies a deterministic volume transform and cuts the slice that the item names in ``"slice"``.

    Preprocessed volumes are kept, the least recently used leaving first, so that the slices of a volume cost
    one reading. Threads that ask for the same volume wait for one of them to read it; worker processes keep
    volumes of their own. An item without ``"slice"`` is given whole and nothing is kept. A file that changes
    on disk while its volume is kept is not read again.

    The cut runs along the last axis of the volume. The slice keeps the 4 x 4 affine of the volume, and its
    metadata name the slice (``"slice"``) and the volume's grid (``"volume_shape"``), so that a label made
    on it can be put back into the volume.

    Args:
        volume_transform: transform from file names to channel-first MetaTensors ``"image"`` and ``"label"``.
        keys: what the slice is cut from.
        max_bytes: memory for kept volumes; the latest one is always kept.

    Raises:
        ValueError: if a volume has no slice of that number, or is no volume.
    """

    def __init__(
        self,
        volume_transform: Callable[[Item], Item],
        keys: Sequence[str] = ("image", "label"),
        max_bytes: int = 2**29,
    ) -> None:
        super().__init__(keys)
        self.volume_transform = volume_transform
        self.max_bytes = max_bytes
        self._start_empty()

    def _start_empty(self) -> None:
        self._volumes: OrderedDict[str, Future[Item]] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_volumes", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_empty()

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Item with its image (and label) preprocessed, and cut when it names a slice."""
        if data.get("slice") is None:
            return self.volume_transform(dict(data))
        files: Item = {key: data[key] for key in self.keys if key in data}
        volume = self._volume(files)
        return {**data, **{key: _cut(volume[key], int(data["slice"]), files[key]) for key in files}}

    def inverse(self, data: Item) -> Item:
        """Inverse of the volume transform, for a volume that was given whole."""
        assert isinstance(self.volume_transform, InvertibleTransform)
        return dict(self.volume_transform.inverse(data))

    def _volume(self, files: Item) -> Item:
        key = json.dumps(files, sort_keys=True, default=str)
        with self._lock:
            waiting = self._volumes.get(key)
            if waiting is not None:
                self._volumes.move_to_end(key)
            else:
                mine = self._volumes[key] = Future()
        if waiting is not None:
            return waiting.result()
        try:
            mine.set_result(self.volume_transform(files))
        except BaseException as error:
            with self._lock:
                self._volumes.pop(key, None)
            mine.set_exception(error)
            raise
        self._make_room()
        return mine.result()

    def _make_room(self) -> None:
        """Drop the least recently used finished volumes until the rest fits."""
        with self._lock:
            finished = [key for key, volume in self._volumes.items() if volume.done()]
            used = {key: _size(self._volumes[key].result()) for key in finished}
            excess = sum(used.values()) - self.max_bytes
            for key in finished[:-1]:
                if excess <= 0:
                    break
                excess -= used[key]
                del self._volumes[key]


def _size(volume: Item) -> int:
    return sum(value.nbytes for value in volume.values() if isinstance(value, MetaTensor))


def _cut(volume: MetaTensor, number: int, source: object) -> MetaTensor:
    if volume.ndim != 4:
        raise ValueError(f"{source}: slice {number} was asked for, but this is no volume; drop 'slice'.")
    slices = volume.shape[-1]
    if not 0 <= number < slices:
        raise ValueError(f"{source}: slice {number} was asked for, but the training grid has slices 0..{slices - 1}.")
    meta = {
        **volume.meta,
        "affine": volume.affine.clone(),
        "slice": number,
        "volume_shape": list(volume.shape[1:]),
    }
    cut = volume.as_tensor()[..., number].clone()  # a copy: a view would keep the whole volume in every cache
    return MetaTensor(cut, meta=meta)
