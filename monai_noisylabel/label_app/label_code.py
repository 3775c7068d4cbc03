"""One label file that shows all structures of a case, as a viewer needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_noisylabel.data.case_label import combined_values
from monai_noisylabel.data.original_label import held_by

__all__ = ["LabelCode", "renumbered"]

LARGEST = 255


@dataclass(frozen=True)
class LabelCode:
    """What the values 1, 2, ... of a label stand for: one structure each, then structures that overlap.

    A dataset may keep its structures in other values, in colours, or in a file each. A viewer gets one file, in
    which ``combinations[v - 1]`` are the structures that a voxel of value v belongs to.

    Args:
        names: names of the structures.
        combinations: indices of structures, each single one first.

    Example:
        >>> code = LabelCode(("disc", "cup"), ((0,), (1,), (0, 1)))
        >>> code.label_names
        {'disc': 1, 'cup': 2, 'disc + cup': 3}
        >>> code.encode(np.array([[0, 1, 1], [0, 0, 1]], bool)).tolist()
        [0, 1, 3]
        >>> code.decode(np.array([0, 1, 3])).astype(int).tolist()
        [[0, 1, 1], [0, 0, 1]]
    """

    names: tuple[str, ...]
    combinations: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(names: Sequence[str], seen: Iterable[np.ndarray]) -> LabelCode:
        r"""The code of structures that overlap as they do in these masks.

        Args:
            names: of the structures.
            seen: masks (K, \*S) of many cases; none for structures that exclude each other.

        Raises:
            ValueError: if there are more combinations than values.
        """
        combinations: list[tuple[int, ...]] = [(index,) for index in range(len(names))]
        found: set[tuple[int, ...]] = set()
        for masks in seen:
            bits = sum(
                mask.astype(object if len(names) > 62 else np.int64) << index for index, mask in enumerate(masks)
            )
            for number in np.unique(bits).tolist():
                found.add(tuple(index for index in range(len(names)) if number >> index & 1))
        combinations += sorted(entry for entry in found if len(entry) > 1)
        if len(combinations) > LARGEST:
            raise ValueError(
                f"{len(names)} structures overlap in {len(combinations)} ways, a label for a viewer holds {LARGEST}; "
                "review fewer of them at a time with --classes."
            )
        return LabelCode(tuple(names), tuple(combinations))

    @property
    def label_names(self) -> dict[str, int]:
        """Value of each name that a viewer shows."""
        names = [" + ".join(self.names[index] for index in entry) for entry in self.combinations]
        return {name: value for value, name in enumerate(names, start=1)}

    @property
    def values(self) -> tuple[tuple[int, ...], ...]:
        """For each structure, the values that it is part of."""
        numbered = list(enumerate(self.combinations, start=1))
        return tuple(tuple(value for value, entry in numbered if index in entry) for index in range(len(self.names)))

    def encode(self, masks: np.ndarray) -> np.ndarray:
        r"""Label of masks; structures that overlap in a way without a value get the nearest that has one.

        Shape:
            masks (K, \*S); result (\*S), uint8.
        """
        return combined_values(np.zeros(masks.shape[1:], np.uint8), masks, self.values)

    def decode(self, label: np.ndarray) -> np.ndarray:
        r"""Masks of a label.

        Shape:
            label (\*S); result (K, \*S), bool.

        Raises:
            ValueError: if it holds a value that stands for nothing.
        """
        unknown = sorted(set(np.unique(label).tolist()) - {0, *self.label_names.values()})
        if unknown:
            known = ", ".join(f"{value} {name}" for name, value in self.label_names.items())
            raise ValueError(f"the label holds the value(s) {unknown}, known are 0 background, {known}.")
        return np.stack([held_by(label, values) for values in self.values])


def renumbered(label: np.ndarray, label_info: Any, label_names: Mapping[str, int]) -> np.ndarray:
    r"""A label of a viewer that numbers its segments by itself, in the values of the names.

    Args:
        label: values of the file.
        label_info: what came with it, a list of ``{"name": ..., "idx": value in the file}``; anything else: the file
            has the right values.
        label_names: value of each name, in which capitals do not count.

    Shape:
        label and result (\*S).

    Raises:
        ValueError: if a segment that has voxels has a name that is not known.

    Example:
        >>> info = [{"name": "Tumour", "idx": 1}, {"name": "liver", "idx": 2}]
        >>> renumbered(np.array([0, 1, 2]), info, {"liver": 1, "tumour": 2}).tolist()
        [0, 2, 1]
    """
    entries = label_info if isinstance(label_info, list) else []
    if not entries or not all(isinstance(entry, dict) and {"name", "idx"} <= set(entry) for entry in entries):
        return label
    known = {name.lower(): value for name, value in label_names.items()}
    present = set(np.unique(label).tolist())
    result = label.copy()
    for entry in entries:
        number = int(entry["idx"])
        value = known.get(str(entry["name"]).lower())
        if number not in present:
            continue
        if value is None:
            raise ValueError(f"segment {entry['name']!r} is none of {', '.join(label_names)}; rename or remove it.")
        result[label == number] = value
    return result
