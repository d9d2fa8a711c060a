"""The blocks of the pages that hold measured figures: each is written from a data file of `docs.generator.measured`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from docs.generator.generated import table
from docs.generator.measured import result
from refdesign.api import pretrained
from refdesign.cli.faults import percent
from simulator.estimates import Estimate
from simulator.rtl.synthesis import HEAD, Cost, text_row

# ---- README and engines.md: times beside others'

_ENGINES = {"numba": "Numba", "jax": "JAX"}


def speed() -> str:
    """Ratios of times, ours over theirs."""
    conv, network, engines = result("conv"), result("network"), result("engines")
    one, many = (batch["rows"][-1] for batch in conv["batches"])
    packed = [f"{batch['ratio']['median']:.2f}" for batch in network["results"]]
    searched = result("design")["scores"][-1]["ratio"]
    rates = result("rtl")["cycles_per_second"]["median"]
    compiled = {
        name: "; ".join(f"{batch['rows'][-1][f'{name} ratio']['median']:.2f}" for batch in engines["batches"])
        for name in _ENGINES
    }
    five = "the five binary convolutions of BinaryNet after the first"
    torch, command = "PyTorch's bare `conv2d`", "`python -m benchmarks.{}`".format
    rows = [
        (f"{five}, batch 1, by XNOR and popcount", torch, command("conv"), _median(one, "popcount")),
        (
            "the same, batch 32, by popcount; by the two-field matrix product",
            torch,
            command("conv"),
            f"{_median(many, 'popcount')}; {_median(many, 'two-field')}",
        ),
        (
            "the same, batch 32, two processes beside two threads",
            torch,
            command("conv"),
            _median(conv["two processes"], "popcount"),
        ),
        ("the same on Numba, batch 1; 32", torch, command("engines"), compiled["numba"]),
        ("the same on JAX, batch 1; 32", torch, command("engines"), compiled["jax"]),
        (
            "the whole BinaryNet, batch 1; 32",
            "the same operations in eager PyTorch",
            command("network"),
            "; ".join(packed),
        ),
        (
            "all 10,077,696 threshold kernels of 3×3, per kernel",
            "the authors' loop",
            command("design"),
            f"1/{round(searched, -3):,.0f}",
        ),
        (
            "a cycle of the simulator, every accumulator kept",
            "Verilator without a trace; writing VCD",
            command("rtl"),
            "; ".join(f"1/{rates['simulator'] / rates[name]:.2g}" for name in ("Verilator", "Verilator, VCD")),
        ),
    ]
    return table(("what", "beside", "command", "ratio of times"), rows)


def _median(row: dict[str, Any], name: str) -> str:
    return f"{row[f'{name} ratio']['median']:.2f}"


def engines() -> str:
    """Layers on engines, and what a first call costs."""
    rows = []
    for batch in result("engines")["batches"]:
        total, targets = batch["rows"][-1], batch["targets"]
        ratios = (f"{total[f'{name} ratio']['median']:.3f}" for name in targets)
        same = len(set(targets.values())) == 1
        bounds = (f"{bound:.2f}" if same else f"{bound:.2f} ({_ENGINES[name]})" for name, bound in targets.items())
        rows.append((f"batch {batch['batch']}", *ratios, ", ".join(dict.fromkeys(bounds))))
    first = result("engines")["batches"][0]["rows"][-1]
    costs = (f"{first[f'{name} first s']:.1f} s, {first[f'{name} memory MB']:.0f} MB" for name in _ENGINES)
    rows.append(("first call, all five layers", *costs, ""))
    return table(("one thread", *_ENGINES.values(), "bound"), rows)


def memory() -> str:
    """Of a run, above the imports."""
    return f"{result('memory')['above_imports_mb']:.0f} MB"


# ---- training.md, and the claim


def _block(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(block for block in result("experiment") if block["block"] == name)
    return found


def contrast_table() -> str:
    """The arms of the primary contrast."""
    rows = []
    for arm in _block("primary")["arms"]:
        scores = list(arm["scores"].values())
        mean = sum(scores) / len(scores)
        spread = (sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)) ** 0.5
        name = {"sign": "sign", "2d": "DeSign 2D, `2x2_v1`"}[arm["arm"]]
        rows.append((name, *(f"{value:.2f}" for value in (mean, spread, min(scores), max(scores)))))
    return table(("arm", "mean", "sd", "min", "max"), rows, right=4)


def contrast() -> str:
    """The difference in words."""
    found = _block("primary")["contrasts"][0]
    return (
        f"{found['mean']:.2f} points (95 % interval {found['low']:.2f} to {found['high']:.2f}, "
        f"exact two-sided sign-flip p = {found['p']:.3f})"
    )


def shipped() -> str:
    """What the shipped CIFAR-10 network classifies rightly."""
    found = result("shipped")
    chosen = float(pretrained("cifar10").metadata["validation_accuracy"])
    return (
        f"{100 * found['accuracy']:.2f} % of the {found['images']:,} test images "
        f"({100 * chosen:.2f} % of the 5,000 validation images)"
    )


def other_contrasts() -> str:
    """All contrasts but the primary one, as far as runs are done."""
    rows = []
    for block in result("experiment"):
        for each in block["contrasts"] if block["block"] != "primary" else ():
            planned = block["arms"][0]["planned"]
            state = f"{each['pairs']} of {planned} pairs" + (", interim" if each["pairs"] < planned else "")
            interval = f"{each['low']:+.2f} to {each['high']:+.2f}" if each["pairs"] > 1 else "-"
            adjusted = "-" if each["holm"] is None else f"{each['holm']:.3f}"
            what = (f"{block['block']} ({block['kind']})", _apart(each["variant"], each["baseline"]))
            rows.append((*what, f"{state}, {block['images']}", f"{each['mean']:+.2f}", interval, adjusted))
    if not rows:
        return "No pair of another contrast is done."
    return table(("block", "contrast", "state, images", "difference", "95 % interval", "Holm p"), rows, right=3)


_FIELDS = re.compile(r", (?=\w+=)")  # thresholds hold commas of their own


def _apart(variant: str, baseline: str) -> str:
    """Two arms beside each other, what they share once behind them.

    >>> _apart("2d, binariser=xnor", "sign, binariser=xnor")
    '2d − sign (binariser=xnor)'
    >>> _apart("[[0.5, 0.75]]", "sign")
    '[[0.5, 0.75]] − sign'
    """
    theirs, own = _FIELDS.split(baseline), _FIELDS.split(variant)
    shared = [part for part in own if part in theirs]
    left, right = (", ".join(part for part in parts if part not in shared) for parts in (own, theirs))
    return f"{left} − {right}" + (f" ({', '.join(shared)})" if shared else "")


_MODELS = {
    "binarynet": "BinaryNet, width 1/8, DeSign 2D",
    "vgg_small": "VGG-small (ReCU), width 1/16, DeSign 3D",
    "resnet20": "ResNet-20 (ReCU), width 1/4, DeSign 2D",
}


def exactness() -> str:
    """Golden networks beside their modules."""
    names = ("compared", "differing", "predictions")
    files = [(name, f"exact-{model}") for model, name in _MODELS.items()] + [("`cifar10`, which ships", "shipped")]
    rows = [(name, *(f"{result(file)[part]:,}" for part in names)) for name, file in files]
    headings = ("network", "values compared", "values that differ", "predictions that differ")
    return table(headings, rows, right=3)


_NAMES = {"sign": "sign", "2d": "2D", "3d": "3D"}


def kept() -> str:
    """What activations keep of two layers' maps."""
    names = ("total_variation", "entropy", "likeness")
    rows = [
        (row["layer"], _NAMES[row["activation"]], *(f"{row[name]:.3f}" for name in names))
        for row in result("activations-sign")["kept"]
        if row["layer"] in ("conv1", "conv2") and row["activation"] != "relu"
    ]
    headings = ("layer, in the network trained with sign", "activation")
    return table((*headings, "total variation", "entropy", "likeness to ReLU"), rows, right=3)


def influence() -> str:
    """Of gamma and beta on the convolutions' bits."""
    rows = []
    layers: list[str] = []
    for without in ("beta", "gamma"):
        for trained in ("sign", "2d"):
            found = [row for row in result(f"activations-{trained}")["influence"] if row["layer"].startswith("conv")]
            shares = {row["layer"]: f"{100 * row['bits']:.1f} %" for row in found if row["without"] == without}
            layers = list(shares)
            rows.append((f"{without}, trained with {_NAMES[trained]}", *shares.values()))
    return table(("bits that change without", *layers), rows, right=len(layers))


# ---- hardware.md


def synthesis() -> str:
    """What the unit costs."""
    return "\n".join([HEAD, *(text_row(Cost(**row)) for row in result("synthesis"))])


def luts(rule: str) -> str:
    """How many more LUTs than Sign a kernel takes, over all sizes."""
    costs = {(row["size"], row["rule"]): row["luts"] for row in result("synthesis")}
    more = [100 * (costs[size, rule] / costs[size, "Sign"] - 1) for size, other in costs if other == rule]
    return f"{min(more):.0f} to {max(more):.0f} %"


def accelerator() -> str:
    """Two networks' accelerators for one rate, layer by layer, plain Sign beside the dither."""
    plain, dithered = (result(f"accelerator-{kind}") for kind in ("sign", "3d"))
    rows = [
        (
            one["layer"],
            f"{one['pe']} × {one['simd']}" if "pe" in one else "",
            *(f"{both[name]:,}" for name in ("threshold_memory_bits", "luts", "ffs", "brams") for both in (one, other)),
        )
        for one, other in zip(
            [*plain["layers"], {**plain, "layer": "total"}], [*dithered["layers"], dithered], strict=True
        )
    ]
    twice = (f"{what}, {kind}" for what in ("threshold bits", "LUT", "FF", "block RAM") for kind in ("Sign", "3D"))
    return table(("layer", "PE × SIMD", *twice), rows, right=8)


def accelerator_luts() -> str:
    """How many more LUTs the dither takes of a whole accelerator."""
    plain, dithered = (result(f"accelerator-{kind}")["luts"] for kind in ("sign", "3d"))
    return f"{100 * (dithered / plain - 1):.0f} %"


def campaign() -> str:
    """What a flipped bit does."""
    names = ("accuracy_drop", "corrupted", "any_corruption")
    rows = [
        (row["network"], row["structure"], *(percent(Estimate(**row[name], clusters=0)) for name in names))
        for row in result("faults")
    ]
    return table(("network", "structure", "accuracy drop", "images with other logits", "faults that show"), rows)


def cycles() -> str:
    """How many cycles are simulated a second."""
    rates = result("rtl")["cycles_per_second"]["median"]
    named = {
        "simulator": "the simulator, every popcount and accumulator of every cycle",
        "Verilator": "Verilator, no trace",
        "Verilator, VCD": "Verilator, writing a VCD",
    }
    rows = [(text, f"{rates[name] / 1e6:.2g}") for name, text in named.items()]
    return table(("what", "Mcycles a second"), rows, right=1)


def over_packed() -> str:
    """An image through the simulator, over the packed path."""
    found = [figures["ratio"]["median"] for name, figures in result("simulator")["simulator"].items() if "PE" in name]
    return f"{min(found):.1f} to {max(found):.1f} times"


# ---- interchange.md


def fuzz() -> str:
    """Mutated files by format."""
    found = result("fuzz")
    columns = ("files", "refused", "read")
    rows = [(f"`{row['format']}`", *(f"{row[name]:,}" for name in columns)) for row in found]
    rows.append(("all", *(f"{sum(row[name] for row in found):,}" for name in columns)))
    return table(("format", *columns), rows, right=3)


def fuzz_peak() -> str:
    """The memory of the greatest process of readers."""
    return f"{max(row['peak_mib'] for row in result('fuzz'))} MiB"


# ---- arithmetic.md


def share(group: str, name: str, beside: str = "") -> str:
    """Of the values that are rounded otherwise."""
    found = result("rounding")[group][name]
    return f"{100 * (found[beside] if beside else found):.0f} %"


# ---- design.md


def kernels(name: str) -> str:
    """A table of the study; numbers with five decimals."""
    found = result("kernels")["tables"][name]
    return table(found["headings"], [[f"{c:.5f}" if isinstance(c, float) else c for c in row] for row in found["rows"]])


BLOCKS: dict[str, Callable[[], str]] = {
    "fuzz": fuzz,
    "fuzz-peak": fuzz_peak,
    "speed": speed,
    "engines": engines,
    "memory": memory,
    "contrast": contrast,
    "contrast-table": contrast_table,
    "shipped": shipped,
    "other-contrasts": other_contrasts,
    "exactness": exactness,
    "kept": kept,
    "influence": influence,
    "synthesis": synthesis,
    "luts-2x2": partial(luts, "DeSign 2D 2x2"),
    "luts-3x3": partial(luts, "DeSign 2D 3x3"),
    "accelerator": accelerator,
    "accelerator-luts": accelerator_luts,
    "campaign": campaign,
    "cycles": cycles,
    "over-packed": over_packed,
    "torch-sqrt": partial(share, "roots", "torch.sqrt"),
    "torch-rsqrt": partial(share, "roots", "torch.rsqrt"),
    "jax-rsqrt": partial(share, "roots", "jax.lax.rsqrt"),
    "tensorflow-rsqrt": partial(share, "roots", "tf.math.rsqrt"),
    "torch-compiled": partial(share, "compiled", "torch.compile"),
    "keras-xla": partial(share, "compiled", "Keras on TensorFlow, jit_compile"),
    "jax-separate": partial(share, "fused", "jit", "separate"),
    **{
        f"kernels-{name}": partial(kernels, name)
        for name in (
            "searches", "reproduction", "sizes", "options", "convolutions", "levels", "compared", "context", "scaling"
        )
    },
}  # fmt: skip
"""What writes each block."""
