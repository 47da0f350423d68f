"""Results as JUnit XML, which build servers read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from extproc.offline.running import FileResult, Result

# XML 1.0 section 2.2: what may not stand in a document at all.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def written(files: Sequence[FileResult]) -> bytes:
    """Write results, one suite for each file."""
    root = ET.Element("testsuites", name="extproc test")
    for file in files:
        _suite(root, file)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _suite(root: ET.Element, file: FileResult) -> None:
    failures = sum(not result.passed for result in file.results)
    suite = ET.SubElement(
        root,
        "testsuite",
        name=_text(file.file),
        tests=str(len(file.results) or len(file.troubles)),
        failures=str(failures),
        errors=str(len(file.troubles)),
        time=f"{sum(result.seconds for result in file.results):.3f}",
    )
    for trouble in file.troubles:
        case = _case(suite, file.file, "can be used", 0.0)
        ET.SubElement(case, "error", message=_text(str(trouble)))
    for result in file.results:
        _result(suite, file.file, result)


def _result(suite: ET.Element, file: str, result: Result) -> None:
    case = _case(suite, file, result.name, result.seconds)
    if not result.passed:
        lines = [f"{d.what}: expected {d.expected}, got {d.got}" for d in result.differences]
        failure = ET.SubElement(case, "failure", message=_text("; ".join(lines)))
        failure.text = _text("\n".join(lines))
    elif result.skipped:
        ET.SubElement(case, "system-out").text = _text(f"not sent live: {result.skipped}")


def _case(suite: ET.Element, file: str, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(
        suite, "testcase", classname=_text(file), name=_text(name), time=f"{seconds:.3f}"
    )


def _text(text: str) -> str:
    return _NOT_XML.sub(lambda found: repr(found[0])[1:-1], text)
