"""Phone numbers: which spellings are read, which are refused and why, who is one person (rulings 19, 19a)."""

import random
import sys
import time
from collections.abc import Callable

import httpx
import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from desk360_async import (
    AsyncDesk360,
    ConfigurationError,
    InvalidMessage,
    TemplateBatch,
    TextMessage,
    normalize_phone,
)
from desk360_async._numbering import is_installed, is_valid
from desk360_async._phones import Reader, parse_phone, person_of, spellings_of

TO = "+905551112233"


@pytest.mark.parametrize(
    "text", ["+905551112233.0", "+905551112233.00", "+90 555 111 22.33", "+905551112233,0"]
)
def test_a_decimal_is_refused(text: str) -> None:
    """A float's `.0` would become a digit of somebody else's number."""
    for read in (normalize_phone, parse_phone, lambda text: TextMessage(text, "Hi")):
        with pytest.raises(InvalidMessage, match="looks like a decimal number; format the column as text"):
            read(text)


@pytest.mark.parametrize("text", ["9,05551E+11", "9.05551112233E+11", "+9E11", "905551E+6"])
@pytest.mark.parametrize("region", [None, "TR"])
def test_an_exponent_is_refused(text: str, region: str | None) -> None:
    with pytest.raises(InvalidMessage, match="Excel wrote a number; format the column as text"):
        normalize_phone(text, region=region)


@pytest.mark.parametrize("region", [None, "TR", "DE"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0555 111 22 33 Ada", "letters in it"),
        ("+90 555 111 22 33 ext 4", "letters in it"),
        ("nan", "'nan' is not a phone number: letters in it"),
        ("not-a-number", "'not-a-numb…' is not a phone number"),
        ("905551112233.0", "decimal"),
        ("+90 (0) 555 111 22 33", "leave that zero out"),
        ("+90 555 111 22 33 - 44", "too long"),
        ("+90 555 111 22 33/34", "SOLIDUS in it"),
        ("+905551112233;+905551112244", "SEMICOLON in it"),
        ("+905551112233*", "ASTERISK in it"),
        ("+90 555 111 22 33 +90 555", "PLUS SIGN in it"),
        ("+90555111\x002233", "U\\+0000 in it"),
        ("+90 0555 111 22 33", "leave out the 0 after \\+90"),
        ("+9005551112233", "leave out the 0 after \\+90"),
        ("+15551", "7 to 15 digits"),
        ("+90555111", "no number has this length"),
        ("+999123456789", "no country has this country code"),
        ("", "empty"),
        (" ", "empty"),
        ("+", "7 to 15 digits"),
        ("+05551112233", "doesn't start with 0"),
    ],
)
def test_a_refusal_gives_its_reason(text: str, region: str | None, why: str) -> None:
    with pytest.raises(InvalidMessage, match=why):
        normalize_phone(text, region=region)


@pytest.mark.parametrize("value", [905551112233.0, 905551112233, None, True, b"+905551112233"])
def test_a_value_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidMessage, match="a phone number is text"):
        normalize_phone(value, region="TR")  # type: ignore[arg-type]  # the mistake is the subject


@pytest.mark.parametrize(
    "text",
    [
        *("0555 111 22 33", "0(555) 111 22 33", "5551112233", "+90 555 111 22 33", "90 555 111 22 33"),
        *("00905551112233", "+90 555-111-22-33", "(0555) 111-22-33", "\u202a0555\u00a0111 22 33"),
    ],
)
def test_a_region_reads_local_spellings(text: str) -> None:
    assert normalize_phone(text, region="tr") == TO


@pytest.mark.parametrize("text", ["0555 111 22 33-34", "0555 111 22", "1555 111 22 33", "112", "0"])
def test_a_region_reads_valid_numbers_only(text: str) -> None:
    with pytest.raises(InvalidMessage, match="no valid number of the region TR"):
        normalize_phone(text, region="TR")


@pytest.mark.parametrize("read", [normalize_phone, lambda text: TextMessage(text, "Hello")])
def test_a_local_number_without_a_region_names_the_function_and_the_option(
    read: Callable[[str], object],
) -> None:
    """A message takes no `region=`."""
    fix = r"normalize_phone\(text, region='TR'\), in the terminal --region TR"
    with pytest.raises(InvalidMessage, match=fix):
        read("0555 111 22 33")


@pytest.mark.parametrize("region", ["Turkey", "XX", ""])
def test_an_unknown_region_is_refused(region: str) -> None:
    with pytest.raises(ConfigurationError, match="two letters"):
        normalize_phone(TO, region=region)


@pytest.mark.parametrize("text", ["+90-555-111-22-3", "+90.1.1.1.1.1.1.1"])
def test_the_more_was_forgiven_the_stricter(text: str) -> None:
    """Without its dashes it must be valid; written plainly it may be possible only."""
    with pytest.raises(InvalidMessage, match="no valid number"):
        parse_phone(text)


def test_a_possible_number_that_is_not_valid_is_read_if_it_is_plain() -> None:
    """Numbering plans change, and the metadata follow later."""
    assert not is_valid("+905991112233")
    assert normalize_phone("+905991112233") == normalize_phone("+90 599 111 22 33") == "+905991112233"


TWINS = [
    ("+5491123456789", "+541123456789"),
    ("+5215512345678", "+525512345678"),
    ("+5511987654321", "+551187654321"),
]


@pytest.mark.parametrize(("long", "short"), TWINS)
def test_two_spellings_are_one_person(long: str, short: str) -> None:
    assert person_of(long) == person_of(short) == person_of(int(short)) == person_of(long[1:])
    assert set(spellings_of(long)) == set(spellings_of(short)) == {int(long), int(short)}
    assert TemplateBatch([long, short, TO], 1, language=1).phones == (long, TO)


@pytest.mark.parametrize("phone", [phone for pair in TWINS for phone in pair])
def test_whatsapps_own_spellings_are_valid(phone: str) -> None:
    """Each is sent to as it was given, also where dashes had to be removed."""
    assert normalize_phone(phone) == phone
    assert parse_phone(f"{phone[:6]}-{phone[6:]}") == phone


@given(st.integers(10**6, 10**15 - 1))
def test_a_person_has_one_number_however_it_is_spelled(number: int) -> None:
    assert {person_of(spelling) for spelling in spellings_of(number)} == {person_of(number)}
    assert number in spellings_of(number)


def test_a_text_without_digits_is_nobody() -> None:
    assert person_of("") == person_of("US.opaque") == 0


@pytest.mark.parametrize("code", sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE))
def test_the_compiled_plans_agree_with_phonenumbers(code: int) -> None:
    """An independent oracle: a number is valid, and written as it is."""
    rng = random.Random(code)
    for length in (*range(6, 12), *range(6, 12)):
        phone = f"+{code}" + "".join(rng.choices("0123456789", k=length))[: 15 - len(str(code))]
        parsed = phonenumbers.parse(phone)
        exact = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) == phone
        assert is_valid(phone) == (phonenumbers.is_valid_number(parsed) and exact), phone


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_every_regions_example_is_valid(region: str) -> None:
    for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE):
        example = phonenumbers.example_number_for_type(region, kind)
        if example is not None:
            phone = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
            assert Reader().is_plain(phone)
            assert normalize_phone(phone, region=region) == phone


def test_without_the_extra_a_number_is_checked_by_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("desk360_async._numbering.is_installed", lambda: False)
    assert normalize_phone("+9005551112233") == "+9005551112233"
    assert Reader().is_plain(TO)
    with pytest.raises(InvalidMessage, match="digits after its last dash"):
        normalize_phone("+90 555 111 22 33 - 44")
    with pytest.raises(ConfigurationError, match="needs the extra 'phone'"):
        normalize_phone("0555", region="TR")


def test_the_extra_is_missing_where_phonenumbers_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    asks_anew = is_installed.__wrapped__
    assert asks_anew()
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    assert not asks_anew()


SEVERAL = [
    [TO],
    [TO, "+905321112233"],
    [TO, "+4915112345678"],
    [TO, "0555 111 22 33"],
    ["0555 111 22 33", TO],
    ["+9005551112233", TO],
    [f"{TO}\n"],
    [f"{TO}\n{TO}", TO],
    [TO, ""],
]


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("texts", SEVERAL)
def test_several_texts_are_plain_if_each_is(
    monkeypatch: pytest.MonkeyPatch, texts: list[str], installed: bool
) -> None:
    monkeypatch.setattr("desk360_async._numbering.is_installed", lambda: installed)
    assert Reader().are_plain(texts) == all(map(Reader().is_plain, texts))


@pytest.mark.parametrize("code", sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE))
def test_a_countrys_lines_are_plain_if_each_number_is(code: int) -> None:
    """One pattern judges all of them, a wrong one between two valid ones too."""
    rng, reader = random.Random(code), Reader()
    phones = [
        f"+{code}" + "".join(rng.choices("0123456789", k=length))[: 15 - len(str(code))]
        for length in [*range(6, 12)] * 20
    ]
    phones += [f"{phone}{end}" for phone in phones[:20] for end in ("", "1", "12")]
    valid = [phone for phone in phones if reader.is_plain(phone)]
    assert reader.are_plain(valid)
    for phone in phones:
        assert reader.are_plain([*valid[:1], phone, *valid[:1]]) == reader.is_plain(phone), phone


@pytest.mark.parametrize("last", ["+901", "+90555111223", "+905551112233\n", "0555"])
def test_a_wrong_last_number_is_found_at_once(last: str) -> None:
    """The pattern tries no line again, though a number may match it in several ways."""
    began = time.process_time()
    assert not Reader().are_plain([TO] * 9_999 + [last])
    assert time.process_time() - began < 5  # 0.01 s; a second try of each line would double it 9,999 times


@pytest.mark.real
def test_a_valid_number_costs_little() -> None:
    """1 µs is the goal on a quiet machine; the bound here leaves room for a busy one."""
    reader, began = Reader(), time.process_time()
    for _ in range(20_000):
        reader.is_plain(TO)
    assert (time.process_time() - began) / 20_000 < 5e-6


@pytest.mark.parametrize("pair", [*TWINS, *(pair[::-1] for pair in TWINS)])
@pytest.mark.anyio
async def test_a_bulk_answer_may_spell_a_number_otherwise(pair: tuple[str, str]) -> None:
    asked, listed = pair
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json={"phones": [listed]}))
    async with AsyncDesk360("k", integration_id=1, transport=answer) as client:
        sent = await client.send_template_bulk([asked, TO], 75, language=1)
    assert (sent.phones, sent.unlisted) == ((listed,), (TO,))


def test_the_quick_look_never_takes_a_number_that_the_plans_refuse() -> None:
    """It decides about numbers that are possible but not valid, in every country."""
    random_, reader, taken = random.Random(19), Reader(), 0
    for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        for _ in range(20):
            phone = f"+{code}{random_.randrange(10**9, 10 ** random_.randint(10, 12))}"[:16]
            if reader.is_possible(phone):
                taken += 1
                assert reader.judge(phone) == (phone, None)
    assert taken > 200


@pytest.mark.parametrize(
    "text", ["+90 555 111 22 33", "+9005551112233", "+555551112233", "+999123456789", "+8001234567", "x"]
)
def test_the_quick_look_leaves_doubtful_spellings_to_the_plans(text: str) -> None:
    assert not Reader().is_possible(text)
