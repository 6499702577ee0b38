"""The vendor's samples as data: they are there, and what the package reads of them is what they say."""

import json

import pytest

import desk360_async.testing
from desk360_async._endpoints import ENDPOINTS
from desk360_async.testing import ANSWERS, WEBHOOKS, answer_sample, webhook_sample
from desk360_async.webhooks import MessageReceived, StatusUpdate, parse


def test_each_endpoint_has_an_answer_and_each_webhook_of_the_document_a_body() -> None:
    """A media file is no JSON."""
    assert set(ANSWERS) == {endpoint.name for endpoint in ENDPOINTS} - {"get_media"}
    assert WEBHOOKS == ("contacts", "image", "location", "referral", "status", "text")


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_json(name: str) -> None:
    """As the vendor's document shows them."""
    assert json.loads(answer_sample(name))


@pytest.mark.parametrize("name", WEBHOOKS)
def test_webhooks_are_events(name: str) -> None:
    """One each."""
    (event,) = parse(webhook_sample(name))
    assert isinstance(event, StatusUpdate if name == "status" else MessageReceived)


@pytest.mark.parametrize("sample", [answer_sample, webhook_sample])
def test_an_unknown_name_lists_what_there_is(sample: object) -> None:
    """So that nobody has to look it up."""
    with pytest.raises(ValueError, match=r"no sample 'sms'; there is: \w+, \w+"):
        sample("sms")  # type: ignore[operator]  # both are functions of a name


def test_the_package_offers_what_it_lists() -> None:
    """Each name is found, sorted, and nothing else is promised."""
    assert desk360_async.testing.__all__ == sorted(desk360_async.testing.__all__)
    assert all(getattr(desk360_async.testing, name) for name in desk360_async.testing.__all__)
    assert set(desk360_async.testing.__all__) <= set(dir(desk360_async.testing))
    with pytest.raises(AttributeError, match="no attribute 'Mock'"):
        _ = desk360_async.testing.Mock
