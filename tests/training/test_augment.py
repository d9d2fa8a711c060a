"""Augmentation: what moves in is 0, pixels stay pixels, and nothing happens where nothing is asked for."""

from __future__ import annotations

import pytest
import torch

from refdesign.errors import RefdesignError
from refdesign.training.augment import random_affine, random_shift


def test_a_shift_moves_every_image_as_a_whole() -> None:
    torch.manual_seed(1)
    images = torch.arange(1, 36, dtype=torch.uint8).reshape(1, 1, 5, 7).expand(400, 2, 5, 7)
    shifted = random_shift(images, 2)
    padded = torch.nn.functional.pad(images[:1], (2, 2, 2, 2))
    possible = {padded[0, 0, top : top + 5, left : left + 7].numpy().tobytes() for top in range(5) for left in range(5)}
    assert {image.numpy().tobytes() for image in shifted[:, 0]} == possible
    assert torch.equal(shifted[:, 0], shifted[:, 1])
    assert shifted.dtype == torch.uint8


def test_an_affine_change_keeps_pixels_integers_in_range() -> None:
    torch.manual_seed(2)
    images = torch.randint(0, 256, (50, 1, 5, 7), dtype=torch.uint8)
    changed = random_affine(images, rotation=20, stretch=0.2)
    assert changed.dtype == torch.uint8
    assert changed.shape == images.shape
    assert not torch.equal(changed, images)
    assert (changed.flatten(1).float().mean(1) <= images.flatten(1).float().amax(1)).all()


def test_a_turn_stays_within_its_angle() -> None:
    torch.manual_seed(3)
    # A bar through the centre of a large map: its end moves by at most the angle's sine.
    images = torch.zeros(100, 1, 41, 43)
    images[:, :, 20, :] = 240.0
    turned = random_affine(images, rotation=10, stretch=0)
    rows = turned[:, 0, :, 40].argmax(dim=1) - 20
    assert rows.abs().max() <= 5
    assert rows.abs().max() >= 2
    assert {int(sign) for sign in rows.sign()} == {-1, 0, 1}


def test_nothing_asked_for_changes_nothing() -> None:
    images = torch.randint(0, 256, (3, 1, 5, 7), dtype=torch.uint8)
    assert random_affine(images, rotation=0, stretch=0) is images
    assert random_shift(images, 0) is images


def test_negative_amounts_are_refused() -> None:
    with pytest.raises(RefdesignError, match="pixels: found -1"):
        random_shift(torch.zeros(1, 1, 5, 7), -1)
    with pytest.raises(RefdesignError, match="found rotation -5"):
        random_affine(torch.zeros(1, 1, 5, 7), rotation=-5, stretch=0.1)
