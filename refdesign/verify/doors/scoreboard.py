"""A scoreboard for a test bench: the same comparison, fed with what a monitor sees, as it sees it.

It knows nothing of the simulator: a bench in cocotb (or any other) calls `expect` when it drives an image, `observe`
when a monitor saw one output of it, in whole or value by value, and `check` at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.network import NetworkData
from refdesign.run import check_images
from refdesign.verify.compare import COULD_NOT_RUN, EQUAL, Verdict, compare
from refdesign.verify.diagnosis import Diagnosis, diagnose
from refdesign.verify.doors.door import RealStreams
from refdesign.verify.doors.layout import Layout
from refdesign.verify.doors.protocol import output_type
from refdesign.verify.doors.words import WordFormat
from refdesign.verify.implementation import Answer, Finding, Images, comparable_outputs, expected_shape
from refdesign.verify.reports.data import to_dict
from refdesign.verify.reports.text import lines


class Scoreboard:
    """Collects what a bench drives and sees, and compares it with the reference.

    Args:
        network: the reference.
        required: outputs that must have been seen for every image.
        whole: whether the bench runs the whole network, so that its last layer must have been seen, too; a bench of
            one unit is judged by what is required.

    Raises:
        RefdesignError: an unknown output, or a bench of a part that requires nothing.

    Example of a bench in cocotb:

        scoreboard = Scoreboard(refdesign.pretrained("digits"))
        for image in images:
            scoreboard.expect(image)
            await driver.send(image)
        async for word in monitor:                # 4 bits of conv1 at a time, PE = 4
            scoreboard.observe_words("conv1.bits", [int(word)], WordFormat(word_bits=4))
        scoreboard.check()                        # raises AssertionError with the first differing bit

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> scoreboard = Scoreboard(digits)
    >>> image = np.zeros((8, 8, 1), np.uint8)
    >>> scoreboard.expect(image)
    >>> scoreboard.observe("logits", digits.run(image[np.newaxis])["logits"])
    >>> scoreboard.verdict().status
    0
    """

    def __init__(self, network: NetworkData, required: Iterable[str] = (), *, whole: bool = True) -> None:
        self.network = network
        self.required = tuple(required)
        self.whole = whole
        if not whole and not self.required:
            raise RefdesignError("scoreboard: found whole=False and nothing required, expected the unit's outputs")
        self._images: list[Images] = []
        self._seen: dict[str, list[NDArray[Any]]] = {}
        self._words: dict[str, list[tuple[int, int]]] = {}
        self._findings: list[Finding] = []
        for name in self.required:
            self._check_name(name)

    def expect(self, image: Images) -> None:
        """An image (H, W, C), or several (N, H, W, C), uint8, that the bench drives."""
        images = image[np.newaxis] if image.ndim == 3 else image
        check_images(self.network, images)
        self._images += [one.copy() for one in images]

    def observe(self, output: str, values: NDArray[Any], layout: str | None = None, **sizes: int) -> None:
        """Whole cases of one output, in the order of the images.

        Args:
            output: an output's name.
            values: any number of values that fills whole cases.
            layout: as in a file's map (`layout`); None is ours.
            sizes: sizes of the layout's axes.
        """
        self._check_name(output)
        shape = expected_shape(self.network, output)
        axes = Layout.parse(layout or ("n h w c" if len(shape) == 3 else "n c"), len(shape) + 1)
        array = np.asarray(values)
        cases, rest = divmod(array.size, int(np.prod(shape)))
        if rest or not cases:
            raise RefdesignError(f"{output}: found {array.size} values, expected whole cases of {shape}")
        self._seen.setdefault(output, []).append(axes.apply(array, (cases, *shape), sizes))

    def observe_words(
        self, output: str, words: Iterable[int | str], packing: WordFormat, layout: str | None = None, **sizes: int
    ) -> None:
        """Words of one output as they come over a bus; whole cases are passed on to `observe`.

        Args:
            output: an output's name.
            words: numbers, or texts of binary digits, the highest first, in which X, Z, U, W and - are undefined.
            packing: how elements lie in a word.
            layout, sizes: as in `observe`.
        """
        self._check_name(output)
        shape = expected_shape(self.network, output)
        axes = Layout.parse(layout or ("n h w c" if len(shape) == 3 else "n c"), len(shape) + 1)
        row = axes.file_shape((1, *shape), sizes)[-1]
        each = int(np.prod(shape)) // row * packing.words(row)
        waiting = self._words.setdefault(output, [])
        waiting += [_word(output, word, packing.word_bits) for word in words]
        while len(waiting) >= each:
            case, waiting[:each] = waiting[:each], []
            undefined = sum(1 for _, unknown in case if unknown)
            if undefined:
                message = f"X or Z in {undefined} of the {each} words of a case"
                self._findings.append(Finding("undefined", message, output, self._cases(output)))
            self.observe(output, packing.decode([w for w, _ in case], [u for _, u in case], row), layout, **sizes)

    def _cases(self, output: str) -> int:
        return sum(len(piece) for piece in self._seen.get(output, []))

    def verdict(self) -> Verdict:
        """Compare all that was seen; images of which something is missing are a finding."""
        if not self._images:
            raise RefdesignError("scoreboard: found no images, expected at least one (expect)")
        verdict = compare(self.network, _Seen(self), np.stack(self._images))
        if not self.whole:  # that the last layer is missing is no news
            verdict.findings = [entry for entry in verdict.findings if entry.fault or entry.kind != "missing"]
        verdict.findings += self._findings
        for name, words in self._words.items():
            if words:
                verdict.findings.append(Finding("count", f"{len(words)} words of an unfinished case were left", name))
        return verdict

    def check(self, *, diagnosis_time: float = 20.0) -> Verdict:
        """The verdict; raises `AssertionError`, as benches do, with the first difference and its reason.

        Args:
            diagnosis_time: seconds to look for the reason.
        """
        verdict = self.verdict()
        if verdict.status == EQUAL or (not self.whole and verdict.status == COULD_NOT_RUN):
            return verdict
        reason: Diagnosis | None = None
        if verdict.differing and verdict.sample is not None:
            reason = diagnose(self.network, verdict.sample, seconds=diagnosis_time)
        raise AssertionError("\n".join(lines(to_dict(self.network, verdict, reason))))

    def _check_name(self, output: str) -> None:
        if output not in comparable_outputs(self.network):
            raise RefdesignError(f"scoreboard: found {output!r}, expected some of {comparable_outputs(self.network)}")

    def answer(self, start: int, count: int) -> Answer:
        """What was seen for the images from `start`."""
        outputs, answered, findings = {}, {}, []
        for name in comparable_outputs(self.network):
            pieces = self._seen.get(name, [])
            shape = expected_shape(self.network, name)
            seen = np.concatenate(pieces) if pieces else np.zeros((0, *shape), output_type(self.network, name))
            part = seen[start : start + count]
            if len(part) < count and (pieces or name in self.required):
                message = f"seen for {len(seen)} of {len(self._images)} images"
                findings.append(Finding("count", message, name, len(part)))
            if len(seen) > len(self._images) and start == 0:
                findings.append(Finding("count", f"seen for {len(seen)} cases of {len(self._images)} images", name))
            if len(part):
                outputs[name] = np.concatenate([part, np.zeros((count - len(part), *shape), part.dtype)])
                if len(part) < count:
                    answered[name] = np.arange(count) < len(part)
        return Answer(outputs, tuple(findings), True, answered)


def _word(output: str, word: int | str, bits: int) -> tuple[int, int]:
    """A word's value, and which of its bits are undefined."""
    if not isinstance(word, str):
        if not 0 <= word < 1 << bits:
            raise RefdesignError(f"{output}: found the word {word:#x}, expected {bits} bits")
        return int(word), 0
    if len(word) != bits or not set(word) <= set("01lhLHxXzZuUwW-"):
        raise RefdesignError(f"{output}: found the word {word!r}, expected {bits} binary digits")
    value = "".join("1" if digit in "1hH" else "0" for digit in word)
    unknown = "".join("0" if digit in "01lhLH" else "1" for digit in word)
    return int(value, 2), int(unknown, 2)


class _Seen:
    """The scoreboard as a door."""

    what = "scoreboard"
    again = False
    few = 0

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._start = 0

    def ask(self, images: Images) -> Answer:
        start, self._start = self._start, self._start + len(images)
        return self._board.answer(start, len(images))

    def ask_layer(self, layer: str, inputs: Images, real: RealStreams | None = None) -> Answer | None:
        return None

    def close(self) -> tuple[Finding, ...]:
        return ()
