"""The memory that a run of BinaryNet on 1,024 CIFAR-sized images takes above the imports.

    python -m benchmarks.memory [--images 1024] [--json]

Read from the operating system: the process's largest resident set, before the network is made and after the run.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np

from benchmarks import _measure
from refdesign.design import published
from refdesign.models.binarynet import binarynet


def largest_resident_mb() -> float:
    """The largest resident set so far, in MB (10**6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1024, help="how many images")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    _measure.with_one_thread("benchmarks.memory")
    imports = largest_resident_mb()
    network = binarynet(kernel=published("threshold_2x2_v1"))
    images = np.random.default_rng(6).integers(0, 256, (arguments.images, 32, 32, 3), dtype=np.uint8)
    start = time.perf_counter()
    network.run(images)
    seconds = time.perf_counter() - start
    above = largest_resident_mb() - imports
    result = {
        "images": arguments.images,
        "imports_mb": imports,
        "above_imports_mb": above,
        "images_per_second": arguments.images / seconds,
    }
    text = (
        f"{arguments.images} images: {above:.0f} MB above the {imports:.0f} MB of the imports, "
        f"{arguments.images / seconds:.0f} images a second"
    )
    _measure.report(result, text, arguments.json)


if __name__ == "__main__":
    main()
