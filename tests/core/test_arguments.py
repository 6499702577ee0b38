"""Numbers and choices that callers pass: one wording for every refusal."""

import math
import re
from typing import Any

import pytest

from desk360_async import ConfigurationError
from desk360_async._arguments import one_of, seconds, whole


@pytest.mark.parametrize(
    ("value", "options", "result"),
    [
        (0, {}, 0),
        (7, {"least": 7, "most": 7}, 7),
        ("11", {"digits": True}, 11),
        (" 11\n", {"digits": True}, 11),
    ],
)
def test_a_whole_number_within_its_bounds_is_returned(
    value: Any, options: dict[str, Any], result: int
) -> None:
    assert whole("size", value, **options) == result


@pytest.mark.parametrize(
    ("value", "options", "wanted"),
    [
        (-1, {}, "a whole number of 0 or more, got -1"),
        (True, {}, "a whole number of 0 or more, got True"),
        (1.0, {}, "a whole number of 0 or more, got 1.0"),
        ("11", {}, "a whole number of 0 or more, got '11'"),
        ("1१", {"digits": True}, "a whole number of 0 or more, got '1१'"),
        (1001, {"least": 1, "most": 1000}, "a whole number from 1 to 1,000, got 1001"),
        (None, {"meaning": "bytes"}, "a whole number of 0 or more (bytes), got None"),
        pytest.param(
            10**5000,
            {"most": 9},
            "a whole number from 0 to 9, got a number of thousands of digits",
            id="huge",
        ),
        ("x" * 99, {}, f"a whole number of 0 or more, got '{'x' * 19}… (101 characters)"),
    ],
)
def test_another_value_is_refused_with_the_bounds(value: Any, options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'size must be {wanted}')}$"):
        whole("size", value, **options)


@pytest.mark.parametrize("value", [0, 0.5, 3, math.inf])
def test_seconds_within_their_bounds_are_returned(value: float) -> None:
    assert seconds("timeout", value) == value


@pytest.mark.parametrize(
    ("value", "options", "wanted"),
    [
        (-0.1, {}, "of 0 or more, got -0.1"),
        (math.nan, {}, "of 0 or more, got nan"),
        (True, {}, "of 0 or more, got True"),
        ("3", {}, "of 0 or more, got '3'"),
        (0, {"positive": True}, "of more than 0, got 0"),
        (math.inf, {"most": 60}, "from 0 to 60, got inf"),
        (0, {"least": 0.001, "most": 60, "meaning": "per request"}, "from 0.001 to 60 (per request), got 0"),
    ],
)
def test_other_seconds_are_refused_with_the_bounds(value: Any, options: dict[str, Any], wanted: str) -> None:
    text = re.escape(f"timeout must be a number of seconds {wanted}")
    with pytest.raises(ConfigurationError, match=f"^{text}$"):
        seconds("timeout", value, **options)


def test_a_choice_is_returned() -> None:
    assert one_of("lane", "bulk", ("interactive", "bulk")) == "bulk"


@pytest.mark.parametrize(
    ("value", "choices", "wanted"),
    [
        ("slow", ("interactive", "bulk"), "'interactive' or 'bulk', got 'slow'"),
        (True, (1, 2, 3), "1, 2 or 3, got True"),
        ([], ("off",), "'off', got []"),
    ],
)
def test_another_choice_is_refused_with_the_choices(
    value: Any, choices: tuple[Any, ...], wanted: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'lane must be {wanted}')}$"):
        one_of("lane", value, choices)
