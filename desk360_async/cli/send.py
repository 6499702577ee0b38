"""`desk360 send …`: one message, or a template to a whole list."""

from cyclopts import App

from .lists import send_list

__all__ = ["app"]

app = App(name="send", help="Send a message, or a template to a whole list.", help_format="plaintext")
app.command(send_list, name="list")
