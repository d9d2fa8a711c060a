"""Mutated network files: a reader may refuse them or give a network, and nothing else.

`python -m refdesign.verify.fuzz --count 1000000` mutates bytes, and what an ONNX file is made of (nodes, attributes,
shapes, tensors), and reads every file in this process under a limit of memory and of time for each. It prints what it
tried and ends with status 1 at the first file that did anything else than to be refused in one line or to be read; that
file is kept.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refdesign.bits import pack_bool
from refdesign.conventions import PAPER
from refdesign.errors import RefdesignError
from refdesign.formats import native
from refdesign.network import BinaryConv2d, BinaryDense, MaxPool, NetworkData, PixelConv2d
from refdesign.parameters import BatchNorm, ThresholdKernel

FORMATS = ("native", "onnx")
"""The formats whose readers are tried."""

SECONDS = 20
"""A reader that takes longer for one small file hangs."""

MEMORY = 6 << 30
"""Bytes of address space that the process may take, where the system can limit it."""


@dataclass(frozen=True)
class Tally:
    """How many files were tried, how many of them refused, and how long the slowest took, in seconds."""

    tried: int
    refused: int
    slowest: float


class Finding(Exception):
    """A file on which a reader did something else than to refuse or to read."""

    def __init__(self, data: bytes, cause: BaseException) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.data = data


def sample() -> NetworkData:
    """A small network with every part that files must carry.

    >>> sample().output_names[-1]
    'logits'
    """
    rng = np.random.default_rng(1)
    bits = [pack_bool(rng.random(shape) < 0.5) for shape in ((4, 3, 2, 2), (6, 2, 2, 4), (3, 6))]
    norms = []
    for channels in (4, 6):
        gamma, beta, mean = rng.standard_normal((3, channels)).astype(np.float32)
        norms.append(BatchNorm(gamma, beta, mean, np.ones(channels, np.float32), 1e-5))
    kernel = ThresholdKernel(np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    first = PixelConv2d(
        name="first", weights=bits[0], padding=(1, 0), padding_mode="symmetric", batch_norm=norms[0], kernel=kernel
    )
    second = BinaryConv2d(name="second", weights=bits[1], pool=MaxPool(), batch_norm=norms[1], kernel=kernel)
    layers = (first, second, BinaryDense(name="last", weights=bits[2]))
    rules = PAPER.replace(arithmetic="onnxruntime")
    return NetworkData(name="fuzz", input_shape=(3, 4, 2), layers=layers, conventions=rules)


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, taken out, doubled or put in.

    >>> mutate_bytes(random.Random(1), b"abc") != b"abc"
    True
    """
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(changed) or 1)
        size = rng.choice((1, 2, 8, 100))
        kind = rng.randrange(5)
        if kind == 0 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at : at + 1] = bytes([rng.choice((0, 1, 127, 128, 255))])
        elif kind == 2:
            del changed[at : at + size]
        elif kind == 3:
            changed[at:at] = changed[at : at + size]
        else:
            changed[at:at] = rng.randbytes(size)
    return bytes(changed)


def mutate_model(rng: random.Random, data: bytes) -> bytes:
    """An ONNX model with a few of its parts changed; still a valid message.

    Args:
        rng: decides.
        data: a valid model.
    """
    import onnx

    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_CHANGES)(rng, model.graph, model)
    return bytes(model.SerializeToString())


_INTEGERS = (0, 1, -1, 2, 3, 7, 64, 65_536, 2**31 - 1, -(2**31), 2**62, -(2**63))
_OPERATORS = (
    "Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Sign", "Where",
    "Pad", "Reshape", "Concat", "Gather", "Slice", "Transpose", "Tile", "Expand", "Range",
    "Cast", "MaxPool", "BatchNormalization", "Flatten", "Identity", "Relu", "If", "ConstantOfShape", "Shape",
    "Clip", "Round", "Greater", "Less", "Not", "Squeeze", "Unsqueeze", "Split",
)  # fmt: skip


def _node(rng: random.Random, graph: Any, model: Any) -> None:
    node = rng.choice(graph.node)
    kind = rng.randrange(5)
    if kind == 0:
        node.op_type = rng.choice(_OPERATORS)
    elif kind == 1:
        graph.node.remove(node)
    elif kind == 2:
        graph.node.add().CopyFrom(node)
    elif kind == 3:
        node.domain = rng.choice(("", "org.refdesign", "x"))
    else:
        node.input.append(rng.choice(_names(graph)))


def _wire(rng: random.Random, graph: Any, model: Any) -> None:
    node = rng.choice(graph.node)
    side = rng.choice((node.input, node.output))
    if not side:
        return
    if rng.random() < 0.2:
        del side[rng.randrange(len(side))]
    else:
        side[rng.randrange(len(side))] = rng.choice(_names(graph))


def _attribute(rng: random.Random, graph: Any, model: Any) -> None:
    nodes = [node for node in graph.node if node.attribute]
    if not nodes:
        return
    entry = rng.choice(rng.choice(nodes).attribute)
    entry.i = rng.choice(_INTEGERS)
    if entry.ints and rng.random() < 0.7:
        entry.ints[rng.randrange(len(entry.ints))] = rng.choice(_INTEGERS)
    elif rng.random() < 0.3:
        entry.type = rng.randrange(15)
    else:
        entry.name = rng.choice(("axis", "pads", "strides", "group", "perm", "to", "origin", "mode"))


def _tensor(rng: random.Random, graph: Any, model: Any) -> None:
    if not graph.initializer:
        return
    proto = rng.choice(graph.initializer)
    kind = rng.randrange(5)
    if kind == 0 and proto.dims:
        proto.dims[rng.randrange(len(proto.dims))] = rng.choice(_INTEGERS)
    elif kind == 1:
        proto.data_type = rng.randrange(24)
    elif kind == 2:
        proto.raw_data = rng.randbytes(len(proto.raw_data))
    elif kind == 3:
        proto.raw_data = proto.raw_data[: rng.randrange(len(proto.raw_data) + 1)]
    else:
        proto.data_location = 1
        entry = proto.external_data.add()
        entry.key, entry.value = "location", rng.choice(("../x", "/etc/hostname", "", "\0", "x"))


def _frame(rng: random.Random, graph: Any, model: Any) -> None:
    if rng.random() < 0.3 and model.opset_import:
        model.opset_import[0].version = rng.choice((*_INTEGERS, 7, 11, 13, 26))
    elif graph.input:
        dims = graph.input[0].type.tensor_type.shape.dim
        if dims:
            rng.choice(dims).dim_value = rng.choice(_INTEGERS)


def _names(graph: Any) -> list[str]:
    names = [name for node in graph.node for name in node.output] + [proto.name for proto in graph.initializer]
    return [*names, "images", "", "x"]


_CHANGES: tuple[Callable[[random.Random, Any, Any], None], ...] = (_node, _wire, _attribute, _tensor, _frame)


def cases(kind: str, seed: int) -> Iterator[bytes]:
    """Mutated files of a format without end, the same for the same seed.

    >>> first, second = cases("native", 5), cases("native", 5)
    >>> next(first) == next(second)
    True
    """
    rng = random.Random(f"{kind} {seed}")
    if kind == "native":
        good = [native.to_bytes(sample())]
    else:
        from refdesign.formats import onnx_out

        forms = [("folded", False), ("float", False), ("float", True)]
        good = [onnx_out.to_model(sample(), form=form, inlined=inlined).SerializeToString() for form, inlined in forms]
    while True:
        data = rng.choice(good)
        yield mutate_model(rng, data) if kind == "onnx" and rng.random() < 0.7 else mutate_bytes(rng, data)


def try_files(kind: str, count: int, seed: int = 0) -> Tally:
    """Read so many mutated files of a format.

    Raises:
        Finding: a reader raised something else than a `RefdesignError` of one line, or took too long.

    >>> try_files("native", 20).tried
    20
    """
    from refdesign.formats import onnx_in

    readers: dict[str, Callable[[bytes], object]] = {"native": native.from_bytes, "onnx": onnx_in.from_bytes}
    refused, slowest = 0, 0.0
    for _, data in zip(range(count), cases(kind, seed), strict=False):
        begun = time.monotonic()
        try:
            readers[kind](data)
        except RefdesignError as error:
            refused += 1
            if not str(error) or "\n" in str(error):
                raise Finding(data, error) from error
        except Exception as error:
            raise Finding(data, error) from error
        slowest = max(slowest, time.monotonic() - begun)
        if slowest > SECONDS:
            raise Finding(data, TimeoutError(f"{slowest:.0f} s"))
    return Tally(count, refused, slowest)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m refdesign.verify.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="files in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-finding.bin"), help="where a finding is kept")
    options = parser.parse_args(arguments)
    _limit()
    for kind in options.formats:
        begun = time.monotonic()
        try:
            tally = try_files(kind, max(1, options.count // len(options.formats)), options.seed)
        except Finding as finding:
            options.keep.write_bytes(finding.data)
            print(f"{kind}: {finding}; the file is kept in {options.keep}", file=sys.stderr)
            return 1
        seconds = time.monotonic() - begun
        print(
            f"{kind}: {tally.tried} files, {tally.refused} refused, {tally.tried - tally.refused} read, "
            f"slowest {tally.slowest:.2f} s, {seconds:.0f} s in all",
            flush=True,
        )
    return 0


def _limit() -> None:
    """Limit memory, where the system can."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    sys.exit(main())
