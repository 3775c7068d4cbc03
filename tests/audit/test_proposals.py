"""Error maps and proposed labels, in the form and on the grid of the given labels."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from simulated import digests, write_hearts, write_pictures

from monai_noisylabel.audit.problems import Problem, problems_of
from monai_noisylabel.audit.proposals import proposed_masks, write_error_maps, write_proposal
from monai_noisylabel.audit.regions import Region, error_regions
from monai_noisylabel.data import DatasetSpec, load_dataset
from monai_noisylabel.data.case_label import read_case_label


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))


def _regions(given: np.ndarray, seems: np.ndarray, classes: int) -> list[Region]:
    p = np.where(seems == np.arange(classes).reshape(-1, *[1] * seems.ndim), 0.9, 0.1 / (classes - 1))
    return error_regions(given, p.astype(np.float32), given != seems, (1.0,) * given.ndim)


def _hearts_found(spec: DatasetSpec, number: int) -> tuple[Problem, np.ndarray, list[Region]]:
    """The bar is missing in what is given, and seen by the network."""
    (problem,) = problems_of(spec)
    masks = read_case_label(spec.train[number], spec).masks
    given = np.zeros(masks.shape[1:], np.uint8)
    for k, mask in enumerate(masks, start=1):
        given[mask] = k
    seems = given.copy()
    seems[given == 3] = 0
    return problem, seems, _regions(given, seems, 4)


def test_volumes_of_every_orientation(tmp_path: Path) -> None:
    spec = load_dataset(write_hearts(tmp_path / "data"), tmp_path / "data")
    before = digests(tmp_path / "data")
    for number, item in enumerate(spec.train):
        label = read_case_label(item, spec)
        problem, seems, regions = _hearts_found(spec, number)
        assert [region.type for region in regions] == ["spurious"]
        (path,) = write_error_maps(item["case"], label, [(problem, regions)], tmp_path / "errors")
        errors, original = nibabel.load(path), nibabel.load(item["label"])
        np.testing.assert_array_equal(errors.affine, original.affine)
        assert errors.get_data_dtype() == np.uint8
        given = np.asarray(original.dataobj)
        np.testing.assert_array_equal(np.asarray(errors.dataobj), np.where(given == 30, 2, 0))
        (path,) = write_proposal(item, label, [(problem, regions)], spec, tmp_path / "proposals")
        assert path == tmp_path / "proposals" / Path(item["label"]).relative_to(tmp_path / "data")
        proposal = nibabel.load(path)
        np.testing.assert_array_equal(np.asarray(proposal.dataobj), np.where(given == 30, 0, given))
        assert proposal.get_data_dtype() == original.get_data_dtype()
        np.testing.assert_array_equal(proposed_masks(label.masks, [(problem, regions)])[1] > 0, seems == 2)
    assert digests(tmp_path / "data") == before


def test_pictures_of_overlapping_structures(tmp_path: Path) -> None:
    spec = load_dataset(write_pictures(tmp_path / "data"), tmp_path / "data")
    item = spec.train[0]
    label = read_case_label(item, spec)
    found = []
    for problem, mask in zip(problems_of(spec), label.masks, strict=True):
        seems = mask.astype(np.uint8)
        if problem.name == "small":
            seems[:] = 0
        found.append((problem, _regions(mask.astype(np.uint8), seems, 2)))
    assert [len(regions) for _, regions in found] == [0, 1]
    paths = write_error_maps(item["case"], label, found, tmp_path / "errors")
    assert [path.name for path in paths] == [f"{item['case']}_large.png", f"{item['case']}_small.png"]
    with Image.open(paths[1]) as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[6:9] == [213, 94, 0]
        np.testing.assert_array_equal(np.asarray(picture).T, np.where(label.masks[1], 2, 0))
    large, small = write_proposal(item, label, found, spec, tmp_path / "proposals")
    originals = [Path(path) for path in item["label"]]
    with Image.open(large) as one, Image.open(originals[0]) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    with Image.open(small) as picture:
        assert not np.asarray(picture).any()
    assert small.suffix == ".bmp"


def test_nothing_is_written_into_the_dataset(tmp_path: Path) -> None:
    spec = load_dataset(write_hearts(tmp_path / "data"), tmp_path / "data")
    problem, _, regions = _hearts_found(spec, 0)
    (tmp_path / "proposals").symlink_to(tmp_path / "data")
    label = read_case_label(spec.train[0], spec)
    with pytest.raises(FileExistsError, match="leads into the dataset folder"):
        write_proposal(spec.train[0], label, [(problem, regions)], spec, tmp_path / "proposals")
