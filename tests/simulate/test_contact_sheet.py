"""The contact sheet: which cases it shows, and that it shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import nibabel
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from simulated import write_hearts, write_pictures

from monai_noisylabel.simulate import simulate_dataset
from monai_noisylabel.simulate.contact_sheet import choose_cases

CLEAN, NOISY = np.array([0, 229, 255]), np.array([255, 149, 0])


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that were saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *arguments: Any, **settings: Any) -> None:
        saved.append(self)
        save(self, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def _line(case: str, model: str, dice: float, volume: str | None = None, voxels: int = 100) -> dict[str, Any]:
    changed = round(voxels * (1 - dice))
    return {
        "case": case,
        "volume": volume or case,
        "model": model,
        "dice": {"1": dice},
        "voxels": [[900, 0], [changed, voxels - changed]],
    }


def _pixels_of(picture: np.ndarray, colour: np.ndarray) -> int:
    return int((np.abs(picture.astype(int) - colour).max(-1) < 12).sum())


def _titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_it_shows_the_noisy_cases_of_the_folder(phantom: Path, tmp_path: Path, figures: list[Figure]) -> None:
    simulate_dataset("phantom_hcc", phantom, {"model": "mixed", "alpha": 0.6, "beta": 4}, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/records.jsonl").read_text().splitlines()]
    dice = {line["case"]: line for line in lines if min(line["dice"].values()) < 1}
    titles = _titles(figures[0])
    assert len(titles) == 3  # one slice of each training volume
    for title in titles:
        case, result = title.split("\n")
        held = [d for number, d in dice[case]["dice"].items() if np.any(dice[case]["voxels"][int(number)])]
        assert result == f"{dice[case]['model']}, Dice {np.mean(held):.2f}"
    assert figures[0].get_suptitle().startswith("phantom_hcc: missing, boundary, alpha 0.6, seed 0: ")
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["clean label", "noisy label", "both"]
    with Image.open(tmp_path / "out/contact_sheet.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert _pixels_of(pixels, CLEAN) > 500
    assert _pixels_of(pixels, NOISY) > 50


def test_contours_are_those_of_the_files(tmp_path: Path, figures: list[Figure]) -> None:
    """The outlines drawn of one case enclose as many voxels as its masks have on the slice shown."""
    made = write_hearts(tmp_path / "data", ("RAS",) * 5)
    simulate_dataset(made, tmp_path / "data", {"model": "boundary", "alpha": 1.0, "beta": 3}, tmp_path / "out")
    axes = next(axes for axes in figures[0].axes if axes.get_title().startswith("h1, slice "))
    plane = int(axes.get_title().split("\n")[0].rpartition(" ")[2])
    clean, noisy = (np.asarray(nibabel.load(tmp_path / part / "labels/h1.nii").dataobj) for part in ("data", "out"))
    assert plane == np.argmax(((clean > 0) != (noisy > 0)).sum((0, 1)) + _exchanged(clean, noisy))
    drawn = [collection for collection in axes.collections if len(collection.get_paths()[0].vertices)]
    areas = [_enclosed(collection.get_paths()[0]) for collection in drawn]
    expected = [
        ((label[..., plane] == value) | ((value == 20) & (label[..., plane] == 21))).sum()
        for label in (clean, noisy)
        for value in (10, 20, 30)
    ]
    assert areas == pytest.approx([count for count in expected if count], rel=0.2, abs=6)


def _exchanged(clean: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """Changed structures per slice, beyond the one counted where foreground and background were exchanged."""
    both = (clean // 10 != noisy // 10) & (clean > 0) & (noisy > 0)
    return 2 * both.sum((0, 1))


def _enclosed(path: Any) -> float:
    """Area inside closed outlines, holes taken off (their outlines run the other way round)."""
    total = 0.0
    for polygon in path.to_polygons():
        x, y = polygon.T
        total += 0.5 * float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))
    return abs(total)


def test_pictures_and_volumes_without_labels(tmp_path: Path, figures: list[Figure]) -> None:
    made = write_pictures(tmp_path / "data")
    simulate_dataset(made, tmp_path / "data", {"model": "missing", "alpha": 1.0}, tmp_path / "out")
    assert [title.split("\n")[1] for title in _titles(figures[0])] == ["missing, Dice 0.00"] * 3


def test_no_backend_is_chosen(phantom: Path, tmp_path: Path) -> None:
    before = matplotlib.get_backend(auto_select=False)
    simulate_dataset("phantom_hcc", phantom, "missing", tmp_path / "out", spatial_dims=3)
    assert matplotlib.get_backend(auto_select=False) == before


def test_twelve_cases_from_the_mildest_to_the_worst() -> None:
    lines = [_line(f"c{k}", "boundary", k / 100) for k in range(100)] + [_line("clean", "none", 1.0)]
    chosen = choose_cases(lines)
    assert len(chosen) == 12
    dice = [line["dice"]["1"] for line in chosen]
    assert dice == sorted(dice, reverse=True)
    assert (dice[0], dice[-1]) == (0.99, 0.0)


def test_every_model_is_there_and_like_cases_give_way() -> None:
    lines = [_line(f"m{k}", "missing", 0.0) for k in range(50)]
    lines += [_line(f"b{k}", "boundary", k / 100) for k in range(40)]
    lines += [_line("e", "ellipse", 0.9)]
    chosen = choose_cases(lines)
    assert [line["model"] for line in chosen] == ["boundary"] * 10 + ["ellipse", "missing"]
    assert len({line["case"] for line in chosen}) == 12


def test_like_cases_fill_what_others_leave_empty() -> None:
    assert len(choose_cases([_line(f"m{k}", "missing", 0.0) for k in range(50)])) == 12


def test_a_volume_is_shown_once_with_its_largest_changed_slice() -> None:
    lines = [_line(f"v/{k}", "boundary", 1.0 if k == 9 else 0.5, volume="v", voxels=100 + k) for k in range(10)]
    assert [line["case"] for line in choose_cases(lines)] == ["v/8"]


def test_clean_cases_are_shown_only_if_there_are_no_others() -> None:
    clean = [_line(f"c{k}", "none", 1.0) for k in range(20)]
    assert len(choose_cases(clean)) == 12
    assert [line["case"] for line in choose_cases([*clean, _line("n", "boundary", 0.9)])] == ["n"]
    assert choose_cases([]) == []
