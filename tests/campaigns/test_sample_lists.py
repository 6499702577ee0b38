"""Real-looking lists: by Excel's habits, by LibreOffice Calc, by openpyxl, and by hand."""

from pathlib import Path
from typing import Any

import pytest

from desk360_async import AsyncDesk360, ConfigurationError
from desk360_async.campaigns import CampaignError
from tests.campaigns.harness import Harness

LISTS = Path(__file__).parent.parent / "samples" / "lists"
TR: dict[str, Any] = {"region": "TR", "mapping": {"body-1": "Ad"}}
ADA, BORA, CAN = "+905551112233", "+905321112234", "+905321112235"

# File → options, the phones that are sent to, and (line, reason) of all other rows.
READ: dict[str, tuple[dict[str, Any], list[str], list[tuple[int, str]]]] = {
    "calc.ods": ({"region": "TR"}, [ADA, BORA], []),
    "calc.xlsx": ({"region": "TR"}, [ADA, BORA], []),
    "crm-utf8.csv": ({}, [ADA, BORA], []),
    "empty-columns.csv": ({}, [ADA, BORA], []),
    "excel-csv-utf8.csv": (TR, [ADA, BORA, CAN], []),
    "excel-sep.csv": (TR, [ADA, BORA, CAN], []),
    "excel-turkish.csv": ({**TR, "encoding": "cp1254"}, [ADA, BORA, CAN], []),
    "excel-unicode-text.csv": (TR, [ADA, BORA, CAN], []),
    "exponents.csv": ({"mapping": {"body-1": "Ad"}}, [BORA], [(2, "invalid_phone: excel")]),
    "float-phones.csv": (
        {"region": "TR"},
        [],
        [(2, "invalid_phone: decimal"), (3, "invalid_phone: empty"), (4, "invalid_phone: decimal")],
    ),
    "form-tool.csv": ({"mapping": {"phone": "Your phone (+90…)", "body-1": "name"}}, [ADA], []),
    "latin-america.csv": ({}, ["+5491123456789", "+5511987654321"], [(3, "duplicate")]),
    "line-breaks.csv": ({"clean": True}, [ADA, BORA], []),
    "numbers.xlsx": ({"region": "TR"}, [ADA, BORA, CAN], []),
    "ragged.csv": ({}, [CAN], [(2, "missing_parameter: body-1"), (3, "too_many_cells")]),
    "second-sheet.xlsx": ({**TR, "sheet": "Liste"}, [ADA, BORA, CAN], []),
    "two-numbers.csv": ({}, [CAN], [(2, "invalid_phone: character")]),
    "web-page.csv": ({}, [ADA], []),
}
REFUSED = {
    "excel-turkish.csv": "isn't UTF-8: 3 lines can't be read, the first is line 2",
    "no-header.csv": "the first line must name the columns",
    "unclosed-quote.csv": "line 2: unexpected end of data; is a quote missing",
}


def load(harness: Harness, name: str, **options: Any) -> tuple[list[str], list[tuple[int, str]]]:
    """Load a list; return the phones of the messages, and the rows that were left out."""
    options = {"mapping": {"body-1": "name"}, **options}

    async def main(client: AsyncDesk360) -> tuple[list[str], list[tuple[int, str]]]:
        campaign = harness.campaign(strategy="single")
        await campaign.load(client, LISTS / name, **options)
        sent = [message.to async for message in campaign.dry_run()]
        return sent, [(line, reason) for line, reason, _ in await campaign.skipped()]

    return harness.play(main)


@pytest.mark.parametrize("name", READ)
def test_a_list_reaches_the_people_it_means_and_names_every_other_row(harness: Harness, name: str) -> None:
    options, phones, left_out = READ[name]
    sent, skipped = load(harness, name, **options)
    assert (sorted(sent), skipped) == (sorted(phones), left_out)


@pytest.mark.parametrize("name", REFUSED)
def test_a_list_that_would_be_read_in_part_is_refused(harness: Harness, name: str) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED[name]):
        load(harness, name)
    with pytest.raises(CampaignError, match="load"):
        harness.play(lambda client: harness.campaign().status())


def test_every_sample_has_its_outcome() -> None:
    assert {path.name for path in LISTS.iterdir()} == {*READ, *REFUSED, "make.py"}
    assert len({*READ, *REFUSED}) == 20
