"""Picture of the noise models on a 2D and a 3D phantom case: ``python tests/benchmarks/noise_gallery.py [FILE]``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from scipy import ndimage

from monai_noisylabel.corruption import corrupt
from monai_noisylabel.data.phantom_anatomy import phantom_case

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "noise_models.png"
CLEAN, NOISY = "#00e5ff", "#ff9500"  # told apart without red and green
WINDOW = (-20, 200)  # HU
RECIPES: tuple[tuple[str, dict[str, object]], ...] = (
    ("missing", {"scope": "slice"}),
    ("boundary", {"beta": 10, "unit": "mm"}),
    ("relative_boundary", {"beta": 0.5}),
    ("affine", {"beta": 0.5}),
    ("ellipse", {}),
    ("markov_boundary", {"steps": 60}),
    ("spurious", {"size": 0.3}),
    ("confusion", {"depth": 10, "unit": "mm"}),
    ("class_flip", {"keep": 0.97}),
    ("predicted", {"labels": "by thresholds"}),
)

SEEDS = {"spurious": 271}  # one by which the new parts lie in what is shown; 0 for the others

Case = tuple[np.ndarray, np.ndarray, tuple[float, ...]]


def draw_gallery(path: Path) -> Path:
    """Draw every noise model on a slice and on a volume of voxels 2.5 x 2.5 x 8 mm, and save the picture."""
    flat, volume = _slice(), _volume()
    rows = [(f"2D, {_size(flat)}", flat), (f"3D, {_size(volume)},\ncoronal", volume)]
    figure = Figure(figsize=(1.9 * len(RECIPES), 4.6), dpi=120, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), len(RECIPES), squeeze=False)
    for line, (name, case) in zip(panels, rows, strict=True):
        line[0].set_ylabel(name, fontsize=8)
        for axes, (model, settings) in zip(line, RECIPES, strict=True):
            _draw(axes, case, model, settings)
    handles = [Line2D([], [], color=CLEAN, linewidth=3), Line2D([], [], color=NOISY, linewidth=2)]
    figure.legend(handles, ["clean label", "noisy label"], loc="outside lower center", ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(128).save(path, optimize=True)
    return path


def _volume() -> Case:
    spacing = (2.5, 2.5, 8.0)
    return *phantom_case(0, 3, (128, 128, 24), spacing), spacing


def _slice() -> Case:
    """The slice of the volume that shows most tumour."""
    image, label, spacing = _volume()
    plane = int(np.argmax((label == 2).sum((0, 1))))
    return image[..., plane], label[..., plane], spacing[:2]


def _size(case: Case) -> str:
    return " x ".join(f"{step:g}" for step in case[2]) + " mm"


def _draw(axes: Axes, case: Case, model: str, settings: dict[str, object]) -> None:
    image, clean, spacing = case
    recipe = {"model": model, "alpha": 1.0, **settings}
    label, _ = corrupt(
        clean[None],
        "liver_003",
        recipe,
        SEEDS.get(model, 0),
        num_classes=3,
        multi_label=False,
        spacing=spacing,
        prediction=lambda _: _by_thresholds(image, clean)[None],
    )
    noisy = label[0]
    if clean.ndim == 3:
        row = int(np.argmax((clean == 2).sum((0, 2))))
        image, clean, noisy = (array[:, row, ::-1] for array in (image, clean, noisy))  # head at the top
        spacing = spacing[::2]
    box = _box(clean, spacing)
    axes.imshow(image[box].T, "gray", vmin=WINDOW[0], vmax=WINDOW[1], aspect=spacing[1] / spacing[0])
    for mask, colour, width in ((clean, CLEAN, 2.8), (noisy, NOISY, 1.3)):
        for value in (1, 2):
            _contour(axes, mask[box] == value, colour, width)
    axes.set(xticks=[], yticks=[])
    details = ", ".join(f"{name} {value}" for name, value in settings.items())
    axes.set_title(f"{model}\n{details or 'no settings'}", fontsize=8)


def _by_thresholds(image: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """What the simplest of models would predict: the smoothed image cut at the middle between its structures."""
    smooth = ndimage.gaussian_filter(image, 1.5)
    liver, tumour = (float(image[clean == value].mean()) for value in (1, 2))
    width = abs(liver - tumour)
    found = {value: np.abs(smooth - level) < width / 2 for value, level in ((1, liver), (2, tumour))}
    parts, _ = ndimage.label(found[1])
    largest = parts == np.bincount(parts[parts > 0]).argmax()
    inside = ndimage.binary_fill_holes(ndimage.binary_closing(largest, iterations=2))
    return np.where(inside & found[2], 2, np.where(inside, 1, 0)).astype(np.uint8)


def _box(label: np.ndarray, spacing: tuple[float, ...]) -> tuple[slice, ...]:
    """What is labelled with 40 mm around it, as far as the image goes."""
    box = []
    for axis, step in enumerate(spacing):
        first, last = np.flatnonzero(label.any(1 - axis))[[0, -1]].tolist()
        box.append(slice(max(0, first - round(40 / step)), last + 1 + round(40 / step)))
    return tuple(box)


def _contour(axes: Axes, mask: np.ndarray, colour: str, width: float) -> None:
    if mask.any():
        across, down = (np.arange(-1, size + 1) for size in mask.shape)
        axes.contour(across, down, np.pad(mask.T, 1).astype(float), levels=[0.5], colors=colour, linewidths=width)


if __name__ == "__main__":
    print(draw_gallery(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE))
