"""Small datasets to simulate noise on, and the labels that a training with the same noise would see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from dataset_files import manifest, write_picture, write_volume
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, SaveImage

from monai_noisylabel.data import DatasetSpec, LabelWriter, Manifest, load_dataset, preprocessing
from monai_noisylabel.data.case_label import read_case_label
from monai_noisylabel.transforms import SimulateLabelNoised

SPLITS = {"order": "sorted", "train": {"count": 3}, "val": {"count": 1}, "test": {"count": 1}}
CODES = ("RAS", "LPS", "PIR", "SLA", "ASR")


def heart(shape: tuple[int, int, int], shift: int = 0) -> np.ndarray:
    """A ball (2) in a shell (1), beside a bar (3), off the centre so that flips show."""
    x, y, z = np.indices(shape)
    distance = np.sqrt((x - 11 - shift) ** 2 + (y - 12) ** 2 + (2 * (z - 5)) ** 2)
    label = np.zeros(shape, np.int16)
    label[4:7, 18 + shift : 25, 3:8] = 3
    label[distance < 8] = 1
    label[distance < 4] = 2
    return label


def oblique(codes: str, spacing: tuple[float, float, float] = (1.5, 1.0, 3.0)) -> np.ndarray:
    """Affine of the given axis codes, a little tilted; ``spacing`` is that along R, A and S."""
    angle = 0.1
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    columns = []
    for code in codes:
        axis = next(index for index, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        columns.append(tilt[:, axis] * spacing[axis] * (1 if code in "RAS" else -1))
    affine = np.eye(4)
    affine[:3, :3] = np.stack(columns, 1)
    affine[:3, 3] = (-20.5, 30.25, 7.75)
    return affine


def write_hearts(root: Path, codes: tuple[str, ...] = CODES) -> Manifest:
    """Volumes in several orientations, all of one anatomy in RAS; labels in values 10, 20 or 21, and 30."""
    for number, code in enumerate(codes):
        values = np.array([0, 10, 20, 30], np.int16)[heart((24, 28, 11), number)]
        values[values == 20] += np.arange((values == 20).sum(), dtype=np.int16) % 2
        start = nibabel.orientations.axcodes2ornt("RAS")
        turn = nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt(code))
        label = nibabel.orientations.apply_orientation(values, turn)
        write_volume(root / f"images/h{number}.nii.gz", label.astype(np.float32) + 5, oblique(code))
        image = nibabel.Nifti1Image(label, oblique(code))
        image.header["descrip"] = b"seen by two readers"
        image.set_sform(image.affine, code=2)
        (root / "labels").mkdir(exist_ok=True)
        nibabel.save(image, root / f"labels/h{number}.nii")
    return manifest(
        modality="MRI",
        classes={"wall": 10, "cavity": [20, 21], "bar": 30},
        splits=SPLITS,
        preprocessing={"normalise": "zscore"},
    )


def write_pictures(root: Path) -> Manifest:
    """Pictures with a file for each of two structures that overlap."""
    rows, columns = np.indices((40, 48))
    for number in range(5):
        large = (np.hypot(rows - 20, columns - 22 - number) < 14).astype(np.uint8) * 255
        small = (np.hypot(rows - 24, columns - 30) < 5 + number).astype(np.uint8)
        write_picture(root / f"images/p{number}.png", (rows * 3 + columns).astype(np.uint8))
        write_picture(root / f"large/p{number}.png", large)
        write_picture(root / f"small/p{number}.bmp", small)
    return manifest(
        spatial_dims=2,
        task="multi_label",
        classes={"large": None, "small": 1},
        layout={"image": "images/{case}.png", "label": {"large": "large/{case}.png", "small": "small/{case}.bmp"}},
        splits=SPLITS,
        preprocessing={"normalise": "window", "window": [0, 255]},
    )


def predict_moved(spec: DatasetSpec, folder: Path) -> None:
    """Write for every training case its structures moved by two voxels, by the steps of inference.json."""
    steps = preprocessing(spec, with_label=False)
    save = SaveImage(folder, "seg", output_dtype=np.uint8, writer=LabelWriter, resample=False, print_log=False)
    for item in {entry.get("volume", entry["case"]): entry for entry in spec.train}.values():
        image = steps({"image": item["image"], "case": item.get("volume", item["case"])})
        label = read_case_label(item, spec)
        moved = torch.tensor(np.roll(label.masks, 2, axis=1))
        if not spec.multi_label:
            moved = (moved * torch.arange(1, len(moved) + 1).view(-1, 1, 1, 1)).amax(0, keepdim=True)
        made = {"image": image["image"], "pred": MetaTensor(moved.float(), meta=image["image"].meta)}
        made["pred"].applied_operations = image["image"].applied_operations
        back = Compose([Invertd("pred", steps, orig_keys="image", nearest_interp=True)])(made)
        save(back["pred"])


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_records(out: Path) -> list[dict[str, Any]]:
    """Records of a simulation."""
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def trained_on(spec: DatasetSpec, recipe: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Noisy training labels, by case, as a training with this noise has them."""
    form = {"num_classes": spec.num_classes, "multi_label": spec.multi_label}
    steps = Compose([preprocessing(spec), SimulateLabelNoised("label", recipe, seed, **form)])
    return {item["case"]: steps(item)["label"].numpy() for item in spec.train}


def read_by_training(folder: Path, like: DatasetSpec) -> dict[str, np.ndarray]:
    """Training labels, by case, of a training on the folder of a simulation as it is."""
    spec = load_dataset(folder / "manifest.json", folder, spatial_dims=like.spatial_dims, classes=like.classes)
    steps = preprocessing(spec)
    return {item["case"]: steps(item)["label"].numpy() for item in spec.train}
