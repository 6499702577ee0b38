"""The form parser against PHP itself, where PHP is installed."""

import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from desk360_async.sandbox.forms import MultipartForm, Upload, parse_json, parse_urlencoded
from desk360_async.sandbox.records import page_number
from tests.php import Php, needs_php, serving

pytestmark = [
    pytest.mark.real,
    # PHP is the oracle; test_forms.py holds what it said, for machines without it.
    needs_php,
]

_ECHO = """<?php
$files = array_map(fn ($file) => $file['name'], $_FILES);
$json = json_decode(file_get_contents('php://input'), true);
$json = is_array($json) ? $json : [];
$page = filter_var($_POST['page'] ?? null, FILTER_VALIDATE_INT);
echo json_encode(['post' => $_POST, 'files' => $files, 'json' => $json, 'page' => $page]);
"""


@pytest.fixture(scope="module")
def php(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Php]:
    """PHP's own web server, echoing what a script sees."""
    with serving(tmp_path_factory.mktemp("php") / "echo.php", _ECHO) as ask:
        yield ask


def plain(value: Any) -> Any:
    """Spell PHP arrays alike: objects with text keys; files by their names."""
    if isinstance(value, Upload):
        return value.name
    items = (
        enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else None
    )
    return value if items is None else {str(key): plain(item) for key, item in items}


def multipart(parts: list[tuple[str, str]]) -> bytes:
    """Write a multipart body."""
    head = "--B\r\nContent-Disposition: form-data; {}\r\n\r\n{}\r\n"
    return ("".join(head.format(*part) for part in parts) + "--B--\r\n").encode()


def parsed(body: bytes) -> dict[Any, Any]:
    """Parse it as the sandbox does."""
    form = MultipartForm(b"multipart/form-data; boundary=B")
    form.feed(body)
    return form.fields


_PIECES = ["a", "b", "[", "]", "[]", "[0]", "[1]", "[x]", ".", " ", "[01]", "[-1]", "[a b]", "[a.b]", "0"]


def _names(dice: random.Random) -> list[str]:
    return ["".join(dice.choices(_PIECES, k=dice.randint(1, 5))) for _ in range(dice.randint(1, 5))]


def test_random_names_nest_as_in_php(php: Php) -> None:
    """300 forms with unusual names, multipart and urlencoded."""
    dice = random.Random(0)
    for names in [_names(dice) for _ in range(300)]:
        body = multipart([(f'name="{name}"', str(number)) for number, name in enumerate(names)])
        assert plain(parsed(body)) == plain(php(body, "multipart/form-data; boundary=B")["post"]), names
        encoded = "&".join(f"{name}={number}" for number, name in enumerate(names)).replace(" ", "+").encode()
        answer = php(encoded, "application/x-www-form-urlencoded")["post"]
        assert plain(parse_urlencoded(encoded)) == plain(answer), names


@pytest.mark.parametrize(
    ("texts", "files"), [(1000, 20), (1001, 0), (0, 21), (1000, 21), (1010, 15), (1030, 1)]
)
@pytest.mark.parametrize("files_first", [False, True])
def test_limits_bite_where_phps_do(php: Php, texts: int, files: int, files_first: bool) -> None:
    """1,000 fields, 20 files and 1,020 parts, whatever comes first."""
    parts = [(f'name="t[{n}]"', "x") for n in range(texts)], [('name="f[]"; filename="x"', "x")] * files
    body = multipart([*parts[files_first], *parts[not files_first]])
    answer = php(body, "multipart/form-data; boundary=B")
    seen = plain(answer["post"]) | plain(answer["files"])
    assert plain(parsed(body)) == seen


@pytest.mark.parametrize(
    "parameters",
    [
        'name="a"; filename="x.png"',
        "name=\"a\"; filename*=utf-8''x.png",
        "name=a; filename=x.png",
        'name="a"; filename="C:\\x\\y.png"',
        'name="a"; filename="../y.png"',
        'name="a"; filename="q\\"x.png"',
        'name="a"; filename="ö 😀.png"',
        'filename="x"; name="a"',
        'name="a";filename="x;y=z"',
        'NAME="a"; FILENAME="x"',
        'name="a%22b"; filename="a%22.png"',
    ],
)
def test_file_names_are_read_as_in_php(php: Php, parameters: str) -> None:
    """Quotes, paths, UTF-8 and the extended form that PHP doesn't know."""
    body = multipart([(parameters, "hi")])
    answer = php(body, "multipart/form-data; boundary=B")
    assert plain(parsed(body)) == plain(answer["post"]) | plain(answer["files"])


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":NaN}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00x"}',
        b'{"a":"\xe9"}',
        b'{"a":"\\ud83d\\ude00"}',
        b'{"a":"\x01"}',
        b"[1,2]",
        b'"x"',
        b'{"a":1,}',
        b'{"a":1,"a":2}',
        b'{"a":01}',
        b'{"a":1}x',
        b'{"a":1e5}',
        b'{"a":[{"b":{}}]}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"1":2}',
        b'{"":1}',
        b"",
    ],
)
def test_json_is_read_or_lost_as_in_php(php: Php, body: bytes) -> None:
    """json_decode is strict, and what it can't read leaves nothing."""
    assert plain(parse_json(body)) == plain(php(body, "application/json")["json"])


@pytest.mark.parametrize("depth", [511, 512, 513])
def test_json_may_nest_as_deep_as_in_php(php: Php, depth: int) -> None:
    """The limit is 512 arrays, the outermost included."""
    body = b"[" * depth + b"]" * depth
    assert bool(parse_json(body)) == bool(php(body, "application/json")["json"])


_PAGES = ["2", "02", " 2", "2 ", "+2", "-2", "0", "2.0", "2e0", "٢", "", "x"]


@pytest.mark.parametrize("asked", [*_PAGES, f"{2**63 - 1}", f"{2**63}", "9" * 5_000])
def test_a_page_is_read_as_by_php(php: Php, asked: str) -> None:
    """Laravel's paginator takes page 1 for what PHP's filter refuses, and for what isn't positive."""
    found = php(urlencode({"page": asked}).encode(), "application/x-www-form-urlencoded")["page"]
    assert page_number(asked) == (found if found is not False and found >= 1 else 1)
