"""The shop on a sandbox: no network, no key, no waiting."""

from collections.abc import Iterator

import pytest
import shop
from fastapi.testclient import TestClient

from desk360_async.sandbox import Fault
from desk360_async.testing import VirtualSandbox

PHONE = "+905551112233"


@pytest.fixture
def http(desk360_sandbox: VirtualSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(shop, "make_client", desk360_sandbox.client)
    with TestClient(shop.app) as client:
        yield client


def test_the_customer_gets_the_template(http: TestClient, desk360_sandbox: VirtualSandbox) -> None:
    answer = http.post("/orders/SP1/shipped", params={"phone": PHONE, "name": "Ada"})
    assert answer.status_code == 200
    desk360_sandbox.assert_sent(
        to=PHONE, template="order_shipped", parameters={"body-1": "Ada", "body-2": "SP1"}, times=1
    )


def test_a_wrong_phone_is_answered_with_the_reason(http: TestClient, desk360_sandbox: VirtualSandbox) -> None:
    answer = http.post("/orders/SP1/shipped", params={"phone": "12", "name": "Ada"})
    assert answer.status_code == 502
    assert "phone" in answer.json()["detail"]
    desk360_sandbox.assert_sent(times=0)


def test_a_lost_answer_is_a_conflict(http: TestClient, desk360_sandbox: VirtualSandbox) -> None:
    desk360_sandbox.faults.add(Fault("stall", method="POST"))  # no answer; the timeout comes at once
    answer = http.post("/orders/SP1/shipped", params={"phone": PHONE, "name": "Ada"})
    assert answer.status_code == 409


def test_a_customer_is_answered(desk360_sandbox: VirtualSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop, "make_client", desk360_sandbox.client)
    with TestClient(shop.app) as http:  # its end waits for the handlers
        http.portal.call(desk360_sandbox.reply, PHONE, "Where is it?")
    desk360_sandbox.assert_sent(to=PHONE, text="You wrote: Where is it?", times=1)
