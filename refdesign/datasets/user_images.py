"""Users' own images: pictures that Pillow reads, and arrays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError, missing_extra

if TYPE_CHECKING:
    from PIL import Image

ARRAY_SUFFIXES = (".npy", ".npz")
PICTURE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
"""What is taken from a folder; a single file may have any name."""

_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
"""Pillow's modes with at most 8 bits per channel."""

Announce = Callable[[str], None]


def images(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    *,
    resize: bool = False,
    announce: Announce | None = None,
) -> tuple[NDArray[np.uint8], list[str]]:
    """A user's images in the shape that a network takes.

    Pixels are taken as they are. A picture file (PNG, JPEG, ...: needs the extra `plot`) is turned upright by its
    EXIF tag, and a grey one gives three equal channels where C = 3; one of another size, with colours where C = 1,
    or with transparency is refused, unless `resize` is set: it is then converted to grey (Pillow's ITU-R 601-2 luma)
    or RGB, cropped around its centre to the network's proportions and scaled to its size by Pillow's box filter
    (averages over areas). Arrays: `.npy`, or `.npz` with an array `images` (or with one array only), uint8 of shape
    (N, H, W, C), (H, W, C), and (N, H, W) or (H, W) where C is 1.

    Args:
        path: a file, or a folder whose files of known suffixes are read in the order of their names.
        shape: (H, W, C).
        resize: whether pictures may be converted to fit.
        announce: is called with a line for every picture whose pixels are not the file's own.

    Returns:
        uint8 images (N, H, W, C), and for each the name of its file, with `[index]` where it came from an array of
        several images.

    Raises:
        RefdesignError: a file that is missing, unreadable or of another dtype or shape; a picture that would have
            to be converted, without `resize`; a folder without images; Pillow is needed and not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/two.npy", np.zeros((2, 5, 7), np.uint8))
    ...     pixels, names = images(folder, (5, 7, 1))
    >>> pixels.shape, names
    ((2, 5, 7, 1), ['two.npy[0]', 'two.npy[1]'])
    """
    source = Path(path)
    if source.is_dir():
        try:
            entries = sorted(source.iterdir())
        except OSError as error:
            raise RefdesignError(f"{source}: cannot be read: {error.strerror or error}") from error
        files = [f for f in entries if f.is_file() and f.suffix.lower() in (*ARRAY_SUFFIXES, *PICTURE_SUFFIXES)]
        if not files:
            raise RefdesignError(
                f"{source}: found no images in the folder, expected files named "
                + " ".join((*ARRAY_SUFFIXES, *PICTURE_SUFFIXES))
            )
    else:
        files = [source]
    batches: list[NDArray[np.uint8]] = []
    names: list[str] = []
    for file in files:
        if not file.is_file():
            raise RefdesignError(f"{file}: found no such file, expected an image or a folder of images")
        if file.suffix.lower() in ARRAY_SUFFIXES:
            batch = _array(file, shape)
        else:
            batch, changes = _picture(file, shape, resize)
            if changes and announce is not None:
                announce(f"{file.name}: {', '.join(changes)}")
        batches.append(batch)
        names += [file.name] if len(batch) == 1 else [f"{file.name}[{index}]" for index in range(len(batch))]
    return np.concatenate(batches), names


def _array(file: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    _check_start(file)
    try:
        # Opened here: on some damaged archives np.load leaves open what it opened itself.
        with file.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = _load(file, np.load(stream, allow_pickle=False))
    except RefdesignError:
        raise
    except Exception as error:  # Damaged archives and headers raise almost anything.
        if "pickle" in str(error):  # NumPy's own words advise to allow it, which runs what the file says
            raise RefdesignError(f"{file}: found Python objects, expected an array of uint8") from error
        raise RefdesignError(f"{file}: cannot be read as an array: {_one_line(error)}") from error
    found = f"{array.dtype} of shape {array.shape}"
    if shape[2] == 1 and (array.shape == shape[:2] or array.shape[1:] == shape[:2]):
        array = array[..., np.newaxis]
    if array.ndim == 3:
        array = array[np.newaxis]
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1:] != shape or len(array) == 0:
        least = ", N of 1 or more" if array.ndim == 4 and len(array) == 0 else ""
        expected = f"uint8 of shape {('N', *shape)}".replace("'N'", "N")
        raise RefdesignError(f"{file}: found {found}, expected {expected}{least}")
    return np.ascontiguousarray(array)


def _check_start(file: Path) -> None:
    """Refuse a file that is no `.npy` or `.npz` at all; NumPy would take it for a pickle."""
    try:
        with file.open("rb") as stream:
            start = stream.read(6)
    except OSError as error:
        raise RefdesignError(f"{file}: cannot be read: {error.strerror or error}") from error
    if start != b"\x93NUMPY" and start[:2] != b"PK":
        found = repr(start)[1:] if start else "nothing"
        raise RefdesignError(f"{file}: found {found} at the start, expected a NumPy array: not an .npy or .npz file")


def _load(file: Path, loaded: NDArray[Any] | np.lib.npyio.NpzFile) -> NDArray[Any]:
    """The array of a `.npy` file, or the right one of an `.npz` archive."""
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        return loaded
    with loaded:
        keys = loaded.files
        if "images" not in keys and len(keys) != 1:
            raise RefdesignError(f"{file}: found arrays {keys}, expected one named 'images'")
        array: NDArray[Any] = loaded["images" if "images" in keys else keys[0]]
        return array


def _picture(file: Path, shape: tuple[int, int, int], resize: bool) -> tuple[NDArray[np.uint8], list[str]]:
    """One image (1, H, W, C), and in words what was done to the file's pixels."""
    if shape[2] not in (1, 3):
        raise RefdesignError(f"{file}: a picture gives 1 or 3 channels, expected {shape[2]}; use a .npy array")
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise missing_extra("plot", "PIL") from error
    size = (shape[1], shape[0])
    try:
        with warnings.catch_warnings():
            # Pillow's other warnings (odd tags, palettes) do not concern the pixels.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                _check_mode(file, opened)
                upright = ImageOps.exif_transpose(opened)
                changes = ["turned upright by its EXIF tag"] if upright.getexif() != opened.getexif() else []
                lossy = _lossy(upright, size, shape[2])
                if lossy and not resize:
                    raise RefdesignError(
                        f"{file}: found {lossy[0][0]}, expected {lossy[0][1]}; "
                        "to convert the picture ask for it (--resize, resize=True)"
                    )
                converted = upright.convert("L" if shape[2] == 1 else "RGB")
                if shape[2] == 3 and upright.mode in ("1", "L", "LA"):
                    changes.append("grey, repeated in 3 channels")
                if converted.size != size:
                    converted = ImageOps.fit(converted, size, method=Image.Resampling.BOX)
                pixels = np.asarray(converted, dtype=np.uint8)
    except RefdesignError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on damaged files.
        raise RefdesignError(f"{file}: cannot be read as an image: {_one_line(error)}") from error
    return pixels.reshape(1, *shape), changes + [change for _, _, change in lossy]


def _lossy(picture: Image.Image, size: tuple[int, int], channels: int) -> list[tuple[str, str, str]]:
    """What a network's shape would lose of a picture: found, expected, and what the conversion does."""
    lossy = []
    if picture.size != size:
        found, wanted = (f"{height}×{width}" for width, height in (picture.size, size))
        cropped = "cropped around its centre and " if picture.width * size[1] != picture.height * size[0] else ""
        lossy.append((f"{found} pixels", wanted, f"{found} {cropped}resized to {wanted}, box filter"))
    if picture.has_transparency_data and np.any(np.asarray(picture.convert("RGBA"))[..., 3] != 255):
        lossy.append(("transparent pixels", "opaque ones", "transparency dropped"))
    if picture.mode == "CMYK":
        lossy.append(("the colours CMYK", "RGB or grey", "CMYK converted to RGB"))
    if channels == 1 and picture.mode not in ("1", "L", "LA"):
        rgb = np.asarray(picture.convert("RGB"))
        if np.any(rgb[..., :2] != rgb[..., 1:]):
            lossy.append(("colours", "grey", "colours converted to grey"))
    return lossy


def _check_mode(file: Path, picture: Image.Image) -> None:
    if picture.mode not in _MODES:
        raise RefdesignError(f"{file}: found pixels of mode {picture.mode}, expected at most 8 bits per channel")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
