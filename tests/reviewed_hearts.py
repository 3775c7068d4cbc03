"""A dataset with two wrong labels, and its audit: what a review begins with."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
from simulated import CODES, write_hearts

from monai_noisylabel.audit import audit_dataset
from monai_noisylabel.data import Manifest, load_dataset
from monai_noisylabel.data.case_label import read_case_label

WRONG = {"h3": 30, "h5": 10}
"""Case and the value of the structure that is forgotten in it."""


def write_dataset(root: Path) -> Path:
    """Seven volumes in several orientations, of which five are trained on; the manifest's file is returned."""
    made = write_hearts(root, (*CODES, "RAS", "LPS"))
    content = made.model_dump(mode="json", exclude_defaults=True)
    content["splits"] = {"order": "sorted", "train": {}, "val": {"count": 1}, "test": {"count": 1}}
    content["preprocessing"] |= {"size": [16, 16, 8]}
    path = root.with_suffix(".json")
    path.write_text(json.dumps(content))
    return path


def values_of(path: Path) -> np.ndarray:
    """Voxels of a NIfTI file."""
    return np.asarray(nibabel.load(path).dataobj)


def forget(path: Path, value: int) -> None:
    """Remove a structure from a label file."""
    volume = nibabel.load(path)
    array = np.asarray(volume.dataobj).copy()
    array[array == value] = 0
    nibabel.save(nibabel.Nifti1Image(array, volume.affine, volume.header), path)


def write_probabilities(manifest: Manifest | Path, root: Path, folder: Path) -> None:
    """Probabilities that agree with the labels as they are now."""
    folder.mkdir()
    spec = load_dataset(manifest, root)
    for item in spec.items_of("all"):
        label = read_case_label(item, spec)
        masks = label.masks if spec.multi_label else np.concatenate([~label.masks.any(0, keepdims=True), label.masks])
        p = masks * np.float32(0.9) + np.float32(0.1 / len(masks)) * (not spec.multi_label)
        if label.axes is not None:
            p = np.stack([label.in_file_axes(channel) for channel in p])
        np.savez(folder / f"{item['case']}.npz", probability=p)


def write_audited_hearts(root: Path) -> Path:
    """``data``, ``data.json`` and ``audit`` in a folder; the two forgotten structures are found and proposed."""
    manifest = write_dataset(root / "data")
    write_probabilities(manifest, root / "data", root / "p")
    for case, value in WRONG.items():
        forget(root / f"data/labels/{case}.nii", value)
    audit_dataset(manifest, root / "data", root / "audit", probabilities=root / "p")
    return manifest
