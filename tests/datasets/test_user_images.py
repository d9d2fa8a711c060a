"""Users' images: arrays as they are, pictures turned, converted and scaled as described, clear refusals."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.datasets import images
from refdesign.errors import MissingExtra, RefdesignError

SHAPE = (5, 7, 3)


@pytest.fixture
def pil() -> Any:
    return pytest.importorskip("PIL.Image", reason="pictures need Pillow (extra 'plot')")


def pattern(*shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, dtype=np.uint8)


def refused(message: str, path: Path, shape: tuple[int, int, int] = SHAPE) -> None:
    with pytest.raises(RefdesignError) as caught:
        images(path, shape)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (pattern(2, 5, 7, 3), (5, 7, 3)),
        (pattern(5, 7, 3), (5, 7, 3)),
        (pattern(2, 5, 7), (5, 7, 1)),
        (pattern(5, 7), (5, 7, 1)),
        (pattern(2, 5, 7, 1), (5, 7, 1)),
        (np.asfortranarray(pattern(2, 5, 7, 3)), (5, 7, 3)),
    ],
)
def test_arrays_are_taken_as_they_are(array: Any, shape: tuple[int, int, int], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", array)
    np.savez_compressed(tmp_path / "c.npz", images=array, labels=np.arange(3))
    for name in ("a.npy", "b.npz", "c.npz"):
        pixels, names = images(tmp_path / name, shape)
        assert np.array_equal(pixels, array.reshape(-1, *shape))
        assert names == ([name] if len(pixels) == 1 else [f"{name}[0]", f"{name}[1]"])


def test_pictures_of_the_right_size_keep_their_pixels(pil: Any, tmp_path: Path) -> None:
    array = pattern(5, 7, 3)
    pil.fromarray(array).save(tmp_path / "b.png")
    pil.fromarray(array[::-1].copy()).save(tmp_path / "a.BMP")
    np.save(tmp_path / "c.npy", array)
    (tmp_path / "notes.txt").write_text("not an image")
    pixels, names = images(tmp_path, SHAPE)
    assert names == ["a.BMP", "b.png", "c.npy"]
    assert np.array_equal(pixels, np.stack([array[::-1], array, array]))


def test_grey_and_colour_are_converted(pil: Any, tmp_path: Path) -> None:
    grey = pattern(5, 7)
    pil.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(images(tmp_path / "grey.png", (5, 7, 1))[0][0, :, :, 0], grey)
    assert np.array_equal(images(tmp_path / "grey.png", SHAPE)[0][0], np.repeat(grey[:, :, None], 3, axis=2))
    grey_in_colours = np.repeat(grey[:, :, None], 3, axis=2)
    pil.fromarray(grey_in_colours).save(tmp_path / "equal.png")
    assert np.array_equal(images(tmp_path / "equal.png", (5, 7, 1))[0][0, :, :, 0], grey)
    pil.fromarray(pattern(5, 7, 3)).save(tmp_path / "colour.png")
    refused("found colours, expected grey", tmp_path / "colour.png", (5, 7, 1))
    assert announced(tmp_path / "colour.png", (5, 7, 1)) == ["colour.png: colours converted to grey"]
    assert announced(tmp_path / "grey.png", (5, 7, 1)) == []
    assert announced(tmp_path / "grey.png", SHAPE) == ["grey.png: grey, repeated in 3 channels"]
    for alpha, lines in ((255, []), (254, ["alpha.png: transparency dropped"])):
        with_alpha = np.concatenate([grey_in_colours, np.full((5, 7, 1), alpha, np.uint8)], axis=2)
        pil.fromarray(with_alpha).save(tmp_path / "alpha.png")
        assert announced(tmp_path / "alpha.png", SHAPE) == lines
    refused("found transparent pixels, expected opaque ones", tmp_path / "alpha.png")
    pil.fromarray(pattern(5, 7, 4), mode=None).convert("CMYK").save(tmp_path / "ink.tif")
    refused("found the colours CMYK, expected RGB or grey", tmp_path / "ink.tif")


def announced(path: Path, shape: tuple[int, int, int]) -> list[str]:
    lines: list[str] = []
    pixels, _ = images(path, shape, resize=True, announce=lines.append)
    assert pixels.shape == (1, *shape)
    return lines


def test_pictures_of_another_size_are_refused_unless_asked_for(pil: Any, tmp_path: Path) -> None:
    pil.fromarray(pattern(10, 14, 3)).save(tmp_path / "large.png")
    refused("found 10×14 pixels, expected 5×7; to convert the picture ask for it (--resize", tmp_path / "large.png")
    assert announced(tmp_path / "large.png", SHAPE) == ["large.png: 10×14 resized to 5×7, box filter"]
    pil.fromarray(pattern(10, 15, 3)).save(tmp_path / "wide.png")
    assert announced(tmp_path / "wide.png", (5, 7, 1)) == [
        "wide.png: 10×15 cropped around its centre and resized to 5×7, box filter, colours converted to grey"
    ]


def test_large_pictures_are_cropped_around_the_centre_and_averaged(pil: Any, tmp_path: Path) -> None:
    small = pattern(5, 7)
    large = np.repeat(np.repeat(small, 4, axis=0), 4, axis=1)
    margin = np.full((20, 6), 99, np.uint8)
    pil.fromarray(np.concatenate([margin, large, margin], axis=1)).save(tmp_path / "wide.png")
    assert np.array_equal(images(tmp_path / "wide.png", (5, 7, 1), resize=True)[0][0, :, :, 0], small)


def test_the_exif_orientation_is_followed(pil: Any, tmp_path: Path) -> None:
    array = pattern(7, 5, 3)
    picture = pil.fromarray(array)
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to view
    picture.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(images(tmp_path / "turned.png", SHAPE)[0][0], np.rot90(array, -1))
    assert announced(tmp_path / "turned.png", SHAPE) == ["turned.png: turned upright by its EXIF tag"]


def test_what_is_missing_or_empty(tmp_path: Path) -> None:
    refused("found no such file", tmp_path / "none.png")
    refused("found no images in the folder, expected files named .npy .npz .bmp", tmp_path)


def test_wrong_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for array, found in (
        (np.zeros((2, 5, 7, 3)), "found float64 of shape (2, 5, 7, 3), expected uint8 of shape (N, 5, 7, 3)"),
        (pattern(2, 7, 5, 3), "found uint8 of shape (2, 7, 5, 3)"),
        (pattern(2, 5, 7), "found uint8 of shape (2, 5, 7)"),
        (
            np.zeros((0, 5, 7, 3), np.uint8),
            "found uint8 of shape (0, 5, 7, 3), expected uint8 of shape (N, 5, 7, 3), N of 1 or more",
        ),
        (np.array(3, np.uint8), "found uint8 of shape ()"),
    ):
        np.save(path, array)
        refused(found, path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused("found Python objects, expected an array of uint8", path)
    for data, found in (
        (b"\x80\x04K\x01.", "'\\x80\\x04K\\x01.'"),
        (b"1 2 3\n4 5 6\n", "'1 2 3\\n'"),
        (b"", "nothing"),
    ):
        path.write_bytes(data)
        refused(f"found {found} at the start, expected a NumPy array: not an .npy or .npz file", path)
    np.savez(tmp_path / "b.npz", x=pattern(5, 7, 3), y=pattern(5, 7, 3))
    refused("found arrays ['x', 'y'], expected one named 'images'", tmp_path / "b.npz")


def test_unreadable_pictures(pil: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"not a picture")
    refused("cannot be read as an image", path)
    path.write_bytes(b"")
    refused("cannot be read as an image", path)
    pil.fromarray(pattern(50, 70, 3)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    refused("cannot be read as an image", path)
    pil.fromarray(np.zeros((5, 7), np.uint16)).save(path)
    refused("found pixels of mode I;16, expected at most 8 bits", path)
    refused("a picture gives 1 or 3 channels, expected 2", path, (5, 7, 2))


def test_a_suspiciously_large_picture(pil: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pil.fromarray(pattern(50, 70)).save(tmp_path / "a.png")
    monkeypatch.setattr(pil, "MAX_IMAGE_PIXELS", 2_000)
    refused("cannot be read as an image", tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["a.png", "a.jpg", "a.gif", "a.tif", "a.npy", "a.npz"])
def test_damaged_files_are_refused_or_read(kind: str, pil: Any, tmp_path: Path) -> None:
    """Random damage: an image of the right shape, or one clear line; nothing else."""
    path = tmp_path / kind
    array = pattern(5, 7, 3)
    if kind == "a.npy":
        np.save(path, array)
    elif kind == "a.npz":
        np.savez_compressed(path, images=array)
    else:
        pil.fromarray(array).save(path)
    good = path.read_bytes()
    rng = random.Random(kind)
    refusals = 0
    for _ in range(300):
        data = bytearray(good)
        for _ in range(rng.choice((1, 3, 10))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data))))])
        message = ""
        try:
            pixels, names = images(path, SHAPE)
        except RefdesignError as error:
            message = str(error)
        if message:
            refusals += 1
            assert message.startswith(f"{path}: ")
            assert "\n" not in message
        else:
            assert pixels.dtype == np.uint8
            assert pixels.shape == (1, *SHAPE)
            assert names == [kind]
    assert refusals > 30


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match=r'pip install "refdesign\[plot\]"'):
        images(tmp_path / "a.png", SHAPE)
    np.save(tmp_path / "a.npy", pattern(5, 7, 3))
    assert len(images(tmp_path / "a.npy", SHAPE)[0]) == 1
