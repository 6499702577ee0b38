"""The request body tables, row by row: what is refused, with Laravel's sentence."""

from typing import Any

import httpx
import pytest

from desk360_async.sandbox import Sandbox
from desk360_async.sandbox.rules import check

pytestmark = pytest.mark.anyio

TO = "+905551112233"
BASE = "/integrations/11/conversations"
MESSAGES = f"{BASE}/messages"
BUTTON = {"id": "1", "title": "Yes"}
CONTACT = {"name": {"formatted_name": "A B", "first_name": "A", "last_name": "B"}}
PLACE = {"longitude": 1.5, "latitude": 2, "name": "n", "address": "a"}


async def refusal(client: httpx.AsyncClient, path: str, body: Any) -> str:
    """Send JSON and expect the documented 400; give back the message."""
    answer = await client.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "failed_validation")
    assert error["doc_url"] == "https://docs.desk360.com/api"
    return error["message"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("", {}, "The to field is required."),
        ("", {"to": TO}, "The text field is required."),
        ("", {"to": TO, "text": "  "}, "The text field is required."),
        ("", {"to": TO, "text": "x" * 4097}, "The text field must not be greater than 4096 characters."),
        ("", {"to": TO, "text": 5}, "The text field must be a string."),
        ("", {"to": TO[1:], "text": "x"}, "The to field format is invalid."),
        ("", {"to": TO + "\n", "text": "x"}, "The to field format is invalid."),
        ("", {"to": 905551112233, "text": "x"}, "The to field must be a string."),
        ("", {"to": "+905550000000", "text": "x"}, "The to field must be a valid WhatsApp number."),
        ("", {"to": TO, "location": PLACE}, "The text field is required."),
        ("/locations", {"to": TO}, "The location field is required."),
        ("/locations", {"to": TO, "location": "here"}, "The location field must be an array."),
        ("/locations", {"to": TO, "location": PLACE | {"longitude": "east"}},
         "The location.longitude field must be a number."),
        ("/locations", {"to": TO, "location": PLACE | {"name": ""}}, "The location.name field is required."),
        ("/contacts", {"to": TO, "contacts": []}, "The contacts field is required."),
        ("/contacts", {"to": TO, "contacts": [CONTACT, {"name": {"first_name": "A"}}]},
         "The contacts.1.name.formatted name field is required."),
        ("/contacts", {"to": TO, "contacts": [CONTACT | {"birthday": "18.08.2012"}]},
         "The contacts.0.birthday field must match the format Y-m-d."),
        ("/contacts", {"to": TO, "contacts": [CONTACT | {"addresses": [{"zip": 94025}]}]},
         "The contacts.0.addresses.0.zip field must be a string."),
        ("/contacts", {"to": TO, "contacts": [CONTACT | {"addresses": [{"country_code": 1}]}]},
         "The contacts.0.addresses.0.country code field must be a string."),
        ("/interactive", {"to": TO, "body": "b"}, "The buttons field is required."),
        ("/interactive", {"to": TO, "body": "b" * 1025, "buttons": [BUTTON]},
         "The body field must not be greater than 1024 characters."),
        ("/interactive", {"to": TO, "body": "b", "buttons": [BUTTON] * 11},
         "The buttons field must not have more than 10 items."),
        ("/interactive", {"to": TO, "body": "b", "buttons": [{"id": "1", "title": "t" * 21}]},
         "The buttons.0.title field must not be greater than 20 characters."),
        ("/interactive", {"to": TO, "body": "b", "buttons": [{"id": "i" * 201, "title": "t"}]},
         "The buttons.0.id field must not be greater than 200 characters."),
        ("/interactive", {"to": TO, "body": "b", "buttons": [BUTTON, BUTTON]},
         "The buttons.0.id field has a duplicate value."),
        ("/interactive", {"to": TO, "body": "b", "buttons": [BUTTON], "header": {"text": "h"}},
         "The header.type field is required when header is present."),
        ("/interactive", {"to": TO, "body": "b", "buttons": [BUTTON], "header": {"type": "gif"}},
         "The selected header.type is invalid."),
        ("/interactive", {"to": TO, "body": "b", "buttons": [BUTTON], "header": {"type": "video"}},
         "The header.video.link field is required when header.type is video."),
        ("/interactive", {"to": TO, "body": "b", "buttons": [BUTTON],
                          "header": {"type": "image", "image": {"link": "https://a.b/c d"}}},
         "The header.image.link field must be a valid URL."),
        ("/interactive", {"to": TO, "body": "b", "buttons": [BUTTON], "footer": {"text": "f" * 61}},
         "The footer.text field must not be greater than 60 characters."),
        ("/interactive/location-request", {"to": TO}, "The body field is required."),
        ("/reads", {"to": TO}, "The message ids field is required."),
        ("/medias", {"to": TO, "attachments": ["https://x.test"]}, "The attachments.0 field must be a file."),
    ],
)  # fmt: skip
async def test_messages_are_validated(client: httpx.AsyncClient, path: str, body: Any, message: str) -> None:
    """The tables under "WhatsApp Messages"."""
    assert await refusal(client, MESSAGES + path, body) == message


def template(template_id: int = 76, language_id: int = 1, **more: Any) -> dict[str, Any]:
    """Build the body of a valid template send, with changes."""
    parameters = more.pop("parameters", {"body-1": "Ada", "body-2": "5"})
    destination = {"phone": more.pop("phone", TO), "parameters": parameters}
    return {"template_id": template_id, "language_id": language_id, "destinations": [destination]} | more


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "The template id field is required."),
        (template() | {"template_id": "x"}, "The template id field must be an integer."),
        (template() | {"destinations": []}, "The destinations field is required."),
        (template() | {"destinations": [TO]}, "The destinations.0.phone field is required."),
        (template(template_id=1), "The selected template id is invalid."),
        (template(template_id=175), "The selected template id is invalid."),
        (template(language_id=9), "The selected language id is invalid."),
        (template(template_id=75, parameters={}), "The selected template is not active."),
        (template(template_id=90, parameters={}), "The selected template is not active."),
        (template(template_id=92, parameters={"body-1": "x"}), "The selected template is not active."),
        (template(parameters={"body-1": "x"}), "The destinations.0.parameters.body-2 field is required."),
        (template(parameters={"body-1": "x", "body-2": "y", "body-3": "z"}),
         "The destinations.0.parameters.body-3 field is prohibited."),
        (template(parameters={"body-1": 1, "body-2": "y"}),
         "The destinations.0.parameters.body-1 field must be a string."),
        (template(template_id=80, parameters={}), "The attachment field is required."),
        (template(attachment="https://x.test/a.png"), "The attachment field must be a file."),
        (template(phone="+905550000000"), "The destinations.0.phone field must be a valid WhatsApp number."),
        (template(phone="0555"), "The destinations.0.phone field format is invalid."),
    ],
)  # fmt: skip
async def test_templates_are_validated(client: httpx.AsyncClient, body: Any, message: str) -> None:
    """Unknown, foreign, in review, unsendable, wrong parameters, no file: each has its sentence."""
    assert await refusal(client, f"{BASE}/templates/send", body) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"destinations": []}, "The destinations field is required when destinations file is not present."),
        ({"parameters": {}}, "The parameters.body-1 field is required."),
        (
            {"destinations": [{"phone": TO}, {"phone": "1"}]},
            "The destinations.1.phone field format is invalid.",
        ),
    ],
)
async def test_bulk_is_validated(client: httpx.AsyncClient, change: dict[str, Any], message: str) -> None:
    """Ruling 9: its parameters stand at the top, whatever the destinations hold."""
    body = {
        "template_id": 77,
        "language_id": 1,
        "destinations": [{"phone": TO, "parameters": {"body-1": "5"}}],
    }
    body["parameters"] = {"body-1": "5"}
    assert await refusal(client, f"{BASE}/templates/send/bulk", body | change) == message


async def test_bulk_leaves_refused_phones_out(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """A number that isn't on WhatsApp is not listed and not sent; the rest is."""
    rows = [{"phone": phone} for phone in (TO, "+905550000000", "+905551112234")]
    body = {"template_id": 78, "language_id": 1, "destinations": rows}
    answer = await client.post(f"{BASE}/templates/send/bulk", json=body)
    assert answer.json() == {"phones": [TO, "+905551112234"]}
    assert [message.phone for message in sandbox.received] == [TO, "+905551112234"]


async def test_strict_bulk_refuses_the_whole_batch(connect: Any) -> None:
    """For those who want to see a batch halved."""
    sandbox = Sandbox(refused_phones={TO}, strict_bulk=True)
    body = {"template_id": 78, "language_id": 1, "destinations": [{"phone": "+905551112234"}, {"phone": TO}]}
    async with connect(sandbox) as client:
        message = await refusal(client, f"{BASE}/templates/send/bulk", body)
    assert (message, sandbox.accepted) == (
        "The destinations.1.phone field must be a valid WhatsApp number.",
        0,
    )


@pytest.mark.parametrize(
    ("csv", "answer"),
    [
        ("+905551112233\n+905551112234\n", [TO, "+905551112234"]),
        ("+905551112233\r\n\r\n", [TO]),
        ("phone\n+905551112233\n", "The destinations file.0 field format is invalid."),
        ("\ufeff+905551112233\n", "The destinations file.0 field format is invalid."),
        ("+905551112233;Ada\n", "The destinations file.0 field format is invalid."),
        ("\n", "The destinations file field is required."),
    ],
)
async def test_a_csv_has_one_column_and_no_header(client: httpx.AsyncClient, csv: str, answer: Any) -> None:
    """Ruling 20."""
    files = {"destinations_file": ("destinations.csv", csv.encode(), "text/csv")}
    data = {"template_id": "78", "language_id": "1"}
    body = (await client.post(f"{BASE}/templates/send/bulk", data=data, files=files)).json()
    assert (body["phones"] if "phones" in body else body["error"]["message"]) == answer


@pytest.mark.parametrize(
    ("template_id", "content_type", "status"),
    [
        (80, "image/png", 200),
        (80, "application/pdf", 400),
        (79, "application/pdf", 200),
        (81, "video/mp4", 200),
    ],
)
async def test_a_media_header_needs_a_file_of_its_kind(
    client: httpx.AsyncClient, template_id: int, content_type: str, status: int
) -> None:
    """A picture for IMAGE, a film for VIDEO, anything for DOCUMENT."""
    parameter = {} if template_id == 80 else {"destinations[0][parameters][body-1]": "May"}
    data = {"template_id": str(template_id), "language_id": "1", "destinations[0][phone]": TO} | parameter
    files = {"attachment": ("file", b"x", content_type)}
    assert (await client.post(f"{BASE}/templates/send", data=data, files=files)).status_code == status


@pytest.mark.parametrize(
    ("field", "count", "size", "message"),
    [
        ("attachments[]", 6, 1, "The attachments field must not have more than 5 items."),
        ("attachments", 1, 1, "The attachments field must be an array."),
        (
            "attachments[]",
            1,
            20 * 1024 * 1024 + 1,
            "The attachments.0 field must not be greater than 20480 kilobytes.",
        ),
    ],
)
async def test_media_is_limited(
    client: httpx.AsyncClient, field: str, count: int, size: int, message: str
) -> None:
    """Max count 5, max size 20 MB, and only with brackets."""
    files = [(field, ("a.png", b"x" * size, "image/png"))] * count
    answer = await client.post(f"{MESSAGES}/medias", data={"to": TO}, files=files)
    assert answer.json()["error"]["message"] == message


async def test_fields_past_the_thousandth_vanish_silently(client: httpx.AsyncClient) -> None:
    """Ruling 7: status 200, and only some of the phones."""
    phones = {f"destinations[{n}][phone]": f"+90555{n:07}" for n in range(1, 1101)}
    data = {"template_id": "78", "language_id": "1"} | phones
    answer = await client.post(f"{BASE}/templates/send/bulk", data=data, files={"": ("", b"")})
    assert len(answer.json()["phones"]) == 998


async def test_json_with_a_bom_has_no_field(client: httpx.AsyncClient) -> None:
    """Ruling 5, as a client meets it."""
    body = b'\xef\xbb\xbf{"to": "+905551112233", "text": "x"}'
    answer = await client.post(MESSAGES, content=body, headers={"Content-Type": "application/json"})
    assert answer.json()["error"]["message"] == "The to field is required."


async def test_every_problem_is_in_the_log(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """The answer has room for one; who debugs wants all."""
    await client.post(MESSAGES, json={})
    assert sandbox.requests[-1].problems == ("The to field is required.", "The text field is required.")


async def test_one_send_may_name_several_destinations_and_answers_with_one_id(
    client: httpx.AsyncClient, sandbox: Sandbox
) -> None:
    """Ruling 21: all are sent, the answer holds the first's id."""
    rows = [{"phone": TO}, {"phone": "+905551112234"}]
    answer = await client.post(
        f"{BASE}/templates/send", json={"template_id": 78, "language_id": 1, "destinations": rows}
    )
    assert [message.phone for message in sandbox.received] == [TO, "+905551112234"]
    assert answer.json() == {"message_id": sandbox.received[0].message_id}


@pytest.mark.parametrize(
    ("rule", "value", "problems"),
    [
        ("array|min:2", ["a", "b"], []),
        ("array|min:2", ["a"], ["The field field must have at least 2 items."]),
        ("string|min:2", "ab", []),
        ("string|min:2", "a", ["The field field must be at least 2 characters."]),
        ("integer|min:2|max:3", 2, []),
        ("integer|min:2", 1, ["The field field must be at least 2."]),
        ("integer|max:3", 4, ["The field field must not be greater than 3."]),
    ],
)
def test_a_size_has_two_bounds(rule: str, value: Any, problems: list[str]) -> None:
    assert [problem.message for problem in check({"field": rule}, {"field": value})] == problems
