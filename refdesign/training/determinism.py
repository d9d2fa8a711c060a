"""Training that gives the same weights again: seeds, deterministic kernels, one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from refdesign.errors import missing_extra

try:
    import torch
except ImportError as error:
    raise missing_extra("train", "torch") from error


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Within it, PyTorch on the CPU computes the same bits each time: this seed, one thread, deterministic kernels.

    A different number of threads sums gradients in another order; so does another CPU or release of PyTorch. The
    caller's random state and settings come back afterwards.

    Args:
        seed: of PyTorch's global generator.

    >>> with deterministic(7):
    ...     first = torch.rand(3)
    >>> with deterministic(7):
    ...     second = torch.rand(3)
    >>> torch.equal(first, second)
    True
    """
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(1)
            torch.use_deterministic_algorithms(True)
            torch.manual_seed(seed)
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warn_only)
            torch.set_num_threads(threads)
