"""What no images can show on a network, because it has nothing in which it could."""

from __future__ import annotations

from refdesign.network import NetworkData
from refdesign.paths import thresholds_of
from refdesign.verify.implementation import Finding


def blind_spots(network: NetworkData) -> list[Finding]:
    """Faults that cannot show on a network, as notes.

    >>> from refdesign.api import pretrained
    >>> print(blind_spots(pretrained("digits"))[0].message)
    faults of channels with direction -1 (negative gamma): this network has none; 'refdesign conformance' draws some
    """
    directions = [thresholds.direction for thresholds in thresholds_of(network).values()]
    if not directions or any((direction < 0).any() for direction in directions):
        return []
    message = "faults of channels with direction -1 (negative gamma): this network has none; "
    return [Finding("cannot show", f"{message}'refdesign conformance' draws some", fault=False)]
