"""Where the files of a dataset lie: path templates, and the case ids read from paths."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

__all__ = ["Layout", "files_of", "template_fields"]

_PLACEHOLDER = re.compile(r"\{(\w+)\}|(\*)")


def _checked_template(template: str) -> str:
    path = PurePosixPath(template)
    if not template or path.is_absolute() or ".." in path.parts or "\\" in template:
        raise ValueError(f"template {template!r} must be a path inside the dataset folder, written with '/'")
    if "{" in _PLACEHOLDER.sub("", template) or "}" in _PLACEHOLDER.sub("", template):
        raise ValueError(f"template {template!r}: a field is a name in braces such as {{case}}")
    return template


def _checked_case(template: str) -> str:
    if not template_fields(template):
        raise ValueError(f"case {template!r} needs at least one field such as {{case}}")
    if "*" in template or "/" in template:
        raise ValueError(f"case {template!r} may hold neither '*' nor '/': case ids become file names")
    return template


Template = Annotated[str, AfterValidator(_checked_template)]


class Layout(BaseModel):
    """File layout of a dataset, as path templates below its folder.

    A template names the variable parts of a path in braces; ``*`` stands for any text that does not matter,
    such as the rest of a file extension; neither crosses a ``/``. A template that ends in ``/`` names a
    folder with the files of one DICOM series. An image and its label belong together when the fields that the
    label's template has are equal.

    Args:
        image: template of the image; a list when each channel is a file of its own.
        label: template of the label, or one template per class.
        case: how the case id is written from the fields of the image template.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Template | list[Template]
    label: Template | dict[str, Template]
    case: Annotated[str, AfterValidator(_checked_case)] = "{case}"

    @model_validator(mode="after")
    def _fields_fit(self) -> Layout:
        if not self.images or not self.labels:
            raise ValueError("layout needs at least one image and one label template")
        known = template_fields(self.images[0])
        for template in (*self.images[1:], *self.labels, self.case):
            unknown = template_fields(template) - known
            if unknown:
                raise ValueError(f"{template!r} uses {sorted(unknown)}, which image {self.images[0]!r} does not have")
        return self

    @property
    def images(self) -> tuple[str, ...]:
        """Image templates, one per file of a case."""
        return (self.image,) if isinstance(self.image, str) else tuple(self.image)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label templates, one per file of a case."""
        return (self.label,) if isinstance(self.label, str) else tuple(self.label.values())

    def case_id(self, fields: Mapping[str, str]) -> str:
        """Case id of an image whose path has these fields."""
        return self.case.format_map(fields)

    def case_of(self, path: str | os.PathLike[str]) -> str:
        """Case id of an image path in any folder: the end of the path is read by the image template.

        A path that no image template fits gives its file name without extension.

        Example:
            >>> layout = Layout(image="images/{case}.nii*", label="labels/{case}.nii*")
            >>> layout.case_of("/data/images/a_01.nii.gz")
            'a_01'
        """
        posix = Path(path).as_posix()
        for template in self.images:
            parts = posix.split("/")[-len(PurePosixPath(template).parts) :]
            found = _pattern(template.rstrip("/")).fullmatch("/".join(parts))
            if found and template_fields(self.case) <= found.groupdict().keys():
                return self.case_id(found.groupdict())
        return _stem(posix)


def template_fields(template: str) -> frozenset[str]:
    """Names of the fields of a template."""
    return frozenset(match[1] for match in _PLACEHOLDER.finditer(template) if match[1])


def files_of(root: Path, template: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Paths below root that fit a template, in sorted order, with the values of its fields.

    Hidden files and folders (whose name starts with a dot) are passed over.

    Args:
        root: folder of the dataset.
        template: path template; with ``/`` at its end it fits folders, else files.
    """
    wants_folder = template.endswith("/")
    pattern = _pattern(template.rstrip("/"))
    wildcard = _PLACEHOLDER.sub("*", glob.escape(template.rstrip("/").replace("*", "\0")).replace("\0", "*"))
    for relative in sorted(glob.glob(wildcard, root_dir=root)):
        posix = Path(relative).as_posix()
        found = pattern.fullmatch(posix)
        if found and (root / relative).is_dir() == wants_folder:
            yield posix, found.groupdict()


@lru_cache(maxsize=256)
def _pattern(template: str) -> re.Pattern[str]:
    """Regular expression of a template; a field that is named twice must have the same text twice."""
    seen: set[str] = set()
    expression, end = "", 0
    for match in _PLACEHOLDER.finditer(template):
        expression += re.escape(template[end : match.start()])
        name, end = match[1], match.end()
        if name is None:
            expression += "[^/]*"
        elif name in seen:
            expression += f"(?P={name})"
        else:
            expression += f"(?P<{name}>[^/]+?)"
            seen.add(name)
    return re.compile(expression + re.escape(template[end:]))


def _stem(path: str) -> str:
    name = PurePosixPath(path).name
    return re.sub(r"(\.nii)?\.\w+$", "", name) or name
