"""Small datasets on disk, in the layouts of the shipped manifests."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_noisylabel.data.manifest import Manifest

CT_AFFINE = np.diag([-2.0, -2.0, 5.0, 1.0])


def real_data(name: str) -> Path:
    """Folder of a real dataset; the test is skipped where it is absent."""
    root = os.environ.get("NOISYLABEL_REALDATA") or Path(__file__).parents[2] / "shared" / "data"
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"real data {name} is not in {root}; set NOISYLABEL_REALDATA to the folder that holds it")
    return folder


def manifest(**changes: object) -> Manifest:
    """A manifest of CT volumes with liver and tumour; entries can be replaced."""
    content: dict[str, object] = {
        "name": "made_up",
        "description": "drawn",
        "modality": "CT",
        "licence": "none",
        "citation": "none",
        "source": "the shelf in the reading room",
        "spatial_dims": 3,
        "task": "multi_class",
        "classes": {"liver": 1, "tumour": 2},
        "layout": {"image": "images/{case}.nii*", "label": "labels/{case}.nii*"},
        "splits": {"order": "sorted", "train": {"count": 2}, "val": {"count": 1}, "test": {"count": 1}},
        "preprocessing": {"normalise": "zscore", "size": [8, 8, 4], "fit": "pad"},
    }
    return Manifest.model_validate({**content, **changes})


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray = CT_AFFINE) -> Path:
    """Write a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def write_picture(path: Path, array: np.ndarray) -> Path:
    """Write a PNG, JPEG or TIFF file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def ct_pair(shape: tuple[int, int, int] = (8, 6, 4)) -> tuple[np.ndarray, np.ndarray]:
    """Image and label of a volume: liver in slices 1 and 2, tumour in slice 2."""
    image = np.random.default_rng(0).normal(50, 20, shape).astype(np.int16)
    label = np.zeros(shape, np.uint8)
    label[2:5, 2:5, 1:3] = 1
    label[3, 3, 2] = 2
    return image, label


def write_ct_dataset(root: Path, cases: int = 4) -> Path:
    """Write volumes ``images/c0.nii.gz``, ``labels/c0.nii.gz``, ..."""
    image, label = ct_pair()
    for number in range(cases):
        write_volume(root / f"images/c{number}.nii.gz", image)
        write_volume(root / f"labels/c{number}.nii.gz", label)
    return root


def photograph(height: int = 6, width: int = 8) -> np.ndarray:
    """A colour picture."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask(height: int = 6, width: int = 8, value: int = 255) -> np.ndarray:
    """A picture with a rectangle of one value."""
    array = np.zeros((height, width), np.uint8)
    array[2:4, 2:6] = value
    return array


def isic2017(root: Path) -> None:
    """Two, one and one photographs; superpixel files lie beside them."""
    for part, numbers in (("Training", (0, 1)), ("Validation", (2,)), ("Test_v2", (3,))):
        for n in numbers:
            write_picture(root / f"ISIC-2017_{part}_Data/ISIC_000000{n}.jpg", photograph())
            write_picture(root / f"ISIC-2017_{part}_Data/ISIC_000000{n}_superpixels.png", photograph())
            write_picture(root / f"ISIC-2017_{part}_Part1_GroundTruth/ISIC_000000{n}_segmentation.png", mask())


def shenzhen(root: Path) -> None:
    """Twelve radiographs, two of them without mask; some stored in colour."""
    for n in range(1, 13):
        picture = photograph() if n % 3 else photograph()[..., 0]
        write_picture(root / f"CXR_png/CHNCXR_{n:04d}_{n % 2}.png", picture)
        if n > 2:
            write_picture(root / f"mask/CHNCXR_{n:04d}_{n % 2}_mask.png", mask())


def jsrt(root: Path, training: int = 44, size: int = 32) -> None:
    """Radiographs with three structures that overlap; forty of the training ones become the validation set."""
    for n in range(training + 1):
        part = "validation" if n == training else "training"
        write_picture(root / part / "images" / f"case{n:03d}.png", photograph(size, size)[..., 0])
        for k, structure in enumerate(("lung", "heart", "clavicle")):
            outline = np.zeros((size, size), np.uint8)
            outline[4 + k : size // 2 + 4 * k, 4 + n % 5 : -4] = 255
            write_picture(root / part / structure / f"case{n:03d}.png", outline)
