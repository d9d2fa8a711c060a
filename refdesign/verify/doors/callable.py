"""The first door: an implementation as a Python callable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from refdesign.network import NetworkData
from refdesign.verify.doors.door import RealStreams
from refdesign.verify.implementation import Answer, Finding, Images, Implementation, ask
from refdesign.verify.survival import survived


class CallableDoor:
    """Asks a callable; whatever it does is part of the answer.

    The first batch is asked twice, to see whether the answers repeat. An implementation that has a method
    `run_layer(layer_name, inputs)` can be asked layer by layer; for a layer with a shortcut it gets a third argument,
    the real streams of earlier layers by name.

    Args:
        implementation: bound to the network.
        network: gives the outputs' names and shapes.
        what: names the implementation in reports.
        time_limit: seconds for a batch; None waits for ever.
        repeat: whether the first batch is asked twice, and a few images once more at the end.
        notes: gives what else there is to say of how it is asked, after an answer.

    >>> import numpy as np
    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> door = CallableDoor(digits.run, digits)
    >>> sorted(door.ask(np.zeros((2, 8, 8, 1), np.uint8)).outputs)
    ['logits']
    """

    again = True

    def __init__(
        self,
        implementation: Implementation,
        network: NetworkData,
        *,
        what: str = "callable",
        time_limit: float | None = None,
        repeat: bool = True,
        notes: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.what = what
        self._implementation = implementation
        self._network = network
        self._time_limit = time_limit
        self._repeat = repeat
        self.few = 3 if repeat else 0
        self._notes = notes

    def ask(self, images: Images) -> Answer:
        """The answer to a batch of images."""
        repeat, self._repeat = self._repeat, False
        answer = self._asked(self._implementation, images, repeat=repeat)
        notes = (Finding("adapted", note, fault=False) for note in self._notes())
        return replace(answer, findings=(*answer.findings, *notes))

    def ask_layer(self, layer: str, inputs: Images, real: RealStreams | None = None) -> Answer | None:
        """The answer of one layer by itself; None where the implementation has no `run_layer`."""
        run_layer = getattr(self._implementation, "run_layer", None)
        if run_layer is None:
            return None
        name = "logits" if layer == self._network.layers[-1].name else f"{layer}.bits"

        def implementation(images: Images) -> Any:
            found = run_layer(layer, images, real) if real else run_layer(layer, images)
            return found if isinstance(found, Mapping) else {name: found}

        return self._asked(implementation, inputs)

    def _asked(self, implementation: Implementation, images: Images, *, repeat: bool = False) -> Answer:
        with survived():
            return ask(implementation, self._network, images, time_limit=self._time_limit, repeat=repeat)

    def close(self) -> tuple[Finding, ...]:
        """Nothing is left to do."""
        return ()
