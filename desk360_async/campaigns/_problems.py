"""What a campaign raises beside the client's own errors, and nothing else."""

from desk360_async import Desk360Error


class CampaignError(Desk360Error):
    """A campaign can't be loaded, run or resolved as asked; nothing was sent. The message names the fix."""


class LedgerError(CampaignError):
    """The ledger can't be used, or failed while it was: nothing is sent from then on.

    What was on the wire when it failed is `unknown` once the campaign is resumed.
    """
