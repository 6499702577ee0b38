"""Loading: who is taken in, who is left out and why, and what the plan says."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from desk360_async import (
    AsyncDesk360,
    ConfigurationError,
    InvalidMessage,
    TemplateBatch,
    TemplateMessage,
    TokenBucket,
)
from desk360_async.campaigns import Campaign, CampaignError, Plan, Recipient
from tests.campaigns.harness import Harness, done, finish, people, phone


def write(harness: Harness, text: str) -> Path:
    """Write a CSV file."""
    path = harness.folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def load(harness: Harness, recipients: object, campaign: object = None, **options: object) -> Plan:
    """Load, and return the plan."""
    chosen = campaign or harness.campaign()
    return harness.play(lambda client: chosen.load(client, recipients, **options))


def skipped(harness: Harness) -> list[tuple[int, str, str]]:
    """Return who was left out."""
    return harness.play(lambda client: harness.campaign().skipped())


def test_a_plan_counts_groups_requests_and_tokens(harness: Harness) -> None:
    """Equal parameters share requests of `batch_size`, and one alone goes alone."""
    plan = load(harness, [*people(250, sets=2), Recipient("+905559999999", {"body-1": "for you"})])
    assert (plan.recipients, plan.groups, plan.bulk_requests, plan.single_requests) == (251, 3, 4, 1)
    assert plan.tokens == 5
    assert plan.seconds == pytest.approx(5.0)


def test_planning_sends_nothing(harness: Harness) -> None:
    """Only the list of templates is asked for."""
    load(harness, people(10))
    assert {request.method for request in harness.sandbox.requests} == {"GET"}


def test_the_same_input_again_adds_nobody(harness: Harness) -> None:
    """Loading is idempotent, what was left out included."""
    given = [*people(30), *people(2), Recipient("nobody", {"body-1": "x"})]
    first = load(harness, given)
    left_out = skipped(harness)
    second = load(harness, given)
    assert (first.recipients, second.recipients) == (30, 30)
    assert skipped(harness) == left_out
    assert dict(second.left_out) == {"duplicate": 2, "invalid_phone": 1}


def test_a_longer_input_adds_the_rest(harness: Harness) -> None:
    """Whoever is there already is neither added nor called a duplicate."""
    load(harness, people(30))
    plan = load(harness, people(50))
    assert (plan.recipients, dict(plan.left_out)) == (50, {})


def test_an_async_iterable_will_do(harness: Harness) -> None:
    """Recipients may come from anywhere."""

    async def given() -> AsyncIterator[Recipient]:
        for recipient in people(7):
            yield recipient

    assert load(harness, given()).recipients == 7


def test_a_csv_file_is_mapped_by_its_header(harness: Harness) -> None:
    """Columns are found by the variables' names; phones are read forgivingly."""
    path = write(harness, "name;Phone;BODY-1\nAda;+90 (555) 111-22-33;shoes\n\nBob;+905551112234;shoes\n")
    plan = load(harness, path)
    assert (plan.recipients, plan.bulk_requests) == (2, 1)


def test_columns_can_be_mapped(harness: Harness) -> None:
    """Whatever the file calls them."""
    path = write(harness, "gsm,product\n+905551112233,shoes\n")
    assert load(harness, path, mapping={"phone": "gsm", "body-1": "product"}).recipients == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("12345,x", "invalid_phone: no_country_code"),
        ("+905551112233,", "missing_parameter: body-1"),
        ("+905551112233", "missing_parameter: body-1"),
        ("+905551110000,x", "duplicate"),
        ("+905551119999,x", "opted_out"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_with_its_line(harness: Harness, row: str, reason: str) -> None:
    """Nothing is lost silently."""
    path = write(harness, f"phone,body-1\n+905551110000,x\n{row}\n")
    campaign = harness.campaign(opt_out=["+905551119999"])
    assert load(harness, path, campaign).recipients == 1
    assert [(line, why) for line, why, _ in skipped(harness)] == [(3, reason)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phone,name\n+905551112233,Ada\n", "no column for 'body-1'; the columns are: phone, name"),
        ("number,body-1\n+905551112233,x\n", "no column for 'phone'"),
        ("phone,phone\n", "names 'phone' more than once"),
        ("", "must name the columns"),
        ("sep=;\n\n", "must name the columns"),
        ("+905551110001\n+905551110002\n", "seems to hold a recipient"),
        ("(0555) 111-00-01\n+905551110002\n", "seems to hold a recipient"),
        ("+905551110001,x\n+905551110002,x\n", "seems to hold a recipient"),
        ("phone,body-1\n" + '+905551112233,"' + "x\n" * 40, "line 2: .*is a quote missing"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(harness: Harness, text: str, message: str) -> None:
    """The message names the file, and the fix; nobody's number is in it."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        load(harness, write(harness, text))
    assert "555" not in str(caught.value)


def test_one_column_without_a_header_loses_nobody(harness: Harness) -> None:
    """Its first line is no column's name; one with a name will do, whatever it is."""
    plain = harness.campaign(template="welcome", language="English")
    with pytest.raises(ConfigurationError, match="seems to hold a recipient"):
        load(harness, write(harness, "+905551110001\n+905551110002\n"), plain)
    assert load(harness, write(harness, "numara\n+905551110001\n+905551110002\n"), plain).recipients == 2


def test_a_corrected_file_leaves_the_old_ones_complaints_behind(harness: Harness) -> None:
    """What is reported is of the latest input; who has other parameters now is reported as well."""
    load(harness, write(harness, "phone,body-1\n+905551110001,a\n0555,a\n"))
    assert skipped(harness) == [(3, "invalid_phone: no_country_code", "0555")]
    plan = load(harness, write(harness, "phone,body-1\n+905551110001,b\n+905551110001,c\n+905551110002,a\n"))
    assert dict(plan.left_out) == {"duplicate": 1, "parameters_changed": 1}
    assert plan.recipients == 2
    assert skipped(harness) == [
        (2, "parameters_changed", "+905551110001"),
        (3, "duplicate", "+905551110001"),
    ]


def test_a_load_that_fails_pins_nothing(harness: Harness) -> None:
    """The name is free for something else, and the request that it cost isn't the next one's."""
    broken = [*people(10), None]
    with pytest.raises(InvalidMessage, match="must be a Recipient"):
        load(harness, broken)
    with pytest.raises(CampaignError, match="holds no campaign 'sale'"):
        skipped(harness)
    assert load(harness, people(3, sets=3), harness.campaign(template="feedback")).groups == 3
    assert harness.play(lambda client: harness.campaign(template="feedback").report()).requests == 2


def test_a_limit_that_the_server_corrects_counts_as_no_requests(harness: Harness) -> None:
    """The look-up's answers cut the limiter's 1,000 free tokens to those of the server."""

    async def main(client: AsyncDesk360) -> int:
        await harness.campaign().load(client, people(3))
        assert client.rate_limit.limit == 60
        return (await harness.campaign().report()).requests

    asked = len(harness.sandbox.requests)
    counted = harness.play(main, limiter=TokenBucket(1000, 1.0))
    assert counted == len(harness.sandbox.requests) - asked


def test_a_further_load_that_fails_changes_nothing(harness: Harness) -> None:
    """Neither who is in it, nor who was left out."""
    load(harness, [*people(3), *people(1)])
    with pytest.raises(InvalidMessage, match="must be a Recipient"):
        load(harness, [*people(10), None], harness.campaign(not_listed="not_sent"))
    assert [reason for _, reason, _ in skipped(harness)] == ["duplicate"]
    assert harness.play(lambda client: harness.campaign(not_listed="unknown").plan(client)).recipients == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "single"}, "strategy 'auto', not 'single'"),
        ({"batch_size": 5}, "batch_size 100, not 5"),
        ({"not_listed": "not_sent"}, "not_listed 'unknown', not 'not_sent'"),
    ],
)
def test_a_run_is_as_it_was_loaded(harness: Harness, options: dict[str, object], message: str) -> None:
    """What can't have an effect any more isn't ignored; who says nothing runs what is pinned."""
    load(harness, people(3))
    with pytest.raises(CampaignError, match=message):
        harness.play(lambda client: finish(harness.campaign(**options), client))
    plain = Campaign("sale", ledger=harness.ledger)
    assert done(harness.play(lambda client: finish(plain, client))).end == "finished"


def test_a_further_load_may_be_cut_otherwise(harness: Harness) -> None:
    """What isn't said stays as it was."""
    load(harness, people(10), harness.campaign(batch_size=5))
    assert load(harness, people(20)).bulk_requests == 4
    plan = load(harness, people(24), harness.campaign(strategy="single"))
    assert (plan.bulk_requests, plan.single_requests) == (4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "nonsense"}, "unknown"),
        ({"template": "retired_offer"}, "not sendable"),
        ({"template": "draft_notice", "language": 1}, "not sendable|not active"),
        ({"language": "Klingon"}, "Klingon"),
        ({"template": "invoice"}, "attachment"),
    ],
)
def test_a_template_that_cannot_be_sent_is_refused_first(
    harness: Harness, options: dict[str, object], message: str
) -> None:
    """Before a recipient is read."""
    with pytest.raises(InvalidMessage, match=message):
        load(harness, people(1), harness.campaign(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"template": "feedback"}, "template=86"), ({"language": 2}, "language=1"), ({}, "integration=11")],
)
def test_a_name_is_pinned_to_what_was_loaded(
    harness: Harness, options: dict[str, object], message: str
) -> None:
    """Something else under the same name is refused."""
    load(harness, people(1))
    integration = {} if options else {"integration_id": 22}
    if integration:
        options = {"template": "hello"}
    with pytest.raises(CampaignError, match=message):
        harness.play(lambda client: harness.campaign(**options).load(client, people(1)), **integration)


def test_different_parameters_are_warned_of(harness: Harness) -> None:
    """Bulk can't help then, and the plan says how long it takes."""
    plan = load(harness, people(300, sets=300))
    assert plan.single_requests == 300
    assert "bulk requests don't help. It takes 5.0 minutes" in plan.warnings[0]


def test_a_dry_run_shows_the_very_messages(harness: Harness) -> None:
    """As they are given to the client."""

    async def main(client: AsyncDesk360) -> list[TemplateBatch | TemplateMessage]:
        campaign = harness.campaign()
        await campaign.load(client, [*people(2), Recipient("+905559999999", {"body-1": "you"})])
        return [message async for message in campaign.dry_run()]

    assert harness.play(main) == [
        TemplateBatch([phone(1), phone(2)], 86, language=1, parameters={"body-1": "offer 0"}),
        TemplateMessage("+905559999999", 86, language=1, parameters={"body-1": "you"}),
    ]


@pytest.mark.parametrize("strategy", ["auto", "bulk", "single"])
def test_the_strategy_decides_how_a_batch_goes_out(harness: Harness, strategy: str) -> None:
    """`single` gives everyone a message id, and needs a token for each."""
    plan = load(harness, people(101), harness.campaign(strategy=strategy))
    expected = {"auto": (1, 1), "bulk": (2, 0), "single": (0, 101)}
    assert (plan.bulk_requests, plan.single_requests) == expected[strategy]


def test_numbers_without_a_country_code_need_a_region(harness: Harness) -> None:
    """With the extra `phone` they are read as of there."""
    pytest.importorskip("phonenumbers")
    path = write(harness, "phone,body-1\n0555 111 22 33,x\n")
    assert load(harness, path, region="TR").recipients == 1


def test_sets_that_were_forgotten_while_loading_are_found_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long list has more different sets than are remembered; equal ones share a request all the same."""
    monkeypatch.setattr("desk360_async.campaigns._recipients.REMEMBERED", 2)
    plan = harness.play(lambda client: harness.campaign().load(client, people(90, sets=9)))
    assert (plan.groups, plan.bulk_requests) == (9, 9)


def test_a_second_load_joins_the_sets_of_the_first(harness: Harness) -> None:
    async def main(client: AsyncDesk360) -> Plan:
        await harness.campaign().load(client, people(20, sets=2))
        return await harness.campaign().load(client, people(30, sets=3, start=18))

    plan = harness.play(main)
    assert (plan.recipients, plan.groups) == (47, 3)


def test_many_rows_are_all_staged(harness: Harness) -> None:
    """Around the number of rows that one statement takes."""
    for count in (299, 300, 301, 601):
        plan = harness.play(lambda client, n=count: harness.campaign(f"c{n}").load(client, people(n)))
        assert plan.recipients == count
