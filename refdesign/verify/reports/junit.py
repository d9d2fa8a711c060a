"""A verification as JUnit XML: one test case an output, and one for how the implementation answered."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree


def to_xml(report: dict[str, Any]) -> bytes:
    """A report (`data.to_dict`) as JUnit XML, for a continuous integration server.

    An output that was not compared is skipped, by name; a missing last layer is an error.

    >>> from refdesign.api import pretrained
    >>> import numpy as np
    >>> from refdesign.verify.compare import compare
    >>> from refdesign.verify.doors.callable import CallableDoor
    >>> from refdesign.verify.reports.data import to_dict
    >>> digits = pretrained("digits")
    >>> verdict = compare(digits, CallableDoor(digits.run, digits), np.zeros((2, 8, 8, 1), np.uint8))
    >>> ElementTree.fromstring(to_xml(to_dict(digits, verdict))).get("failures")
    '0'
    """
    suite = ElementTree.Element("testsuite", name=f"refdesign verify {report['network']}")
    faults = [finding for finding in report["findings"] if finding["fault"]]
    answers = _case(suite, report, "answers")
    if faults:
        text = "\n".join(_text(finding) for finding in faults)
        _add(answers, "failure", f"{len(faults)} findings", text)
    for name, count in report["outputs"].items():
        case = _case(suite, report, name)
        if count["differing"]:
            why = report["diagnosis"] or {}
            reasons = [str(why[key]) for key in ("verdict", "go_on") if why.get(key) is not None]
            text = "\n".join([*(f"differs {pattern}" for pattern in count["patterns"]), *reasons])
            message = f"{count['differing']} of {count['values']} values differ, first at {count['first']}"
            _add(case, "failure", message, text)
    for name in report["not_compared"]:
        case = _case(suite, report, name)
        missing = name == "logits" and not report["last_compared"] and not report["values_differing"]
        _add(case, "error" if missing else "skipped", "not compared", "")
    for outcome, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{outcome}"))))
    suite.set("tests", str(len(suite.findall("testcase"))))
    document: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document


def _case(suite: ElementTree.Element, report: dict[str, Any], name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_clean(str(report["implementation"])), name=name)


def _add(case: ElementTree.Element, outcome: str, message: str, text: str) -> None:
    ElementTree.SubElement(case, outcome, message=_clean(message)).text = _clean(text)


def _text(finding: dict[str, Any]) -> str:
    place = "" if finding["output"] is None else f" ({finding['output']})"
    return f"{finding['kind']}{place}: {finding['message']}"


def _clean(text: str) -> str:
    """Without the characters that XML cannot hold, which a foreign program may well print."""
    return "".join(c if c in "\t\n" or (ord(c) >= 32 and not 0xD800 <= ord(c) <= 0xDFFF) else "?" for c in text)
