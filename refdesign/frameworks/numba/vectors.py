"""What Numba has no words for: XNOR and popcount, and comparisons into bits, on LLVM's vector types.

The functions are written in LLVM's own language, so that the machine's vector popcount is used where there is one
(`vpopcntq` of AVX-512, `cnt` of NEON) and LLVM's substitute where there is none. They are called from compiled code
only, with the addresses of arrays and with steps in elements; they check nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic as untyped_intrinsic

cgutils: Any = untyped_cgutils
intrinsic: Any = untyped_intrinsic

WIDTH = 8
"""64-bit counters in a vector; each counts for one output channel."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_COUNTERS, _INTEGERS = ir.VectorType(_I64, WIDTH), ir.VectorType(_I32, WIDTH)


def _pointer(builder: Any, address: Any, elements: Any, type_: Any, size: int) -> Any:
    """A pointer to `type_` that lies `elements` elements of `size` bytes behind an address."""
    return builder.inttoptr(builder.add(address, builder.mul(elements, _I64(size))), type_.as_pointer())


def _splat(builder: Any, value: Any, type_: Any) -> Any:
    """A vector with one value in all of its places."""
    first = builder.insert_element(ir.Constant(type_, ir.Undefined), value, _I32(0))
    same = ir.Constant(ir.VectorType(_I32, type_.count), [0] * type_.count)
    return builder.shuffle_vector(first, ir.Constant(type_, ir.Undefined), same)


def _popcount(builder: Any, value: Any) -> Any:
    name = f"llvm.ctpop.v{value.type.count}i64" if isinstance(value.type, ir.VectorType) else "llvm.ctpop.i64"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(value.type, [value.type]), name)
    return builder.call(function, [value])


def _emit_tile(builder: Any, arguments: Sequence[Any], pixels: int, vectors: int, ternary: bool) -> None:
    """The body of a function that `tile_of` makes."""
    (x, mask, offsets, count, pixel_step, planes, plane_step, weights, base, base_step, multiplier, out,
     out_step) = arguments  # fmt: skip
    places = [(p, v) for p in range(pixels) for v in range(vectors)]
    zero = ir.Constant(_COUNTERS, [0] * WIDTH)
    counters = {place: cgutils.alloca_once_value(builder, zero) for place in places}
    valid = [cgutils.alloca_once_value(builder, _I64(0)) for _ in range(pixels if ternary else 0)]
    with cgutils.for_range(builder, planes) as plane:
        for counter in counters.values():  # the planes come from the highest to the lowest, each worth half
            value = builder.load(counter)
            builder.store(builder.add(value, value), counter)
        skipped = builder.mul(plane.index, plane_step)
        with cgutils.for_range(builder, count) as tap:
            offset = builder.load(_pointer(builder, offsets, tap.index, _I64, 8))
            first = builder.mul(tap.index, _I64(vectors * WIDTH))
            lanes = [
                builder.load(_pointer(builder, weights, builder.add(first, _I64(v * WIDTH)), _COUNTERS, 8), align=8)
                for v in range(vectors)
            ]
            for p in range(pixels):
                where = builder.add(builder.add(offset, skipped), builder.mul(pixel_step, _I64(p)))
                seen = _splat(builder, builder.load(_pointer(builder, x, where, _I64, 8)), _COUNTERS)
                if ternary:
                    word = builder.load(_pointer(builder, mask, where, _I64, 8))
                    builder.store(builder.add(builder.load(valid[p]), _popcount(builder, word)), valid[p])
                    shown = _splat(builder, word, _COUNTERS)
                for v in range(vectors):
                    differ = builder.xor(seen, lanes[v])
                    if ternary:
                        differ = builder.and_(differ, shown)
                    total = builder.add(builder.load(counters[p, v]), _popcount(builder, differ))
                    builder.store(total, counters[p, v])
    factor = _splat(builder, builder.trunc(multiplier, _I32), _INTEGERS)
    for p, v in places:
        differ = builder.mul(builder.trunc(builder.load(counters[p, v]), _INTEGERS), factor)
        if ternary:
            start = _splat(builder, builder.trunc(builder.load(valid[p]), _I32), _INTEGERS)
        else:
            lane = builder.add(builder.mul(base_step, _I64(p)), _I64(v * WIDTH))
            start = builder.load(_pointer(builder, base, lane, _INTEGERS, 4), align=4)
        lane = builder.add(builder.mul(out_step, _I64(p)), _I64(v * WIDTH))
        builder.store(builder.sub(start, differ), _pointer(builder, out, lane, _INTEGERS, 4), align=4)


def tile_of(pixels: int, vectors: int, *, ternary: bool) -> Callable[..., None]:
    """The accumulators of some neighbouring pixels for some vectors of output channels, as a function for Numba.

    It takes integers: the addresses of the words seen from the first pixel and (if ternary) of their masks; the
    address of the offsets of a window's words, and their count; the step from pixel to pixel; how many bit planes
    there are, from the highest to the lowest, and their step; the address of the weights (word by word,
    `vectors * WIDTH` channels each); the address of the base and its step from pixel to pixel; the multiplier; the
    address of the result and its step. The result is int32, base - multiplier * (sum over planes of 2**plane *
    popcount(x xor w)), or, if ternary, popcount(mask) - multiplier * popcount((x xor w) & mask).

    Args:
        pixels: how many pixels share each load of weights.
        vectors: how many vectors of channels share each load of a word.
        ternary: whether there is a mask.
    """

    def tile(
        typingctx: Any, x: Any, mask: Any, offsets: Any, count: Any, pixel_step: Any, planes: Any, plane_step: Any,
        weights: Any, base: Any, base_step: Any, multiplier: Any, out: Any, out_step: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            _emit_tile(builder, arguments, pixels, vectors, ternary)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 13), codegen

    made: Callable[..., None] = intrinsic(tile)
    return made


def _at_least(typingctx: Any, a: Any, b: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        block = ir.VectorType(_I32, 64)
        left, right = (builder.load(builder.inttoptr(address, block.as_pointer()), align=4) for address in arguments)
        return builder.bitcast(builder.icmp_signed(">=", left, right), _I64)

    return types.uint64(types.int64, types.int64), codegen


at_least: Callable[[int, int], Any] = intrinsic(_at_least)
"""64 comparisons a >= b of int32 at two addresses, as the bits of a word, the first one lowest; for Numba."""
