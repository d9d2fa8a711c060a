"""How an implementation under test is called, and what it answers.

An implementation is a callable that is bound to one network:

    answer = implementation(images)

`images` is uint8 (N, H, W, C). The answer is a mapping from output names (`network.output_names`: `conv1.bits`,
`conv1.accumulator`, `logits`, ...) to arrays with N first, any subset of them, or a plain array, which counts as
`logits`. Maps are NHWC; bits are -1 and +1 (or bool, True is +1). The dtype is free as long as the numbers are
the reference's: a float 3.0 is the integer 3.

What an implementation does wrong besides differing (it raises, hangs, answers in another shape, ...) is a `Finding`.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.checks import meant, shown
from refdesign.errors import RefdesignError, in_print
from refdesign.network import NetworkData
from refdesign.verify import survival

Images = NDArray[Any]
Implementation = Callable[[Images], "Mapping[str, NDArray[Any]] | NDArray[Any]"]
"""An implementation bound to one network: images in, outputs by name (or the logits) out."""

FINDINGS: dict[str, str] = {
    "raised": "the implementation raised an exception",
    "hung": "the implementation gave no answer within the time limit",
    "crashed": "the implementation's process ended",
    "garbage": "the answer cannot be read",
    "cannot show": "faults that this network has no place for",
    "flushed": "numbers near zero are flushed to it, in the reference, too",
    "adapted": "how a framework's model was called, and where its outputs came from",
    "names": "the answer has names that are no outputs of the network",
    "misnamed": "the answer has names that are nearly those of outputs that it lacks",
    "count": "the answer has another number of cases",
    "shape": "an output has another shape",
    "dtype": "an output is no array of numbers",
    "values": "an output has values that it cannot have",
    "undefined": "an output has undefined bits (X or Z)",
    "inputs changed": "the implementation changed its inputs",
    "not repeatable": "the same images gave another answer",
    "missing": "a file or an answer is missing",
}
"""Every kind of finding, with what it says."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with how an implementation answers, besides differing values.

    Attributes:
        kind: a key of `FINDINGS`.
        message: one line: where, what was found, what was expected.
        output: the output that it is about; None: the answer as a whole.
        image: the first image that it is about; None: all, or unknown.
        fault: whether it makes the verification fail; a note does not.

    >>> str(Finding("raised", "ZeroDivisionError: division by zero", image=3))
    'raised (image 3): ZeroDivisionError: division by zero'
    """

    kind: str
    message: str
    output: str | None = None
    image: int | None = None
    fault: bool = True

    def __post_init__(self) -> None:
        if self.kind not in FINDINGS:
            raise RefdesignError(f"finding, kind: found {self.kind!r}, expected one of {', '.join(FINDINGS)}")
        object.__setattr__(self, "message", in_print(self.message))  # a foreign program's words can be in it

    def __str__(self) -> str:
        place = [] if self.output is None else [self.output]
        place += [] if self.image is None else [f"image {self.image}"]
        where = f" ({', '.join(place)})" if place else ""
        return f"{self.kind}{where}: {self.message}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "kind": self.kind, "message": self.message, "output": self.output, "image": self.image, "fault": self.fault
        }  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What an implementation answered to some images.

    Attributes:
        outputs: arrays by output name, in order of execution, every one of the network's shape; the dtype is theirs.
        findings: what was wrong with the answer.
        goes_on: whether it makes sense to ask further (a hung implementation still runs).
        answered: which images an output was answered for, bool (N,) by output name; all where it has no entry.
    """

    outputs: Mapping[str, NDArray[Any]]
    findings: tuple[Finding, ...] = ()
    goes_on: bool = True
    answered: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


def expected_shape(network: NetworkData, output: str) -> tuple[int, ...]:
    """The shape of one output without the batch axis.

    Raises:
        RefdesignError: the network has no such output.

    >>> from refdesign.api import pretrained
    >>> expected_shape(pretrained("digits"), "conv2.bits")
    (4, 4, 64)
    """
    if output == "logits":
        return network.shapes[network.layers[-1].name].output
    layer, _, part = output.rpartition(".")
    if output not in network.output_names:
        raise RefdesignError(f"outputs: found {output!r}, expected some of {', '.join(network.output_names)}")
    shapes = network.shapes[layer]
    return shapes.accumulator if part == "accumulator" else shapes.output


def comparable_outputs(network: NetworkData) -> tuple[str, ...]:
    """The outputs that an implementation can be compared in: all but the reference's own `<layer>.uncertain`."""
    return tuple(name for name in network.output_names if not name.endswith(".uncertain"))


def check_answer(network: NetworkData, answer: object, images: int) -> Answer:
    """Sort what an implementation answered into arrays of the right shape, and findings.

    Args:
        network: the network that it implements.
        answer: a mapping from output names to arrays, or one array, the logits.
        images: how many images it was given.

    >>> from refdesign.api import pretrained
    >>> wrong = check_answer(pretrained("digits"), {"logits": np.zeros((2, 9))}, 2)
    >>> print(wrong.findings[0])
    shape (logits): found (2, 9), expected (2, 10)
    """
    if not isinstance(answer, Mapping):
        answer = {"logits": answer}
    outputs: dict[str, NDArray[Any]] = {}
    findings: list[Finding] = []
    known = comparable_outputs(network)
    unknown = [name for name in answer if name not in known]
    missing = [name for name in known if name not in answer]
    misnamed = misspelt(unknown, missing)
    if misnamed is not None:
        findings.append(misnamed)
    elif unknown:  # further outputs are the implementation's own business
        names = ", ".join(shown(name) for name in unknown[:5])
        message = (
            f"found {names}, which are left out: call them as the network does, to be told where the fault is: "
            + ", ".join(known)
        )
        findings.append(Finding("names", message, fault=False))
    for name in known:
        if name in answer:
            array, finding = _checked(name, answer[name], (images, *expected_shape(network, name)))
            if array is not None:
                outputs[name] = array
            if finding is not None:
                findings.append(finding)
    if not outputs and not any(finding.fault for finding in findings):
        found = ", ".join(f"{shown(name)}{meant(str(name), known)}" for name in unknown[:5]) or "no output"
        findings.append(Finding("missing", f"found {found}, expected some of {', '.join(known)}"))
    return Answer(outputs, tuple(findings))


def misspelt(found: Sequence[object], missing: Sequence[str]) -> Finding | None:
    """A note on names that are nearly those of missing outputs; None where there are none.

    >>> print(misspelt(["conv1.bit", "probabilities"], ["conv1.bits", "logits"]))
    misnamed: found 'conv1.bit' (did you mean 'conv1.bits'?), not used
    """
    close = [(name, meant(name, missing)) for name in found if isinstance(name, str)]
    names = [f"{shown(name)}{hint}" for name, hint in close if hint]
    return Finding("misnamed", f"found {', '.join(names)}, not used", fault=False) if names else None


def _checked(name: str, value: object, shape: tuple[int, ...]) -> tuple[NDArray[Any] | None, Finding | None]:
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever a foreign object does when it is asked for its array
        return None, Finding("dtype", f"{type(value).__name__}: {one_line(error)}", name)
    if array.dtype.kind not in "biuf":
        return None, Finding("dtype", f"found {array.dtype} ({type(value).__name__}), expected numbers", name)
    if array.shape == shape:
        return array, None
    if array.ndim == len(shape) and array.shape[0] != shape[0]:
        return None, Finding("count", f"found {array.shape[0]} cases, expected {shape[0]}", name)
    hint = ""
    if array.ndim == 4 and len(shape) == 4 and array.shape == (shape[0], shape[3], shape[1], shape[2]):
        hint = ", as in NCHW; NHWC is asked for"
    return None, Finding("shape", f"found {array.shape}{hint}, expected {shape}", name)


def ask(
    implementation: Implementation,
    network: NetworkData,
    images: Images,
    *,
    time_limit: float | None = None,
    repeat: bool = False,
) -> Answer:
    """Ask an implementation; whatever it does, an `Answer` comes back.

    Args:
        implementation: bound to the network.
        network: gives the outputs' names and shapes.
        images: uint8 (N, H, W, C); the implementation gets a copy that it may not keep.
        time_limit: seconds; None waits for ever.
        repeat: ask twice, and report a different second answer.

    >>> from refdesign.api import pretrained
    >>> network = pretrained("digits")
    >>> images = np.zeros((2, 8, 8, 1), np.uint8)
    >>> list(ask(network.run, network, images, repeat=True).outputs)
    ['logits']
    >>> ask(lambda images: 1 / 0, network, images).findings[0].kind
    'raised'
    """
    first = _ask_once(implementation, network, images, time_limit)
    if not repeat or not first.outputs or not first.goes_on:
        return first
    kept = {name: array.copy() for name, array in first.outputs.items()}
    second = _ask_once(implementation, network, images, time_limit)
    # What was wrong with the second answer alone, such as that it raised, is said in its own words.
    findings = [*first.findings, *(finding for finding in second.findings if finding not in first.findings)]
    for name, array in kept.items():
        again = second.outputs.get(name)
        if again is None and not any(finding.fault for finding in second.findings):
            findings.append(Finding("not repeatable", "asked again, it is not answered", name))
        elif again is not None:
            changed = int(others(array, again).sum())
            if changed:
                count = f"{changed:,} of {array.size:,}"
                findings.append(Finding("not repeatable", f"asked again, {count} values are others", name))
    return Answer(kept, tuple(findings), second.goes_on)


def others(before: NDArray[Any], again: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a second answer is not the first; NaN and NaN are the same.

    >>> others(np.array([1.0, np.nan, 2.0]), np.array([1.0, np.nan, np.nan])).tolist()
    [False, False, True]
    """
    changed = np.asarray(before != again)
    if changed.any():
        changed &= (before == before) | (again == again)
    return changed


def _ask_once(implementation: Implementation, network: NetworkData, images: Images, time_limit: float | None) -> Answer:
    given = images.copy()
    box: dict[str, Any] = {}

    def call() -> None:
        try:
            box["answer"] = implementation(given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: the implementation's end is not ours
            box["error"] = error

    if time_limit is None:
        call()
    else:
        # A thread cannot be ended; it is left to itself, and the implementation is not asked again.
        thread = threading.Thread(target=call, daemon=True, name="implementation under test")
        thread.start()
        thread.join(time_limit)
        if thread.is_alive():
            return Answer({}, (Finding("hung", f"found no answer to {len(images)} images in {time_limit:g} s"),), False)
    if "error" in box:
        return Answer({}, (Finding("raised", where_raised(box["error"])),))
    answer = check_answer(network, box.get("answer"), len(images))
    if not np.array_equal(given, images):
        changed = int((given != images).sum())
        finding = Finding(
            "inputs changed", f"{changed:,} of {images.size:,} values of its input array were overwritten"
        )
        answer = Answer(answer.outputs, (*answer.findings, finding), answer.goes_on)
    return answer


def one_line(error: BaseException) -> str:
    """An exception's message on one line.

    >>> one_line(ValueError("two\\n  lines"))
    'two lines'
    """
    return " ".join(str(error).split())[:300]


def where_raised(error: BaseException) -> str:
    """The exception, and where in the implementation's code it came from.

    >>> where_raised(ValueError("no such layer"))
    'ValueError: no such layer'
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames[1:]
        if "site-packages" not in Path(frame.filename).parts and frame.filename != survival.__file__
    ]
    place = f", in {Path(own[-1].filename).name} line {own[-1].lineno}" if own else ""
    return f"{type(error).__name__}: {one_line(error)}{place}"
