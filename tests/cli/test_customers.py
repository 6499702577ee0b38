"""`desk360 customers` and `desk360 forget`, and `--customers` on a send."""

import json
import sqlite3
from pathlib import Path

import pytest

from .conftest import Desk360

PHONE = "+905551112233"


@pytest.fixture
def book(tmp_path: Path) -> str:
    return str(tmp_path / "customers.db")


def test_an_opt_out_is_stored_shown_and_undone(desk360: Desk360, book: str) -> None:
    made = desk360("customers", "opt-out", PHONE, "--reason", "by phone", "--customers", book)
    assert (made.code, "…2233: opted out" in made.err) == (0, True)
    shown = desk360("customers", "show", PHONE, "--customers", book)
    assert shown.out.startswith("window unknown\nopted out since ")
    desk360("customers", "opt-in", PHONE, "--customers", book)
    assert "not opted out" in desk360("customers", "show", PHONE, "--customers", book).out


def test_the_environment_names_the_file(desk360: Desk360, book: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK360_CUSTOMERS", book)
    made = desk360("customers", "opt-out", PHONE, "--json")
    assert json.loads(made.out) == {"phone": "…2233", "opted_out": True}
    shown = json.loads(desk360("customers", "show", PHONE, "--json").out)
    assert (shown["window"], shown["ends"], shown["opted_out"] is None) == ("unknown", None, False)


def test_people_are_exported(desk360: Desk360, book: str, tmp_path: Path) -> None:
    desk360("customers", "opt-out", PHONE, "--customers", book)
    out = tmp_path / "people.csv"
    assert "1 people" in desk360("customers", "export", str(out), "--customers", book).err
    assert PHONE in out.read_text()
    run = desk360("customers", "export", str(out), "--customers", book, "--json")
    assert json.loads(run.out) == {"path": str(out), "rows": 1}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "add --customers PATH, or set DESK360_CUSTOMERS"),
        (("--customers", "gone.db"), "gone.db: there is no such file"),
        (("--customers", "postgresql://u:secret@127.0.0.1:1/x"), "[password]@127.0.0.1:1/x can't be"),
    ],
)
def test_without_a_file_the_command_names_the_fix(
    desk360: Desk360, words: tuple[str, ...], problem: str
) -> None:
    run = desk360("customers", "show", PHONE, *words)
    assert (run.code, problem in run.err) == (2, True)


def test_a_send_to_an_opted_out_person_is_refused(desk360: Desk360, book: str) -> None:
    desk360("customers", "opt-out", PHONE, "--customers", book)
    run = desk360("send", "template", PHONE, "welcome", "--language", "English", "--customers", book)
    assert (run.code, "opted out" in run.err) == (3, True)


def test_a_person_is_forgotten(desk360: Desk360, book: str) -> None:
    desk360("customers", "opt-out", PHONE, "--customers", book)
    run = desk360("forget", PHONE, "--customers", book, "--json")
    assert json.loads(run.out) == {"removed": {book: 1}}
    assert "opted out since" in desk360("customers", "show", PHONE, "--customers", book).out


def test_forgetting_nowhere_is_refused(desk360: Desk360) -> None:
    run = desk360("forget", PHONE)
    assert (run.code, "name a store" in run.err) == (2, True)


def test_a_phone_or_an_age_is_forgotten_and_not_both(desk360: Desk360, book: str) -> None:
    for words in ([PHONE, "--older-than", "90"], []):
        run = desk360("forget", *words, "--inbox", book)
        assert (run.code, "give a phone, or --older-than DAYS" in run.err) == (2, True)


def test_an_old_file_is_expired(desk360: Desk360, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "inbox.db").close()
    run = desk360("forget", "--older-than", "90", "--inbox", str(tmp_path / "inbox.db"))
    assert (run.code, "0 records no longer hold a person" in run.err) == (0, True)
