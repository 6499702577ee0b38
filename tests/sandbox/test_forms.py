"""What PHP makes of names and bodies: read off PHP 8.2, and tried on it in test_php.py."""

from typing import Any

import pytest

from desk360_async.sandbox.forms import MultipartForm, Upload, parse_json, parse_urlencoded, register


def registered(*names: str) -> dict[Any, Any]:
    """Register names in turn, each with its number as the value."""
    array: dict[Any, Any] = {}
    for number, name in enumerate(names):
        register(array, name, number)
    return array


def form(*parts: tuple[str, bytes]) -> dict[Any, Any]:
    """Parse a multipart body of parts given by their parameters."""
    collected = MultipartForm(b"multipart/form-data; boundary=B")
    for disposition, content in parts:
        head = f"--B\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
        collected.feed(head + content + b"\r\n")
    collected.feed(b"--B--\r\n")
    return collected.fields


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["to"], {"to": 0}),
        (["to", "to"], {"to": 1}),
        (["destinations[0][parameters][body-1]"], {"destinations": {0: {"parameters": {"body-1": 0}}}}),
        (["attachments[]", "attachments[]"], {"attachments": {0: 0, 1: 1}}),
        (
            ["destinations[][phone]", "destinations[][phone]"],
            {"destinations": {0: {"phone": 0}, 1: {"phone": 1}}},
        ),
        (["a[5]", "a[]"], {"a": {5: 0, 6: 1}}),
        (["a[01]", "a[x y]"], {"a": {"01": 0, "x y": 1}}),
        (["a b", "c.d"], {"a_b": 0, "c_d": 1}),
        (["a[b"], {"a_b": 0}),
        (["a[b]c"], {"a": {"b": 0}}),
        (["a", "a[b]"], {"a": {"b": 1}}),
        (["[a]", "", " "], {}),
        (["a" + "[x]" * 64], {}),
    ],
)
def test_bracketed_names_nest_as_in_php(names: list[str], expected: dict[Any, Any]) -> None:
    """Explicit indices keep their place, empty brackets append, the last of two equal names wins."""
    assert registered(*names) == expected


def test_the_thousandth_field_is_the_last() -> None:
    """PHP's max_input_vars: what is past it vanishes without a word."""
    assert list(form(*((f'name="f{n}"', b"x") for n in range(1001)))) == [f"f{n}" for n in range(1000)]
    assert len(parse_urlencoded(b"&".join(b"f%d=x" % n for n in range(1001)))) == 1000


def test_the_twentieth_file_is_the_last_and_text_goes_on() -> None:
    """PHP's max_file_uploads drops files only."""
    files = [(f'name="f[]"; filename="{n}"', b"x") for n in range(21)]
    fields = form(*files, ('name="to"', b"me"))
    assert (len(fields["f"]), fields["to"]) == (20, "me")


def test_the_part_after_1020_is_never_looked_at() -> None:
    """PHP's max_multipart_body_parts ends the form, files included."""
    texts = [(f'name="f{n}"', b"x") for n in range(1020)]
    assert "late" not in form(*texts, ('name="late"; filename="late.txt"', b"x"))


def test_of_two_files_without_brackets_the_last_survives() -> None:
    """Ruling 8: `attachments` twice is one file."""
    fields = form(('name="attachments"; filename="1"', b"1"), ('name="attachments"; filename="2"', b"2"))
    assert fields == {"attachments": Upload("2", "application/octet-stream", b"2")}


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ('filename="ö 😀.png"', "ö 😀.png"),
        ('filename="../../etc/passwd"', "passwd"),
        ('filename="C:\\x\\y.png"', "y.png"),
        ('filename="say \\"hi\\".png"', 'say "hi".png'),
        ("filename=plain.png", "plain.png"),
    ],
)
def test_file_names_are_raw_utf8_and_base_names(parameters: str, name: str) -> None:
    """Ruling 10."""
    assert form((f'name="a"; {parameters}', b""))["a"].name == name


def test_an_extended_file_name_makes_a_text_field() -> None:
    """Ruling 10: PHP knows no `filename*`."""
    assert form(("name=\"a\"; filename*=utf-8''x.png", b"hi")) == {"a": "hi"}


def test_an_empty_file_name_is_no_file() -> None:
    """A browser's empty file input."""
    assert form(('name="a"; filename=""', b"")) == {}


def test_a_part_without_a_disposition_is_skipped() -> None:
    """It has no name to be registered under."""
    collected = MultipartForm(b"multipart/form-data; boundary=B")
    collected.feed(b"--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--\r\n")
    assert collected.fields == {}


@pytest.mark.parametrize("content_type", [b"multipart/form-data", b"multipart/form-data; boundary=other"])
def test_a_wrong_boundary_leaves_no_field(content_type: bytes) -> None:
    """PHP warns in its log; the script sees an empty form."""
    collected = MultipartForm(content_type)
    collected.feed(b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--B--\r\n')
    collected.feed(b"more")
    assert collected.fields == {}


def test_chunks_may_end_anywhere() -> None:
    """A form fed byte by byte is the same form."""
    head = b'--B\r\nContent-Disposition: form-data; name="a"; filename="x"\r\nContent-Type: image/png\r\n\r\n'
    body = head + b"\r\n--\r\n--B--"
    collected = MultipartForm(b'multipart/form-data; boundary="B"')
    for byte in body:
        collected.feed(bytes([byte]))
    assert collected.fields == {"a": Upload("x", "image/png", b"\r\n--")}


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"to": 1}',
        b'{"to": NaN}',
        b'{"to": Infinity}',
        b'{"to": -Infinity}',
        b'{"to": "\\ud800"}',
        b'{"to": "\\udc00"}',
        '{"to": "é"}'.encode("latin-1"),
        b'{"to": "\xed\xa0\x80"}',
        '{"to": 1}'.encode("utf-16"),
        b'{"to": 1,}',
        b"[" * 512 + b"]" * 512,
        b"[" * 100_000,
        b'"to"',
        b"null",
    ],
)
def test_json_that_php_cannot_read_leaves_no_field(body: bytes) -> None:
    """Ruling 5: every field vanishes, without an error."""
    assert parse_json(body) == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b' {"a": "\\ud83d\\ude00"}\n', {"a": "😀"}),
        (b"[1, 2]", {0: 1, 1: 2}),
    ],
)
def test_json_that_php_can_read_stays(body: bytes, expected: Any) -> None:
    """Surrogate pairs and lists at the top are fine."""
    assert parse_json(body) == expected


def test_json_may_nest_511_arrays() -> None:
    """One less than PHP's `depth` of 512."""
    assert parse_json(b"[" * 511 + b"]" * 511) != {}
