"""JSON from outside: one set of rules for replies and webhooks, with orjson and without it."""

import runpy
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desk360_async import _json
from desk360_async._json import (
    MAX_BYTES,
    UnreadableJSON,
    as_object,
    as_rows,
    decode,
    is_object,
    salvage,
    text_of,
)


@pytest.fixture(params=["orjson", "json"], autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read with the extra `speed` and without it."""
    if request.param == "json":
        monkeypatch.setattr(_json, "_fast_loads", None)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (rb'["\ud83d"]', ["\ufffd"]),
        (rb'{"\udc00": {"k": ["x\ud83dy"]}}', {"\ufffd": {"k": ["x\ufffdy"]}}),
        (rb'["\ud83d\ude00"]', ["😀"]),
        (rb'["\uD83D", "fine", 1]', ["\ufffd", "fine", 1]),
        ('["\ud83d"]', ["\ufffd"]),
        (b"[" + b"9" * 5000 + b"]", ["9" * 5000]),
        (b"[" * 100 + b"]" * 100, None),
    ],
)
def test_malformed_text_has_one_meaning(body: bytes | str, value: Any) -> None:
    assert value is None or decode(body) == value
    decode(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" * 101 + b"]" * 101, "it is nested more than 100 levels deep"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "it is nested more than 100 levels deep"),
        (b'[{"a":' * 51 + b"1" + b"}]" * 51, "it is nested more than 100 levels deep"),
        (b"[" * 100_000, "it is nested more than 100 levels deep"),
        (b"[NaN]", "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b"[" + b"9" * 5000 + b", NaN]", "NaN is no JSON number"),
        (b"\xff", "invalid start byte at byte 0"),
        (b'{"key": secret}', "Expecting value at character 8"),
        (b'"' + b"x" * MAX_BYTES + b'"', "it is larger than 8 MiB"),
    ],
)
def test_unreadable_text_gives_a_reason_without_content(body: bytes, reason: str) -> None:
    with pytest.raises(UnreadableJSON, match=f"^{reason}$"):
        decode(body)


def test_many_brackets_beside_each_other_are_not_deep() -> None:
    assert decode(b"[" + b"[],{}," * 101 + b"1]") == [*[[], {}] * 101, 1]


def test_without_orjson_the_standard_library_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "orjson", None)
    module = runpy.run_path(_json.__file__)
    assert (module["_fast_loads"], module["decode"](b'{"a": 1}')) == (None, {"a": 1})


@pytest.mark.parametrize(
    ("text", "charset", "encoding"),
    [
        ("ü", "ISO-8859-1", "latin-1"),
        ("ş", '"windows-1254"', "cp1254"),
        ("ş", "utf8mb4", "utf-8"),
        ("ş", "klingon", "utf-8"),
        ("ş", "iso-8859-99", "utf-8"),
        ("ş", "UTF-8", "utf-8"),
        ("ş", "utf-16", "utf-16"),
    ],
)
def test_a_known_charset_is_honoured_and_an_unknown_one_is_read_as_utf8(
    text: str, charset: str, encoding: str
) -> None:
    body = f'["{text}"]'.encode(encoding)
    assert decode(body, f"application/json; charset={charset}") == [text]


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "utf-32"])
def test_bytes_with_a_lone_surrogate_are_refused(charset: str) -> None:
    body = '["\ud800"]'.encode(charset, "surrogatepass")
    with pytest.raises(UnreadableJSON):
        decode(body, f"application/json; charset={charset}")


@pytest.mark.parametrize("charset", ["utf8mb4", "rot13", "iso-8859-99"])
def test_bytes_in_an_unknown_charset_are_refused_by_its_name(charset: str) -> None:
    body = '["ü"]'.encode("latin-1")
    with pytest.raises(UnreadableJSON, match=f"charset '{charset}' is unknown, and byte 2 is no UTF-8"):
        decode(body, f"application/json; charset={charset}")
    assert text_of(body, f"text/plain; charset={charset}") == '["\ufffd"]'


@pytest.mark.parametrize("start", [b"", b"<b>Warning</b> in x.php\n", b"[no json\n{nor this\n"])
def test_a_php_warning_before_the_json_is_skipped(start: bytes) -> None:
    assert salvage(start + b'{"message_id": "x"}') == {"message_id": "x"}


def test_a_text_without_json_keeps_the_first_reason() -> None:
    with pytest.raises(UnreadableJSON, match="Expecting value at character 0"):
        salvage(b"<html>\n[never")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_give_text(body: bytes) -> None:
    text_of(body, "text/html; charset=utf-16").encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ([1, None, 2], [1, 2]),
        (None, []),
        ({}, []),
        ([], []),
        ({"0": "a", "2": "b", "7": None}, ["a", "b"]),
        ({"id": 1}, [{"id": 1}]),
        ({"data": [{"id": 1}], "total": 1}, [{"id": 1}]),
        ({"data": {"0": 1}}, [1]),
        ({"data": {"data": [1]}}, [1]),
        ({"id": 5, "data": [1]}, [{"id": 5, "data": [1]}]),
        ({"id": None, "data": [1]}, [1]),
        ({"data": "text"}, [{"data": "text"}]),
        ({"905551112233": {"id": 1}}, [{"905551112233": {"id": 1}}]),
        ("+905551112233", ["+905551112233"]),
    ],
)
def test_a_php_list_has_many_shapes(value: Any, rows: list[Any]) -> None:
    assert as_rows(value) == rows


@pytest.mark.parametrize(
    ("value", "fields"),
    [({"a": 1}, {"a": 1}), ([], {}), ([{"a": 1}], {"a": 1}), ([1], {}), ([{}, {}], {}), (None, {})],
)
def test_a_php_object_has_many_shapes(value: Any, fields: dict[str, Any]) -> None:
    assert as_object(value) == fields


@pytest.mark.parametrize(("value", "verdict"), [({"a": 1}, True), ([], False), ("{}", False), (None, False)])
def test_only_a_mapping_is_an_object(value: Any, verdict: bool) -> None:
    assert is_object(value) is verdict
