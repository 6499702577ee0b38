"""A validator in the manner of Laravel's: rules as text, dotted names with wildcards, Laravel's wording.

This module holds only rules that don't depend on Desk360, each with its JSON Schema. The rules of each field
are in `endpoints`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from attrs import Factory, frozen

from desk360_async.sandbox.forms import Upload, is_list, is_map

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_URL = re.compile(r"https?://[^/?#\s]\S*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DATE = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")


@frozen
class Problem:
    """One failed rule: the field's dotted name and Laravel's sentence about it."""

    field: str
    message: str


@frozen
class _Rule:
    name: str
    argument: str


def members(value: Any) -> list[tuple[str | int, Any]]:
    """List the keys and values of a PHP array, which JSON spells as a list or as an object."""
    if is_map(value):
        return list(value.items())
    return list(enumerate(value)) if is_list(value) else []


def lookup(value: Any, key: str) -> Any:
    """Fetch a named member of a PHP array, or None."""
    return value.get(key) if is_map(value) else None


def at(data: Any, dotted: str) -> Any:
    """Fetch `a.b` out of nested PHP arrays, or None."""
    for key in dotted.split("."):
        data = lookup(data, key)
    return data


def expand(data: Any, parts: tuple[str, ...], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each field that a rule's name fits; a missing field has the value None."""
    head, rest = parts[0], parts[1:]
    if head == "*":
        found = [(str(key), value) for key, value in members(data)]
    else:
        found = [(head, lookup(data, head))]
    for key, value in found:
        if rest:
            yield from expand(value, rest, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def label(field: str) -> str:
    """Spell a field as Laravel's messages do: underscores become spaces."""
    return field.replace("_", " ")


def is_blank(value: Any) -> bool:
    """Whether `required` refuses a value: null, blank text, an empty array."""
    return value is None or (isinstance(value, str) and not value.strip()) or value in ([], {})


def check(rules: Mapping[str, str], data: Any) -> list[Problem]:
    """Return the problems in the order of `rules`; each entry gives at most one problem for each field."""
    problems: list[Problem] = []
    for parts, compiled in _compiled(tuple(rules.items())):
        fields = list(expand(data, parts))
        for field, value in fields:
            problems += _check_field(compiled, field, value, data, fields)
    return problems


@cache
def _compiled(rules: tuple[tuple[str, str], ...]) -> tuple[tuple[tuple[str, ...], tuple[_Rule, ...]], ...]:
    return tuple((tuple(name.split(".")), parse_rules(text)) for name, text in rules)


def parse_rules(text: str) -> tuple[_Rule, ...]:
    """Split `required|max:20` into its rules."""
    return tuple(_Rule(*rule.partition(":")[::2]) for rule in text.split("|"))


def _check_field(
    rules: tuple[_Rule, ...], field: str, value: Any, data: Any, fields: list[tuple[str, Any]]
) -> Iterator[Problem]:
    for rule in rules:
        if rule.name in _PRESENCE:
            message = _PRESENCE[rule.name](field, value, rule.argument, data)
        elif is_blank(value):
            continue
        elif rule.name == "distinct":
            message = _distinct(value, fields)
        else:
            message = _CONTENT[rule.name].check(value, rule.argument)
        if message:
            yield Problem(field, message.format(field=label(field)))
            return


def _required(field: str, value: Any, _argument: str, _data: Any) -> str | None:
    return "The {field} field is required." if is_blank(value) else None


def _required_if(field: str, value: Any, argument: str, data: Any) -> str | None:
    other, _, expected = argument.partition(",")
    if is_blank(value) and at(data, other) == expected:
        return f"The {{field}} field is required when {label(other)} is {expected}."
    return None


def _required_with(field: str, value: Any, argument: str, data: Any) -> str | None:
    if is_blank(value) and not is_blank(at(data, argument)):
        return f"The {{field}} field is required when {label(argument)} is present."
    return None


def _required_without(field: str, value: Any, argument: str, data: Any) -> str | None:
    if is_blank(value) and is_blank(at(data, argument)):
        return f"The {{field}} field is required when {label(argument)} is not present."
    return None


def _distinct(value: Any, fields: list[tuple[str, Any]]) -> str | None:
    if sum(other == value for _, other in fields) > 1:
        return "The {field} field has a duplicate value."
    return None


def _string(value: Any, _argument: str) -> str | None:
    return None if isinstance(value, str) else "The {field} field must be a string."


def _integer(value: Any, _argument: str) -> str | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    text = isinstance(value, str) and _INTEGER.fullmatch(value.strip())
    return None if whole or text else "The {field} field must be an integer."


def _numeric(value: Any, _argument: str) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = isinstance(value, str) and _NUMBER.fullmatch(value.strip())
    return None if number or text else "The {field} field must be a number."


def _array(value: Any, _argument: str) -> str | None:
    return None if isinstance(value, list | dict) else "The {field} field must be an array."


def _file(value: Any, _argument: str) -> str | None:
    return None if isinstance(value, Upload) else "The {field} field must be a file."


def _phone(value: Any, _argument: str) -> str | None:
    fits = isinstance(value, str) and E164.fullmatch(value)
    return None if fits else "The {field} field format is invalid."


def _url(value: Any, _argument: str) -> str | None:
    fits = isinstance(value, str) and _URL.fullmatch(value.strip()) and not _CONTROL.search(value.strip())
    return None if fits else "The {field} field must be a valid URL."


def _in(value: Any, argument: str) -> str | None:
    return None if value in argument.split(",") else "The selected {field} is invalid."


def _date_format(value: Any, argument: str) -> str | None:
    fits = isinstance(value, str) and _DATE.fullmatch(value)
    return None if fits else f"The {{field}} field must match the format {argument}."


def _max(value: Any, argument: str) -> str | None:
    size, unit = _size(value)
    if size <= int(argument):
        return None
    amount = "have more than" if unit == " items" else "be greater than"
    return f"The {{field}} field must not {amount} {argument}{unit}."


def _min(value: Any, argument: str) -> str | None:
    size, unit = _size(value)
    if size >= int(argument):
        return None
    verb = "have" if unit == " items" else "be"
    return f"The {{field}} field must {verb} at least {argument}{unit}."


def _size(value: Any) -> tuple[float, str]:
    """Measure a value in the unit that Laravel names; a number is its own size."""
    if isinstance(value, str):
        return len(value), " characters"
    if isinstance(value, Upload):
        return len(value.content) / 1024, " kilobytes"
    return (value, "") if isinstance(value, int | float) else (len(members(value)), " items")


@frozen
class _Content:
    """A rule on a field that is filled: its check, and its part of the field's JSON Schema."""

    check: Callable[[Any, str], str | None]
    schema: dict[str, Any] = Factory(dict[str, Any])


_PRESENCE: dict[str, Callable[[str, Any, str, Any], str | None]] = {
    "required": _required,
    "required_if": _required_if,
    "required_with": _required_with,
    "required_without": _required_without,
}
_CONTENT = {
    "string": _Content(_string, {"type": "string"}),
    "integer": _Content(_integer, {"type": "integer"}),
    "numeric": _Content(_numeric, {"type": "number"}),
    # A named wildcard such as destinations.*.parameters.* fits objects too, so this schema has no type.
    "array": _Content(_array),
    "file": _Content(_file, {"type": "string", "format": "binary"}),
    "phone": _Content(_phone, {"pattern": r"^\+[1-9][0-9]{6,14}$"}),
    "url": _Content(_url, {"format": "uri"}),
    "date_format": _Content(_date_format, {"format": "date"}),
    "in": _Content(_in),
    "min": _Content(_min),
    "max": _Content(_max),
}
_BOUNDS = {
    "string": {"min": "minLength", "max": "maxLength"},
    "array": {"min": "minItems", "max": "maxItems"},
    "integer": {"min": "minimum", "max": "maximum"},
    "numeric": {"min": "minimum", "max": "maximum"},
}


def schema_of(text: str) -> dict[str, Any]:
    """Return the JSON Schema of one field's rules; `required` stands in the parent's schema."""
    rules = parse_rules(text)
    bounds = next((_BOUNDS[rule.name] for rule in rules if rule.name in _BOUNDS), dict[str, str]())
    schema: dict[str, Any] = {}
    for rule in rules:
        if rule.name in _CONTENT:
            schema |= _CONTENT[rule.name].schema
        if rule.name == "in":
            schema["enum"] = rule.argument.split(",")
        if rule.name in bounds:
            schema[bounds[rule.name]] = int(rule.argument)
    return schema
