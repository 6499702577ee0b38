"""Each endpoint as respx sees it: method, URL, headers, bytes."""

import httpx
import pytest

from desk360_async import AsyncDesk360
from tests.core.fakes import KEY, Tokens
from tests.core.vendor import CALLS, PNG, answer_sample, request_sample

respx = pytest.importorskip(
    "respx", reason="it intercepts httpx itself, so it isn't installed beside another stack"
)
pytestmark = [pytest.mark.anyio, pytest.mark.respx]

BOUNDARY = "b" * 32
_JSON = {
    "send_text": b'{"to":"+905551112233","text":"Hello!"}',
    "send_location": b'{"to":"+905551112233","location":{"longitude":-122.425332,"latitude":37.758056,'
    b'"name":"Facebook HQ","address":"1 Hacker Way, Menlo Park, CA 94025"}}',
    "send_contacts": b'{"to":"+905551112233","contacts":[{"name":{"formatted_name":"John Smith",'
    b'"first_name":"John","last_name":"Smith"},"phones":[{"phone":"+1 (650) 555-1234","type":"WORK",'
    b'"wa_id":"16505551234"}],"emails":[{"email":"test@whatsapp.com","type":"WORK"}],"addresses":'
    b'[{"street":"1 Hacker Way","city":"Menlo Park","state":"CA","zip":"94025","country":"United States",'
    b'"country_code":"us","type":"HOME"}],"urls":[{"url":"https://www.facebook.com","type":"WORK"}],'
    b'"org":{"company":"WhatsApp","department":"Design","title":"Manager"},"birthday":"2012-08-18"}]}',
    "send_interactive": b'{"to":"+905551112233","body":"<p>Hello</p>","buttons":'
    b'[{"id":"ID 1.1","title":"Button 1"},{"id":"ID 1.2","title":"Button 2"},'
    b'{"id":"ID 1.3","title":"Button 3"}],"header":{"type":"image","image":{"link":'
    b'"https://fastly.picsum.photos/id/879/200/300.jpg?hmac=07llkorYxtpw0EwxaeqFKPC5woveWVLykQVnIOyiwd8"}},'
    b'"footer":{"text":"<b>Bye</b>"}}',
    "send_location_request": b'{"to":"+905551112233","body":"<i>Send Location</i>"}',
    "mark_read": b'{"to":"+905551112233","message_ids":["xxxxxxxxxxxxxxxx"]}',
}


def _form(*parts: tuple[str, bytes]) -> bytes:
    heads = (f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() for head, _ in parts)
    return (
        b"".join(head + body + b"\r\n" for head, (_, body) in zip(heads, parts, strict=True))
        + f"--{BOUNDARY}--\r\n".encode()
    )


_IDS = (('name="template_id"', b"1"), ('name="language_id"', b"1"))
_FILE = ('name="attachment"; filename="test_image.jpg"\r\nContent-Type: image/jpeg', PNG)
_FORMS = {
    "send_template": _form(
        *_IDS,
        _FILE,
        ('name="destinations[0][phone]"', b"+905555555555"),
        ('name="destinations[0][parameters][header-1]"', b"Header 1"),
        ('name="destinations[0][parameters][body-1]"', b"Body 1"),
        ('name="destinations[0][parameters][body-2]"', b"Body 2"),
    ),
    "send_template_bulk": _form(
        *_IDS,
        ('name="parameters[header-1]"', b"Header 1"),
        ('name="parameters[body-1]"', b"Body 1"),
        ('name="parameters[body-2]"', b"Body 2"),
        _FILE,
        ('name="destinations[0][phone]"', b"+905555555555"),
    ),
    "send_media": _form(
        ('name="to"', b"+905551112233"),
        ('name="attachments[]"; filename="desk360.png"\r\nContent-Type: image/png', PNG),
    ),
}


def expected_headers(name: str) -> dict[str, str]:
    """Say which headers go out, all of them."""
    body = _JSON.get(name) or _FORMS.get(name)
    form = f"multipart/form-data; boundary={BOUNDARY}"
    headers = {
        "host": "public-api.desk360.com",
        "authorization": f"Bearer {KEY}",
        "accept": "*/*" if name == "get_media" else "application/json",
        "accept-encoding": "gzip, deflate",
        "user-agent": "desk360-async/0.2.0 shop/1.2",
        "connection": "keep-alive",
    }
    if body:
        headers["content-type"] = form if name in _FORMS else "application/json"
        headers["content-length"] = str(len(body))
    return headers


@pytest.mark.parametrize("name", CALLS)
async def test_the_request_byte_for_byte(
    name: str, respx_mock: "respx.MockRouter", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method and URL as in the document's cURL, headers and body in full."""
    monkeypatch.setattr("desk360_async._uploads.secrets.token_hex", lambda _: BOUNDARY)
    sample = request_sample(name)
    answer = PNG if name == "get_media" else answer_sample(name)
    url = sample.url.partition("?")[0]
    route = respx_mock.route(method=sample.method, url__startswith=url).respond(200, content=answer)
    async with AsyncDesk360(KEY, integration_id=11, limiter=Tokens(), user_agent="shop/1.2") as client:
        await CALLS[name](client)
    request: httpx.Request = route.calls.last.request
    assert route.call_count == 1
    assert str(request.url).removesuffix("?page=1") == url
    assert name in {**_JSON, **_FORMS} or request.method == "GET", (
        "add the bytes to _JSON or _FORMS in tests/core/test_respx.py"
    )
    assert dict(request.headers) == expected_headers(name)
    assert request.content == (_JSON.get(name) or _FORMS.get(name) or b"")
