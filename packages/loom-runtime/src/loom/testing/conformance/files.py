"""A conformance report for machines: JSON and JUnit XML."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import msgspec

from .report import ConformanceReport, PortReport

__all__ = ["json_text", "junit_xml"]

# XML 1.0 has no way to write these; a failure that shows a hostile key holds some of them.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def json_text(report: ConformanceReport) -> str:
    """The whole report as one JSON document, with ``ok`` for the whole and for each port."""
    value = msgspec.to_builtins(report)
    value = {"ok": report.ok, **value}
    for shown, url in zip(value["urls"], report.urls, strict=True):
        shown["ports"] = [
            {"ok": port.ok, **plain} for plain, port in zip(shown["ports"], url.ports, strict=True)
        ]  # fmt: skip
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def junit_xml(report: ConformanceReport) -> str:
    """JUnit XML: a suite for each port of each URL, whose facts are its properties."""
    root = ElementTree.Element("testsuites", name="loom conformance", time=f"{report.seconds:.3f}")
    for url in report.urls:
        for port in url.ports:
            root.append(_suite(url.url, port))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(url: str, port: PortReport) -> ElementTree.Element:
    outcomes = [test.outcome for test in port.tests]
    suite = ElementTree.Element(
        "testsuite",
        name=_writable(f"{url} {port.port}"),
        tests=str(len(outcomes)),
        failures=str(outcomes.count("failed")),
        errors="0",
        skipped=str(outcomes.count("skipped")),
        time=f"{port.seconds:.3f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    for fact in port.facts:
        ElementTree.SubElement(properties, "property", name=fact.name, value=fact.status.value)
    for test in port.tests:
        case = ElementTree.SubElement(
            suite, "testcase", classname=port.adapter, name=test.name, time=f"{test.seconds:.3f}"
        )
        if test.outcome == "skipped":
            ElementTree.SubElement(case, "skipped", message=_writable(test.reason))
        elif test.outcome == "failed":
            last = test.reason.strip().splitlines()[-1:] or [""]
            ElementTree.SubElement(case, "failure", message=_writable(last[0])).text = _writable(test.reason)
    return suite


def _writable(text: str) -> str:
    return _UNWRITABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
