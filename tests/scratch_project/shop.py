"""Somebody's FastAPI app, which sends a template when an order leaves the house."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

from desk360_async import AsyncDesk360, Desk360Error, Outcome


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one client for the app's life."""
    async with AsyncDesk360(os.environ.get("DESK360_API_KEY", "unset"), integration_id=11) as client:
        app.state.desk360 = client
        yield


app = FastAPI(lifespan=lifespan)


def desk360(request: Request) -> AsyncDesk360:
    """Return the app's client."""
    client: AsyncDesk360 = request.app.state.desk360
    return client


@app.post("/orders/{order}/shipped")
async def shipped(
    order: str, phone: str, client: Annotated[AsyncDesk360, Depends(desk360)]
) -> dict[str, str]:
    """Tell the customer."""
    parameters = {"body-1": "Ada", "body-2": order}
    try:
        sent = await client.send_template(phone, "order_shipped", language="English", parameters=parameters)
    except Desk360Error as error:
        raise HTTPException(409 if error.outcome is Outcome.UNKNOWN else 502, str(error)) from None
    return {"message_id": sent.message_id}
