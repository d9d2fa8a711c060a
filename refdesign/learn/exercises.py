"""The exercises in which a function is to be written: what is asked, where to start, and how it is judged.

An exercise is a row of checks, easy ones first. The first that fails ends the marking: it says what was found and what
was expected, and holds hints that are handed out one by one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from refdesign.errors import RefdesignError
from refdesign.learn import checks

Solution = Callable[..., Any]


@dataclass(frozen=True)
class Check:
    """One step of the marking.

    Attributes:
        name: what it is about, in a few words.
        run: takes the solution; a text says what is wrong, None: nothing.
        hints: from the gentlest to the plainest; none of them is the solution.
    """

    name: str
    run: Callable[[Solution], str | None]
    hints: tuple[str, ...]


@dataclass(frozen=True)
class Exercise:
    """A function to write.

    Attributes:
        name: what it is called; also the starter file's name.
        title: what is to be done, in a line.
        function: the function's name.
        checks: the marking, in order.
    """

    name: str
    title: str
    function: str
    checks: tuple[Check, ...]

    def starter(self) -> str:
        """The file to start from: the task as its docstring, and the function without a body."""
        return resources.files("refdesign.learn").joinpath(f"starters/{self.name}.txt").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Marking:
    """What became of a solution.

    Attributes:
        passed: the names of the checks that passed, in order.
        failed: the first that did not; None: all passed.
        fault: what was wrong there.
        hints: those of the failed check.
    """

    passed: tuple[str, ...]
    failed: str | None
    fault: str | None
    hints: tuple[str, ...]


EXERCISES: tuple[Exercise, ...] = (
    Exercise("count", "Count with XNOR: dot products of packed ±1 vectors", "dot", (
        Check("one word", checks.count_one_word, (
            "A product of two signs is +1 where the bits agree. Which logic gate says that they agree?",
            "With p of n in agreement, the other n - p products are -1. What is the sum?",
        )),
        Check("vectors that do not fill their word", checks.count_tails, (
            "The bits after the last element are 0 in both vectors. What does XNOR make of two zeros?",
            "Either leave those positions out of the count, or count disagreements instead.",
        )),
        Check("more than one word", checks.count_words, (
            "Elements 64 to 127 are in the second word.",
        )),
    )),
    Exercise("fold", "Fold batch norm and a threshold into one integer and one direction", "fold", (
        Check("gamma above zero", checks.fold_positive, (
            "Write z as a line in a, and ask where it crosses zero.",
            "Many crossings lie between two attainable accumulators. Which of the two fires?",
            "You need not solve for a: the domain is finite, and you may ask z at every accumulator of it.",
        )),
        Check("gamma below zero", checks.fold_negative, (
            "Draw the line for a negative gamma. On which side of the crossing is it above zero?",
            "Dividing an inequality by a negative number turns it round; the direction says so.",
        )),
        Check("boundaries on an accumulator", checks.fold_ties, (
            "z is exactly 0 at an attainable accumulator. By the convention of the task, is that +1 or -1?",
            "For exactness compare fractions, not floats: (gamma*(a - mean))**2 with (threshold - beta)**2 * square.",
        )),
        Check("boundaries next to an accumulator", checks.fold_near, (
            "The boundary misses an accumulator by less than float64 can tell. Can you decide without a square root?",
            "p + q*sqrt(s) >= 0 with p and q of different signs: compare p*p with q*q*s, in fractions.",
        )),
        Check("constant channels", checks.fold_constant, (
            "With gamma = 0 the accumulator does not matter.",
            "A boundary beyond the domain also makes a constant bit: no attainable accumulator lies on its other side.",
        )),
    )),
    Exercise("dither", "Lay a threshold kernel over a feature map", "threshold_map", (
        Check("whole periods", checks.dither_whole, (
            "Pixel (i, j) meets cell (i mod m, j mod n).",
        )),
        Check("maps that are no multiple of the period", checks.dither_ragged, (
            "Where does the phase of a row's first pixel start?",
        )),
        Check("kernels that are not square", checks.dither_oblong, (
            "m belongs to rows, n to columns.",
        )),
        Check("slices", checks.dither_slices, (
            "Channel c uses slice c mod g: with g = 2, channels 0, 2, 4 share a slice.",
        )),
    )),
    Exercise("pool", "Pool bits instead of accumulators", "pool_bits", (
        Check("channels that fire above", checks.pool_rising, (
            "The largest of four accumulators reaches the threshold: how many of their bits are then +1, at least?",
        )),
        Check("channels that fire below", checks.pool_falling, (
            "Now the bit is +1 where a <= t. The largest of the four is at most t: what does that say of the others?",
            "One of the two directions pools with OR, the other with AND.",
        )),
    )),
    Exercise("layer", "Write a whole binary layer", "layer", (
        Check("without dither", checks.layer_plain, (
            "In this order: windows, products, sums, pool, batch norm, sign.",
            "The pool takes the largest of the accumulators, before the batch norm.",
        )),
        Check("with dither", checks.layer_dithered, (
            "The dither comes after the batch norm and before the sign: z = y - T.",
            "Behind the pool the phase counts pooled pixels.",
        )),
    )),
)  # fmt: skip
"""The exercises, in the order of the course."""


def exercise(name: str) -> Exercise:
    """The exercise of this name.

    Raises:
        RefdesignError: there is none.

    >>> exercise("fold").function
    'fold'
    """
    for one in EXERCISES:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in EXERCISES)
    raise RefdesignError(f"exercise: found {name!r}, expected one of {names}, or bug-NUMBER")


def load(path: Path, function: str) -> Solution:
    """A solution's function, out of its file.

    Raises:
        RefdesignError: no such file, one that does not run, or no function of this name in it.
    """
    if not path.is_file():
        raise RefdesignError(f"{path}: found no such file, expected a solution ('refdesign learn start' writes one)")
    spec = importlib.util.spec_from_file_location(f"solution_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RefdesignError(f"{path}: found {path.suffix or 'no ending'}, expected a Python file, .py")
    module = importlib.util.module_from_spec(spec)
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a solution does is its author's to know
        raise RefdesignError(f"{path}: does not run: {type(error).__name__}: {error}") from error
    finally:
        sys.dont_write_bytecode = written
    found = getattr(module, function, None)
    if not callable(found):
        raise RefdesignError(f"{path}: found no function {function!r}, expected one")
    solution: Solution = found
    return solution


def mark(solution: Solution, marked_by: Sequence[Check]) -> Marking:
    """Run the checks up to the first that fails.

    >>> from refdesign.bits import xnor_popcount, PackedBits
    >>> right = lambda x, w, length: int(xnor_popcount(PackedBits(x, length), PackedBits(w, length)))
    >>> mark(right, exercise("count").checks).failed is None
    True
    """
    passed: list[str] = []
    for check in marked_by:
        try:
            fault = check.run(solution)
        except Exception as error:  # a solution may raise anything
            fault = f"it raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if fault is not None:
            return Marking(tuple(passed), check.name, fault, check.hints)
        passed.append(check.name)
    return Marking(tuple(passed), None, None, ())
