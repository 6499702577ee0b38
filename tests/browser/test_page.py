"""The sandbox's page in a real browser: a story for each feature, hostile texts, speed, keys, languages."""

import json
import re
import struct
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from desk360_async.sandbox import Fault, Sandbox
from desk360_async.sandbox.endpoints import PATHS
from tests.browser.conftest import AXE, CONVERSATIONS, PICTURES, TO, Open, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

INTERACTIVE = {
    "to": TO,
    "body": "Shall we send it *again*?",
    "buttons": [{"id": "yes", "title": "Yes, please"}, {"id": "no", "title": "No"}],
    "header": {"type": "text", "text": "Your order"},
    "footer": {"text": "Shop"},
}
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>document.title='owned'</script>",
    "</article><h1>out</h1>",
    "javascript:alert(1)",
    "*" * 3000,
    "_a *b ~c " * 300,
    "\u202eright to left\u200b\ufffd\ue000\ue001{{1}}",
)


def picture(width: int = 160, height: int = 90) -> bytes:
    """Make a PNG file."""
    rows = b"".join(
        b"\0" + b"".join(bytes((x * 255 // width, y * 255 // height, 128)) for x in range(width))
        for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def send_template(api: httpx.Client, *values: str, to: str = TO) -> str:
    """Send template 75 in Turkish, and return the message's id."""
    parameters = dict(zip(("header-1", "body-1", "body-2"), values, strict=True))
    body = {"template_id": 75, "language_id": 2, "destinations": [{"phone": to, "parameters": parameters}]}
    answer = api.post("/templates/send", json=body).raise_for_status()
    return str(answer.json()["message_id"])


def send_one_of_each(api: httpx.Client) -> None:
    """Send each kind of message, and three requests that fail."""
    send_template(api, "Ayşe", "Ayşe", "SP123456789")
    api.post("/messages", json={"to": TO, "text": "*Bold*, _italic_, ~struck~, `code`\n- one\n- two"})
    place = {"longitude": 29.0256, "latitude": 41.0422, "name": "Shop", "address": "Beşiktaş, İstanbul"}
    api.post("/messages/locations", json={"to": TO, "location": place})
    name = {"formatted_name": "Ada Lovelace", "first_name": "Ada", "last_name": "Lovelace"}
    api.post("/messages/contacts", json={"to": TO, "contacts": [{"name": name, "phones": [{"phone": TO}]}]})
    api.post("/messages/interactive", json=INTERACTIVE)
    api.post("/messages/interactive/location-request", json={"to": TO, "body": "Where are you?"})
    files = [("attachments[]", ("shop.png", picture(), "image/png")),
             ("attachments[]", ("invoice.pdf", b"%PDF", "application/pdf"))]  # fmt: skip
    api.post("/messages/medias", data={"to": TO}, files=files)
    rows = [{"phone": f"+90555000000{n}"} for n in range(1, 4)]
    api.post("/templates/send/bulk", json={"template_id": 78, "language_id": 1, "destinations": rows})
    for path, body in (("/messages", {"to": "x", "text": ""}), ("/unknown", {})):
        api.post(path, json=body)
    httpx.get(str(api.base_url), headers={"Authorization": "Bearer wrong"})


def bubble(page: "Page", identity: str) -> Any:
    """Find one message's bubble."""
    return page.locator(f'article[data-message-id="{identity}"]')


def test_a_template_appears_as_a_bubble_with_tinted_variables(page: "Page", api: httpx.Client) -> None:
    """Without a reload; then its ticks go to read."""
    identity = send_template(api, "Ayşe", "Ayşe", "SP123")
    found = bubble(page, identity)
    found.wait_for()
    assert found.locator("mark").all_text_contents() == ["Ayşe", "Ayşe", "SP123"]
    page.wait_for_selector(f'article[data-message-id="{identity}"][data-status=read]')


@pytest.mark.parametrize(
    ("text", "tag", "inner"),
    [
        ("a *b c* d", "strong", ["b c"]),
        ("_x_ snake_case_name", "em", ["x"]),
        ("~x~", "s", ["x"]),
        ("`x *y*`", "code", ["x *y*"]),
        ("2*3*4 * 5 *", "strong", []),
        ("*a\nb*", "strong", []),
        ("*_x_*", "em", ["x"]),
    ],
)
def test_text_is_formatted_as_the_phone_does(
    page: "Page", api: httpx.Client, text: str, tag: str, inner: list[str]
) -> None:
    """Marks inside words and across lines are plain text."""
    api.post("/messages", json={"to": TO, "text": text})
    found = page.locator("article[data-kind=text]")
    found.wait_for()
    assert found.locator(f".text {tag}").all_text_contents() == inner


def test_each_kind_of_message_has_its_bubble(page: "Page", api: httpx.Client) -> None:
    """Media as a picture that loads, or as a card."""
    send_one_of_each(api)
    for kind in ("template", "text", "location", "contacts", "interactive", "location_request", "media"):
        page.locator(f"article[data-kind={kind}]").first.wait_for()
    picture_of = page.locator("article[data-kind=media] img")
    picture_of.scroll_into_view_if_needed()
    until(page, "document.querySelector('article img').naturalWidth === 160")
    assert "Beşiktaş" in page.locator("article[data-kind=location]").inner_text()
    assert "Ada Lovelace" in page.locator("article[data-kind=contacts]").inner_text()


def test_the_customer_replies_presses_a_button_and_shares_a_place(page: "Page", api: httpx.Client) -> None:
    """Each becomes a bubble from the other side."""
    api.post("/messages/interactive", json=INTERACTIVE)
    page.get_by_role("button", name="Yes, please").click()
    page.locator("article.in[data-kind=interactive]").wait_for()
    page.get_by_label("Text").fill("Where is it?")
    page.keyboard.press("Enter")
    page.locator("article.in[data-kind=text]").wait_for()
    page.get_by_role("button", name="Send a location").click()
    page.locator("article.in[data-kind=location]").wait_for()
    assert page.locator("article.in").first.inner_text().startswith("↩ Yes, please")


def test_a_reply_reaches_the_app_and_can_be_sent_again(browser: Any, open_page: Open) -> None:
    """The webhook's table shows the app's answer."""
    bodies: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append(json.loads((await receive())["body"]))
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    receiver = Sandbox()
    receiver.app = app  # type: ignore[assignment]  # a server for any ASGI application, at hand
    with receiver.serve_in_thread() as there:
        made = Sandbox(webhook=f"{there.url}/hooks")
        with made.serve_in_thread():
            page = open_page(made.page_url)
            page.locator("#reply [name=phone]").fill(TO)
            page.get_by_label("Text").fill("Hi")
            page.keyboard.press("Enter")
            page.locator("tr[data-webhook='1']").wait_for()
            page.get_by_role("button", name="Resend 1").click()
            page.locator("tr[data-webhook='2']").wait_for()
    assert [body["messages"]["text"] for body in bodies] == ["Hi", "Hi"]


def test_one_message_is_made_to_fail(page: "Page", api: httpx.Client, sandbox: Sandbox) -> None:
    """By its own button; and read by the other."""
    sandbox.webhooks.delivered_after = sandbox.webhooks.read_after = None
    identity = send_template(api, "a", "b", "c")
    found = bubble(page, identity)
    found.get_by_role("button", name="Fail").click()
    page.wait_for_selector(f'article[data-message-id="{identity}"][data-status=failed]')
    assert "failed" in found.inner_text()


def test_requests_are_listed_with_the_reason_and_the_ruling(page: "Page", api: httpx.Client) -> None:
    """A refused field, an unknown route, and an answer that a fault replaced."""
    api.post("/messages", json={"to": "x", "text": "y"})
    api.post("/unknown", json={})
    row = page.locator("tr[data-status='400'][data-ruling='24']")
    row.wait_for()
    assert "The to field format is invalid. (ruling 24, documented)" in row.inner_text()
    page.locator("tr[data-status='404']").wait_for()


def test_the_limit_counts_down_and_can_be_changed(page: "Page", api: httpx.Client) -> None:
    """A dot for each request; 429s are counted."""
    page.get_by_role("spinbutton", name="Requests").fill("2")
    page.get_by_role("button", name="Change").click()
    until(page, "document.querySelectorAll('#meter i').length === 2")
    for _ in range(3):
        api.get("/templates")
    until(page, "document.querySelectorAll('#meter i.used').length === 2")
    until(page, "document.querySelector('#limit-text').textContent.includes('1 requests refused')")
    page.locator("tr[data-status='429'][data-ruling='31']").wait_for()


def test_faults_are_switched_by_kind_preset_and_seed(
    page: "Page", api: httpx.Client, sandbox: Sandbox
) -> None:
    """With probability, count and path."""
    page.get_by_label("Path").fill("*/messages")
    page.get_by_label("Times").fill("1")
    page.get_by_label("status", exact=True).check()
    until(page, "document.querySelector('#active-faults').children.length === 1")
    assert api.post("/messages", json={"to": TO, "text": "x"}).status_code == 500
    page.locator("tr[data-status='500'].bad").wait_for()
    page.get_by_label("Preset").select_option("maintenance")
    until(page, "document.querySelector('#active-faults').textContent.includes('maintenance')")
    page.get_by_label("Seed").fill("7")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Stop all").click()
    until(page, "document.querySelector('#active-faults').children.length === 0")
    assert sandbox.faults.seed == 7


def test_a_message_is_copied_as_curl_and_as_python(page: "Page", api: httpx.Client) -> None:
    """Both repeat it; a quote in it can't leave its quotes."""
    api.post("/messages", json={"to": TO, "text": 'it\'s "5"'})
    found = page.locator("article[data-kind=text]")
    found.get_by_role("button", name="curl").click()
    curl = page.evaluate("navigator.clipboard.readText()")
    found.get_by_role("button", name="Python").click()
    python = page.evaluate("navigator.clipboard.readText()")
    assert python == f'await client.send_text("{TO}", "it\'s \\"5\\"")'
    assert "it'\\''s" in curl
    assert "Bearer $DESK360_API_KEY" in curl


def test_a_message_of_an_unknown_kind_is_not_copied_as_a_text(page: "Page", sandbox: Sandbox) -> None:
    kind: Any = "unheard-of"
    sandbox._store.take(TO, kind, 11, text="x")
    found = page.locator("article[data-kind=unheard-of]")
    found.get_by_role("button", name="Read").wait_for()
    assert found.get_by_role("button", name=re.compile("curl|Python")).count() == 0


def test_a_new_kind_is_drawn_and_copied_by_its_fields(
    open_page: Open, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the page has a drawing of its own for it."""
    monkeypatch.setitem(PATHS, "poll", "/messages/polls")
    page, kind = open_page(), cast("Any", "poll")
    sandbox._store.take(TO, kind, 11, content={"question": "When?", "options": ["Now", "Later"]})
    found = page.locator("article[data-kind=poll]")
    found.get_by_role("button", name="curl").click()
    assert found.locator("small").all_inner_texts() == ["question: When?", 'options: ["Now","Later"]']
    curl = page.evaluate("navigator.clipboard.readText()")
    assert f'{{"to":"{TO}","question":"When?","options":["Now","Later"]}}' in curl
    assert curl.endswith("/conversations/messages/polls'")


def test_deliveries_are_counted_per_template(page: "Page", api: httpx.Client) -> None:
    """The region Campaign, without a ledger."""
    send_template(api, "a", "b", "c")
    until(
        page,
        "document.querySelector('#campaign-rows').textContent === 'template_021110'",
    )


def test_messages_can_be_searched_and_cleared(page: "Page", api: httpx.Client) -> None:
    """By text; Escape ends the search."""
    for text in ("apples", "pears"):
        api.post("/messages", json={"to": TO, "text": text})
    page.locator("article").nth(1).wait_for()
    page.keyboard.press("/")
    page.keyboard.type("PEAR")
    assert page.locator("article:visible").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("article:visible").count() == 2
    page.get_by_role("button", name="Clear").click()
    until(page, "document.querySelectorAll('article').length === 0")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(page: "Page", api: httpx.Client, text: str) -> None:
    """In every field that a request or a customer fills; the title stays, and no element appears."""
    short = text[:60]
    send_template(api, text, text, text)
    api.post("/messages", json={"to": TO, "text": text[:4096]})
    api.post("/messages/locations", json={"to": TO, "location": {
        "longitude": 1, "latitude": 2, "name": text, "address": text}})  # fmt: skip
    name = dict.fromkeys(("formatted_name", "first_name", "last_name"), text)
    api.post("/messages/contacts", json={"to": TO, "contacts": [{"name": name}]})
    buttons = [{"id": text[:200], "title": text[:20]}]
    api.post("/messages/interactive", json=INTERACTIVE | {"buttons": buttons, "body": text[:1024]})
    api.post(
        "/messages/medias", data={"to": TO}, files=[("attachments[]", (short, text.encode(), "text/html"))]
    )
    control = f"{str(api.base_url).removesuffix(CONVERSATIONS + '/')}/_sandbox/reply"
    for fields in ({"text": text, "name": text}, {"type": text}, {"type": "text", "text": {"a": text}}):
        httpx.post(control, json={"phone": TO} | fields).raise_for_status()
    api.post("/" + short, json={short: text})
    until(page, "document.querySelectorAll('article').length >= 9")
    assert (page.title(), page.locator("article script, article h1").count()) == ("Desk360 sandbox", 0)
    assert page.locator("article img").count() == 0


def longest_task(page: "Page", sandbox: Sandbox) -> float:
    """Take a thousand messages in two seconds; return the milliseconds of the page's longest task."""
    page.evaluate(
        "window.longest = 0; new PerformanceObserver((list) => list.getEntries().forEach((task) => {"
        " window.longest = Math.max(window.longest, task.duration); })).observe({type: 'longtask'})"
    )
    for n in range(1000):
        sandbox._store.take(f"+90555{n:07}", "text", 11, text=f"message *{n}*")
        time.sleep(0.002)
    until(page, "document.querySelectorAll('article').length === 1000", 30)
    return float(page.evaluate("window.longest"))


def test_a_thousand_messages_in_two_seconds_leave_the_page_responsive(open_page: Open) -> None:
    """No task of the page takes longer than 100 ms; other programs only add, so the best of three counts."""
    tries: list[float] = []
    while len(tries) < 3 and min(tries, default=200.0) > 100:
        busy = Sandbox(delivered_after=0.1, read_after=0.2)
        with busy.serve_in_thread():
            page = open_page(busy.page_url)
            tries.append(longest_task(page, busy))
            page.close()
    assert min(tries) <= 100


def test_it_fits_a_phone(open_page: Open, api: httpx.Client) -> None:
    """380 px, without scrolling sideways."""
    send_one_of_each(api)
    page = open_page(viewport={"width": 380, "height": 800})
    page.locator("article[data-kind=media]").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 380


def test_the_keyboard_is_enough(page: "Page", api: httpx.Client) -> None:
    """J and k walk, Tab reaches a message's buttons, r writes."""
    for text in ("one", "two"):
        api.post("/messages", json={"to": TO, "text": text})
    page.locator("article").nth(1).wait_for()
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert "two" in page.evaluate("document.activeElement.textContent")
    page.keyboard.press("k")
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the third button: Fail
    page.wait_for_selector("article[data-status=failed]")
    page.keyboard.press("r")
    page.keyboard.type("answered by keys")
    page.keyboard.press("Enter")
    page.locator("article.in").wait_for()


@pytest.mark.parametrize(
    ("locale", "title", "region"),
    [("tr-TR", "Desk360 deneme sunucusu", "Mesajlar"), ("de-DE", "Desk360 sandbox", "Messages")],
)
def test_it_speaks_the_browsers_language(open_page: Open, locale: str, title: str, region: str) -> None:
    """Turkish, and English for all others."""
    page = open_page(locale=locale)
    assert (page.title(), page.get_by_role("region", name=region).count()) == (title, 1)
    assert page.evaluate("document.documentElement.lang") == locale[:2].replace("de", "en")


def test_every_english_word_has_a_turkish_one(page: "Page") -> None:
    """And each text of the page has a name."""
    script = (Path(__file__).parents[2] / "desk360_async/sandbox/page/page.js").read_text(encoding="utf-8")
    turkish = script.split("tr: {", 1)[1].split("\n  },", 1)[0]
    english = script.split("const ENGLISH = {", 1)[1].split("};", 1)[0]
    names = [part.split(":")[0].split()[-1] for part in english.split("',")[:-1]]
    missing = [name for name in names if f"{name}: '" not in turkish]
    missing += [
        name
        for name in page.locator("[data-t]").evaluate_all("(all) => all.map((node) => node.dataset.t)")
        if f"{name}: '" not in turkish
    ]
    assert missing == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_it_is_accessible(open_page: Open, api: httpx.Client, scheme: str, width: int) -> None:
    """axe-core finds nothing serious: names, roles, contrast."""
    if not AXE.exists():
        pytest.skip("axe-core is missing: npm ci in tests/browser")
    send_one_of_each(api)
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page.locator("article[data-kind=media]").first.wait_for()
    page.wait_for_timeout(400)  # bubbles fade in, and half of their contrast is not theirs
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")["violations"]
    serious = [
        (one["id"], [node["target"] for node in one["nodes"][:3]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_the_policy_forbids_inline_scripts_and_other_origins(open_page: Open, sandbox: Sandbox) -> None:
    """An injected script doesn't run; the browser reports it on the console."""
    page = open_page(is_checked=False)
    answer = httpx.get(sandbox.page_url)
    assert "default-src 'none'; script-src 'self'" in answer.headers["Content-Security-Policy"]
    page.evaluate(
        "() => { const made = document.createElement('script'); made.textContent = 'window.owned = 1';"
        " addEventListener('securitypolicyviolation', () => { window.blocked = 1; });"
        " document.body.append(made); }"
    )
    assert page.evaluate("[window.owned ?? 0, window.blocked ?? 0]") == [0, 1]


def test_a_foreign_page_neither_reads_nor_changes_anything(browser: Any, sandbox: Sandbox) -> None:
    """From another origin: no text of an answer, no image, no fault, no frame."""
    with Sandbox().serve_in_thread() as other:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{other.url}/v1")
        base = sandbox.page_url.rstrip("/")
        script = """async (base) => {
            const told = [];
            for (const [path, options] of [
                ['/_sandbox/received', {}], ['/_sandbox', {mode: 'no-cors'}],
                ['/_sandbox/faults', {method: 'POST', mode: 'no-cors', body: '{"kind": "stall"}'}],
                ['/_sandbox/faults', {method: 'POST', body: '{"kind": "stall"}',
                    headers: {'Content-Type': 'application/json'}}],
            ]) told.push(await fetch(base + path, options).then((answer) => answer.text(), () => ''));
            return told;
        }"""
        assert set(page.evaluate(script, base)) <= {""}
        context.close()
    assert list(sandbox.faults) == []


def test_a_picture_of_the_page_is_kept(open_page: Open, sandbox: Sandbox, api: httpx.Client) -> None:
    """For the README; each run of the session makes it anew."""
    PICTURES.mkdir(exist_ok=True)
    send_one_of_each(api)
    sandbox.faults.add(Fault("status", status=503, times=1))
    api.post("/messages", json={"to": TO, "text": "Is it on its way?"})
    for scheme, language, width, name in (
        ("light", "en-US", 1280, "sandbox"), ("dark", "tr-TR", 1280, "sandbox-dark-tr"),
        ("light", "en-US", 380, "sandbox-phone"),
    ):  # fmt: skip
        page = open_page(color_scheme=scheme, locale=language, viewport={"width": width, "height": 900})
        page.locator("article[data-status=read][data-kind=media]").first.wait_for()
        page.evaluate(
            "document.querySelector('#chats').scrollTop ="
            " document.querySelector('article[data-kind=interactive]').offsetTop - 90"
        )
        page.screenshot(path=PICTURES / f"{name}.png")
        assert (PICTURES / f"{name}.png").stat().st_size > 20_000
