"""What a `Campaign` was made with and what its ledger pins: filled in when loading, compared when running."""

from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from desk360_async import AsyncDesk360, Attachment, ConfigurationError, InvalidMessage, _threads
from desk360_async.campaigns._client_facts import base_url_of, integration_of
from desk360_async.campaigns._loading import Found
from desk360_async.campaigns._problems import CampaignError
from desk360_async.campaigns._states import NotListed, Settings, Strategy


@frozen
class Choices:
    """What a `Campaign` was made with; None where nothing was said, and the ledger knows.

    Attributes:
        template: id or name.
        language: id or label.
        attachment: the file for a media header.
        strategy: how recipients share requests.
        batch_size: recipients a bulk request.
        not_listed: what a number is that a bulk answer doesn't list.

    Raises:
        ConfigurationError: if one of the last three is unusable.
    """

    template: int | str | None
    language: int | str | None
    attachment: Attachment | None
    strategy: Strategy | None
    batch_size: int | None
    not_listed: NotListed | None

    def __attrs_post_init__(self) -> None:
        strategy, size, not_listed = self.strategy, self.batch_size, self.not_listed
        if strategy not in (None, "auto", "bulk", "single"):
            raise ConfigurationError(f"strategy must be 'auto', 'bulk' or 'single', got {strategy!r}")
        if not_listed not in (None, "unknown", "not_sent"):
            raise ConfigurationError(f"not_listed must be 'unknown' or 'not_sent', got {not_listed!r}")
        whole = isinstance(size, int) and not isinstance(size, bool)
        if size is not None and not (whole and 1 <= size <= 100_000):
            raise ConfigurationError(f"batch_size must be 1 to 100,000 recipients, got {size!r}")

    def settings(
        self,
        name: str,
        client: AsyncDesk360,
        found: Found,
        mapping: Mapping[str, str],
        file: str | None,
        pinned: Settings | None,
    ) -> Settings:
        """Return what loading pins: what was said, else what is pinned already, else the usual."""
        return Settings(
            name=name,
            base_url=base_url_of(client),
            integration=integration_of(client),
            template=found.template,
            template_name=found.template_name,
            language=found.language,
            language_name=found.language_name,
            variables=found.variables,
            mapping=dict(mapping),
            attachment=file,
            strategy=self.strategy or (pinned.strategy if pinned else "auto"),
            batch_size=self.batch_size or (pinned.batch_size if pinned else 500),
            not_listed=self.not_listed or (pinned.not_listed if pinned else "unknown"),
        )

    def check(self, settings: Settings, client: AsyncDesk360, file: str | None) -> None:
        """Compare what was said with what is pinned.

        Raises:
            CampaignError: if something differs; it names the first.
        """
        for what, pinned, given in (
            ("the server", (settings.base_url,), base_url_of(client)),
            ("integration", (settings.integration,), integration_of(client)),
            ("template", (settings.template, settings.template_name), self.template),
            ("language", (settings.language, settings.language_name), self.language),
            ("attachment", (settings.attachment,), file),
            ("strategy", (settings.strategy,), self.strategy),
            ("batch_size", (settings.batch_size,), self.batch_size),
            ("not_listed", (settings.not_listed,), self.not_listed),
        ):
            if given not in pinned and (given is not None or what == "attachment"):
                raise CampaignError(
                    f"the campaign {settings.name!r} was loaded for {what} {pinned[-1]!r}, not {given!r}; "
                    "run it as it was loaded, or load it under another name"
                )


async def label_of(attachment: Attachment | None) -> str | None:
    """Return a file's name and size, by which it is known again.

    Raises:
        InvalidMessage: if it isn't there.
    """
    if attachment is None:
        return None
    size = attachment.size
    if attachment.path is not None:
        try:
            size = (await _threads.run(Path.stat, attachment.path)).st_size
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "its path holds what no path can"
            problem = f"{attachment.name!r}: {why}; give the path of a file that can be read"
            raise InvalidMessage("attachment", problem) from error
    return f"{attachment.name} ({size:,} bytes)"
