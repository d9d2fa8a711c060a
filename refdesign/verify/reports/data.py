"""A verification as plain data, as `report.schema.json` describes it."""

from __future__ import annotations

from typing import Any

import refdesign
from refdesign.network import NetworkData
from refdesign.verify.compare import COULD_NOT_RUN, EQUAL, Verdict
from refdesign.verify.diagnosis import Diagnosis
from refdesign.verify.differences import OutputCount
from refdesign.verify.implementation import comparable_outputs, expected_shape
from refdesign.verify.patterns import patterns
from refdesign.verify.rounding import says

FORMAT = "refdesign.verify/1"
"""What the field `format` of a report holds."""


def to_dict(network: NetworkData, verdict: Verdict, diagnosis: Diagnosis | None = None) -> dict[str, Any]:
    """The report as plain data.

    Args:
        network: the reference.
        verdict: what the comparison found.
        diagnosis: why, where something differs.

    >>> from refdesign.api import pretrained
    >>> import numpy as np
    >>> from refdesign.verify.compare import compare
    >>> from refdesign.verify.doors.callable import CallableDoor
    >>> digits = pretrained("digits")
    >>> verdict = compare(digits, CallableDoor(digits.run, digits), np.zeros((2, 8, 8, 1), np.uint8))
    >>> to_dict(digits, verdict)["sentence"]
    'equal: 20 values of 2 images in 1 of 14 outputs (logits), 0.05 % of all'
    >>> to_dict(digits, verdict)["compared"]
    'bits and integers by equality, logits within 10 float32 roundings (266 if the batch norm is in the weights)'
    """
    return {
        "format": FORMAT,
        "refdesign": refdesign.__version__,
        "network": network.name,
        "conventions": network.conventions.to_dict(),
        "implementation": verdict.implementation,
        "status": verdict.status,
        "sentence": sentence(network, verdict),
        "compared": says(network, exact=verdict.exact),
        "images": verdict.images,
        "values_compared": verdict.values,
        "values_differing": verdict.differing,
        "share_compared": share(network, verdict),
        "outputs": {name: _count(count) for name, count in verdict.counts.items()},
        "layers_alone": {name: _count(count) for name, count in verdict.alone.items()},
        "layers_at_fault": list(verdict.layers_at_fault),
        "last_compared": verdict.last_compared,
        "not_compared": list(verdict.not_compared),
        "findings": [finding.to_dict() for finding in verdict.findings],
        "first_difference": None if verdict.first is None else verdict.first.to_dict(),
        "diagnosis": None if diagnosis is None else diagnosis.to_dict(),
    }


def share(network: NetworkData, verdict: Verdict) -> float:
    """The share of all values of all outputs that was compared, from 0 to 1."""
    total = 0
    for name in comparable_outputs(network):
        size = 1
        for extent in expected_shape(network, name):
            size *= extent
        total += size * verdict.images
    return verdict.values / total if total else 0.0


def sentence(network: NetworkData, verdict: Verdict) -> str:
    """The verdict in one line: equal or not, which outputs and what share of all values were compared."""
    names = ", ".join(verdict.counts)
    what = (
        f"{verdict.values:,} values of {verdict.images:,} images in {len(verdict.counts)} of "
        f"{len(comparable_outputs(network))} outputs ({names}), {share(network, verdict):.2%} of all"
    ).replace("%", " %")
    if not verdict.counts:
        what = f"nothing, of {verdict.images:,} images"
    open_ = sum(count.left_out for count in verdict.counts.values())
    rounded = sum(count.rounded for count in verdict.counts.values())
    left = f"; {rounded:,} of the logits are rounded otherwise, within their bound" if rounded else ""
    left += f"; {open_:,} values that the reference leaves open were left out" if open_ else ""
    left += "".join(f"; {finding.message}" for finding in verdict.findings if finding.kind == "misnamed")
    if verdict.status == EQUAL:
        return f"equal: {what}{left}"
    if verdict.status == COULD_NOT_RUN:
        return f"no verdict: compared {what}; the last layer ({' or '.join(verdict.last)}) was not compared{left}"
    if verdict.differing:
        return f"different: {verdict.differing:,} values differ; compared {what}{left}"
    faults = sum(finding.fault for finding in verdict.findings)
    why = (
        f"{faults} finding{'s' * (faults > 1)}"
        if faults
        else f"layers by themselves differ ({', '.join(verdict.layers_at_fault)})"
    )
    return f"different: {why}; compared {what}{left}"


def _count(count: OutputCount) -> dict[str, Any]:
    by_phase = count.by_phase
    return {
        "shape": list(count.shape),
        "values": count.values,
        "left_out": count.left_out,
        "differing": count.differing,
        "rounded": count.rounded,
        "furthest": round(count.furthest, 6),
        "images_differing": count.images,
        "first": None if count.first is None else list(count.first),
        "first_values": None if count.first_values is None else [_finite(value) for value in count.first_values],
        "first_images": list(count.first_images),
        "patterns": patterns(count),
        "by_channel": count.by_channel.tolist(),
        "by_phase": None if by_phase is None else by_phase.tolist(),
        "by_position": None if count.by_position is None else count.by_position.tolist(),
    }


def _finite(value: float | str) -> float | str:
    """JSON has no infinities and no NaN: they are written as text."""
    return value if isinstance(value, str) or value - value == 0 else str(value)
