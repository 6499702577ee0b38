"""The campaign on a sandbox: no network, no key, no waiting."""

import asyncio
from pathlib import Path

from desk360_async.sandbox import Fault
from desk360_async.testing import VirtualSandbox
from spring import HERE, make_campaign, plan, run

PEOPLE = HERE / "people.csv"


def test_the_plan_sends_nothing(desk360_sandbox: VirtualSandbox, tmp_path: Path) -> None:
    planned = asyncio.run(plan(desk360_sandbox.client(), make_campaign(tmp_path), PEOPLE))
    assert (planned.recipients, sum(planned.left_out.values())) == (3, 0)
    desk360_sandbox.assert_sent(times=0)


def test_each_person_gets_the_message_once(desk360_sandbox: VirtualSandbox, tmp_path: Path) -> None:
    for _ in range(2):  # the second run has nothing to send
        report = asyncio.run(run(desk360_sandbox.client(), make_campaign(tmp_path), PEOPLE))
    assert report.counts.accepted == 3
    desk360_sandbox.assert_sent(template="birthday", times=3)
    desk360_sandbox.assert_sent(to="+905551110001", parameters={"body-1": "Ada"}, times=1)


def test_a_lost_answer_leaves_a_person_unknown(desk360_sandbox: VirtualSandbox, tmp_path: Path) -> None:
    desk360_sandbox.faults.add(Fault("stall", method="POST", phone="+905551110002"))  # no answer; the timeout comes at once
    report = asyncio.run(run(desk360_sandbox.client(), make_campaign(tmp_path), PEOPLE))
    assert (report.counts.accepted, report.counts.unknown) == (2, 1)
