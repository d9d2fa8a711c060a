from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refdesign.design import (
    AUTHORS_WEIGHTS,
    binarise_images,
    binary_maps,
    image_joint_distribution,
    joint_distribution,
    random_weights,
    read_image_folder,
)
from refdesign.design.images import all_weights
from refdesign.errors import RefdesignError


def photograph_like(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth noise, so that neighbours are alike and both halves of the range occur."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=shape)
    for axis in (1, 2):
        noise = noise + np.roll(noise, 1, axis=axis)
    return np.clip(128 + 60 * noise, 0, 255).astype(np.uint8)


@given(hnp.arrays(np.uint8, (2, 3, 5, 3)))
def test_binarisation_is_exact(images: np.ndarray) -> None:
    bits = binarise_images(images)
    for n, i, j in np.ndindex(2, 3, 5):
        red, green, blue = (int(v) for v in images[n, i, j])
        grey = Fraction(2989, 10_000) * red + Fraction(5870, 10_000) * green + Fraction(1140, 10_000) * blue
        assert bits[n, i, j] == (1 if grey / 255 > Fraction(1, 2) else -1)


def test_one_channel_is_its_own_grey() -> None:
    images = photograph_like(1, (2, 3, 5))
    assert (binarise_images(images) == np.where(images / 255 > 0.5, 1, -1)).all()
    assert (binarise_images(images[..., np.newaxis]) == binarise_images(images)).all()


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_maps_are_those_of_a_plain_loop(k: int, seed: int) -> None:
    bits = np.random.default_rng(seed).choice(np.array([-1, 1], dtype=np.int8), (2, 7, 5))
    weights = random_weights(k, 1, seed)[0]
    maps = binary_maps(bits, weights)
    assert maps.shape == (2, 8 - k, 6 - k)
    for n, y, x in np.ndindex(maps.shape):
        assert maps[n, y, x] == sum(
            int(weights[i, j]) * int(bits[n, y + i, x + j]) for i, j in itertools.product(range(k), repeat=2)
        )


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_images_give_the_mean_of_their_maps(k: int) -> None:
    images = photograph_like(k, (3, 11, 7, 3))
    weights = random_weights(k, 3, seed=k)
    joint = image_joint_distribution(images, k=k, weights=weights)
    maps = [joint_distribution(binary_maps(binarise_images(images), w), k=k).probability for w in weights]
    assert joint.observations == 3 * 3 * (11 - k) * (7 - k)
    assert np.allclose(joint.probability, np.mean(maps, axis=0), rtol=0, atol=1e-15)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_all_weights_are_the_default(k: int) -> None:
    images = photograph_like(k, (2, 7, 9))
    listed = image_joint_distribution(images, k=k, weights=all_weights(k))
    assert len(np.unique(all_weights(k), axis=0)) == 2 ** (k * k)
    assert (image_joint_distribution(images, k=k).probability == listed.probability).all()


def test_images_of_different_sizes() -> None:
    several = [photograph_like(seed, (1, 5 + seed, 9 - seed))[0] for seed in range(3)]
    joint = image_joint_distribution(several, weights=AUTHORS_WEIGHTS)
    parts = [image_joint_distribution(image[np.newaxis], weights=AUTHORS_WEIGHTS) for image in several]
    counts = sum(part.probability * (part.observations or 0) for part in parts)
    assert np.allclose(joint.probability * (joint.observations or 0), counts, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 7, 5), dtype=np.uint8), "constant images only"),
        (np.arange(9, dtype=np.uint8).reshape(1, 3, 3), "found 3 x 3 pixels, expected at least 4 x 4"),
        (np.zeros((0, 7, 5), dtype=np.uint8), "found none"),
        ([], "found none"),
        (photograph_like(0, (1, 7, 5)).astype(float), "expected uint8"),
        ([photograph_like(0, (1, 7, 5))[0], np.zeros((2, 7), dtype=np.uint8)], "found 2 x 7 pixels"),
        (photograph_like(0, (1, 7, 5, 2)), "found 2 channels"),
    ],
)
def test_unusable_images_are_refused(images: np.ndarray, message: str) -> None:
    with pytest.raises(RefdesignError, match=f"images: .*{message}"):
        image_joint_distribution(images)


def test_too_many_convolutions_are_refused() -> None:
    with pytest.raises(RefdesignError, match=r"all 2\*\*25 convolutions"):
        image_joint_distribution(photograph_like(0, (1, 9, 7)), k=5)
    with pytest.raises(RefdesignError, match="count of 0"):
        random_weights(5, 0, seed=0)


def test_folder_of_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    picture = photograph_like(7, (1, 5, 9, 3))[0]
    image.fromarray(picture).save(tmp_path / "b.png")
    image.fromarray(picture[:4]).convert("L").save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("not an image")
    images = read_image_folder(tmp_path)
    assert [entry.shape for entry in images] == [(4, 9, 3), (5, 9, 3)]
    assert (images[1] == picture).all()
    assert len(read_image_folder(tmp_path, limit=1)) == 1


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match="found no images"):
        read_image_folder(tmp_path)
    with pytest.raises(RefdesignError, match="found no folder"):
        read_image_folder(tmp_path / "absent")
    pytest.importorskip("PIL.Image")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with pytest.raises(RefdesignError, match=r"a\.png: found a file that cannot be read as an image"):
        read_image_folder(tmp_path)
