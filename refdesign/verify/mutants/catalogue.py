"""The catalogue of mutants: what is wrong in each, how it comes about, and the change of lines that makes it.

`catalogue.toml` holds them; each replaces lines of `refdesign.verify.mutants.subject`, an implementation that is right.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
import threading
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.network import NetworkData

SUBJECT = "refdesign.verify.mutants.subject"
FILES = ("sums", "thresholds", "forward")
"""The subject's modules, each of which imports only those before it."""

Bound = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[Any]]]
_IMPORT = threading.Lock()


@dataclass(frozen=True)
class Edit:
    """A change of lines in one of the subject's modules; `old` occurs there exactly once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A wrong implementation.

    Attributes:
        name: what it is called.
        bug_class: what kind of mistake it is.
        where: the part of a network that it is in.
        what: what it does wrong, in a sentence.
        origin: how it comes about.
        issues: public issues in which it, or its like, happened.
        edits: the changes that make it.
        named: the changes of the reference that are the same mistake, by which a diagnosis should name it first.
        beyond: where there are none, why not.
    """

    name: str
    bug_class: str
    where: str
    what: str
    origin: str
    issues: tuple[str, ...]
    edits: tuple[Edit, ...]
    named: tuple[str, ...] = ()
    beyond: str = ""

    def implementation(self, network: NetworkData) -> Bound:
        """The mutant, bound to a network: uint8 images (N, H, W, C) in, every output by name out.

        >>> from refdesign.api import pretrained
        >>> digits = pretrained("digits")
        >>> images = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
        >>> wrong = mutant("bits-inverted").implementation(digits)(images)
        >>> right = digits.run(images, outputs="conv1.bits")
        >>> bool((wrong["conv1.bits"] == -right["conv1.bits"]).all())
        True
        """
        made: Bound = mutated(self.edits).Implementation(network)
        return made


@cache
def catalogue() -> tuple[Mutant, ...]:
    """All mutants, in the order of the catalogue.

    >>> len(catalogue()) >= 60
    True
    """
    text = resources.files("refdesign.verify.mutants").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return tuple(
        Mutant(
            entry["name"],
            entry["class"],
            entry["where"],
            entry["what"],
            entry["origin"],
            tuple(entry.get("issues", ())),
            tuple(Edit(**edit) for edit in entry["edits"]),
            tuple(entry.get("named", ())),
            entry.get("beyond", ""),
        )
        for entry in tomllib.loads(text)["mutant"]
    )


def mutant(name: str) -> Mutant:
    """The mutant of this name.

    Raises:
        RefdesignError: there is none.

    >>> mutant("matches-only").issues
    ('https://github.com/Xilinx/finn/issues/31',)
    """
    for entry in catalogue():
        if entry.name == name:
            return entry
    raise RefdesignError(f"mutant: found {name!r}, expected one of {', '.join(m.name for m in catalogue())}")


def subject_source(file: str) -> str:
    """The source of one of the subject's modules, without a fault."""
    return resources.files(SUBJECT).joinpath(f"{file}.py").read_text(encoding="utf-8")


def mutated_source(file: str, edits: Sequence[Edit]) -> str:
    """The source of one of the subject's modules with its edits made.

    Raises:
        RefdesignError: an edit whose old lines do not occur exactly once.

    >>> "ones ^ weights" in mutated_source("sums", [Edit("sums", "ones ^ weights", "ones & weights")])
    False
    """
    source = subject_source(file)
    for edit in edits:
        if edit.file not in FILES:
            raise RefdesignError(f"mutant, file: found {edit.file!r}, expected one of {', '.join(FILES)}")
        if edit.file == file:
            count = source.count(edit.old)
            if count != 1:
                raise RefdesignError(
                    f"mutant, {file}: found the line {edit.old.strip()!r} {count} times, expected once"
                )
            source = source.replace(edit.old, edit.new)
    return source


class _Source(importlib.abc.InspectLoader):
    """Loads a module from a text."""

    def __init__(self, source: str) -> None:
        self.source = source

    def get_source(self, fullname: str) -> str:
        return self.source


@cache
def mutated(edits: tuple[Edit, ...]) -> ModuleType:
    """The subject's module `forward`, loaded anew with these edits in it and in what it imports.

    >>> mutated(()).Implementation.__name__
    'Implementation'
    """
    package = f"{SUBJECT}_{abs(hash(edits)):x}"
    loaded: dict[str, ModuleType] = {}
    with _IMPORT:  # the modules find each other in sys.modules, under a name of their own, until all are loaded
        try:
            for file in FILES:
                source = mutated_source(file, edits).replace(f"{SUBJECT}.", f"{package}.")
                name = f"{package}.{file}"
                loader = _Source(source)
                spec = importlib.util.spec_from_loader(name, loader)
                if spec is None:
                    raise RefdesignError(f"mutant, {file}: cannot be loaded")
                module = importlib.util.module_from_spec(spec)
                sys.modules[name] = loaded[file] = module
                sys.modules.setdefault(package, ModuleType(package)).__path__ = []
                loader.exec_module(module)
        finally:
            for name in [package, *(f"{package}.{file}" for file in loaded)]:
                sys.modules.pop(name, None)
    return loaded["forward"]
