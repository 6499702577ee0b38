"""What a campaign must know of its client and the client doesn't show: the only look inside it."""

from desk360_async import AsyncDesk360, ConfigurationError, TokenBucket


def base_url_of(client: AsyncDesk360) -> str:
    """Return the URL that the client sends to: a ledger is of one server."""
    return client._delivery.base_url  # no public name for it


def integration_of(client: AsyncDesk360) -> int:
    """Return the integration that the client sends from.

    Raises:
        ConfigurationError: if it has none.
    """
    integration = client._options.integration_id  # no public name for it
    if integration is None:
        raise ConfigurationError(
            "a campaign needs an integration: pass AsyncDesk360(integration_id=...), set the environment "
            "variable DESK360_INTEGRATION_ID, or use client.for_integration(...)"
        )
    return integration


def timeout_of(client: AsyncDesk360) -> float:
    """Return the seconds that one request may take at most."""
    timeout = client._options.timeout  # no public name for it
    return max(timeout.total, timeout.upload)


def seed(client: AsyncDesk360, ages: list[float]) -> None:
    """Tell the client's bucket of requests that ended so many seconds ago, in processes before this one.

    A `HostLimiter` knows them itself, and a limiter of the user's own is the user's business.
    """
    limiter = client._delivery.limiter  # no public name for it
    if isinstance(limiter, TokenBucket):
        limiter.seed(ages)
