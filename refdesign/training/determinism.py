"""Training that gives the same weights again: seeds, deterministic kernels, a fixed number of threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from refdesign.errors import RefdesignError, missing_extra

try:
    import torch
except ImportError as error:
    raise missing_extra("train", "torch") from error

PRECISIONS = ("float32", "tf32")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where and how the steps are computed. Another one rounds gradients otherwise: it leads to other weights.

    Sums of the forward pass are exact under every one of them, for ±1 and for integer pixels, as long as they are
    sums of products (on CUDA, cuDNN may choose Winograd's transforms, whose fractions round; no GPU was at hand to
    see). That is why there is no bfloat16: its products would be exact, but its *outputs* round sums beyond 256.

    Attributes:
        device: `"cpu"`, or `"cuda"`, with a number where there are several.
        threads: of the CPU's kernels.
        channels_last: whether maps and weights lie channels last in memory, which some convolutions do faster.
        compiled: whether training steps go through `torch.compile` (needs a C++ compiler on the CPU).
        precision: `"float32"`, or `"tf32"` for CUDA's tensor cores, whose eleven bits hold ±1 and pixels exactly
            and whose sums are float32; gradients are rounded to eleven bits.

    Raises:
        RefdesignError: a device that PyTorch does not know, or a value out of range, naming the field.

    >>> Execution(threads=0)
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: execution, threads: found 0, expected at least 1
    """

    device: str = "cpu"
    threads: int = 1
    channels_last: bool = False
    compiled: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise RefdesignError(f"execution, threads: found {self.threads}, expected at least 1")
        if self.precision not in PRECISIONS:
            found, expected = self.precision, ", ".join(PRECISIONS)
            raise RefdesignError(f"execution, precision: found {found!r}, expected one of {expected}")
        try:
            kind = torch.device(self.device).type
        except RuntimeError as error:
            raise RefdesignError(f"execution, device: found {self.device!r}, expected cpu or cuda") from error
        if self.device != "cpu" and kind != "cuda":
            raise RefdesignError(f"execution, device: found {self.device!r}, expected cpu or cuda")
        if self.precision == "tf32" and kind == "cpu":
            raise RefdesignError("execution, precision: found 'tf32' on the CPU, expected it with a CUDA device")

    def check_available(self) -> None:
        """Refuse a device that this machine has not; a grid for another machine can still be read here.

        >>> Execution().check_available()
        """
        device = torch.device(self.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise RefdesignError(f"execution, device: found {self.device!r}, but PyTorch sees no NVIDIA device here")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise RefdesignError(f"execution, device: found {self.device!r}, but PyTorch sees {count} NVIDIA device(s)")


@contextmanager
def deterministic(seed: int, execution: Execution | None = None) -> Iterator[None]:
    """Within it, PyTorch computes the same bits each time: this seed, these threads, deterministic kernels.

    A different number of threads sums gradients in another order; so does another CPU, device or release of PyTorch.
    The caller's random state and settings come back afterwards.

    Args:
        seed: of PyTorch's global generator, from which all that is random is drawn.
        execution: where and how; None is one thread of the CPU.

    >>> with deterministic(7):
    ...     first = torch.rand(3)
    >>> with deterministic(7):
    ...     second = torch.rand(3)
    >>> torch.equal(first, second)
    True
    """
    execution = execution or Execution()
    # What cuBLAS needs to repeat itself. PyTorch asks for it once, at its first matrix product on a device: where a
    # process has taken one before and this was not set, the first step says so.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    matmul, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(execution.threads)
            torch.use_deterministic_algorithms(True)
            torch.backends.cuda.matmul.allow_tf32 = execution.precision == "tf32"
            torch.backends.cudnn.allow_tf32 = execution.precision == "tf32"
            torch.manual_seed(seed)
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warn_only)
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolutions
            torch.set_num_threads(threads)
