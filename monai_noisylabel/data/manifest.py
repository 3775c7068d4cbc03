"""Manifests: one JSON file describes one dataset, so that every method can be trained on it."""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from monai_noisylabel.data.layout import Layout
from monai_noisylabel.data.splits import Splits

__all__ = ["Crop", "Dicom", "Manifest", "Preprocessing", "load_manifest", "shipped_manifests"]

LabelValue = Annotated[int | str, Field(union_mode="left_to_right")]


def _checked_orientation(codes: str | None) -> str | None:
    pairs = ({"R", "L"}, {"A", "P"}, {"S", "I"})
    if codes is not None and sorted(pairs.index(p) for c in codes for p in pairs if c in p) != [0, 1, 2]:
        raise ValueError(f"orientation {codes!r}: give three axis codes such as 'RAS', or null")
    return codes


def _checked_spacing(spacing: list[float] | None) -> list[float] | None:
    if spacing is not None and any(mm <= 0 and mm != -1 for mm in spacing):
        raise ValueError(f"spacing {spacing}: millimetres above 0, or -1 to keep the spacing of the file")
    return spacing


def _checked_window(window: list[float] | None) -> list[float] | None:
    if window is not None and window[0] >= window[1]:
        raise ValueError(f"window {window}: the lower end comes first")
    return window


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Size = Annotated[list[PositiveInt], Field(min_length=2, max_length=3)]


class Crop(_Model):
    """Cut a box out of every image before it gets its final size.

    Args:
        size: voxels per axis; a 2D run of a volume takes the first two.
        centre: middle of the box: of the labelled voxels, or of the image.
    """

    size: Size
    centre: Literal["label", "image"] = "image"


class Preprocessing(_Model):
    """What is done to every image before training, the same in every run.

    Args:
        orientation: axis codes that volumes are turned to; null keeps them. Pictures stay as they are.
        spacing: mm per axis that volumes are resampled to; -1 keeps an axis; null keeps all. In a 2D run of a
            volume the slices stay where they are: only the first two count.
        window: intensities (HU for CT) that are clipped to.
        normalise: ``window`` maps the window to [0, 1]; ``zscore`` gives the voxels of each case that are not
            0 mean 0 and standard deviation 1; ``percentile`` maps the 0.5 and 99.5 percentile of each case to
            [0, 1].
        crop: box that is cut out first.
        size: final voxels per axis; a 2D run of a volume takes the first two.
        fit: how the final size is reached: interpolating, or padding and cropping around the centre.
        slices: which slices of a volume a 2D run uses: those with a label, all, or, by case, the ones of these
            numbers along the last axis after orientation; a case that is not named then uses those with a label.
    """

    orientation: Annotated[str | None, AfterValidator(_checked_orientation)] = "RAS"
    spacing: Annotated[list[float] | None, Field(min_length=2, max_length=3), AfterValidator(_checked_spacing)] = None
    window: Annotated[list[float] | None, Field(min_length=2, max_length=2), AfterValidator(_checked_window)] = None
    normalise: Literal["window", "zscore", "percentile"]
    crop: Crop | None = None
    size: Size | None = None
    fit: Literal["resize", "pad"] = "resize"
    slices: Literal["labelled", "all"] | dict[str, list[NonNegativeInt]] = "all"

    @model_validator(mode="after")
    def _has_window(self) -> Preprocessing:
        if self.normalise == "window" and self.window is None:
            raise ValueError('normalise "window" needs a window [low, high]')
        return self


def _checked_series(expression: str | None) -> str | None:
    try:
        re.compile(expression or "")
    except re.error as error:
        raise ValueError(f"series {expression!r} is no regular expression ({error})") from None
    return expression


class Dicom(_Model):
    """What the DICOM files of a dataset need to be told apart.

    Args:
        series: which series of a folder is the image, where it holds several: a regular expression that the whole
            description (SeriesDescription) or the SeriesInstanceUID matches.
        segments: value of each segment of a DICOM SEG by its label, 0 for one that is left out; empty: a segment's
            number is its value.
    """

    series: Annotated[str | None, AfterValidator(_checked_series)] = None
    segments: dict[str, NonNegativeInt] = {}


class Manifest(_Model):
    """One dataset: what it shows, where its files lie, how it is split and prepared.

    Args:
        name: short name, used in file names.
        description: what the images show and how they were labelled.
        modality: CT, MRI, x-ray, ...
        licence: terms of use.
        citation: what to cite.
        source: where the dataset can be obtained.
        spatial_dims: 2 trains on pictures or on the slices of volumes, 3 on whole volumes.
        channels: channels of an image.
        task: ``multi_class``: structures exclude each other; ``multi_label``: they may overlap.
        classes: foreground structures and their value in the label file: a number, a colour ``"#rrggbb"`` of
            a colour picture, a list of these, or null for "everything that is not 0" (one class per file
            only).
        background: further values of the label file that count as background.
        layout: file layout.
        dicom: how series and segments are told apart, in a dataset of DICOM files.
        patient: regular expression that matches the whole case id and has one group, the patient id; null:
            every case is a patient of its own.
        splits: training, validation and test cases.
        preprocessing: what is done to every image.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    description: str
    modality: str
    licence: str
    citation: str
    source: str
    spatial_dims: Literal[2, 3]
    channels: PositiveInt = 1
    task: Literal["multi_class", "multi_label"]
    classes: Annotated[dict[str, LabelValue | list[LabelValue] | None], Field(min_length=1)]
    background: list[LabelValue] = [0]
    layout: Layout
    dicom: Dicom = Dicom()
    patient: str | None = None
    splits: Splits
    preprocessing: Preprocessing

    @model_validator(mode="after")
    def _classes_fit_layout(self) -> Manifest:
        for name in self.classes:
            self.values(name)
        if self.task == "multi_class":
            if not isinstance(self.layout.label, str):
                raise ValueError("task multi_class has one label file per case; with one per class it is multi_label")
            used = [value for name in self.classes for value in self.values(name) or ()]
            if len(used) != len(set(used)):
                raise ValueError("classes: in task multi_class every class has values of its own")
        if isinstance(self.layout.label, dict) and set(self.layout.label) != set(self.classes):
            raise ValueError(f"layout.label names {sorted(self.layout.label)}, classes names {sorted(self.classes)}")
        if isinstance(self.layout.label, str) and None in self.classes.values() and len(self.classes) > 1:
            raise ValueError("classes: null (everything that is not 0) needs a label file per class")
        if len(self.layout.images) not in (1, self.channels):
            raise ValueError(f"layout.image lists {len(self.layout.images)} files for {self.channels} channels")
        return self

    @model_validator(mode="after")
    def _patient_has_a_group(self) -> Manifest:
        try:
            groups = 1 if self.patient is None else re.compile(self.patient).groups
        except re.error as error:
            raise ValueError(f"patient: {self.patient!r} is no regular expression ({error})") from None
        if groups != 1:
            raise ValueError(f"patient: {self.patient!r} needs exactly one group in parentheses, it has {groups}")
        return self

    @property
    def coloured(self) -> bool:
        """Whether classes are colours: a label pixel then counts as red * 65536 + green * 256 + blue."""
        values = [*self.classes.values(), *self.background]
        return any(isinstance(v, str) for value in values for v in (value if isinstance(value, list) else [value]))

    def values(self, name: str) -> tuple[int, ...] | None:
        """Values of a class in the label file as numbers; None for everything that is not 0.

        Raises:
            ValueError: if a value is neither a whole number above 0 nor a colour.
        """
        value = self.classes[name]
        if value is None:
            return None
        numbers = tuple(_number(v) for v in (value if isinstance(value, list) else [value]))
        if not numbers or min(numbers) < 1:
            raise ValueError(f"classes.{name}: values of a structure are above 0, got {value!r}")
        return numbers

    @property
    def background_values(self) -> frozenset[int]:
        """Values that count as background, 0 among them, as numbers."""
        return frozenset({0, *(_number(value) for value in self.background)})

    def patient_of(self, case: str) -> str | None:
        """Patient id of a case; None when the case id does not match the expression."""
        if self.patient is None:
            return case
        found = re.fullmatch(self.patient, case)
        return found[1] if found else None


def _number(value: int | str) -> int:
    """A label value as a number: a colour ``#rrggbb`` is red * 65536 + green * 256 + blue."""
    if isinstance(value, str):
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise ValueError(f"label value {value!r}: give a whole number or a colour such as '#00ff00'")
        return int(value[1:], 16)
    return value


def load_manifest(path_or_name: str | os.PathLike[str]) -> Manifest:
    """Read a manifest from a file, or one that is shipped, by its name.

    Args:
        path_or_name: path of a JSON file, or a name out of :func:`shipped_manifests`.

    Raises:
        FileNotFoundError: if there is neither such a file nor such a name.
        ValueError: if the file is no manifest; the message names file and field.

    Example:
        >>> load_manifest("phantom_hcc").classes
        {'liver': 1, 'tumour': 2}
    """
    path = Path(path_or_name)
    if not path.is_file():
        shipped = shipped_manifests()
        if str(path_or_name) not in shipped:
            raise FileNotFoundError(
                f"No manifest {str(path_or_name)!r}: it is neither a file nor one of the shipped manifests "
                f"{', '.join(shipped)}."
            )
        path = shipped[str(path_or_name)]
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors()]
        raise ValueError(f"Manifest {path} is not valid:\n" + "\n".join(lines)) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"Manifest {path} is no JSON file: {error}") from None


def shipped_manifests() -> dict[str, Path]:
    """Names and files of the manifests that come with the library."""
    try:
        found = [Path(str(entry)) for entry in resources.files("monai_noisylabel.data_manifests").iterdir()]
    except ModuleNotFoundError:  # running from a checkout
        found = list((Path(__file__).parents[2] / "data_manifests").iterdir())
    return {path.stem: path for path in sorted(found) if path.suffix == ".json"}
