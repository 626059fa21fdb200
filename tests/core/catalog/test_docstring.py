from __future__ import annotations

import inspect

from core.catalog.docstring import argument_docs, documented, summary, without_arguments
from core.catalog.records import Parameter

DOC = inspect.cleandoc(
    """First line.

    Body.

    Args:
        one: text
            that goes on: here.

        two (int, optional): more.
        *rest: others.
        low, high: bounds.

    Returns:
        nothing: at all.
    """
)


def test_arguments_are_joined_into_one_line_each() -> None:
    assert argument_docs(DOC) == {
        "one": "text that goes on: here.",
        "two": "more.",
        "rest": "others.",
        "low": "bounds.",
        "high": "bounds.",
    }


def test_docstring_without_a_section_has_no_arguments() -> None:
    assert argument_docs("Only a line: with a colon.") == {}
    assert argument_docs("") == {}


def test_summary_is_the_first_line() -> None:
    assert summary(DOC) == "First line."
    assert summary("") == ""


def test_rest_of_the_docstring_keeps_its_other_sections() -> None:
    rest = without_arguments(DOC)
    assert rest.startswith("First line.\n\nBody.")
    assert rest.endswith("Returns:\n    nothing: at all.")
    assert "bounds" not in rest
    assert without_arguments("No section.") == "No section."


def test_doc_of_a_parameter_stands_where_the_section_is_silent() -> None:
    given = [Parameter(name="one", doc="old"), Parameter(name="other", doc="kept")]
    assert [p.doc for p in documented(given, DOC)] == ["text that goes on: here.", "kept"]
