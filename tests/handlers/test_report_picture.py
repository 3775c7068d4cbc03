"""Which cases, labels and slices the picture shows; how it looks is for people to judge."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from monai_noisylabel.handlers import RunHistory
from monai_noisylabel.handlers.label_quality import measure_labels
from monai_noisylabel.handlers.report_picture import draw_report


def _patch(count: int, shape: tuple[int, ...] = (4, 6)) -> Tensor:
    label = torch.zeros(1, *shape, dtype=torch.uint8)
    label.view(-1)[:count] = 1
    return label


def _item(case: str, given: int, used: int | None = None, truth: int = 4) -> dict[str, Any]:
    item = {"case": case, "image": torch.arange(24.0).view(1, 4, 6), "label": _patch(given)}
    return item | {"clean_label": _patch(truth)} | ({} if used is None else {"pseudo_label": _patch(used)})


def _history(epochs: int = 2) -> RunHistory:
    history = RunHistory()
    for epoch in range(1, epochs + 1):
        dice = {
            "val_mean_dice": 0.5,
            "test_mean_dice": 0.4,
            "test_mean_dice_liver": 0.4,
            "labels_relabel": 3.0,
        }
        history.rows.append({"epoch": epoch, **dice})
    return history


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    saved: list[Figure] = []

    def save(figure: Figure, path: Path, **_: Any) -> None:
        saved.append(figure)
        path.touch()

    monkeypatch.setattr(Figure, "savefig", save)
    return saved


def _draw(
    items: Sequence[dict[str, Any]],
    folder: Path,
    truth_known: bool = False,
    history: RunHistory | None = None,
    num_classes: int | None = 2,
    weights: Mapping[str, float] | None = None,
) -> None:
    quality = measure_labels(items, ["liver"], num_classes, "clean_label" if truth_known else None)
    quality.weights = weights or {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_report(history or _history(), items, quality, folder / "report.png", num_classes, truth_known)


def _titles(figure: Figure) -> list[str]:
    return sorted(axes.get_title() for axes in figure.axes if axes.get_title())


def test_a_picture_is_written_and_no_draft_is_left(tmp_path: Path) -> None:
    _draw([_item("a", 1, 4)], tmp_path / "eval")
    assert (tmp_path / "eval" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "eval").iterdir())) == 1


def test_what_the_method_published_has_panels_of_its_own(tmp_path: Path, figures: list[Figure]) -> None:
    history = _history()
    for row in history.rows:
        row |= {"nu": 2.0 / row["epoch"], "keep_rate/liver": 0.5, "keep_rate/tumour": 0.25}
    del history.rows[0]["keep_rate/tumour"]
    _draw([_item("a", 1)], tmp_path, history=history)
    panels = {axes.get_ylabel(): axes for axes in figures[0].axes if axes.get_ylabel()}
    assert list(panels) == ["Dice", "nu", "keep rate"]
    assert panels["nu"].lines[0].get_xydata().tolist() == [[1, 2], [2, 1]]
    assert panels["nu"].get_legend() is None
    lines = {line.get_label(): line.get_xydata().tolist() for line in panels["keep rate"].lines}
    assert lines == {"liver": [[1, 0.5], [2, 0.5]], "tumour": [[2, 0.25]]}
    markers = {line.get_label(): line.get_marker() for line in panels["keep rate"].lines}
    assert markers == {"liver": "None", "tumour": "o"}  # a single point has no line
    assert _titles(figures[0]) == ["a: given"]


def test_entries_of_a_matrix_are_drawn_as_one_as_they_were_last(tmp_path: Path, figures: list[Figure]) -> None:
    history = _history()
    for row in history.rows:
        flipped = 0.25 * row["epoch"]
        row |= {"noise/a to a": 1 - flipped, "noise/a to b": flipped, "noise/b to a": 0.0, "noise/b to b": 1.0}
    _draw([_item("a", 1)], tmp_path, history=history)
    axes = next(axes for axes in figures[0].axes if axes.get_title() == "noise")
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert [[label.get_text() for label in labels] for labels in (axes.get_xticklabels(), axes.get_yticklabels())] == [
        ["a", "b"]
    ] * 2
    assert [text.get_text() for text in axes.texts] == ["0.50", "0.50", "0.00", "1.00"]
    assert not axes.lines


def test_a_matrix_of_several_structures_has_blank_fields(tmp_path: Path, figures: list[Figure]) -> None:
    history = _history()
    history.rows[-1] |= {"noise/a to a": 0.5, "noise/a to b": 0.5, "noise/c to c": 1.0}
    _draw([_item("a", 1)], tmp_path, history=history)
    axes = next(axes for axes in figures[0].axes if axes.get_title() == "noise")
    assert [text.get_text() for text in axes.texts] == ["0.50", "0.50", "1.00"]


@pytest.mark.parametrize(
    ("used", "truth_known", "titles"),
    [
        (4, True, ["a: clean", "cleansed", "given"]),
        (4, False, ["a: given", "cleansed"]),
        (None, True, ["a: clean", "given"]),
        (None, False, ["a: given"]),
    ],
)
def test_labels_that_are_known_are_shown(
    used: int | None, truth_known: bool, titles: list[str], tmp_path: Path, figures: list[Figure]
) -> None:
    _draw([_item("a", 1, used)], tmp_path, truth_known)
    assert _titles(figures[0]) == titles


@pytest.mark.parametrize(
    ("items", "shown"),
    [
        # Dice to the given label: 2 * 8 / (8 + used); b and d are unchanged
        ([_item("a", 8, 9), _item("b", 8, 8), _item("c", 8, 1), _item("d", 8, 8)], {"a", "c"}),
        # 1 to 9 voxels of 9: all but the last are changed; shown are the first, the last and two between
        ([_item(f"{n}", 9, n) for n in range(1, 10)], {"1", "3", "6", "8"}),
        ([_item("a", 8, 8), _item("b", 8, 8)], {"a", "b"}),
        ([_item(f"{n}", 8) for n in range(9)], {"0", "1", "2", "3"}),
    ],
)
def test_cases_shown_are_those_that_were_changed(
    items: list[dict[str, Any]], shown: set[str], tmp_path: Path, figures: list[Figure]
) -> None:
    _draw(items, tmp_path)
    assert {title.split(":")[0] for title in _titles(figures[0]) if ":" in title} == shown


@pytest.mark.parametrize("changed", [0, 3])
def test_of_a_volume_the_slice_with_most_changes_is_shown(changed: int, tmp_path: Path, figures: list[Figure]) -> None:
    # the image is flat in every slice but the changed one; the given label is largest in slice 1
    image, label = torch.zeros(1, 5, 6, 4), torch.zeros(1, 5, 6, 4, dtype=torch.uint8)
    image[..., changed] = torch.arange(30.0).view(5, 6)
    label[:, :3, :3], label[:, :4, :4, 1] = 1, 1
    used = label.clone()
    used[:, :2, :2, changed] = 0
    _draw([{"case": "a", "image": image, "label": label, "pseudo_label": used}], tmp_path)
    pictures = [axes.images[0].get_array() for axes in figures[0].axes if axes.images]
    assert len(pictures) == 2
    assert all(np.ptp(picture) == 1.0 for picture in pictures)


def test_of_an_unchanged_volume_the_largest_slice_is_shown(tmp_path: Path, figures: list[Figure]) -> None:
    image, label = torch.zeros(1, 5, 6, 4), torch.zeros(1, 5, 6, 4, dtype=torch.uint8)
    image[..., 1] = torch.arange(30.0).view(5, 6)
    label[:, :3, :3], label[:, :4, :4, 1] = 1, 1
    _draw([{"case": "a", "image": image, "label": label}], tmp_path)
    assert np.ptp(next(axes.images[0].get_array() for axes in figures[0].axes if axes.images)) == 1.0


def test_colour_images_and_overlapping_structures(tmp_path: Path, figures: list[Figure]) -> None:
    label = torch.cat([_patch(6), _patch(12)])
    item = {"case": "a", "image": torch.rand(3, 4, 6), "label": label, "pseudo_label": label.flip(0)}
    _draw([item], tmp_path, num_classes=None)
    pictures = [axes.images[0].get_array().shape for axes in figures[0].axes if axes.images]
    assert pictures == [(6, 4, 3)] * 2  # rows are the second axis


@pytest.mark.parametrize(("given", "used"), [(0, 0), (24, 24), (0, 5), (24, 5)])
def test_labels_without_an_edge_are_shown_without_complaint(
    given: int, used: int, tmp_path: Path, figures: list[Figure]
) -> None:
    _draw([_item("a", given, used) | {"image": torch.ones(1, 4, 6)}], tmp_path)
    assert len(figures) == 1


@pytest.mark.parametrize("epochs", [0, 1])
def test_few_epochs_are_drawn_without_complaint(epochs: int, tmp_path: Path, figures: list[Figure]) -> None:
    _draw([_item("a", 3, 4)], tmp_path, history=_history(epochs))
    legend = figures[0].axes[0].get_legend()
    shown = [] if legend is None else [text.get_text() for text in legend.get_texts()]
    assert shown == (["test mean dice", "val mean dice", "liver", "label round"] if epochs else [])


@pytest.mark.parametrize("truth_known", [True, False])
def test_weights_are_drawn_in_order_and_choose_the_cases(
    truth_known: bool, tmp_path: Path, figures: list[Figure]
) -> None:
    """Labels of an even number are right; the weight falls with the number. Shown: ranks 1, 3, 5 and 7 of 7."""
    items = [_item(f"{n}", 4 if n % 2 == 0 else 1) for n in range(7)]
    weights = {f"{n}": 0.5 * (7 - n) for n in range(7)}
    _draw(items, tmp_path, truth_known, weights=weights)
    panel = next(axes for axes in figures[0].axes if axes.get_ylabel() == "weight")
    points = {str(dots.get_label()): dots.get_offsets().tolist() for dots in panel.collections}
    every = [[rank, 0.5 * rank] for rank in range(1, 8)]
    if truth_known:
        assert points == {"wrong": every[1::2], "right": every[::2]}
    assert sorted(point for some in points.values() for point in some) == every
    given = [title.split(": ")[-1] for title in _titles(figures[0]) if "given" in title]
    assert sorted(given) == [f"given, weight {weight}" for weight in ("0.50", "1.50", "2.50", "3.50")]
    assert {title.split(":")[0] for title in _titles(figures[0]) if ":" in title} == {"0", "2", "4", "6"}
