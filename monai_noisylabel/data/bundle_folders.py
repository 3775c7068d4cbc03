"""Where bundles are: those that come with the library by name, others by path."""

from __future__ import annotations

import hashlib
import os
from importlib import resources
from pathlib import Path

__all__ = ["bundle_digest", "bundle_folder", "shipped_bundles"]


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
