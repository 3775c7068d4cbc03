"""Where bundles are: those that come with the library by name, others by path."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

__all__ = ["bundle_digest", "bundle_folder", "check_options", "shipped_bundles"]


def shipped_bundles() -> dict[str, Path]:
    """Names and folders of the bundles that come with the library.

    Example:
        >>> "baseline" in shipped_bundles()
        True
    """
    try:
        found = [Path(str(entry)) for entry in resources.files("monai_noisylabel.bundles").iterdir()]
    except ModuleNotFoundError:  # running from a checkout
        found = list((Path(__file__).parents[2] / "bundles").iterdir())
    return {path.name: path for path in sorted(found) if (path / "configs" / "train.json").is_file()}


def bundle_folder(name_or_path: str | os.PathLike[str]) -> Path:
    """Folder of a bundle.

    Args:
        name_or_path: a name out of :func:`shipped_bundles`, or the path of a bundle's folder.

    Raises:
        FileNotFoundError: if there is no such bundle.
    """
    shipped = shipped_bundles()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if not (path / "configs" / "train.json").is_file():
        raise FileNotFoundError(
            f"No bundle {str(name_or_path)!r}: neither a folder with configs/train.json nor one of "
            f"{', '.join(shipped)}."
        )
    return path.resolve()


def bundle_digest(folder: Path) -> str:
    """Checksum of what a bundle trains by, and so of whether two runs are runs of the same method."""
    return hashlib.sha256((folder / "configs" / "train.json").read_bytes()).hexdigest()[:16]


def check_options(folder: Path, options: Iterable[str]) -> None:
    """Refuse options that a bundle's training does not have, and that it would pass over in silence.

    Args:
        folder: of the bundle.
        options: their names, with ``#`` or ``::`` between the levels; only the first level is looked at.

    Raises:
        ValueError: if there is one; the message names it and those that come near.
    """
    known = json.loads((folder / "configs" / "train.json").read_text(encoding="utf-8"))
    for option in options:
        name = re.split("#|::", option)[0]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "see its configs/train.json."
            raise ValueError(f"The bundle {folder.name} has no option {option!r}; {hint}")
