"""Each "ruling N" that the code or the tests cite stands in the guide's page on rulings."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "desk360_async" / "guide"
HEADINGS = re.findall(r"^### (\w+)\. ", (GUIDE / "rulings.md").read_text(encoding="utf-8"), re.MULTILINE)
CITING = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in ("desk360_async", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if path != Path(__file__)
}
_CITED = re.compile(r"[Rr]ulings? ((?:\d+[a-z]?(?:, | and | to |-)?)+)")
# Files of this repository may be cited, and no others.
_UNSHIPPED = re.compile(
    r"\b(?:outcome|limiter|architecture|style|performance|machines|once|whatsapp|page|observability|doctor)\.md\b"
)


def cited(text: str) -> set[str]:
    """Return the numbers of the rulings that a text cites, the ends of a range included."""
    return {number for found in _CITED.findall(text) for number in re.findall(r"\d+[a-z]?", found)}


def test_every_cited_ruling_has_a_heading() -> None:
    """A citation that leads nowhere helps no reader."""
    lost = {name: cited(text) - set(HEADINGS) for name, text in CITING.items()}
    assert {name: numbers for name, numbers in lost.items() if numbers} == {}


def test_each_ruling_stands_once() -> None:
    """Numbers are never given twice, so that a citation has one meaning."""
    assert len(HEADINGS) == len(set(HEADINGS)) == 44


def test_citations_are_found_in_lists_and_ranges() -> None:
    """The pattern itself is tested, or a citation could hide from it."""
    assert cited("ruling 19a; rulings 4 to 10, and Ruling 32a") == {"19a", "4", "10", "32a"}


def test_no_document_outside_the_repository_is_cited() -> None:
    """A reader can open every file that a comment names."""
    shipped = {page.name for page in GUIDE.glob("*.md")}
    lost = {name: set(_UNSHIPPED.findall(text)) - shipped for name, text in CITING.items()}
    assert {name: pages for name, pages in lost.items() if pages} == {}
