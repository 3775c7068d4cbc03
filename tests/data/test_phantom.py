"""The phantom set: same seed same files, reusable, complete or absent, and like a CT in its numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from monai_noisylabel.data import phantom
from monai_noisylabel.data.phantom import cache_folder, cached_phantom, make_phantom
from monai_noisylabel.data.phantom_anatomy import phantom_case

SMALL = {"shape": (24, 24, 10), "spacing": (13.0, 13.0, 16.0)}


@pytest.fixture(scope="module")
def cases() -> list[tuple[np.ndarray, np.ndarray]]:
    return [phantom_case(seed=0, number=number) for number in range(12)]


def checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_files_are_nifti_with_the_grid_of_the_parameters(tmp_path: Path) -> None:
    root = make_phantom(tmp_path / "set", cases=2, **SMALL)
    image = nibabel.load(root / "images" / "liver_001.nii.gz")
    label = nibabel.load(root / "labels" / "liver_001.nii.gz")
    assert image.get_data_dtype() == np.int16
    assert label.get_data_dtype() == np.uint8
    assert image.shape == label.shape
    assert image.shape[:2] == (24, 24)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    np.testing.assert_array_equal(image.affine, np.diag([-13.0, -13.0, 16.0, 1.0]))
    np.testing.assert_array_equal(label.affine, image.affine)
    drawn, _ = phantom_case(0, 1, **SMALL)
    np.testing.assert_array_equal(np.asarray(image.dataobj), drawn)


def test_a_case_depends_on_seed_and_number_only(tmp_path: Path) -> None:
    few = checksums(make_phantom(tmp_path / "few", cases=1, **SMALL))
    more = checksums(make_phantom(tmp_path / "more", cases=3, **SMALL))
    other = checksums(make_phantom(tmp_path / "other", cases=1, seed=1, **SMALL))
    name = "images/liver_000.nii.gz"
    assert few[name] == more[name]
    assert few[name] != other[name]
    assert len({digest for path, digest in more.items() if path.startswith("images")}) == 3


def test_a_finished_set_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_phantom(tmp_path / "set", cases=2, **SMALL)
    before = checksums(root)

    def never(*_: object) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr(phantom, "phantom_case", never)
    assert make_phantom(root, cases=2, **SMALL) == root
    assert checksums(root) == before
    assert json.loads((root / "phantom.json").read_text())["cases"] == 2


def test_other_parameters_or_foreign_files_are_never_overwritten(tmp_path: Path) -> None:
    root = make_phantom(tmp_path / "set", cases=1, **SMALL)
    with pytest.raises(FileExistsError, match=r"holds a phantom set of .*'seed': 0.*give another folder"):
        make_phantom(root, cases=1, seed=5, **SMALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds other files"):
        make_phantom(tmp_path / "mine", cases=1, **SMALL)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert len(checksums(make_phantom(tmp_path, cases=1, **SMALL))) == 3


def test_an_interrupted_set_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = phantom_case

    def stop_at_second(seed: int, number: int, *grid: object) -> object:
        if number == 1:
            raise KeyboardInterrupt
        return draw(seed, number, **SMALL)

    monkeypatch.setattr(phantom, "phantom_case", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path / "set", cases=2, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_of_two_writers_one_wins_and_both_get_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = phantom._write

    def write_late(folder: Path, parameters: dict[str, object]) -> None:
        write(folder, parameters)
        monkeypatch.setattr(phantom, "_write", write)
        make_phantom(tmp_path / "set", cases=1, **SMALL)  # the other process finishes first

    monkeypatch.setattr(phantom, "_write", write_late)
    assert make_phantom(tmp_path / "set", cases=1, **SMALL) == tmp_path / "set"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_cached_phantom_lies_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path))
    monkeypatch.setattr(phantom, "phantom_case", lambda *_: phantom_case(0, 0, **SMALL))
    assert cached_phantom(seed=3).parent == tmp_path
    assert len(list(cached_phantom(seed=3).glob("images/*.nii.gz"))) == 60
    monkeypatch.delenv("NOISYLABEL_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "monai_noisylabel"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cases": 0}, "cases must be at least 1, got 0"),
        ({"shape": (64, 64)}, "shape needs three numbers of at least 8 voxels"),
        ({"shape": (64, 64, 4)}, "shape needs three numbers of at least 8 voxels"),
        ({"spacing": (5.0, 0.0, 8.0)}, "spacing needs three positive numbers in mm"),
        ({"spacing": (5.0, 5.0)}, "spacing needs three positive numbers in mm"),
    ],
)
def test_bad_parameters(tmp_path: Path, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_phantom(tmp_path / "set", **parameters)  # type: ignore[arg-type]


def test_liver_is_one_large_organ_with_tumours_inside(cases: list[tuple[np.ndarray, np.ndarray]]) -> None:
    voxel = 5.0 * 5.0 * 8.0 / 1000  # ml
    for _, label in cases:
        organ = label > 0
        parts, count = ndimage.label(organ)
        largest = np.bincount(parts.ravel())[1:].max()
        assert largest > 0.97 * organ.sum(), count
        assert 600 < organ.sum() * voxel < 1500
        where = np.argwhere(organ).mean(0)
        assert where[0] < 32, "the liver is on the right-hand side, which comes first"
        assert not organ[..., 0].all()
    tumours = [int((label == 2).sum()) for _, label in cases]
    assert 0 in tumours or min(tumours) < 50
    assert max(tumours) > 300


def test_values_are_those_of_ct_and_no_threshold_finds_the_liver(
    cases: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    contrasts, outside = [], []
    for image, label in cases:
        liver = image[label == 1]
        assert -1024 <= image.min() < -950
        assert image.max() > 250, "bone"
        assert 80 < np.median(liver) < 125
        assert 10 < liver.std() < 45
        low, high = np.percentile(liver, (10, 90))
        within = (image >= low) & (image <= high)
        outside.append(float((within & (label == 0)).sum() / within.sum()))
        if (label == 2).sum() > 60:
            contrasts.append(float(np.median(liver) - np.median(image[label == 2])))
    assert min(outside) > 0.15
    assert np.mean(outside) > 0.3, "other organs share the liver's values"
    assert 15 < np.mean(contrasts) < 40
    assert min(contrasts) > 5
