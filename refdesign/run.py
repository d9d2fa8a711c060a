"""Runs a network along a path, with every layer's output within reach.

`packed`: folded to integer thresholds, activations are `PackedBits` from layer to layer. `float`: unfolded, in
the arithmetic that the network's conventions name. `naive`: scalar loops, `refdesign.naive`. The three agree
bit for bit; what they share is the order of the layers, and the real stream of residual networks.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign import naive
from refdesign.batch import Batch
from refdesign.checks import is_whole
from refdesign.errors import RefdesignError
from refdesign.network import NetworkData, Stage
from refdesign.paths import Path, prepared_path

PATHS = ("packed", "float", "naive")
"""The ways in which a network can be run."""

Outputs = dict[str, NDArray[Any]]
Progress = Callable[[int, int], None]
_BATCH_BYTES = 16 << 20
"""A batch's largest map of accumulators takes about this much memory."""


def check_images(network: NetworkData, images: NDArray[np.uint8]) -> None:
    """Refuse anything but uint8 images (N, H, W, C) of the network's input shape."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        found = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise RefdesignError(f"images: found {found}, expected a uint8 array of NumPy's")
    if images.ndim != 4 or images.shape[1:] != tuple(network.input_shape):
        expected = ", ".join(str(extent) for extent in network.input_shape)
        raise RefdesignError(f"images: found shape {images.shape}, expected (N, {expected})")


def check_outputs(network: NetworkData, outputs: str | Sequence[str]) -> tuple[str, ...]:
    """The names of the outputs asked for, in order of execution; `"all"` is every one."""
    if outputs == "all":
        return network.output_names
    if not isinstance(outputs, (str, Collection)):
        raise RefdesignError(f"outputs: found a {type(outputs).__name__}, expected 'all', a name or names")
    asked = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    for name in asked:
        if name not in network.output_names:
            raise RefdesignError(
                f"outputs: found {name!r}, expected 'all' or some of {', '.join(network.output_names)}"
            )
    return tuple(name for name in network.output_names if name in asked)


def default_batch_size(network: NetworkData) -> int:
    """How many images keep a batch's largest accumulator map at about 16 MB."""
    largest = max(int(np.prod(shapes.accumulator)) for shapes in network.shapes.values())
    return int(np.clip(_BATCH_BYTES // (4 * largest), 1, 1024))


def iter_run(
    network: NetworkData,
    images: NDArray[np.uint8],
    *,
    path: str = "packed",
    outputs: str | Sequence[str] = ("logits",),
    batch_size: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Iterator[Outputs]:
    """Run a network batch by batch; what `run` returns at once, in pieces.

    Args:
        network: the network.
        images: uint8, shape (N, H, W, C).
        path: `"packed"`, `"float"` or `"naive"`.
        outputs: names as in `network.output_names`, or `"all"`.
        batch_size: images at a time; None chooses by memory (one at a time on the naive path).
        workers: processes that run batches side by side.
        progress: called with (images done, images in all) after every batch; on the naive path, which is slow,
            with (output pixels done, output pixels in all), unless several processes run it.

    Yields:
        A dict from output name to array, in order of execution, for each batch in order.

    Raises:
        RefdesignError: unknown path or output, wrong images, batch size or number of workers.
    """
    check_images(network, images)
    wanted = frozenset(check_outputs(network, outputs))
    if path not in PATHS:
        raise RefdesignError(f"path: found {path!r}, expected one of {', '.join(PATHS)}")
    size = (1 if path == "naive" else default_batch_size(network)) if batch_size is None else batch_size
    if not (is_whole(size, 1) and is_whole(workers, 1)):
        raise RefdesignError(f"batch_size, workers: found {size!r} and {workers!r}, expected integers of at least 1")
    return _iterate(network, images, path, wanted, size, workers, progress)


def _iterate(
    network: NetworkData,
    images: NDArray[np.uint8],
    path: str,
    wanted: frozenset[str],
    size: int,
    workers: int,
    progress: Progress | None,
) -> Iterator[Outputs]:
    batches = [images[start : start + size] for start in range(0, max(len(images), 1), size)]
    if path == "naive" and workers == 1 and progress is not None:
        for number, batch in enumerate(batches):
            yield run_batch(network, batch, path, wanted, _part_of(progress, number * size, len(batch), len(images)))
        return
    results = (
        (run_batch(network, batch, path, wanted) for batch in batches)
        if workers == 1
        else _in_processes(network, batches, path, wanted, workers)
    )
    done = 0
    for batch, result in zip(batches, results, strict=True):
        done += len(batch)
        yield result
        if progress is not None:
            progress(done, len(images))


def _part_of(progress: Progress, before: int, size: int, images: int) -> Progress:
    """A progress over one batch of `size` images as part of one over all, with `before` images done before it."""

    def advance(done: int, total: int) -> None:
        each = total // size
        progress(before * each + done, images * each)

    return advance


def run_batch(
    network: NetworkData,
    images: NDArray[np.uint8],
    path: str,
    wanted: frozenset[str],
    progress: Progress | None = None,
) -> Outputs:
    """One batch in this process; the arguments are those that `iter_run` has checked.

    `progress` is the naive path's own: called with (output pixels done, output pixels in all).
    """
    if path == "naive":
        names = tuple(name for name in network.output_names if name in wanted)
        return naive.run(network, images, names, progress)
    return Batch(network, prepared_path(network, path), wanted).run(images)


def class_logits(logits: NDArray[Any]) -> NDArray[Any]:
    """Logits as one row of classes for each image, (N, classes); a last convolution may leave a map of one pixel.

    Raises:
        RefdesignError: the network ends in a larger map, which names no class.

    >>> class_logits(np.zeros((2, 1, 1, 10), np.int32)).shape
    (2, 10)
    """
    if logits.ndim == 4 and logits.shape[1:3] == (1, 1):
        return logits[:, 0, 0]
    if logits.ndim != 2:
        raise RefdesignError(f"logits: found a map {logits.shape[1:]} for each image, expected a number for each class")
    return logits


def run_along(network: NetworkData, images: NDArray[np.uint8], path: Path, outputs: str | Sequence[str]) -> Outputs:
    """One batch along a path of your own, such as one with a known fault in it.

    Args:
        network: the network.
        images: uint8, shape (N, H, W, C).
        path: how its bits are held, summed and decided.
        outputs: as in `iter_run`.

    Returns:
        A dict from output name to array, in order of execution.

    >>> from refdesign.api import pretrained
    >>> from refdesign.paths import PackedPath
    >>> digits = pretrained("digits")
    >>> images = np.zeros((2, 8, 8, 1), np.uint8)
    >>> run_along(digits, images, PackedPath(digits), "logits")["logits"].shape
    (2, 10)
    """
    check_images(network, images)
    return Batch(network, path, frozenset(check_outputs(network, outputs))).run(images)


def run_layer(
    network: NetworkData,
    layer: Stage,
    x: NDArray[Any],
    *,
    real: Mapping[str, NDArray[np.float32]] | None = None,
    path: Path | None = None,
) -> Outputs:
    """One layer by itself on given inputs: the outputs that `run` gives for it, by name.

    Args:
        network: the network.
        layer: one of its layers that has an accumulator.
        x: uint8 images for the first layer, otherwise the bits before it, int8 in {-1, 0, +1}, (N, ...).
        real: the real outputs of earlier layers that its shortcut reads, by layer name.
        path: None is the packed one.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> inputs = np.ones((2, 256), np.int8)
    >>> run_layer(digits, digits.layers[-1], inputs)["logits"].shape
    (2, 10)
    """
    chosen = prepared_path(network, "packed") if path is None else path
    batch = Batch(network, chosen, frozenset(network.output_names))
    batch.real.update(real or {})
    last = layer is network.layers[-1]
    batch.stage(layer, x if layer.takes == "pixels" else chosen.hold(x), last)
    return batch.outputs


_worker_network: NetworkData | None = None


def _start_worker(network: NetworkData) -> None:
    # A terminal's Ctrl-C goes to every process of the group: a worker ends at once and without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    global _worker_network
    _worker_network = network


def _run_in_worker(images: NDArray[np.uint8], path: str, wanted: frozenset[str]) -> Outputs:
    assert _worker_network is not None
    return run_batch(_worker_network, images, path, wanted)


def _in_processes(
    network: NetworkData, batches: Sequence[NDArray[np.uint8]], path: str, wanted: frozenset[str], workers: int
) -> Iterator[Outputs]:
    """Results in order; at most two batches a worker are under way, so memory stays bounded."""
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(network,)) as pool:
        waiting: list[Future[Outputs]] = []
        try:
            for batch in batches:
                waiting.append(pool.submit(_run_in_worker, batch, path, wanted))
                if len(waiting) > 2 * workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            # Not Future.cancel: it races with the pool's own handling of a worker that is gone.
            pool.shutdown(wait=True, cancel_futures=True)


def run(
    network: NetworkData,
    images: NDArray[np.uint8],
    *,
    path: str = "packed",
    outputs: str | Sequence[str] = ("logits",),
    batch_size: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Outputs:
    """Run a network on images; the arguments are those of `iter_run`.

    Returns:
        A dict from output name to array over all images, in order of execution. NHWC; accumulators int32, bits
        int8 in {-1, +1} (0 where the convention has it), real outputs float32.
    """
    pieces = list(
        iter_run(
            network,
            images,
            path=path,
            outputs=outputs,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )
    )
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
