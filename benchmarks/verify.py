"""What a comparison costs beside running the reference, and that its memory does not grow with the images.

    python -m benchmarks.verify [--images 10000] [--json]

The implementation under test answers at once, from what was computed before, so that all that is measured beside the
reference is the comparison: every output of `digits`, 25 distinct batches of 400 images in turn.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refdesign
from benchmarks import _measure
from refdesign.verify.compare import compare
from refdesign.verify.doors.callable import CallableDoor

_BATCH = 400
_DISTINCT = 25


def _batches(images: NDArray[np.uint8], count: int) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, count, _BATCH):
        first = start % len(images)
        yield images[first : first + min(_BATCH, count - start)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="how many images, whole batches of 400")
    parser.add_argument("--repeats", type=int, default=3, help="how often each side is measured")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.images < _BATCH or arguments.images % _BATCH:
        parser.error(f"--images: found {arguments.images}, expected a multiple of {_BATCH}")
    _measure.with_one_thread("benchmarks.verify")
    network = refdesign.pretrained("digits")
    images = np.random.default_rng(8).integers(0, 256, (_BATCH * _DISTINCT, 8, 8, 1), dtype=np.uint8)
    answers: dict[bytes, Any] = {}
    for batch in _batches(images, arguments.images):
        answers[batch[:2].tobytes()] = network.run(batch, outputs="all", batch_size=_BATCH)

    def reference() -> None:
        for batch in _batches(images, arguments.images):
            network.run(batch, outputs="all", batch_size=_BATCH)

    def verification(count: int = arguments.images) -> None:
        door = CallableDoor(lambda given: answers[given[:2].tobytes()], network, repeat=False)
        verdict = compare(network, door, _batches(images, count))
        if verdict.status or verdict.images != count:
            raise SystemExit("the reference differs from itself")

    seconds = _measure.interleaved({"reference": reference, "verification": verification}, arguments.repeats)
    peaks = {}
    quarter = max(_BATCH, arguments.images // 4 // _BATCH * _BATCH)
    for count in (quarter, arguments.images):
        tracemalloc.start()
        verification(count)
        peaks[count] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    ours, theirs = _measure.summary(seconds["verification"]), _measure.summary(seconds["reference"])
    ratio = _measure.ratios(ours, theirs)
    result = {
        "images": arguments.images,
        "reference": theirs,
        "verification": ours,
        "ratio": ratio,
        "peak_mb": {str(count): peak for count, peak in peaks.items()},
    }
    text = (
        f"{arguments.images:,} images: verification takes {ratio['median']:.3f} of the reference's own time "
        f"(least {ratio['least']:.3f}); largest memory "
        + ", ".join(f"{peak:.1f} MB for {count:,} images" for count, peak in peaks.items())
    )
    _measure.report(result, text, arguments.json)


if __name__ == "__main__":
    main()
