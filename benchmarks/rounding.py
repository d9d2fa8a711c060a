"""How often a framework rounds otherwise: its roots beside correctly rounded ones, its compiled program beside its own.

    python -m benchmarks.rounding [--values 100000] [--json]

Roots are taken of random float32 numbers spread evenly over the exponents from 2**-12 to 2**12. Batch norms are of
random channels, on all accumulators from -18 to 18; the fused multiplication and addition is asked for random triples.
Frameworks that are not installed are left out; PyTorch's and JAX's compilers are asked on the CPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _measure
from refdesign.ops.batch_norm import fused_multiply_add

Floats = NDArray[np.float32]
CHANNELS, FAN_IN = 2003, 18


def has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def share(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Of the elements that differ."""
    return float(np.mean(found != expected))


def roots(values: Floats) -> dict[str, float]:
    """Shares of square roots, and of reciprocal ones, that are not the correctly rounded float32."""
    root = np.sqrt(values.astype(np.float64))
    square, reciprocal = root.astype(np.float32), (1 / root).astype(np.float32)
    shares = {}
    if has("torch"):
        import torch

        shares["torch.sqrt"] = share(torch.sqrt(torch.from_numpy(values)).numpy(), square)
        shares["torch.rsqrt"] = share(torch.rsqrt(torch.from_numpy(values)).numpy(), reciprocal)
    if has("jax"):
        import jax

        shares["jax.lax.rsqrt"] = share(np.asarray(jax.lax.rsqrt(values)), reciprocal)
    if has("tensorflow"):
        import tensorflow as tf

        shares["tf.math.rsqrt"] = share(tf.math.rsqrt(values).numpy(), reciprocal)
    return shares


def parameters(rng: np.random.Generator) -> dict[str, Floats]:
    """Of a batch norm of random channels."""
    drawn = {
        "gamma": rng.normal(size=CHANNELS),
        "beta": rng.normal(size=CHANNELS),
        "mean": 6 * rng.normal(size=CHANNELS),
        "variance": rng.uniform(1, 36, CHANNELS),
    }
    return {name: values.astype(np.float32) for name, values in drawn.items()}


def compiled(rng: np.random.Generator) -> dict[str, float]:
    """Shares of all y of a batch norm that change where a framework compiles it."""
    bn = parameters(rng)
    sums = np.arange(-FAN_IN, FAN_IN + 1, dtype=np.float32)[:, None] * np.ones(CHANNELS, np.float32)
    shares = {}
    if has("torch") and shutil.which("g++"):
        import torch

        module = torch.nn.BatchNorm1d(CHANNELS, eps=1e-5).eval()
        names = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "variance"}
        module.load_state_dict({name: torch.from_numpy(bn[ours]) for name, ours in names.items()}, strict=False)
        with torch.inference_mode():
            x = torch.from_numpy(sums)
            shares["torch.compile"] = share(torch.compile(module)(x).numpy(), module(x).numpy())
    if has("tensorflow"):
        os.environ["KERAS_BACKEND"] = "tensorflow"
        import keras
        import tensorflow as tf

        layer = keras.layers.BatchNormalization(epsilon=1e-5)
        layer.build((None, CHANNELS))
        layer.set_weights([bn["gamma"], bn["beta"], bn["mean"], bn["variance"]])
        graph = tf.function(layer, jit_compile=True)
        shares["Keras on TensorFlow, jit_compile"] = share(graph(sums).numpy(), layer(sums).numpy())
    return shares


def fused(rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """JAX's v*k + c under `jit`: shares that differ from the fused operation, and from the separate ones."""
    if not has("jax"):
        return {}
    import jax

    def behind_a_barrier(v: Any, k: Any, c: Any) -> Any:
        return jax.lax.optimization_barrier(v * k) + c  # type: ignore[no-untyped-call]

    def of_reduced_precision(v: Any, k: Any, c: Any) -> Any:
        return jax.lax.reduce_precision(v * k, 8, 23) + c

    programs: dict[str, Callable[..., Any]] = {
        "jit": jax.jit(lambda v, k, c: v * k + c),
        "jit, optimization_barrier": jax.jit(behind_a_barrier),
        "jit, reduce_precision": jax.jit(of_reduced_precision),
        "one operation at a time": lambda v, k, c: jax.numpy.asarray(v) * k + c,
    }
    v, k, c = rng.normal(size=(3, 1_000_000)).astype(np.float32)
    once, twice = fused_multiply_add(v, k, c), v * k + c
    found = {name: np.asarray(program(v, k, c)) for name, program in programs.items()}
    return {name: {"fused": share(y, once), "separate": share(y, twice)} for name, y in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounding", description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=int, default=100_000, help="numbers to take roots of")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    rng = np.random.default_rng(5)
    warnings.simplefilter("ignore")  # the compilers' own imports warn
    values = np.exp2(rng.uniform(-12, 12, arguments.values)).astype(np.float32)
    result: dict[str, dict[str, Any]] = {"roots": roots(values), "compiled": compiled(rng), "fused": fused(rng)}
    rows: list[tuple[str, str]] = [
        (f"{name}, not correctly rounded", f"{s:.1%}") for name, s in result["roots"].items()
    ]
    rows += [(f"{name}, beside the same uncompiled", f"{s:.1%}") for name, s in result["compiled"].items()]
    for name, shares in result["fused"].items():
        rows += [(f"JAX's v*k + c, {name}, beside the {of}", f"{s:.1%}") for of, s in shares.items()]
    _measure.report(result, _measure.table(("what", "share that differs"), rows), arguments.json)


if __name__ == "__main__":
    main()
