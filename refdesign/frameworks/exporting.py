"""What every framework's way into a network refuses alike: conventions that differ, and classes that were changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError


def shared_conventions(signs: Iterable[tuple[str, Conventions, bool]]) -> Conventions:
    """The conventions that all signs of a model follow, but for the arithmetic, which is that of `PAPER`.

    Args:
        signs: of every sign the layer's name, its conventions, and whether it has thresholds; a plain sign has none to
            be scaled, so its `threshold_scale` is free.

    Raises:
        RefdesignError: conventions that differ, naming the layer and the field.

    >>> shared_conventions([("a", PAPER, False), ("b", PAPER.replace(threshold_scale="gamma"), True)]).threshold_scale
    'gamma'
    """
    given = list(signs)
    scales = [conventions.threshold_scale for _, conventions, dithered in given if dithered]
    shared: Conventions | None = None
    for name, conventions, dithered in given:
        own = conventions.replace(arithmetic=PAPER.arithmetic)
        if not dithered:
            own = own.replace(threshold_scale=scales[0] if scales else PAPER.threshold_scale)
        shared = shared or own
        for field, expected in shared.to_dict().items():
            found = getattr(own, field)
            if found != expected:
                raise RefdesignError(
                    f"to_network, layer {name!r}, conventions, {field}: found {found!r}, expected {expected!r} as in "
                    f"{given[0][0]!r}"
                )
    return shared or PAPER


def refuse_changed(place: str, part: object, kinds: Sequence[type], methods: Sequence[str]) -> None:
    """Refuse an object that computes something else than the class that it is known as: the export would lose it.

    Args:
        place: where it stands in the model.
        part: a layer or model; one of no known class is let pass.
        kinds: the classes that are known.
        methods: the names of those methods that compute.

    Raises:
        RefdesignError: a method that the known class does not have so, naming it.

    >>> class Known:
    ...     def forward(self): ...
    >>> class Renamed(Known): ...
    >>> class Changed(Known):
    ...     def forward(self): ...
    >>> refuse_changed("conv1", Renamed(), [Known], ["forward"])
    >>> refuse_changed("conv1", Changed(), [Known], ["forward"])
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: to_network, 'conv1': found Changed, a Known with a forward of its own, which \
would be lost, expected Known as it is
    """
    known = next((kind for kind in type(part).__mro__ if kind in kinds), None)
    for method in methods:
        if known is not None and (
            method in vars(part) or getattr(type(part), method, None) is not getattr(known, method, None)
        ):
            raise RefdesignError(
                f"to_network, {place!r}: found {type(part).__name__}, a {known.__name__} with a {method} of its own, "
                f"which would be lost, expected {known.__name__} as it is"
            )
