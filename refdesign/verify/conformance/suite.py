"""What pytest collects: one test a case.

pytest --pyargs refdesign.verify.conformance.suite --refdesign-implementation package.module:name
"""

from __future__ import annotations

import pytest

from refdesign.verify.conformance.cases import CASES, case
from refdesign.verify.conformance.session import NotConforming, Session


@pytest.mark.parametrize("name", [entry.name for entry in CASES])
def test_conforms(name: str, refdesign_conformance: Session, request: pytest.FixtureRequest) -> None:
    """The implementation agrees with the reference in every example of a case."""
    entry = case(name)
    result = refdesign_conformance.run(entry)
    request.node.user_properties.append(("refdesign", result.to_dict()))
    if result.skipped is not None:
        pytest.skip(result.skipped)
    if result.fault is not None:
        raise NotConforming(refdesign_conformance.explain(entry, result))
