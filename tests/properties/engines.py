"""What every engine's property needs: the comparison with the reference, and counterexamples that can be replayed.

A counterexample is a network file with its images beside it; run it again with

    python -m tests.properties.engines ENGINE FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdesign.api import load
from refdesign.formats import native
from refdesign.frameworks import ENGINES, Engine, compile
from refdesign.network import NetworkData
from refdesign.run import run

NETWORK, IMAGES = "network.safetensors", "images.npy"


def assert_equals_reference(
    engine: Engine, network: NetworkData, images: NDArray[np.uint8], outputs: str | Sequence[str]
) -> None:
    """Every output asked for is the reference's, in name, order, dtype, shape, value and sign of zero."""
    expected = run(network, images, outputs=outputs)
    found = engine(images, outputs=outputs)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)
        np.testing.assert_array_equal(np.signbit(found[name]), np.signbit(array), err_msg=f"{name}, sign of zero")


def keep(folder: Path, network: NetworkData, images: NDArray[np.uint8]) -> None:
    """Write a counterexample; Hypothesis runs the smallest one last, so that it is the one that stays."""
    folder.mkdir(parents=True, exist_ok=True)
    native.write(network, folder / NETWORK)
    np.save(folder / IMAGES, images)


def replay(engine: str, folder: Path) -> None:
    """Run a counterexample again.

    Raises:
        AssertionError: it still is one.
    """
    network, images = load(folder / NETWORK), np.load(folder / IMAGES)
    made = compile(network, engine)
    assert_equals_reference(made, network, images, "all")
    for name in network.output_names:
        assert_equals_reference(made, network, images, name)


def main() -> None:
    """Run a counterexample again, from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.properties.engines", description=replay.__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    replay(arguments.engine, arguments.folder)
    print("no difference")


if __name__ == "__main__":
    main()
