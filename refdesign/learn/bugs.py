"""Planted bugs: wrong implementations by number, to be found and mended, and judged by the conformance suite."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from refdesign.errors import RefdesignError
from refdesign.verify.conformance.cases import case
from refdesign.verify.conformance.judging import Make, judge
from refdesign.verify.mutants.catalogue import FILES, Mutant, catalogue, mutated_source
from refdesign.verify.mutants.measure import corpus

EXAMPLES = 10
"""Networks a case, times its effort: as many as the kill matrix is measured with."""

_PACKAGE = re.compile(r"\bfrom refdesign\.verify\.mutants\.subject\.(\w+) import")


@cache
def _numbered() -> tuple[Mutant, ...]:
    """The catalogue in an order that says nothing: by the hash of the names."""
    return tuple(sorted(catalogue(), key=lambda entry: hashlib.sha256(entry.name.encode()).digest()))


def count() -> int:
    """How many bugs there are; they are numbered from 1.

    >>> count() >= 60
    True
    """
    return len(_numbered())


def bug(number: int) -> Mutant:
    """The bug of this number.

    Raises:
        RefdesignError: there is none.

    >>> bug(1) is bug(1)
    True
    """
    if not 1 <= number <= count():
        raise RefdesignError(f"bug: found number {number}, expected 1 to {count()}")
    return _numbered()[number - 1]


def sources(number: int) -> dict[str, str]:
    """The files of an implementation with this bug in it, by name; nothing in them says which bug it is.

    >>> sorted(sources(1))
    ['forward.py', 'sums.py', 'thresholds.py']
    """
    edits = bug(number).edits
    return {f"{file}.py": _PACKAGE.sub(r"from .\1 import", mutated_source(file, edits)) for file in FILES}


@dataclass(frozen=True)
class Verdict:
    """What the suite says of an implementation.

    Attributes:
        agreed: the cases that agree.
        failed: those that do not, each with its first fault.
        networks: how many networks were looked at.
    """

    agreed: tuple[str, ...]
    failed: dict[str, str]
    networks: int


def load(folder: Path) -> Make:
    """A student's implementation: the class `Implementation` of the folder's `forward.py`.

    Raises:
        RefdesignError: a file is missing or does not run.
    """
    for file in FILES:
        if not (folder / f"{file}.py").is_file():
            raise RefdesignError(f"{folder}: found no {file}.py, expected the files that 'refdesign learn start' wrote")
    name = f"student_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    loaded = [name, *(f"{name}.{file}" for file in FILES)]
    sys.modules[name] = package
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        for file in FILES:
            spec = importlib.util.spec_from_file_location(f"{name}.{file}", folder / f"{file}.py")
            if spec is None or spec.loader is None:
                raise RefdesignError(f"{folder}/{file}.py: cannot be loaded")
            module = importlib.util.module_from_spec(spec)
            sys.modules[f"{name}.{file}"] = module
            spec.loader.exec_module(module)
        make = getattr(sys.modules[f"{name}.forward"], "Implementation", None)
    except RefdesignError:
        raise
    except Exception as error:  # whatever a student's file does
        raise RefdesignError(f"{folder}/{file}.py: does not run: {type(error).__name__}: {error}") from error
    finally:
        sys.dont_write_bytecode = written
        for entry in loaded:
            sys.modules.pop(entry, None)
    if not callable(make):
        raise RefdesignError(f"{folder}/forward.py: found no class Implementation, expected one")
    implementation: Make = make
    return implementation


def judged(make: Make, *, examples: int | None = None, cases: tuple[str, ...] | None = None) -> Verdict:
    """Every case of the conformance suite on an implementation.

    Args:
        make: binds it to a network.
        examples: networks a case, times its effort; None: `EXAMPLES`.
        cases: only these; None: all.

    >>> from refdesign.verify.mutants.catalogue import mutated
    >>> judged(mutated(()).Implementation, examples=2, cases=("counting/words",)).failed
    {}
    """
    agreed, failed, networks = [], {}, 0
    for name, entries in corpus(EXAMPLES if examples is None else examples, 0, cases).items():
        for example, expected in entries:
            networks += 1
            fault = judge(example, make, expected=expected, repeat=case(name).repeat, time_limit=60).fault
            if fault is not None:
                failed[name] = fault
                break
        else:
            agreed.append(name)
    return Verdict(tuple(agreed), failed, networks)


def hints(number: int, verdict: Verdict) -> tuple[str, ...]:
    """What can be said without giving the bug away, from the gentlest to the plainest."""
    planted = bug(number)
    first = next(iter(verdict.failed))
    agreeing = [name for name in verdict.agreed if name.partition("/")[0] == first.partition("/")[0]]
    beside = f", while {', '.join(agreeing[:3])} agree" if agreeing else ""
    files = sorted({f"{edit.file}.py" for edit in planted.edits})
    return (
        f"The case {first} is about {case(first).what}{beside}.",
        f"It is in the part of the network that they call: {planted.where}.",
        f"Look into {' and '.join(files)}.",
        f"The class of the mistake: {planted.bug_class}.",
    )
