"""The countries' numbering plans, from the metadata of phonenumbers (extra `phone`).

Each country's patterns are compiled once. Then a valid number costs one dictionary look-up and one match.
Only numbers that match no pattern are read by phonenumbers itself, which takes 20 to 30 µs a number.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from ._errors import ConfigurationError

Match = Callable[[str], object]

# Mobiles come first, since WhatsApp's users have mobile numbers.
_TYPES = (
    "mobile",
    "fixed_line",
    "voip",
    "toll_free",
    "shared_cost",
    "premium_rate",
    "personal_number",
    "pager",
    "uan",
    "voicemail",
)
# The countries whose mobiles have two spellings (ruling 19a). Both spellings are compared before a number is
# judged.
_RESPELLED = frozenset({52, 54, 55})
_E164 = 0  # phonenumbers.PhoneNumberFormat.E164


@cache
def is_installed() -> bool:
    """Whether phonenumbers can be imported."""
    try:
        import phonenumbers  # noqa: F401  # pyright: ignore[reportUnusedImport]  # the import is the question
    except ImportError:
        return False
    return True


def check_region(region: str) -> str:
    """Return a region's code in capitals, such as "TR".

    Raises:
        ConfigurationError: if phonenumbers isn't installed, or has no such region.
    """
    if not is_installed():
        raise ConfigurationError("region needs the extra 'phone': pip install 'desk360-async[phone]'")
    import phonenumbers

    if not isinstance(region, str) or region.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise ConfigurationError(f"region is two letters, such as 'TR', got {region!r}")
    return region.upper()


@cache
def matcher(digits: str) -> Match:
    """Return a function that matches a country's valid numbers, by the first three digits in E.164.

    The function takes a whole number with its `+`, and returns None if the number isn't valid.
    """
    return re.compile(_valid_numbers(digits), re.ASCII).fullmatch


@cache
def lines_matcher(digits: str) -> Match:
    """Return a function that matches lines of valid numbers, by the first three digits of one of them.

    Each line ends in a line feed. One match of 100 lines takes less than half the time of 100 matches.
    """
    # Lines are atomic, since a number may match two patterns: a wrong last line would otherwise be tried
    # 2**99 times. Possessive repetition has a bug before Python 3.11.5 (python/cpython#106052).
    return re.compile(f"(?>{_valid_numbers(digits)}\n)*", re.ASCII | re.MULTILINE).fullmatch


def _valid_numbers(digits: str) -> str:
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    code = _code_of(digits)
    plans = [_plan_of(code, region) for region in COUNTRY_CODE_TO_REGION_CODE.get(code, ())]
    patterns: dict[str, None] = {}
    for kind in _TYPES:
        for plan in plans:
            numbers = getattr(plan, kind)
            if numbers is None or not numbers.national_number_pattern:
                continue
            lengths = [n for n in numbers.possible_length or plan.general_desc.possible_length if n > 0]
            # The patterns alone don't limit the length.
            ahead = "|".join(f"\\d{{{n}}}" for n in lengths)
            patterns[f"(?=(?:{ahead})$)(?:{numbers.national_number_pattern})"] = None
    return rf"\+{code}(?:{'|'.join(patterns) or '(?!)'})"


@cache
def possible_matcher(digits: str) -> Match:
    """Return a function that matches numbers that may exist, by the first three digits in E.164.

    It accepts a number of a possible length that doesn't begin with the digits for calls inside the country.
    It is stricter than `problem`, and takes 1 µs instead of 30. `problem` decides about all other numbers.
    """
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    code = _code_of(digits)
    regions = COUNTRY_CODE_TO_REGION_CODE.get(code, ("",))
    plan = _plan_of(code, regions[0]) if regions[0] else None
    if plan is None or plan.national_prefix_transform_rule or code in _RESPELLED:
        return _matches_nothing
    inside = plan.national_prefix_for_parsing or "(?!)"
    lengths = "|".join(f"[0-9]{{{n}}}" for n in plan.general_desc.possible_length if n > 0)
    return re.compile(rf"\+{code}(?!{inside})(?:{lengths or '(?!)'})").fullmatch


def _matches_nothing(text: str) -> object:
    return None


def _code_of(digits: str) -> int:
    """Return the country code at the beginning of the digits; 0 if it is unknown."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    return next((int(digits[:n]) for n in (1, 2, 3) if int(digits[:n]) in COUNTRY_CODE_TO_REGION_CODE), 0)


def _plan_of(code: int, region: str) -> Any:
    from phonenumbers import PhoneMetadata

    if region == "001":  # a code that belongs to no country, such as +800
        return PhoneMetadata.metadata_for_nongeo_region(code, None)
    return PhoneMetadata.metadata_for_region(region, None)


def is_valid(phone: str) -> bool:
    """Whether a number in E.164 is valid in its country's plan."""
    return matcher(phone[1:4])(phone) is not None


def problem(phone: str) -> str | None:
    """Return why a number in E.164 can't exist in its country's plan; None if it may exist.

    A number that isn't valid may exist all the same: plans change, and the metadata follow later.
    """
    import phonenumbers

    try:
        parsed = phonenumbers.parse(phone)
    except phonenumbers.NumberParseException:
        return "no country has this country code"
    code = parsed.country_code or 0
    region = phonenumbers.region_code_for_country_code(code)
    if not phonenumbers.is_possible_number(parsed):
        return f"no number has this length in the numbering plan of +{code} ({region})"
    if phonenumbers.format_number(parsed, _E164) != phone:
        trunk = phone[len(f"+{code}")]
        return f"leave out the {trunk} after +{code}: it is dialled only inside the country ({region})"
    return None


def read_local(digits: str, region: str) -> str | None:
    """Return a region's local number in E.164; None if it isn't valid.

    Args:
        digits: the number as dialled in the region, digits only.
        region: two capital letters.
    """
    import phonenumbers

    try:
        parsed = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.format_number(parsed, _E164) if phonenumbers.is_valid_number(parsed) else None
