"""Lists as spreadsheets write them: the rows that are read, the rows left out, the files that are refused."""

import datetime
import errno
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openpyxl
import pytest

from desk360_async import AsyncDesk360, ConfigurationError, _tables
from desk360_async._phones import PROBLEMS
from desk360_async._tables import Table, write_sheet
from desk360_async.campaigns import Plan, Recipient, words_for
from desk360_async.sandbox import Fault
from desk360_async.webhooks import StatusUpdate
from tests.campaigns.harness import Harness, finish

TO = "+905551112233"
LISTS = Path(__file__).parents[1] / "samples" / "lists"


def load(harness: Harness, content: object, name: str = "list.csv", **options: Any) -> Plan:
    """Write a file and load it, or load recipients; return the plan."""
    path = harness.folder / name
    given: Any = path
    match content:
        case str():
            path.write_text(content, encoding="utf-8", newline="")
        case bytes():
            path.write_bytes(content)
        case _:
            given = content
    return harness.play(lambda client: harness.campaign().load(client, given, **options))


def skipped(harness: Harness) -> list[tuple[int, str, str]]:
    """Return the rows that were left out."""
    return harness.play(lambda client: harness.campaign().skipped())


def sheet(path: Path, *rows: list[object], title: str = "List") -> Path:
    """Write a workbook whose first sheet is empty of people."""
    book = openpyxl.Workbook()
    book.active.append(["notes"])
    page = book.create_sheet(title)
    for row in rows:
        page.append(row)
    book.save(path)
    return path


HEAD = "phone,body-1\n"
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_unicode_files_need_no_option(harness: Harness, encoding: str) -> None:
    plan = load(harness, f"{HEAD}{TO},Çağla\n".encode(encoding))
    assert (plan.recipients, plan.warnings) == (1, ())


def test_another_encoding_is_read_when_it_is_named(harness: Harness) -> None:
    load(harness, f"{HEAD}{TO},Şule\n".encode("cp1254"), encoding="cp1254")

    async def text(client: AsyncDesk360) -> object:
        return [message.parameters async for message in harness.campaign().dry_run()]

    assert harness.play(text) == [{"body-1": "Şule"}]


def test_a_file_in_another_encoding_is_refused_as_a_whole(harness: Harness) -> None:
    """Its plain rows alone would leave out the customers with Turkish names."""
    content = f"{HEAD}+905551110001,Ada\n+905551110002,Şule\n+905551110003,İnci\n".encode("cp1254")
    with pytest.raises(
        ConfigurationError, match=r"2 lines can't be read, the first is line 3.*encoding='cp1254'"
    ):
        load(harness, content)
    assert not harness.ledger.exists()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (f"{HEAD}{TO},x\n".encode("utf-16")[:-1], {}, "isn't complete UTF-16"),
        (HEAD, {"encoding": "klingon"}, "there is no encoding 'klingon'"),
        (HEAD, {"sheet": 1}, "a CSV file has none"),
        (f'{HEAD}{TO},"Ada\n', {}, "line 2: unexpected end of data; is a quote missing"),
        (f'{HEAD}{TO},x\n{TO},"Ada\n+905551110002,Bora\n', {}, "line 3: unexpected end of data"),
        (f'{HEAD}{TO},"Ada\n+905551110002,"\n+905551110003,x\n', {}, "line 2: a cell holds the next row"),
        (f'{HEAD}{TO},"Ada" B\n', {}, "line 2: ',' expected after '\"'"),
        (",\n,\n", {}, "must name the columns"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(
    harness: Harness, content: str | bytes, options: dict[str, Any], message: str
) -> None:
    """One customer would get the others' numbers, or some would get nothing."""
    with pytest.raises(ConfigurationError, match=message):
        load(harness, content, **options)


@pytest.mark.parametrize(
    "name", ["phone", "Telefon", "GSM", "Cep", "CEP TELEFONU", "Telefon Numaras\u0131", "TELEFON NO"]
)
def test_the_phone_column_is_found_by_its_usual_names(harness: Harness, name: str) -> None:
    assert load(harness, f"no;{name};BODY-1\n1;{TO};x\n").recipients == 1


def test_a_header_may_hold_line_breaks(harness: Harness) -> None:
    """Form tools export questions so."""
    mapping = {"phone": "phone (+90…)", "body-1": "name"}
    assert load(harness, f'"phone\r\n(+90…)",name\r\n{TO},Ada\r\n', mapping=mapping).recipients == 1


def test_columns_and_rows_without_content_are_ignored(harness: Harness) -> None:
    plan = load(harness, f"\nphone,body-1,,\n{TO},Ada,,\n,,,\n , \n\n+905551112244,Bora,comment\n")
    assert (plan.recipients, dict(plan.left_out)) == (2, {})


def test_a_missing_cell_is_empty_and_a_surplus_one_leaves_the_row_out(harness: Harness) -> None:
    load(harness, f"{HEAD}{TO}\n+905551110002,x,y\n+905551110003,x,,\n+905551110004,x\n")
    assert skipped(harness) == [
        (2, "missing_parameter: body-1", TO),
        (3, "too_many_cells", "+905551110002"),
    ]


def test_nul_is_an_invalid_parameter(harness: Harness) -> None:
    plan = load(harness, f"{HEAD}{TO},A\0da\n")
    assert dict(plan.left_out) == {"invalid_parameter: body-1": 1}


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lines_are_numbered_from_the_header(harness: Harness, ending: str) -> None:
    rows = [HEAD.strip(), f'{TO},"two\nlines"'.replace("\n", ending), "", "x,y"]
    load(harness, ending.join(rows))
    assert skipped(harness) == [(5, "invalid_phone: letters", "x")]


# ── spreadsheets ───────────────────────────────────────────────────────────────────────────────────────────


def test_lines_are_numbered_behind_many_empty_ones(harness: Harness) -> None:
    load(harness, "\n" * 250 + f"{HEAD}{TO},Ada\nx,Bob\n")
    assert skipped(harness) == [(253, "invalid_phone: letters", "x")]


def test_lines_are_numbered_behind_a_cell_of_three_lines(harness: Harness) -> None:
    people = "".join(f"+90555{n:07},Ada\n" for n in range(130))
    load(harness, f'{HEAD}{people}{TO},"a\r\nb\rc"\n{people}x,Bob\n')
    lines = [line for line, reason, _ in skipped(harness) if reason == "duplicate"]
    assert lines == list(range(135, 265))
    assert skipped(harness)[-1] == (265, "invalid_phone: letters", "x")


def test_the_rows_before_an_open_quote_are_counted(harness: Harness) -> None:
    people = "".join(f"+90555{n:07},Ada\n" for n in range(130))
    with pytest.raises(ConfigurationError, match=r"line 132: .*is a quote missing"):
        load(harness, f'{HEAD}{people}{TO},"Ada\n')


@pytest.mark.parametrize("which", ["List", 2])
def test_a_sheet_is_read_by_name_or_number(harness: Harness, which: str | int) -> None:
    path = sheet(harness.folder / "list.xlsx", ["phone", "body-1"], [TO, "Ada"])
    assert load(harness, path, sheet=which).recipients == 1


@pytest.mark.parametrize("which", ["Liste", 0, 3, True])
def test_an_unknown_sheet_is_refused_with_the_sheets(harness: Harness, which: str | int) -> None:
    path = sheet(harness.folder / "list.xlsx", ["phone", "body-1"])
    with pytest.raises(ConfigurationError, match="the sheets are: 1 'Sheet', 2 'List'"):
        load(harness, path, sheet=which)


def with_a_chart(path: Path, *, alone: bool = False) -> Path:
    """Write a workbook whose first sheet is a chart; the second one is a list."""
    book = openpyxl.Workbook()
    book.create_chartsheet("Chart", 0)
    for row in (["phone", "body-1"], [TO, "Ada"]):
        book.worksheets[0].append(row)
    if alone:
        del book["Sheet"]
    book.save(path)
    return path


@pytest.mark.parametrize("which", [None, 2, "Sheet"])
def test_a_sheet_that_is_a_chart_is_skipped(harness: Harness, which: str | int | None) -> None:
    """The number stays that of the tab."""
    path = with_a_chart(harness.folder / "list.xlsx")
    assert load(harness, path, sheet=which).recipients == 1


@pytest.mark.parametrize("which", [1, "Chart"])
def test_a_chart_is_refused_with_the_sheets_that_have_cells(harness: Harness, which: str | int) -> None:
    path = with_a_chart(harness.folder / "list.xlsx")
    with pytest.raises(ConfigurationError, match=r"with cells; the sheets are: 2 'Sheet'$"):
        load(harness, path, sheet=which)


def test_a_workbook_of_charts_alone_is_refused(harness: Harness) -> None:
    path = with_a_chart(harness.folder / "list.xlsx", alone=True)
    with pytest.raises(ConfigurationError, match="has no sheet with cells; the sheets are: none"):
        load(harness, path)


def test_phones_that_are_numbers_are_read_as_of_a_region(harness: Harness) -> None:
    """Excel drops the `+` and the zero, and the plan names the cells."""
    rows = [
        ["body-1", "cep"],
        ["x", 905551112233],
        ["x", 5551112244],
        ["x", 5551112255.5],
        ["x", "0555 111 22 66"],
    ]
    path = sheet(harness.folder / "list.xlsx", *rows)
    plan = load(harness, path, sheet=2, region="TR")
    assert skipped(harness) == [(4, "invalid_phone: decimal", "5551112255.5")]
    assert (plan.recipients, "(cells B2, B3, B4): format the column as text" in plan.warnings[-1]) == (
        3,
        True,
    )


def test_cells_become_the_texts_that_people_expect(tmp_path: Path) -> None:
    moments = [datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3, 4), True, None, 7, 0.25]  # noqa: DTZ001  # as Excel holds it
    path = sheet(tmp_path / "list.xlsx", ["phone", *"abcdef"], [TO, *moments])
    table = Table.open(path, sheet="List")
    (row,) = table.rows({"phone": "phone"} | {name: name for name in "abcdef"}, "abcdef")
    assert row == (2, TO, ("2026-01-02", "2026-01-02 03:04:00", "True", "", "7", "0.25"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("list.xlsx", {}, "can't be read as a spreadsheet"),
        ("list.ods", {}, "can't be read as a spreadsheet"),
        ("list.xlsx", {"encoding": "cp1254"}, "encoding is for CSV files"),
    ],
)
def test_a_file_that_is_no_spreadsheet_is_refused(
    harness: Harness, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(harness, b"phone,body-1\n", name, **options)


def test_a_spreadsheet_without_its_extra_names_the_extra(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(ConfigurationError, match=r"\.ods needs the extra 'excel': pip install"):
        load(harness, b"", "list.ods")


def test_a_protected_spreadsheet_is_refused_with_the_fix(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine", reason="needs the extra excel")
    name = 'xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"'
    entry = "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>"
    manifest = f"<manifest:manifest {name}>{entry}</manifest:manifest>"
    with zipfile.ZipFile(tmp_path / "list.ods", "w") as file:
        file.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        file.writestr("META-INF/manifest.xml", manifest)
    with pytest.raises(ConfigurationError, match="is protected by a password; save it without one"):
        Table.open(tmp_path / "list.ods")


def test_a_sheet_that_calamine_cannot_read_names_the_last_row(monkeypatch: pytest.MonkeyPatch) -> None:
    calamine = pytest.importorskip("python_calamine", reason="needs the extra excel")
    table = Table.open(LISTS / "calc.ods")

    def fail(_: int) -> None:
        raise calamine.CalamineError("broken record")

    monkeypatch.setattr(table._records._book, "_book", SimpleNamespace(get_sheet_by_index=fail))
    with pytest.raises(ConfigurationError, match=r"calc\.ods, after row 0: broken record"):
        list(table.rows({"phone": table.columns[0]}, ""))


def test_the_share_of_a_sheet_that_was_read_ends_at_1(tmp_path: Path) -> None:
    table = Table.open(sheet(tmp_path / "list.xlsx", ["phone"], [TO]), sheet="List")
    assert len(list(table.rows({"phone": "phone"}, ""))) == 1
    assert table.done == 1.0


def test_a_list_that_may_not_be_opened_is_refused(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    path = harness.folder / "list.csv"
    path.write_text(HEAD)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigurationError, match=r"list\.csv can't be read: Permission denied"):
        Table.open(path)


def test_a_disk_that_fails_amid_a_list_gives_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"phone\n{TO}\n")
    table = Table.open(path)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(_tables, "TextIOWrapper", fail)
    with pytest.raises(ConfigurationError, match=r"list\.csv, after line 0: Input/output error"):
        list(table.rows({"phone": "phone"}, ""))


def test_a_list_that_changes_after_its_check_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"phone\n{TO}\n")
    table = Table.open(path)
    path.write_bytes(b"phone\n\xfe\n")
    with pytest.raises(ConfigurationError, match="was changed while it was read"):
        list(table.rows({"phone": "phone"}, ""))


def test_options_for_files_are_refused_beside_recipients(harness: Harness) -> None:
    with pytest.raises(ConfigurationError, match="encoding is for files"):
        load(harness, [Recipient(TO)], encoding="cp1254")


def test_progress_counts_rows_and_the_share_of_the_file(harness: Harness) -> None:
    seen: list[tuple[int, float | None]] = []
    load(
        harness,
        HEAD + "".join(f"+90555{n:07d},x\n" for n in range(12_000)),
        progress=lambda *a: seen.append(a),
    )
    assert [rows for rows, _ in seen] == [5000, 10_000, 12_000]
    shares = [share for _, share in seen if share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


# ── variables and numbers ──────────────────────────────────────────────────────────────────────────────────

BAD = ["Ada\nLovelace", "A\tB", "A      B", "\u200b"]


def test_a_plan_warns_of_what_whatsapp_refuses(harness: Harness) -> None:
    given = [Recipient(f"+90555111000{n}", {"body-1": text}) for n, text in enumerate([*BAD, "A    B"])]
    plan = load(harness, given)
    assert plan.recipients == 5
    assert [warning.partition(",")[0] for warning in plan.warnings] == [
        "body-1 holds a line break in line 1",
        "body-1 holds a tab in line 2",
        "body-1 holds more than four spaces in a row in line 3",
        "body-1 holds invisible characters only in line 4",
    ]


def test_clean_folds_white_space(harness: Harness) -> None:
    given = [Recipient(f"+90555111000{n}", {"body-1": text}) for n, text in enumerate(BAD[:3])]
    assert load(harness, given, clean=True).warnings == ()

    async def texts(client: AsyncDesk360) -> set[str]:
        return {message.parameters["body-1"] async for message in harness.campaign().dry_run()}

    assert harness.play(texts) == {"Ada Lovelace", "A B"}


def test_a_warning_counts_its_lines_and_names_the_first(harness: Harness) -> None:
    given = [Recipient(f"+90555111{n:04d}", {"body-1": "a\nb"}) for n in range(8)]
    assert "in 8 lines (1, 2, 3, 4, 5, …), which WhatsApp refuses" in load(harness, given).warnings[0]


def test_a_number_that_is_possible_but_not_valid_is_sent_with_a_warning(harness: Harness) -> None:
    plan = load(harness, [Recipient("+905991112233", {"body-1": "x"}), Recipient(TO, {"body-1": "x"})])
    assert plan.recipients == 2
    assert (
        "Not valid in its country's numbering plan, but not left out: the phone in line 1."
        in plan.warnings[0]
    )


@pytest.mark.parametrize(
    "phone",
    ["0555 111 22 33 Ada", "905551112233.0", "0555 111 22 33-34", 905551112233.0, "+90 0555 111 22 33"],
)
def test_nobody_else_is_sent_to_where_a_region_is_named(harness: Harness, phone: Any) -> None:
    plan = load(harness, [Recipient(phone, {"body-1": "x"})], region="TR")
    assert (plan.recipients, dict(plan.left_out)) == (0, {"invalid_phone": 1})


def test_default_region_is_an_alias_with_a_warning(harness: Harness) -> None:
    with pytest.warns(DeprecationWarning, match="now called region"):
        plan = load(harness, [Recipient("0555 111 22 33", {"body-1": "x"})], default_region="TR")
    assert plan.recipients == 1


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("invalid_phone: letters", "no phone number: letters in it"),
        ("invalid_phone", "no phone number"),
        ("missing_parameter: body-1", "body-1: the cell is empty; the customer would read a gap"),
        ("duplicate", "phone: the same as in an earlier line"),
        ("BadRequest 400 failed_validation", "HTTP 400 (failed_validation)"),
        ("balance is empty", "balance is empty"),
    ],
)
def test_a_reason_is_put_in_words(reason: str, words: str) -> None:
    assert words_for(reason) == words


@pytest.mark.parametrize(
    ("phone", "slug"),
    [
        ("9,05551E+11", "excel"),
        ("0555 111 22 33 Ada", "letters"),
        ("905551112233.0", "decimal"),
        ("+90 (0)555 111 22 33", "trunk_zero"),
        ("+905551112233;", "character"),
        ("+90 555 111 22 33 - 44", "tail"),
        ("-", "empty"),
        ("0555 111 22 33", "no_country_code"),
        ("+0555 111 22 33", "country_code"),
        ("+90", "length"),
        ("+90-555-111-22", "not_valid"),
        ("+9055511122", "impossible"),
        (905551112233, "not_text"),
    ],
)
def test_a_phone_that_is_none_is_left_out_with_the_problem_in_words(
    harness: Harness, phone: Any, slug: str
) -> None:
    plan = load(harness, [Recipient(phone, {"body-1": "x"})])
    assert skipped(harness) == [(1, f"invalid_phone: {slug}", str(phone))]
    assert plan.warnings == (f"Left out when loading: no phone number: {PROBLEMS[slug]} (1).",)


def test_a_later_plan_repeats_the_warnings_about_the_last_input(harness: Harness) -> None:
    warnings = load(harness, [Recipient(TO, {"body-1": "a\tb"})]).warnings
    assert "a tab in line 1" in warnings[0]
    assert harness.play(lambda client: harness.campaign().plan(client)).warnings == warnings
    assert load(harness, [Recipient(TO, {"body-1": "a\tb"})] * 0).warnings == ()


# ── persons ────────────────────────────────────────────────────────────────────────────────────────────────

TWINS = [
    ("+5491123456789", "+541123456789"),
    ("+5215512345678", "+525512345678"),
    ("+5511987654321", "+551187654321"),
]
both_ways = pytest.mark.parametrize(("one", "other"), [*TWINS, *((b, a) for a, b in TWINS)])


@both_ways
def test_an_opt_out_holds_under_every_spelling(harness: Harness, one: str, other: str) -> None:
    campaign = harness.campaign(opt_out=[one])
    people = [Recipient(other, {"body-1": "x"}), Recipient(TO, {"body-1": "x"})]
    plan = harness.play(lambda client: campaign.load(client, people))
    assert (plan.recipients, dict(plan.left_out)) == (1, {"opted_out": 1})


def run(harness: Harness, then: Callable[[AsyncDesk360], Any]) -> Any:
    """Run the campaign, and then something else."""

    async def main(client: AsyncDesk360) -> Any:
        await finish(harness.campaign(), client)
        return await then(client)

    return harness.play(main)


@both_ways
def test_a_person_under_two_spellings_is_sent_to_once_as_first_given(
    harness: Harness, one: str, other: str
) -> None:
    plan = load(harness, f"{HEAD}{one},x\n{TO},x\n{other},x\n{one},x\n")
    assert skipped(harness) == [(4, "duplicate", other), (5, "duplicate", one)]
    assert plan.recipients == 2
    harness.play(lambda client: finish(harness.campaign(), client))
    assert sorted(harness.received()) == sorted([one, TO])


@both_ways
def test_a_further_list_knows_a_person_under_another_spelling(harness: Harness, one: str, other: str) -> None:
    load(harness, f"{HEAD}{one},x\n")
    assert load(harness, f"{HEAD}{other},x\n{TO},x\n").recipients == 2
    assert skipped(harness) == []
    load(harness, f"{HEAD}{other},y\n")
    assert skipped(harness) == [(2, "parameters_changed", other)]


@both_ways
def test_a_status_counts_under_another_spelling(harness: Harness, one: str, other: str) -> None:
    load(harness, f"{HEAD}{one},x\n{TO},x\n")
    status = StatusUpdate(id="bulk", sender=other[1:], status="read")
    assert run(harness, lambda client: harness.campaign().feed(status)) == 1
    assert harness.play(lambda client: harness.campaign().report()).read == 1


@both_ways
def test_an_unknown_person_is_resolved_under_another_spelling(harness: Harness, one: str, other: str) -> None:
    load(harness, f"{HEAD}{one},x\n{TO},x\n")
    harness.sandbox.faults.add(Fault("status", status=502, times=1, accepted=True))
    assert run(harness, lambda client: harness.campaign().resolve("accepted", phones=[other])) == 1


# ── exports ────────────────────────────────────────────────────────────────────────────────────────────────


def exported(harness: Harness, name: str) -> Path:
    """Return the export of the campaign."""
    path = harness.folder / name
    harness.play(lambda client: harness.campaign().export(path))
    return path


@pytest.mark.parametrize("name", ["report.csv", "report.xlsx"])
def test_an_export_loads_again_with_the_same_people(harness: Harness, name: str) -> None:
    names = ["Çağla", "=1+1", "a, b", 'x "y"', "<&>"]
    given = [Recipient(f"+90555111000{n}", {"body-1": text}) for n, text in enumerate(names)]
    load(harness, given)
    path = exported(harness, name)
    again = harness.campaign("again")
    plan = harness.play(lambda client: again.load(client, path, mapping={"body-1": "phone"}))
    assert (plan.recipients, dict(plan.left_out)) == (5, {})
    table = Table.open(path)
    rows = table.rows({"phone": "phone", "p": "parameters"}, ["p"])
    assert {phone: json.loads(values[0]) for _, phone, values in rows} == {
        person.phone: dict(person.parameters or {}) for person in given
    }


def test_an_export_as_csv_begins_with_the_mark_by_which_excel_knows_utf_8(harness: Harness) -> None:
    load(harness, [Recipient(TO, {"body-1": "Şule"})])
    assert exported(harness, "report.csv").read_bytes().startswith(b"\xef\xbb\xbfline,phone,")


def test_an_export_as_xlsx_holds_texts(harness: Harness) -> None:
    load(harness, [Recipient(TO, {"body-1": "=1+1"}), Recipient("x\x01", {"body-1": "y"})])
    page = openpyxl.load_workbook(exported(harness, "report.xlsx")).active
    cells = [[cell.value for cell in row[:4]] for row in page.iter_rows(min_row=2)]
    assert cells == [[1, TO, "pending", ""], [2, "x\ufffd", "skipped", "invalid_phone: letters"]]
    assert page["B2"].data_type == "s"


def test_a_text_that_looks_like_an_escape_of_excels_stays_itself(tmp_path: Path) -> None:
    calamine = pytest.importorskip("python_calamine", reason="needs the extra excel")
    with (tmp_path / "x.xlsx").open("wb") as file:
        write_sheet(file, ["a_x0042_b"], [["_x0041_"], ["_x41_ & x0041_"]])
    with (tmp_path / "x.xlsx").open("rb") as file:
        rows = calamine.CalamineWorkbook.from_filelike(file).get_sheet_by_index(0).to_python()
    assert rows == [["a_x0042_b"], ["_x0041_"], ["_x41_ & x0041_"]]


def test_a_sheet_of_more_rows_than_excel_has_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(_tables, "MOST_ROWS", 3)
    with (tmp_path / "x.xlsx").open("wb") as file, pytest.raises(OSError, match="a sheet has 3 rows"):
        write_sheet(file, ["a"], [[1], [2], [3]])
