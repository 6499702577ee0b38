"""`desk360 listen` before it listens: what it refuses, and who may read what it records. No server runs."""

import socket
import stat
from pathlib import Path

import pytest

from desk360_async import ConfigurationError
from desk360_async.cli.serve import _appending, listen


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_impossible_ports(port):
    """A port that no socket can have is refused with the limit."""
    with pytest.raises(ConfigurationError, match=f"--port {port}: a port is 0 to 65535"):
        listen(port=port)


def mode_of_record(path):
    """Return the rights of the file that `listen` made or found; its port is taken, so it ends at once."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match="--port"):
        listen(port=taken.getsockname()[1], record=path)
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.real
def test_a_record_is_private(tmp_path):
    """It holds whole numbers and texts, so only its owner may read it."""
    assert mode_of_record(tmp_path / "events.jsonl") == 0o600


@pytest.mark.real
def test_a_record_that_was_there_keeps_its_rights(tmp_path):
    """Whoever made it has chosen them, for a device too."""
    path = tmp_path / "events.jsonl"
    path.touch()
    path.chmod(0o640)
    assert mode_of_record(path) == 0o640


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_record_that_cannot_be_written_is_named():
    with (
        pytest.raises(OSError, match="No space left on device: '/dev/full'"),
        _appending(Path("/dev/full")) as file,
    ):
        file.write("an event")
