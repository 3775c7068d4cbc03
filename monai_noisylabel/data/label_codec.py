"""How one label proposal is written as one file: a small header, then the compressed voxels.

A file holds, in this order: the eight bytes ``NLLABEL1``; the CRC-32 of everything after the first sixteen
bytes and the length of the header, both unsigned 32-bit little-endian; the header as JSON (at least ``case``
and ``shape``); and the uint8 voxels in C order, compressed with Blosc (Zstandard after a bit shuffle). Label
maps are constant almost everywhere, so a 256^3 label takes some hundred kilobytes and decodes in
milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import torch
from numcodecs.blosc import Blosc
from numpy.typing import ArrayLike

__all__ = [
    "CorruptLabelError",
    "StoredLabel",
    "as_label",
    "decode_header",
    "decode_label",
    "encode_label",
    "file_stem",
    "to_json",
]

MAGIC = b"NLLABEL1"
LABEL_SUFFIX = ".label"
WITHDRAWN_SUFFIX = ".withdrawn"
HOW_TO_MEND = "Restore it from a backup, or drop its round and the later ones with LabelStore.rewind."
_PREFIX = struct.Struct("<8sII")
_BLOSC = Blosc(cname="zstd", clevel=3, shuffle=Blosc.BITSHUFFLE)
_LONGEST_NAME = 200  # file systems allow 255 bytes


class CorruptLabelError(RuntimeError):
    """A file of the label store is missing, truncated or altered; the message says which, and what to do."""


class StoredLabel(NamedTuple):
    """A decoded file: its voxels and its header."""

    label: np.ndarray
    header: dict[str, Any]


def file_stem(case: str) -> str:
    """File name of a case, without extension: the id quoted, and shortened by a hash where it is too long.

    Args:
        case: any non-empty text; "/" and other special characters are allowed.

    Raises:
        TypeError: if the case id is not a string.
        ValueError: if it is empty.

    Example:
        >>> file_stem("patient001_frame01/003")
        'patient001_frame01%2F003'
    """
    if not isinstance(case, str):
        raise TypeError(f"A case id is a string, got {case!r} of type {type(case).__name__}.")
    if not case:
        raise ValueError("A case id must not be empty.")
    name = quote(case, safe="", errors="surrogatepass")
    if len(name) > _LONGEST_NAME:
        digest = hashlib.blake2b(case.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        name = f"{name[: _LONGEST_NAME - 40]}~{digest}"
    return name


def as_label(label: ArrayLike | torch.Tensor, what: str) -> np.ndarray:
    """A label as uint8 array.

    Args:
        label: array or tensor of whole numbers from 0 to 255, of any type.
        what: names the label in messages.

    Raises:
        ValueError: if it holds anything else, or has no spatial axes.

    Example:
        >>> as_label([[0.0, 2.0]], "The label").dtype
        dtype('uint8')
    """
    if isinstance(label, torch.Tensor):
        label = label.detach().cpu()
        label = label.float() if label.is_floating_point() else label  # NumPy has no bfloat16
    array = np.asarray(label)
    if array.ndim < 2:
        raise ValueError(f"{what} needs a channel axis and spatial axes, got shape {array.shape}.")
    if array.dtype == np.uint8:
        return array
    with np.errstate(invalid="ignore"):
        voxels = array.astype(np.uint8)
    if not np.array_equal(voxels, array):
        raise ValueError(
            f"{what} must hold whole numbers from 0 to 255, got {array.dtype} values "
            f"from {array.min()} to {array.max()}. Convert probabilities to class values first."
        )
    return voxels


def to_json(value: object, what: str) -> str:
    """JSON text of ``value``, with NumPy and PyTorch numbers and arrays written as plain ones.

    Raises:
        TypeError: if something in ``value`` cannot be written; ``what`` names it in the message.

    Example:
        >>> to_json({"loss": np.float32(0.5), "sizes": np.array([1, 2])}, "facts")
        '{"loss": 0.5, "sizes": [1, 2]}'
    """

    def plain(item: object) -> object:
        for convert in ("tolist", "as_dict", "__fspath__"):
            if hasattr(item, convert):
                return getattr(item, convert)()
        raise TypeError(f"{item!r} of type {type(item).__name__}")

    try:
        return json.dumps(value, default=plain)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} cannot be written as JSON: {error}. Give numbers, strings, booleans, lists or dictionaries."
        ) from error


def encode_label(label: np.ndarray, header: dict[str, Any]) -> bytes:
    r"""Bytes of the file that holds ``label``.

    Args:
        label: uint8 voxels.
        header: what to keep beside them; ``case`` names the case, ``shape`` is added here.

    Shape:
        label (1, \*S) for multi-class, (K, \*S) for multi-label.

    Raises:
        TypeError: if the label is not uint8 or the header cannot be written as JSON.

    Example:
        >>> data = encode_label(np.ones((1, 2, 2), np.uint8), {"case": "a"})
        >>> decode_label(data, "a.label").label.sum(), decode_header(data, "a.label")["shape"]
        (np.uint64(4), [1, 2, 2])
    """
    if label.dtype != np.uint8:
        raise TypeError(f"Labels are stored as uint8, got {label.dtype} for case {header.get('case')!r}.")
    text = to_json({**header, "shape": label.shape}, f"The facts of case {header.get('case')!r}").encode()
    voxels = _BLOSC.encode(np.ascontiguousarray(label).reshape(-1)) if label.size else b""
    body = text + voxels
    return _PREFIX.pack(MAGIC, zlib.crc32(body), len(text)) + body


def _split(data: bytes, source: object) -> tuple[dict[str, Any], memoryview]:
    """Header and compressed voxels of a file whose checksum holds."""
    whole = len(data) >= _PREFIX.size
    magic, checksum, length = _PREFIX.unpack_from(data) if whole else (b"", 0, 0)
    body = memoryview(data)[_PREFIX.size :]
    if magic != MAGIC or zlib.crc32(body) != checksum:
        raise CorruptLabelError(
            f"{source} is not a complete label file ({len(data)} bytes, wrong checksum). {HOW_TO_MEND}"
        )
    return json.loads(bytes(body[:length])), body[length:]


def decode_header(data: bytes, source: object) -> dict[str, Any]:
    """Header of a file read as bytes, its checksum verified.

    Raises:
        CorruptLabelError: as :func:`decode_label`.
    """
    return _split(data, source)[0]


def decode_label(data: bytes, source: object) -> StoredLabel:
    """Voxels and header of a file read as bytes.

    Args:
        data: the whole file.
        source: the file (and case) that error messages name.

    Raises:
        CorruptLabelError: if the file is truncated or its checksum does not hold.
    """
    header, voxels = _split(data, source)
    label = np.empty(header["shape"], np.uint8)
    if label.size:
        _BLOSC.decode(voxels, out=label.reshape(-1))
    return StoredLabel(label, header)
