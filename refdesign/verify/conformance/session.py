"""One run of the suite on one implementation: what the pytest plugin and the command line share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refdesign.conventions import PAPER
from refdesign.network import Layer, describe
from refdesign.verify.binding import Adapt, bind, load_target
from refdesign.verify.compare import compare
from refdesign.verify.conformance import replay
from refdesign.verify.conformance.capabilities import Capabilities
from refdesign.verify.conformance.cases import Case
from refdesign.verify.conformance.drawing import Example
from refdesign.verify.conformance.execution import EXAMPLES, CaseResult, run_case
from refdesign.verify.conformance.judging import Make
from refdesign.verify.diagnosis import Diagnosis, diagnose
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.reports import text

DIAGNOSIS_SECONDS = 20.0


class NotConforming(AssertionError):
    """A case that the implementation gets wrong; the message says all that there is to say."""


@dataclass
class Session:
    """How the suite is run.

    Attributes:
        make: binds the implementation under test to a network.
        name: what it is called.
        capabilities: what it lacks.
        examples: examples a case, times the case's effort.
        seed: which ones.
        failures: where failing examples are written; None: nowhere.
        time_limit: seconds for an example; None waits for ever.
    """

    make: Make
    name: str
    capabilities: Capabilities
    examples: int = EXAMPLES
    seed: int = 0
    failures: Path | None = None
    time_limit: float | None = None

    @classmethod
    def of(
        cls,
        target: str,
        *,
        capabilities: Path | None = None,
        examples: int | None = None,
        seed: int = 0,
        failures: Path | None = None,
        time_limit: float | None = None,
        adapt: Adapt | None = None,
    ) -> Session:
        """From what a user says: `package.module:name`, and the name of a capabilities file.

        `adapt` makes implementations of what is none by itself, as in `bind`; the rest is as in `Session`.

        Raises:
            RefdesignError: either cannot be loaded.

        >>> Session.of("refdesign.verify.mutants.subject.forward:Implementation").capabilities.lacks
        frozenset()
        """
        found = load_target(target)
        declared = Capabilities() if capabilities is None else Capabilities.read(capabilities)
        count = EXAMPLES if examples is None else examples
        return cls(lambda network: bind(found, network, adapt), target, declared, count, seed, failures, time_limit)

    def run(self, case: Case) -> CaseResult:
        """Run one case, and write its failing example, if there is one."""
        return run_case(
            case,
            self.make,
            self.capabilities,
            examples_per_case=self.examples,
            seed=self.seed,
            time_limit=self.time_limit,
        )

    def explain(self, case: Case, result: CaseResult) -> str:
        """What to say about a failing case: the fault, the smallest example, a diagnosis, where it is kept."""
        lines = [f"{case.name}: {result.fault}", f"   the case is about {case.what}"]
        example = result.failing
        if example is None:
            return "\n".join(lines)
        lines += _describe(example)
        reason = self.reason(example)
        if reason is not None:
            lines += [f"   {line}" for line in text.diagnosis(reason.to_dict())]
        if self.failures is not None:
            folder = self.failures / case.name.replace("/", "-").replace(" ", "-")
            why = None if reason is None else reason.verdict
            replay.write(example, {**result.to_dict(), "implementation": self.name, "diagnosis": why}, folder)
            lines.append(f"   again: refdesign conformance --impl {self.name} --replay {folder}")
        return "\n".join(lines)

    def reason(self, example: Example) -> Diagnosis | None:
        """What explains the answers to an example; None where they do not differ in values."""
        try:
            implementation = self.make(example.network)
        except Exception:  # the fault says so already
            return None
        door = CallableDoor(implementation, example.network, time_limit=self.time_limit, repeat=False)
        verdict = compare(example.network, door, example.images, layers_alone=False)
        if not verdict.differing or verdict.sample is None:
            return None
        return diagnose(example.network, verdict.sample, door.ask, seconds=DIAGNOSIS_SECONDS)


def _describe(example: Example) -> list[str]:
    network = example.network
    usual = PAPER.to_dict()
    choices = [f"{name}={value}" for name, value in network.conventions.to_dict().items() if value != usual[name]]
    return [
        f"   the smallest network found: {len(example.images)} images of {network.input_shape}, "
        f"{', '.join(choices) or 'the conventions of PAPER'}",
        *(f"      {_layer(layer)}" for layer in network.layers),
    ]


_QUIET: dict[str, Any] = {
    "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "hardtanh": False, "multiplier": 1,
    "offset": 0,
}  # fmt: skip


def _layer(layer: Layer) -> str:
    plain = describe(layer)
    if plain.get("padding") == (0, 0):
        plain.pop("padding_mode", None)
    said = [f"{name} {value}" for name, value in plain.items() if _QUIET.get(name) != value and name != "name"]
    for name in ("batch_norm", "kernel"):
        if getattr(layer, name, None) is not None:
            said.append(name.replace("_", " "))
    weights = getattr(layer, "weights", None)
    shape = weights[0].shape if isinstance(weights, tuple) else getattr(weights, "shape", None)
    return f"{layer.name}: " + ", ".join([*said, *([] if shape is None else [f"weights {shape}"])])
