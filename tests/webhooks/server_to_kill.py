"""A server to be killed: `server_to_kill.py PORT FOLDER`; its inbox and its log are in FOLDER."""

import os
import sys
from pathlib import Path

import uvicorn

from desk360_async.webhooks import SQLiteInbox, WebhookReceiver


def main(port, folder):
    """Serve until killed; every handled event is one line of the log, written in one piece."""
    log = os.open(folder / "handled", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    receiver = WebhookReceiver("secret", inbox=SQLiteInbox(folder / "inbox.db"), read_timeout=3)

    @receiver.on_message
    async def handle(message):
        os.write(log, f"{message.id}\n".encode())

    # Without h11's header time-out of its own, only the body's deadline is at work.
    uvicorn.run(receiver, port=port, log_level="error", backlog=2048)


main(int(sys.argv[1]), Path(sys.argv[2]))
