"""What is fuzzed: for each file format good files to start from, how they are changed, and the reader."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from refdesign.formats import native
from refdesign.verify.fuzz.foreign import FOREIGN
from refdesign.verify.fuzz.mutations import mutate_bytes
from refdesign.verify.fuzz.native_mutations import mutate_native
from refdesign.verify.fuzz.networks import plain_sample, real_sample, residual_sample, sample
from refdesign.verify.fuzz.onnx_mutations import mutate_model


@dataclass(frozen=True)
class Target:
    """A format to fuzz.

    Attributes:
        seeds: makes good files.
        read: the reader of a file's content.
        parts: changes a file's parts and leaves it well formed, where the format has such; else bytes are changed.
        share: of the files of a campaign, beside the other formats'; more of what is read fast.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], object]
    share: float
    parts: Callable[[random.Random, bytes], bytes] | None = None


def _onnx_seeds() -> list[bytes]:
    from refdesign.formats import onnx_out

    import_module("refdesign.formats.onnx_in")  # before processes fork, so that all have one version of the reader
    forms: list[dict[str, Any]] = [{}, {"inlined": True}, {"form": "float"}, {"form": "float", "inlined": True}]
    models = [onnx_out.to_model(sample(), **form) for form in forms]
    models += [onnx_out.to_model(network, form="float") for network in (residual_sample(), real_sample())]
    models.append(onnx_out.to_model(real_sample(), form="float", inlined=True))
    return [model.SerializeToString() for model in models]


def _qonnx_seeds() -> list[bytes]:
    import_module("refdesign.formats.onnx_in")
    from refdesign.formats import qonnx_out
    from refdesign.verify.fuzz.onnx_models import brevitas_model, keras_model

    models = [qonnx_out.to_model(plain_sample()), brevitas_model(), keras_model()]
    return [model.SerializeToString() for model in models]


def _read_onnx(data: bytes) -> object:
    from refdesign.formats import onnx_in

    return onnx_in.from_bytes(data)


TARGETS: dict[str, Target] = {
    "native": Target(
        lambda: [native.to_bytes(network()) for network in (sample, residual_sample, real_sample)],
        native.from_bytes,
        10,
        mutate_native,
    ),
    "onnx": Target(_onnx_seeds, _read_onnx, 4, mutate_model),
    "qonnx": Target(_qonnx_seeds, _read_onnx, 3, mutate_model),
}
TARGETS |= {name: Target(*parts) for name, parts in FOREIGN.items()}
"""The formats whose readers are tried, by name."""


@cache
def good_files(kind: str) -> tuple[bytes, ...]:
    """The good files of a format."""
    return tuple(TARGETS[kind].seeds())


def case(kind: str, seed: int, number: int) -> bytes:
    """One mutated file of a format; always the same for the same seed and number.

    >>> case("native", 5, 0) == case("native", 5, 0), case("native", 5, 0) == case("native", 5, 1)
    (True, False)
    """
    rng = random.Random(f"{kind} {seed} {number}")
    data, parts = rng.choice(good_files(kind)), TARGETS[kind].parts
    return parts(rng, data) if parts is not None and rng.random() < 0.7 else mutate_bytes(rng, data)
