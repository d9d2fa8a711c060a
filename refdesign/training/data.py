"""The images of a run: those trained on, those held out, and, apart from both, the test images."""

from __future__ import annotations

from pathlib import Path

from refdesign import datasets
from refdesign.errors import RefdesignError
from refdesign.training.configuration import Configuration
from refdesign.training.loop import Labelled

CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100, "stl10": 10}
"""The number of classes of each dataset."""

INPUT_SHAPES = {"digits": (8, 8, 1), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3), "stl10": (96, 96, 3)}
"""(H, W, C) of each dataset's images."""


def training_data(configuration: Configuration, root: Path | None) -> tuple[Labelled, Labelled]:
    """The images that are trained on, and those held out for every choice; no test image is among them.

    Args:
        configuration: names the dataset, and how many of its last training images are held out.
        root: the folder of the dataset's official files; None for the digits, which are built in.

    Raises:
        RefdesignError: files that are missing or damaged, or more held out than there are.

    >>> [len(part.labels) for part in training_data(Configuration(), None)]
    [1150, 287]
    """
    name, held_out = configuration.dataset, configuration.validation
    images, labels = datasets.load(name, "train", root)
    if name == "digits":
        validation = Labelled(*datasets.load(name, "validation"))
        if held_out not in (0, len(validation.labels)):
            raise RefdesignError(f"validation: found {held_out}, expected 0: the digits hold out images of their own")
    else:
        count = held_out or len(labels) // 10
        if count >= len(labels):
            raise RefdesignError(f"validation: found {count}, expected fewer than the {len(labels)} training images")
        validation = Labelled(images[-count:], labels[-count:])
        images, labels = images[:-count], labels[:-count]
    if configuration.limit > len(labels):
        raise RefdesignError(f"limit: found {configuration.limit}, expected at most {len(labels)} training images")
    if configuration.limit:
        images, labels = images[: configuration.limit], labels[: configuration.limit]
    return Labelled(images, labels), validation


def load_test(dataset: str, root: Path | None) -> Labelled:
    """The test images, to be looked at when nothing is left to choose.

    Raises:
        RefdesignError: files that are missing or damaged.

    >>> len(load_test("digits", None).labels)
    360
    """
    return Labelled(*datasets.load(dataset, "test", root))
