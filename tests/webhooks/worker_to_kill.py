"""A worker of a host: `worker_to_kill.py PORT FOLDER`; FOLDER holds the shared inbox, ledger and log."""

import os
import socket
import sys
import time
from pathlib import Path

import uvicorn

from desk360_async.campaigns import Campaign
from desk360_async.webhooks import SQLiteInbox, WebhookReceiver


def main(port, folder):
    """Serve until killed, on a port that the other workers serve too."""
    log = os.open(folder / "handled", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    receiver = WebhookReceiver("secret", inbox=SQLiteInbox(folder / "inbox.db", busy_timeout=30))
    receiver.feed(Campaign("storm", ledger=folder / "campaign.db"))

    @receiver.on_message
    async def handle(message):
        os.write(log, f"message {message.id} {time.time()} {os.getpid()}\n".encode())

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(1024)
    uvicorn.Server(uvicorn.Config(receiver, log_level="error", ws="none")).run([listening])


main(int(sys.argv[1]), Path(sys.argv[2]))
