"""Judging rows: phones normalised, parameters complete, opted-out left out; the rest skipped, with a reason.

Pure, but for `set_for`, which asks the ledger for the number of a set of parameters.
"""

import re
from collections.abc import Callable, Iterable, Sequence

from desk360_async import ConfigurationError, InvalidMessage
from desk360_async._phones import parse_phone
from desk360_async.campaigns._recipients import Row, Values

Staged = tuple[int, int, int]  # line, phone, parameter set
Skipped = tuple[int, str, str]  # line, reason, phone as given
SetFor = Callable[[dict[str, str]], int]

# Sets of parameters that are remembered; the ledger knows them all.
REMEMBERED = 20_000
_EXACT = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch  # ruling 19, without what is forgiven
_CUT = 60  # characters of what somebody wrote in place of a phone


class Intake:
    """What becomes of the rows of one load.

    Args:
        variables: the template's, in its order.
        opted_out: numbers that are never written to.
        region: two letters, such as "TR": numbers without `+` are read as of there (extra `phone`).

    Raises:
        ConfigurationError: if there is no such region, or the extra isn't installed.
    """

    def __init__(self, variables: Sequence[str], opted_out: frozenset[int], region: str | None) -> None:
        self._variables = tuple(variables)
        self._opted_out = opted_out
        self._national = _national(region) if region else None
        self._known: dict[Values, int | str] = {}

    def judge(self, rows: Iterable[Row], set_for: SetFor) -> tuple[list[Staged], list[Skipped]]:
        """Part rows into those to be staged and those skipped."""
        staged: list[Staged] = []
        skipped: list[Skipped] = []
        known, opted_out, exact = self._known, self._opted_out, _EXACT
        for line, given, values in rows:
            # The fast path first: int() reads "+905…" as it stands.
            phone = int(given) if isinstance(given, str) and exact(given) else self._forgiven(given)
            number = known.get(values)
            if number is None:
                number = self._learn(values, set_for)
            if not phone:
                skipped.append((line, "invalid_phone", str(given)[:_CUT]))
            elif phone in opted_out:
                skipped.append((line, "opted_out", f"+{phone}"))
            elif isinstance(number, str):
                skipped.append((line, number, f"+{phone}"))
            else:
                staged.append((line, phone, number))
        return staged, skipped

    def _learn(self, values: Values, set_for: SetFor) -> int | str:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        number = self._checked(values, set_for)
        self._known[values] = number
        return number

    def _checked(self, values: Values, set_for: SetFor) -> int | str:
        if len(values) > len(self._variables):
            return f"unknown_parameters: {values[-1]}"
        texts: dict[str, str] = {}
        for variable, value in zip(self._variables, values, strict=True):
            if isinstance(value, int) and not isinstance(value, bool):
                value = str(value)  # as a message would take it
            if value is None or (isinstance(value, str) and not value.strip()):
                return f"missing_parameter: {variable}"
            if not isinstance(value, str) or (not value.isprintable() and _unsendable(value)):
                return f"invalid_parameter: {variable}"
            texts[variable] = value
        return set_for(texts)

    def _forgiven(self, given: object) -> int:
        try:
            return int(parse_phone(given))
        except InvalidMessage:
            return self._national(given) if self._national else 0


def _unsendable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _national(region: str) -> Callable[[object], int]:
    try:
        import phonenumbers
    except ImportError:
        raise ConfigurationError(
            "default_region needs the extra 'phone': pip install 'desk360-async[phone]'"
        ) from None
    wanted = region.upper()
    if wanted not in phonenumbers.SUPPORTED_REGIONS:
        raise ConfigurationError(f"default_region is two letters, such as 'TR', got {region!r}")

    def read(given: object) -> int:
        try:
            parsed = phonenumbers.parse(str(given), wanted)
        except phonenumbers.NumberParseException:
            return 0
        if not phonenumbers.is_possible_number(parsed):
            return 0
        return int(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))

    return read
