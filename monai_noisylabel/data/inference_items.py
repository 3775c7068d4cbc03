"""Which images a trained network is to be run on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_noisylabel.data.dataset_spec import DatasetSpec, chosen_classes, load_dataset, resized
from monai_noisylabel.data.layout import files_of
from monai_noisylabel.data.manifest import Manifest, load_manifest

__all__ = ["describe_dataset", "inference_items"]


def describe_dataset(
    manifest: Manifest | str | os.PathLike[str],
    *,
    spatial_dims: int | None = None,
    classes: Sequence[str] | None = None,
    size: Sequence[int] | None = None,
) -> DatasetSpec:
    """What a manifest alone says about a dataset: channels, classes, preprocessing; no cases.

    Args:
        manifest: a manifest, the path of one, or the name of a shipped one.
        spatial_dims: 2 or 3 instead of the manifest's.
        classes: subset of the class names.
        size: final size of the images in voxels instead of the manifest's.

    Example:
        >>> describe_dataset("acdc").num_classes
        4
    """
    if not isinstance(manifest, Manifest):
        manifest = load_manifest(manifest)
    if size is not None:
        manifest = resized(manifest, size)
    chosen = chosen_classes(manifest, classes)
    return DatasetSpec(manifest, Path(), chosen, spatial_dims or manifest.spatial_dims, [], [], [])


def inference_items(
    spec: DatasetSpec,
    dataset_dir: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
) -> list[dict[str, Any]]:
    """Items with an image only.

    Args:
        spec: from :func:`describe_dataset`.
        dataset_dir: folder in the manifest's layout whose images are all taken; no labels are needed. None for the
            phantom manifest takes its test cases.
        images: image files, or folders of a DICOM series, instead: one path or several.

    Raises:
        FileNotFoundError: if an image does not exist, or the folder holds none in the manifest's layout.
        ValueError: if neither a folder nor images are given, or images have the same file name, which their labels
            are named after.
    """
    if images is not None:
        paths = [Path(path) for path in ([images] if isinstance(images, str | os.PathLike) else images)]
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            raise FileNotFoundError(f"No such image: {', '.join(missing)}. Check --images.")
        names = Counter(path.name for path in paths)
        if max(names.values(), default=0) > 1:
            raise ValueError(
                f"{names.most_common(1)[0][1]} images are called {names.most_common(1)[0][0]}, and their labels would "
                "overwrite each other: predict them one by one with another --output_dir, or give their --dataset_dir."
            )
        return [{"image": str(path), "case": spec.case_of(path)} for path in paths]
    if dataset_dir is None:
        items = load_dataset(spec.manifest, None, spatial_dims=3, classes=spec.classes).test
        return [{"image": item["image"], "case": item["case"]} for item in items]
    root = Path(dataset_dir)
    templates = spec.manifest.layout.images
    columns = [sorted(str(root / file) for file, _ in files_of(root, template)) for template in templates]
    if not columns[0]:
        raise FileNotFoundError(f"No image like {templates[0]} in {root}. Name the files themselves with --images.")
    if len(columns) == 1:
        return [{"image": path, "case": spec.case_of(path)} for path in columns[0]]
    return [{"image": list(paths), "case": spec.case_of(paths[0])} for paths in zip(*columns, strict=True)]
