"""Comparison of an implementation with the reference: streaming, layer by layer, equality on bits and integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.network import NetworkData, Stage, layer_outputs
from refdesign.paths import thresholds_of
from refdesign.run import check_images, default_batch_size, run_batch
from refdesign.verify.alone import arriving, can_judge, on_their_inputs
from refdesign.verify.differences import OutputCount, count_for, differ, first_difference, odd_values
from refdesign.verify.doors.door import Door
from refdesign.verify.implementation import Answer, Finding, Images, comparable_outputs
from refdesign.verify.keeping import Keeper, answered_row
from refdesign.verify.rounding import exact_logits, source_of_logits
from refdesign.verify.undefined import NotFinite
from refdesign.verify.verdict import COULD_NOT_RUN, DIFFERENT, EQUAL, Sample, Verdict

__all__ = ["COULD_NOT_RUN", "DIFFERENT", "EQUAL", "Sample", "Verdict", "batches", "compare"]

_FINDINGS = 100


def last_outputs(network: NetworkData) -> tuple[str, ...]:
    """The outputs that stand for the last layer: the logits, or the integers that they are made of.

    >>> from refdesign.api import pretrained
    >>> last_outputs(pretrained("digits"))
    ('logits', 'dense2.accumulator')
    """
    last = network.layers[-1]
    parts = (f"{last.name}.pooled", f"{last.name}.accumulator")
    sums = next((name for name in parts if name in network.output_names), None)
    return ("logits",) if sums is None else ("logits", sums)


def batches(images: Images, size: int) -> Iterable[Images]:
    """Images in batches of at most `size`."""
    return (images[start : start + size] for start in range(0, len(images), size))


def compare(
    network: NetworkData,
    door: Door,
    images: Images | Iterable[Images],
    *,
    batch_size: int | None = None,
    layers_alone: bool = True,
    isolated: bool = False,
    exact: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Verdict:
    """Compare an implementation with the reference.

    Bits, integers and real streams are compared with equality, as numbers (so 0.0 equals -0.0, and 3.0 equals 3);
    real logits within the bound on rounding that `refdesign.verify.rounding` states. Bits that the reference itself
    leaves open (`<layer>.uncertain`) are left out and counted; so is what follows from them.

    Args:
        network: the reference.
        door: the implementation.
        images: uint8 (N, H, W, C), or an iterable of batches of them, which need not fit into memory.
        batch_size: images at a time; None chooses by memory.
        layers_alone: also judge every layer by itself on the inputs that the implementation had for it.
        isolated: feed every layer the reference's inputs, where the implementation can be asked layer by layer.
        exact: ask for equality in real logits too.
        progress: called with the number of images done.

    Returns:
        The verdict; the door is left open.

    Raises:
        RefdesignError: images of another shape or dtype, or none at all; `isolated` where layers cannot be asked.

    >>> from refdesign.api import pretrained
    >>> from refdesign.verify.doors.callable import CallableDoor
    >>> digits = pretrained("digits")
    >>> images = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8, 1)
    >>> compare(digits, CallableDoor(digits.run, digits), images).status
    0
    """
    verdict = Verdict(network.name, door.what, exact=exact, last=last_outputs(network))
    work = _Comparison(network, verdict, layers_alone, exact)
    size = default_batch_size(network) if batch_size is None else batch_size
    if size < 1:
        raise RefdesignError(f"batch_size: found {size}, expected at least 1")
    pieces = batches(images, size) if isinstance(images, np.ndarray) else images
    few = None
    for batch in pieces:
        check_images(network, batch)
        if not len(batch):
            continue
        if few is None:  # a size that was asked for may be the only one that it takes
            few = batch[: door.few if batch_size is None else len(batch)].copy()
        answer = door.ask(batch)
        work.add(batch, answer)
        if isolated:
            work.add_isolated(batch, door)
        if progress is not None:
            progress(verdict.images)
        if not answer.goes_on:
            break
    if few is None:
        raise RefdesignError("images: found none, expected at least one to compare")
    work.finish()
    if _flushes():
        message = (
            "numbers below 1.2e-38 are 0 in this process, the reference's, too: something that was loaded set that "
            "(-ffast-math, set_flush_denormal)"
        )
        verdict.findings.append(Finding("flushed", message, fault=False))
    if door.few and verdict.status != DIFFERENT:
        verdict.findings += _asked_again(network, door, few, exact)
    return verdict


def _flushes() -> bool:
    """Whether float32 numbers below the smallest normal one become 0 in this thread."""
    smallest = np.full(1, np.finfo(np.float32).tiny, dtype=np.float32)
    return not (smallest / 2).any()


def _asked_again(network: NetworkData, door: Door, images: Images, exact: bool) -> list[Finding]:
    """What is wrong with images that were answered rightly, when a few are asked again: a state between calls.

    That so few raise is said and no fault: what was compiled for one number of images takes no other.
    """
    again = Verdict(network.name, door.what, exact=exact)
    work = _Comparison(network, again, False, exact)
    work.add(images, door.ask(images))
    asked = f"{len(images)} images, asked again by themselves: "
    findings = [
        replace(finding, message=asked + finding.message, fault=False) if finding.kind == "raised" else finding
        for finding in again.findings
        if finding.fault
    ]
    wrong = [count for count in work.counts.values() if count.differing]
    if wrong:
        values = f"{sum(count.differing for count in wrong):,} values are others, first in {wrong[0].name}"
        findings.append(Finding("not repeatable", asked + values))
    return findings


class _Comparison:
    """A comparison under way: the counts, and what is kept for the report."""

    def __init__(self, network: NetworkData, verdict: Verdict, layers_alone: bool, exact: bool) -> None:
        self.network = network
        self.verdict = verdict
        self.layers_alone = layers_alone
        self.source = None if exact else source_of_logits(network)
        self.order = comparable_outputs(network)
        self.uncertain = tuple(name for name in network.output_names if name.endswith(".uncertain"))
        self.counts: dict[str, OutputCount] = {}
        self.alone: dict[str, OutputCount] = {}
        self.kept: tuple[int, Images, dict[str, NDArray[Any]]] | None = None
        self.not_finite: dict[str, NotFinite] = {}
        self.keeper = Keeper()

    def add(self, images: Images, answer: Answer) -> None:
        start = self.verdict.images
        self.verdict.images += len(images)
        for finding in answer.findings:
            self._found(finding, start)
        names = [name for name in self.order if name in answer.outputs]
        if not names:
            return
        needed = () if self.source is None or "logits" not in names else (self.source,)
        ours = run_batch(self.network, images, "packed", frozenset((*names, *self.uncertain, *needed)))
        spoiled = np.zeros(len(images), dtype=np.bool_)
        differing: dict[str, NDArray[np.bool_]] = {}
        for name in names:
            open_ = self._open(name, ours, answer, spoiled)
            rows = answer.answered.get(name)
            where = self._add(self.counts, name, start, ours, answer.outputs[name], rows, open_)
            if where is not None:
                differing[name] = where
                self._note_values(name, answer.outputs[name][where])
                self._keep_first(name, images, answer, int(where.argmax()))
        if self.layers_alone and not self.uncertain:
            self._judge_layers(start, ours, answer, equal=not differing)
        self.keeper.add(start, images, answer, differing)

    def _note_values(self, name: str, theirs: NDArray[Any]) -> None:
        """Say once what an output that differs cannot hold at all."""
        self.not_finite.setdefault(name, NotFinite(theirs.shape[-1])).add(theirs)
        odd = odd_values(name, theirs, ties=self.network.conventions.sign_at_zero == 0)
        said = {"values", "undefined"}
        if odd is not None and not any(f.kind in said and f.output == name for f in self.verdict.findings):
            self.verdict.findings.append(Finding("values", odd, name, fault=False))

    def _add(
        self,
        counts: dict[str, OutputCount],
        name: str,
        start: int,
        reference: Mapping[str, NDArray[Any]],
        theirs: NDArray[Any],
        rows: NDArray[np.bool_] | None = None,
        open_: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.bool_] | None:
        """Count one output of a batch; returns which images differ, bool (N,), or None: none."""
        if name not in counts:
            counts[name] = count_for(self.network, name)
        ours = reference[name]
        source = reference.get(self.source) if self.source is not None and name == "logits" else None
        numbers = np.arange(start, start + len(ours))
        if rows is not None:
            open_ = None if open_ is None else np.broadcast_to(open_, ours.shape)[rows]
            ours, theirs, numbers = ours[rows], theirs[rows], numbers[rows]
            source = None if source is None else source[rows]
        exact = None if source is None else partial(exact_logits, self.network, source)
        where = counts[name].add(numbers, ours, theirs, open_, exact)
        if where is None:
            return None
        found = where.reshape(len(where), -1).any(axis=1)
        if rows is None:
            return np.asarray(found)
        spread = np.zeros(len(rows), dtype=np.bool_)
        spread[rows] = found
        return spread

    def _open(
        self, name: str, ours: dict[str, NDArray[Any]], answer: Answer, spoiled: NDArray[np.bool_]
    ) -> NDArray[np.bool_] | None:
        """Where the reference leaves an output open; marks the images in which an open bit does differ."""
        layer, _, part = name.rpartition(".")
        open_ = None
        if spoiled.any():
            open_ = spoiled.reshape(-1, *(1,) * (ours[name].ndim - 1)).copy()
        if part in ("bits", "real") and f"{layer}.uncertain" in ours:
            uncertain = ours[f"{layer}.uncertain"]
            open_ = uncertain if open_ is None else uncertain | open_
            wrong = (differ(ours[name], answer.outputs[name]) & uncertain) if part == "bits" else None
            if wrong is not None:
                spoiled |= wrong.reshape(len(wrong), -1).any(axis=1)
        return open_

    def _judge_layers(self, start: int, ours: dict[str, NDArray[Any]], answer: Answer, *, equal: bool) -> None:
        """Judge every layer by itself: where its inputs differ from ours, our layer gets theirs."""
        theirs = answer.outputs
        if any(name in answer.answered for name in theirs):
            return
        layers = self.network.layers
        for number, layer in enumerate(layers):
            before, last = layers[number - 1].name if number else "", layer is layers[-1]
            names = [*layer_outputs(self.network, layer), *(["logits"] if last else [])]
            names = [name for name in names if name in theirs]
            if not names or not isinstance(layer, Stage) or not can_judge(self.network, layer, before, theirs):
                continue
            if equal:  # then so are their inputs, and there is nothing to compare again
                for name in names:
                    self.alone.setdefault(name, count_for(self.network, name)).values += ours[name].size
                continue
            needed = dict.fromkeys([*names, *([self.source] if last and self.source is not None else [])])
            expected = on_their_inputs(self.network, layer, before, needed, ours, theirs)
            if expected is not None:
                for name in names:
                    self._add(self.alone, name, start, expected, theirs[name])

    def add_isolated(self, images: Images, door: Door) -> None:
        """Feed every layer the reference's inputs, and compare what it makes of them."""
        start = self.verdict.images - len(images)
        ours = run_batch(self.network, images, "packed", frozenset(self.network.output_names))
        before = ""
        for layer in self.network.layers:
            x = images if not before else ours[f"{before}.{'real' if layer.takes == 'real' else 'bits'}"]
            before = layer.name
            answer = door.ask_layer(layer.name, x, arriving(layer, ours))
            if answer is None:
                raise RefdesignError(
                    f"{door.what}: cannot be asked layer by layer, expected a callable with a method "
                    "run_layer(layer_name, inputs) (and, where there are shortcuts, real)"
                )
            for finding in answer.findings:
                self._found(finding, start)
            for name, array in answer.outputs.items():
                self._add(self.alone, name, start, ours, array)
            if not answer.goes_on:
                return

    def _found(self, finding: Finding, start: int) -> None:
        if len(self.verdict.findings) >= _FINDINGS:
            return
        same = (finding.kind, finding.output, finding.message)
        if all((f.kind, f.output, f.message) != same for f in self.verdict.findings):
            image = None if finding.image is None and not finding.fault else start + (finding.image or 0)
            self.verdict.findings.append(
                Finding(finding.kind, finding.message, finding.output, image, finding.fault)
            )  # fmt: skip

    def _keep_first(self, name: str, images: Images, answer: Answer, row: int) -> None:
        order = self.order.index(name)
        if self.kept is None or order < self.kept[0]:
            self.kept = (order, images[row : row + 1].copy(), answered_row(answer, row))

    def finish(self) -> None:
        verdict = self.verdict
        for name, found in self.not_finite.items():
            says = found.says(verdict.images)
            if says is not None:
                verdict.findings.append(Finding("values", says, name))
        verdict.counts = {name: self.counts[name] for name in self.order if name in self.counts}
        verdict.alone = {name: self.alone[name] for name in self.order if name in self.alone}
        verdict.not_compared = tuple(name for name in self.order if name not in self.counts)
        if not verdict.last_compared and not any(finding.fault for finding in verdict.findings):
            message = f"the last layer ({' or '.join(verdict.last)}) was not compared: nothing follows for the network"
            verdict.findings.append(Finding("missing", message, "logits", fault=False))
        if self.kept is not None:
            order, image, theirs = self.kept
            everything = run_batch(self.network, image, "packed", frozenset(self.network.output_names))
            ours = {name: array[0] for name, array in everything.items()}
            count = verdict.counts[self.order[order]]
            verdict.first = first_difference(self.network, count, ours, theirs, thresholds_of(self.network))
        verdict.sample = self._sample()

    def _sample(self) -> Sample | None:
        counts, first = self.verdict.counts, self.verdict.first
        names = list(self.order)
        if "logits" in counts and counts["logits"].rounded and first is not None and first.output != "logits":
            names.remove("logits")  # the diagnosis compares bit for bit, and has the first difference to explain
        return self.keeper.sample(names)
