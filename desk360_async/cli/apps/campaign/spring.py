"""A campaign on people.csv: `python spring.py plan` shows it, `python spring.py run` sends it.

Both may be repeated. After Ctrl-C or a crash `run` goes on, and a person gets the message once.
"""

import asyncio
import sys
from pathlib import Path

from desk360_async import AsyncDesk360, ConfigurationError
from desk360_async.campaigns import Campaign, Plan, Report

HERE = Path(__file__).parent


def make_campaign(folder: Path = HERE) -> Campaign:
    """Return the campaign, whose ledger is in the folder."""
    return Campaign("spring", template="birthday", language="English", ledger=folder / "spring.db")


async def plan(client: AsyncDesk360, campaign: Campaign, people: Path) -> Plan:
    """Load the list into the ledger, and send no message."""
    return await campaign.load(client, people, mapping={"body-1": "name"}, region="TR")


async def run(client: AsyncDesk360, campaign: Campaign, people: Path) -> Report:
    """Send to all who are pending, and return the report."""
    await plan(client, campaign, people)
    async with campaign.run(client) as events:
        async for event in events:
            print(event)
    return await campaign.report()


async def main(word: str) -> int:
    async with AsyncDesk360() as client:
        if word == "plan":
            print(await plan(client, make_campaign(), HERE / "people.csv"))
            return 0
        report = await run(client, make_campaign(), HERE / "people.csv")
    print(report.counts)
    # An unknown person may have the message: `desk360 docs campaigns` shows how to decide.
    return 4 if report.counts.unknown else 0


if __name__ == "__main__":
    if sys.argv[1:] not in (["plan"], ["run"]):
        sys.exit("usage: python spring.py plan|run")
    try:
        sys.exit(asyncio.run(main(sys.argv[1])))
    except ConfigurationError as error:
        sys.exit(str(error))
