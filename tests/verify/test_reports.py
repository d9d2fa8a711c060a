"""Reports: JSON by its schema, JUnit XML, and one HTML file that needs nothing else."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from importlib import resources
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest

from refdesign.verify.compare import compare
from refdesign.verify.diagnosis import diagnose
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.reports import data, html, junit
from tests.verify.port import Port
from tests.verify.subjects import images_for, uneven

NETWORK = uneven()
IMAGES = images_for(NETWORK, 10)


def _report(implementation: Any) -> dict[str, Any]:
    door = CallableDoor(implementation, NETWORK, what='a "<b>port</b>" & more')
    verdict = compare(NETWORK, door, IMAGES)
    reason = None
    if verdict.sample is not None and verdict.differing:
        reason = diagnose(NETWORK, verdict.sample, door.ask, clock=time.thread_time)
    return data.to_dict(NETWORK, verdict, reason)


def _nan(images: Any) -> Any:
    logits = NETWORK.run(images)["logits"].astype(np.float64)
    logits[0, 0] = np.nan
    return logits


@pytest.fixture(
    scope="module",
    params=[Port(NETWORK), Port(NETWORK, "slices repeated"), lambda images: 1 / 0, _nan],
    ids=["equal", "different", "raises", "nan"],
)
def report(request: pytest.FixtureRequest) -> dict[str, Any]:
    return _report(request.param)


def test_json_is_as_the_schema_says(report: dict[str, Any]) -> None:
    schema = json.loads((resources.files("refdesign.verify.reports") / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(json.dumps(report, allow_nan=False)), schema)


def test_junit_counts_what_it_holds(report: dict[str, Any]) -> None:
    suite = ElementTree.fromstring(junit.to_xml(report))
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert int(suite.get("tests", "")) == len(cases) == 1 + len(NETWORK.output_names)
    differing = [name for name, count in report["outputs"].items() if count["differing"]]
    failed = {name for name, case in cases.items() if case.find("failure") is not None}
    assert failed == {*differing, *(["answers"] if any(f["fault"] for f in report["findings"]) else [])}
    wrong = int(suite.get("failures", "")) + int(suite.get("errors", ""))
    assert (wrong > 0) == (report["status"] != 0)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_html_needs_nothing_else_and_shows_the_maps(report: dict[str, Any]) -> None:
    text = html.to_html(report)
    page = _Page()
    page.feed(text)
    assert page.addresses == []
    assert "b" not in page.tags
    assert "script" not in page.tags
    assert "&lt;b&gt;port" in text
    cells = len(re.findall(r'<td style="background', text))
    shown = 0
    for count in report["outputs"].values():
        if count["differing"]:
            shown += int(np.prod(count["shape"][:2])) if count["by_position"] is not None else 0
            shown += int(np.size(count["by_phase"])) if count["by_phase"] is not None else 0
            shown += len(count["by_channel"])
    assert cells == shown


def test_text_that_xml_cannot_hold() -> None:
    def noisy(images: Any) -> Any:
        raise ValueError("a\x00b\x1b[31m\ud800")

    ElementTree.fromstring(junit.to_xml(_report(noisy)))
