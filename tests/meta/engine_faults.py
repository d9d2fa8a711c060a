"""Faults that are planted in the engines' code: what is replaced in which module, and a way to import them so."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, ModuleType

TORCH, NUMBA, JAX = (f"refdesign.frameworks.{name}" for name in ("torch", "numba", "jax"))


@dataclass(frozen=True)
class Fault:
    """One wrong line.

    Attributes:
        name: what is wrong.
        engine: the package that it is planted in.
        file: the module of that package.
        right, wrong: the text that is replaced, which stands there once, and what replaces it.
        refused: what the reference's own types say where the fault cannot get as far as an output.
    """

    name: str
    engine: str
    file: str
    right: str
    wrong: str
    refused: str = ""


def _torch(name: str, right: str, wrong: str, file: str = "folded") -> Fault:
    return Fault(name, TORCH, file, right, wrong)


def _numba(name: str, right: str, wrong: str, file: str = "layers", refused: str = "") -> Fault:
    return Fault(name, NUMBA, file, right, wrong, refused)


def _jax(name: str, right: str, wrong: str, file: str) -> Fault:
    return Fault(name, JAX, file, right, wrong)


def _other_conventions(change: str) -> tuple[str, str]:
    other = f"network.__class__(**{{**vars_of(network), 'conventions': network.conventions.replace({change})}})"
    return "    thresholds = thresholds_of(network)\n", (
        "    vars_of = lambda n: {f: getattr(n, f) for f in ('name', 'input_shape', 'layers')}\n"
        f"        thresholds = thresholds_of({other})\n"
    )


FOLDED_FAULTS = (
    _torch("threshold off by one", "direction * thresholds.threshold,", "direction * thresholds.threshold + 1,"),
    _torch("threshold off by a step of two",
           "direction * thresholds.threshold,", "direction * thresholds.threshold - 2,"),
    _torch("comparison without equality", "self.direction * a >= self.limit", "self.direction * a > self.limit"),
    _torch("direction lost for negative gamma", "thresholds.direction.astype(np.int32)",
           "np.abs(thresholds.direction).astype(np.int32)"),
    _torch("constant channels turned round", "thresholds.constant <= 0", "thresholds.constant > 0"),
    _torch("row phase off by one", "rows = phases(height, period_rows, origin)",
           "rows = ((phases(height, period_rows, origin) + 1) % period_rows)"),
    _torch("column phase from the right", "columns = phases(width, period_columns, origin)",
           "columns = phases(width, period_columns, origin)[::-1]"),
    _torch("centre crop ignored", "origin = thresholds.conventions.kernel_origin", 'origin = "top_left"'),
    _torch("ties lost", "self.ternary = bool(thresholds.ternary.any())", "self.ternary = False"),
    _torch("ties fire", "(a <= self.zero_high), 0)", "(a <= self.zero_high), 1)"),
    _torch("tie at its last accumulator lost", "(a <= self.zero_high)", "(a < self.zero_high)"),
    _torch("repeat for tile", *_other_conventions("channel_map='repeat'")),
    _torch("tile for repeat", *_other_conventions("channel_map='tile'")),
    _torch("thresholds not scaled by gamma", *_other_conventions("threshold_scale='unit'")),
    _torch("sign of zero", *_other_conventions("sign_at_zero=1, sign_rule='compare'")),
    _torch("padding with zeros always", "pad(values, self.padding, self.padding_mode)",
           'pad(values, self.padding, "zeros")'),
    _torch("padding of minus ones with ones", '"minus_ones": -1.0', '"minus_ones": 1.0', "padding"),
    _torch("mirror with the edge for reflect",
           "x.narrow(axis, 1, count).flip(axis)", "x.narrow(axis, 0, count).flip(axis)",
           "padding"),
    _torch("circular sides exchanged", "before, after = x.narrow(axis, extent - count, count)",
           "after, before = x.narrow(axis, extent - count, count)", "padding"),
    _torch("symmetric not mirrored", "x.narrow(axis, 0, count).flip(axis), x.narrow(axis, extent - count, count)",
           "x.narrow(axis, 0, count), x.narrow(axis, extent - count, count)", "padding"),
    _torch("window flipped",
           "np.ascontiguousarray(grouped.reshape(", "np.ascontiguousarray(grouped[..., ::-1].reshape("),
    _torch("taps before channels", ".transpose(0, 1, 4, 2, 3)", ".transpose(0, 1, 2, 3, 4)"),
    _torch("taps' rows and columns exchanged", ".transpose(0, 1, 4, 2, 3)", ".transpose(0, 1, 4, 3, 2)"),
    _torch("groups interleaved", "weights.reshape(self.groups, out // self.groups, rows, columns, depth)",
           "weights.reshape(out // self.groups, self.groups, rows, columns, depth).swapaxes(0, 1)"),
    _torch("offset of pixels lost", "values * self.affine[0] + self.affine[1]", "values * self.affine[0]"),
    _torch("sums kept in eight bits", "return sums.permute(0, 2, 3, 1).to(torch.int32)",
           "return sums.permute(0, 2, 3, 1).to(torch.int32).to(torch.int8).to(torch.int32)"),
    _torch("pixels in half precision", "heaviest <= EXACT_FLOAT32 else torch.float64",
           "heaviest <= EXACT_FLOAT32 else torch.float16"),
    _torch("dense inputs in the order of NCHW", "torch.matmul(x.flatten(1)",
           "torch.matmul((x.permute(0, 3, 1, 2) if x.ndim == 4 else x).flatten(1)"),
    _torch("minimum for maximum", "a = torch.maximum(a, view)", "a = torch.minimum(a, view)"),
    _torch("pool with its size for a stride", "max_pool(x, *pool)", "max_pool(x, pool[0], pool[0])"),
    _torch("pool before its last pixel", "for place in range(size[axis - 1])",
           "for place in range(max(1, size[axis - 1] - 1))"),
    _torch("last batch norm one accumulator off", "starts - low // step", "starts - low // step + 1"),
    _torch("last batch norm of the first channel", "starts = np.arange(len(values)) * values.shape[1]",
           "starts = np.zeros(len(values), np.int64)"),
    _torch("bases exchanged", "for basis in bases]", "for basis in bases[::-1]]"),
    _torch("ties of the real stream lost", "return _to(signs, self.device)",
           "return _to(np.where(signs == 0, 1, signs).astype(np.int8), self.device)", "engine"),
    _numba("threshold off by one", "thresholds.threshold + 1, never", "thresholds.threshold, never", "thresholds"),
    _numba("direction lost for negative gamma", "pack_bool(downwards | (", "pack_bool((downwards & False) | (",
           "thresholds"),
    _numba("constant channels turned round", "thresholds.constant <= 0", "thresholds.constant > 0", "thresholds"),
    _numba("tail bits set", "self.tail = tail_mask(channels)", "self.tail = tail_mask(64 * words_for(channels))",
           "thresholds", refused="bits are set after the last of"),
    _numba("ties lost", "self.ties = bool(thresholds.ternary.any())", "self.ties = False", "thresholds"),
    _numba("column phase of the rows", "phases(width, self.period[1], self.origin)",
           "(phases(width, self.period[1], self.origin) + 1) % self.period[1]", "thresholds"),
    _numba("parity of zero padding", "whole + outside_sums(self.windows, taps) if fill == 0 else whole", "whole"),
    _numba("ones for minus ones outside", "fill == 1)", "fill != 0)"),
    _numba("zeros outside the map count", "self._padded(x.nonzero, x.length, fill != 0)",
           "self._padded(x.nonzero, x.length, True)"),
    _numba("ones outside the map do not count", "self._padded(x.nonzero, x.length, fill != 0)",
           "self._padded(x.nonzero, x.length, False)"),
    _numba("pixels outside the map", "base + (fill - layer.offset)", "base + (fill)"),
    _numba("dense base", "np.full((1, 1, self.outputs), self.inputs, np.int32)",
           "np.full((1, 1, self.outputs), self.inputs // 64 * 64 + 64, np.int32)"),
    _jax("threshold off by one", "thresholds.threshold + 1, never", "thresholds.threshold, never", "engine"),
    _jax("direction lost for negative gamma", "flip = downwards | (", "flip = (downwards & False) | (", "engine"),
    _jax("row and column phases exchanged", "np.ix_(phases(height, m, origin), phases(width, n, origin))",
         "np.ix_(phases(height, n, origin) % m, phases(width, m, origin) % n)", "engine"),
    _jax("ties lost", "bool(found.ternary.any())", "False", "engine"),
    _jax("parity of zero padding", 'if mode == "zeros":', 'if mode == "none":', "engine"),
    _jax("zeros outside the map count", "FILLS.get(mode, 0) != 0 else", 'mode != "none" else', "functions"),
    _jax("tie at its last accumulator lost", "(values > high)", "(values >= high)", "packed"),
    _jax("words of the last step lost", "lax.fori_loop(0, steps, add, start)",
         "lax.fori_loop(0, max(1, steps - 1), add, start)", "packed"),
)  # fmt: skip
"""Faults in the folded engines."""

MODULE_FAULTS = (
    _torch("row phase off by one",
           "row = self._phases(height, rows)", "row = (self._phases(height, rows) + 1) % rows", "design"),
    _torch("repeat for tile",
           'self.conventions.channel_map == "tile"', 'self.conventions.channel_map != "tile"', "design"),
    _torch("thresholds not scaled by gamma", "threshold = gamma[:, None, None] * threshold", "pass", "design"),
    _torch("threshold added", "return y - (threshold if", "return y + (threshold if", "design"),
    _torch("sign of zero", "fires = z >= 0 if sign_at_zero == 1 else z > 0", "fires = z > 0", "straight_through"),
    _torch("boundary of keras_round",
           "z > KERAS_ROUND_BOUNDARY", "z > 2.0**-20", "straight_through"),
    _torch("root outside the sum", "(module.running_var + module.eps).double().sqrt()",
           "(module.running_var.double().sqrt() + module.eps)", "real"),
    _torch("released batch norm as a scale and shift",
           "return module.weight.view(shape) * standard + module.bias.view(shape)",
           "k = module.weight.view(shape) / root.view(shape)\n    return x * k + (module.bias.view(shape) - "
           "module.running_mean.view(shape) * k)", "real"),
    _torch("scale before the pool's sign", "y = y * scale.view", "y = y / scale.view", "residual"),
    _torch("zero channels exchanged", "(0, 0, 0, 0, *self.shortcut.channel_padding)",
           "(0, 0, 0, 0, *self.shortcut.channel_padding[::-1])", "residual"),
    _torch("clamped before the addition", "z = z + F.pad(", "z = F.hardtanh(z) + F.pad(", "residual"),
    _torch("average by rows' reciprocal", "return total / len(views)", "return total / rows", "real"),
    _torch("bases summed from the last", "zip(bits[1:], scales[1:], strict=True)",
           "zip(bits[1:].flip(0), scales[1:].flip(0), strict=True)", "real"),
    _torch("dense inputs in the order of NCHW",
           "return x.permute(0, 2, 3, 1).flatten(1)", "return x.flatten(1)", "residual"),
    _torch("grid truncated", "return torch.round(x)", "return torch.floor(x)", "real"),
)  # fmt: skip
"""Faults in the float modules."""

KEPT = {f"{NUMBA}.{name}" for name in ("kernels", "vectors", "compiled")}
"""Modules whose compiled loops are used again."""


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != f"{self.fault.engine}.{self.fault.file}":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin, self.fault)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, fault: Fault) -> None:
        super().__init__(fullname, path)
        self.fault = fault

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname)
        assert source is not None
        found = source.count(self.fault.right)
        assert found == 1, f"{self.fault.name}: the text stands {found} times"
        return compile(source.replace(self.fault.right, self.fault.wrong), self.path, "exec")


def _loaded(fault: Fault) -> list[str]:
    return [name for name in sys.modules if name.startswith(fault.engine) and name not in KEPT]


@contextmanager
def planted(fault: Fault) -> Iterator[ModuleType]:
    """The engine's package, imported anew with the fault in it; everything is as before afterwards."""
    before = {name: sys.modules[name] for name in _loaded(fault)}
    finder = _Finder(fault)
    for name in before:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield importlib.import_module(fault.engine)
    finally:
        sys.meta_path.remove(finder)
        for name in _loaded(fault):
            del sys.modules[name]
        sys.modules.update(before)
