"""`SQLiteInbox`: what is on disk before the 200, and what is handed out again. No sockets, no real time."""

import json
import sqlite3
import stat
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest
import trio.testing

from desk360_async import ClientStateError, ConfigurationError, _threads
from desk360_async.webhooks import SQLiteInbox, WebhookReceiver, _inbox, parse

pytestmark = pytest.mark.anyio

PHONE, SECRET = "905551112233", "a-secret-of-the-url"
VIRTUAL = pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})]
)


@pytest.fixture(autouse=True)
def _inline():
    """Worker threads would make the order of things depend on the machine."""
    with _threads.inline():
        yield


@pytest.fixture
def path(tmp_path):
    """Return where an inbox may be."""
    return tmp_path / "inbox.db"


def texts(*keys):
    """Return a body with a message for each key."""
    return json.dumps(
        {"messages": [{"id": key, "from": PHONE, "type": "text", "text": key} for key in keys]}
    ).encode()


def rows(path, columns):
    """Return what is in a closed inbox's file, as another program sees it."""
    with sqlite3.connect(path) as db:
        found = db.execute(f"SELECT {columns} FROM events ORDER BY id").fetchall()
    db.close()
    return found


async def take(path, *bodies, handler=None, **options):
    """Open a receiver on the inbox, post the bodies, close it; return the statuses and the receiver."""
    receiver = WebhookReceiver(SECRET, inbox=SQLiteInbox(path), **options)
    if handler:
        receiver.on_message(handler)
    async with receiver:
        statuses = [(await receiver.receive(SECRET, {}, content)).status for content in bodies]
    return statuses, receiver


async def hang(event):
    """Never end."""
    await anyio.sleep_forever()


def keeping(seen):
    """Return a handler that keeps its events' ids."""

    async def handler(event):
        seen.append(event.id)

    return handler


async def test_on_disk_before_the_200(path):
    """When the 200 is given, the event is in the file."""
    receiver = WebhookReceiver(SECRET, inbox=SQLiteInbox(path), drain_timeout=0)
    receiver.on_message(hang)
    async with receiver:
        assert (await receiver.receive(SECRET, {}, texts("a"))).status == 200
        # A copy of the files is what a crash would leave.
        for name in ("inbox.db", "inbox.db-wal"):
            (path.parent / f"copy-{name}").write_bytes((path.parent / name).read_bytes())
    assert rows(path.parent / "copy-inbox.db", "key, handled_at") == [("message/a", None)]


async def test_handed_out_again(path):
    """What was not handled is handed out again at the next start, in order, before what is new."""
    await take(path, texts("a", "b"), handler=hang, drain_timeout=0)
    seen = []
    await take(path, texts("c"), handler=keeping(seen))
    assert seen == ["a", "b", "c"]
    assert [handled is not None for (handled,) in rows(path, "handled_at")] == [True] * 3


async def test_handed_out_as_it_was(path, malformed):
    """All kinds of events come back from the file as they went in, malformed ones too."""
    body, expected = malformed
    events = parse(body) if expected["events"] != "InvalidWebhook" else ()
    inbox = SQLiteInbox(path)
    await inbox.open()
    await inbox.commit(events, [])
    await inbox.aclose()
    assert tuple(event for _, event in await inbox.open()) == events
    await inbox.aclose()


async def test_repeats_across_restarts(path):
    """A repeat is known after a restart too."""
    seen = []
    await take(path, texts("a", "a"), handler=keeping(seen))
    statuses, receiver = await take(path, texts("a"), texts("b"), handler=keeping(seen))
    assert statuses == [200, 200]
    assert seen == ["a", "b"]
    assert (receiver.stats.received, receiver.stats.duplicates) == (2, 1)


async def test_no_id_no_repeat(path):
    """Events without an id are all kept."""
    seen = []
    await take(path, texts("", ""), texts(""), handler=keeping(seen))
    assert len(seen) == 3


async def test_handled_words_are_forgotten(path):
    """A handled event's content is deleted; a failed one's stays, with the error's name."""

    async def fails_for_b(event):
        if event.id == "b":
            raise LookupError

    await take(path, texts("a", "b"), handler=fails_for_b)
    kept = [(raw and json.loads(raw)["text"], error) for raw, error in rows(path, "raw, error")]
    assert kept == [(None, None), ("b", "LookupError")]


async def test_retry_failed(path):
    """Failed events are handed out again on demand, and otherwise not."""

    async def fails(event):
        raise LookupError

    await take(path, texts("a"), handler=fails)
    seen = []
    await take(path, handler=keeping(seen))
    assert seen == []
    inbox = SQLiteInbox(path)
    await inbox.open()
    assert await inbox.retry_failed() == 1
    await inbox.aclose()
    await take(path, handler=keeping(seen))
    assert seen == ["a"]


async def test_trimmed(path, monkeypatch):
    """Handled events older than `keep` are deleted, unhandled ones never."""
    now = 1_700_000_000.0
    monkeypatch.setattr(_inbox.time, "time", lambda: now)
    await take(path, texts("old"))
    await take(path, texts("waiting"), handler=hang, drain_timeout=0)
    now += 8 * 86_400
    inbox = SQLiteInbox(path)
    assert [event.id for _, event in await inbox.open()] == ["waiting"]
    now += 601
    await inbox.commit(parse(texts("new")), [(2, None)])
    await inbox.aclose()
    assert rows(path, "key") == [("message/waiting",), ("message/new",)]


async def test_trimmed_while_open(path, monkeypatch):
    """A receiver that never restarts trims as well."""
    now = 1_700_000_000.0
    monkeypatch.setattr(_inbox.time, "time", lambda: now)
    inbox = SQLiteInbox(path, keep=60)
    await inbox.open()
    [row] = await inbox.commit(parse(texts("old")), [])
    await inbox.commit([], [(row, None)])
    now += 3600
    await inbox.commit(parse(texts("new")), [])
    await inbox.aclose()
    assert rows(path, "key") == [("message/new",)]


async def stored(inbox, *keys):
    """Store messages in an open inbox and mark them as handled."""
    rows = await inbox.commit(parse(texts(*keys)), [])
    await inbox.commit([], [(row, None) for row in rows])


async def test_trimming_keeps_up(path, monkeypatch):
    """At 30 events a second, what is kept for 10 seconds are some 300 rows, however long it goes on."""
    now = 1_700_000_000.0
    monkeypatch.setattr(_inbox.time, "time", lambda: now)
    inbox = SQLiteInbox(path, keep=10)
    await inbox.open()
    for second in range(100):
        now += 1
        await stored(inbox, *(f"{second}-{n}" for n in range(30)))
    await inbox.aclose()
    assert rows(path, "count(*)") == [(330,)]


async def test_a_trim_is_small(path, monkeypatch):
    """A commit deletes no more than 100 rows and 2 for each event: somebody waits for it."""
    now = 1_700_000_000.0
    monkeypatch.setattr(_inbox.time, "time", lambda: now)
    inbox = SQLiteInbox(path, keep=60)
    await inbox.open()
    await stored(inbox, *(f"old-{n}" for n in range(1_000)))
    now += 3600
    await inbox.commit(parse(texts("new")), [])
    await inbox.aclose()
    assert rows(path, "count(*)") == [(1_000 - 102 + 1,)]


@asynccontextmanager
async def workers(path, number, seen, **options):
    """Open several receivers on one inbox, as the workers of a host do; `seen` gets (worker, id)."""

    def worker(name):
        receiver = WebhookReceiver(SECRET, inbox=SQLiteInbox(path), **options)

        @receiver.on_message
        async def keep(event):
            seen.append((name, event.id))

        return receiver

    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(worker(name)) for name in range(number)]


async def test_a_repeat_that_reaches_another_worker_is_not_handled_again(path):
    """The inbox recognises repeats across the workers of a host."""
    seen = []
    async with workers(path, 2, seen) as (one, two):
        for receiver in (one, two, one):
            assert (await receiver.receive(SECRET, {}, texts("a"))).status == 200
    assert seen == [(0, "a")]
    assert (one.stats.duplicates, two.stats.duplicates) == (1, 1)


@VIRTUAL
async def test_a_starting_worker_takes_no_event_of_a_living_one(path):
    """The other one still has it in memory."""
    gate, seen = anyio.Event(), []
    receiver = WebhookReceiver(SECRET, inbox=SQLiteInbox(path))

    @receiver.on_message
    async def slow(event):
        await gate.wait()

    async with receiver:
        await receiver.receive(SECRET, {}, texts("a"))
        async with workers(path, 1, seen):
            await anyio.sleep(0.6)
        gate.set()
    assert seen == []


@VIRTUAL
async def test_a_closing_worker_leaves_its_events_to_the_others(path):
    """They are handled within a poll."""
    hanging, seen = WebhookReceiver(SECRET, inbox=SQLiteInbox(path), drain_timeout=0), []
    hanging.on_message(hang)
    async with workers(path, 1, seen):
        async with hanging:
            await hanging.receive(SECRET, {}, texts("a", "b"))
        while len(seen) < 2:
            await anyio.sleep(0.01)
    assert seen == [(0, "a"), (0, "b")]


KILLED = """
import anyio, os, sys
from desk360_async.webhooks import SQLiteInbox, parse
async def main():
    inbox = SQLiteInbox(sys.argv[1])
    await inbox.open()
    await inbox.commit(parse(sys.argv[2]), [])
    os.kill(os.getpid(), 9)
anyio.run(main)
"""


@VIRTUAL
async def test_a_dead_worker_s_events_are_taken_over(path):
    """The operating system takes the dead worker's lock away; the others look for it."""
    seen = []
    async with workers(path, 2, seen):
        subprocess.run([sys.executable, "-c", KILLED, str(path), texts("a", "b")], check=False)
        while len(seen) < 2:
            await anyio.sleep(0.01)
    assert sorted(key for _, key in seen) == ["a", "b"]
    assert [place.name for place in path.parent.iterdir()] == ["inbox.db"]


async def test_a_deleted_file_is_503_until_there_is_a_new_one(path, caplog):
    """Else the events would go to a file without a name, and end with the process."""
    seen = []
    async with workers(path, 1, seen) as (receiver,):
        assert (await receiver.receive(SECRET, {}, texts("a"))).status == 200
        await anyio.wait_all_tasks_blocked()
        for place in path.parent.iterdir():
            place.unlink()
        statuses = [(await receiver.receive(SECRET, {}, texts("b"))).status for _ in range(2)]
    assert statuses == [503, 200]
    assert "is gone" in caplog.text
    assert rows(path, "key, handled_at IS NULL") == [("message/b", False)]


@VIRTUAL
async def test_events_beyond_the_queue_wait_on_disk(path):
    """With an inbox no event is refused; messages keep their order, and statuses wait apart."""
    seen = []
    receiver = WebhookReceiver(SECRET, inbox=SQLiteInbox(path), queue_size=2, concurrency=1)
    receiver.on_message(keeping(seen))
    keys = [f"{n:02}" for n in range(30)]
    async with receiver:
        for key in keys:
            assert (await receiver.receive(SECRET, {}, texts(key))).status == 200
        while len(seen) < len(keys):
            await anyio.sleep(0.01)
    assert seen == keys


@VIRTUAL
async def test_the_marks_of_thousands_of_events_share_commits(path, monkeypatch):
    """Sent in one body; a commit for each mark would take seconds."""
    commits, commit = [], SQLiteInbox.commit

    async def counted(inbox, arrived, ended, **options):
        commits.append(len(ended))
        return await commit(inbox, arrived, ended, **options)

    monkeypatch.setattr(SQLiteInbox, "commit", counted)
    body = json.dumps({"messages": [{"id": str(n)} for n in range(5_000)]}).encode()
    receiver = WebhookReceiver(SECRET, inbox=SQLiteInbox(path), max_body=2_000_000)
    async with receiver:
        assert (await receiver.receive(SECRET, {}, body)).status == 200
        while receiver.stats.handled < 5_000:
            await anyio.sleep(0.05)
    assert len(commits) < 500
    assert rows(path, "count(*), count(handled_at)") == [(5_000, 5_000)]


@pytest.fixture
def now(monkeypatch):
    """Return a clock of the wall that a test moves."""
    clock = [1_700_000_000.0]
    monkeypatch.setattr(_inbox.time, "time", lambda: clock[0])
    return clock


def failing(seen, times):
    """Return a handler that fails so many times."""

    async def handler(event):
        seen.append(event.id)
        if len(seen) <= times:
            raise LookupError

    return handler


@VIRTUAL
async def test_only_the_handler_that_failed_is_tried_again(path, now):
    """After 1 s; the others have done their work."""
    failed, done = [], []
    receiver = WebhookReceiver(SECRET, inbox=SQLiteInbox(path))
    receiver.on_message(keeping(done))
    receiver.on_message(failing(failed, 1))
    async with receiver:
        await receiver.receive(SECRET, {}, texts("a"))
        await anyio.sleep(0.6)
        assert (failed, done) == (["a"], ["a"])
        now[0] += 1
        while len(failed) < 2:
            await anyio.sleep(0.01)
    assert done == ["a"]
    assert rows(path, "error, raw, attempts, handled_at IS NULL") == [(None, None, 1, False)]


async def test_an_event_is_a_dead_letter_after_the_last_attempt(path, now, caplog):
    """It is kept until it is retried on demand."""
    failed, inbox = [], SQLiteInbox(path)
    for _ in range(3):
        await take(path, *[texts("a")] * (not failed), handler=failing(failed, 9), attempts=3)
        now[0] += 100
    [letter] = await inbox.dead_letters()
    assert (letter.event.id, letter.error, letter.attempts, len(failed)) == ("a", "LookupError", 3, 3)
    assert "dead letter after 3 attempts" in caplog.text
    assert await inbox.retry_failed(letter.row + 1) == 0
    assert await inbox.retry_failed(letter.row) == 1
    assert await inbox.dead_letters() == []
    await inbox.aclose()
    await take(path, handler=keeping(failed))
    assert len(failed) == 4


async def test_opened_twice(path):
    """One inbox serves one receiver."""
    inbox = SQLiteInbox(path)
    await inbox.open()
    with pytest.raises(ClientStateError, match="its own"):
        await inbox.open()
    await inbox.aclose()
    await inbox.aclose()


async def test_not_open(path):
    """An inbox that isn't open says who opens it."""
    with pytest.raises(ClientStateError, match="async with receiver"):
        await SQLiteInbox(path).commit([], [])


@pytest.mark.parametrize("content", [b"This is a letter and no database, and it is long enough.", None])
async def test_unusable_files(path, content):
    """A file that is no database, or a folder that isn't there, is a clear error that names it."""
    target = path if content else path / "missing" / "inbox.db"
    if content:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"inbox\.db"):
        await WebhookReceiver(SECRET, inbox=SQLiteInbox(target)).__aenter__()


@pytest.mark.parametrize("before", [None, 0o644])
async def test_only_the_owner_reads_it(path, before):
    """The file holds customers' words, so only its owner may read it, whoever made it."""
    if before:
        path.touch()
        path.chmod(before)
    await take(path, texts("a"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_disk_errors(path, monkeypatch, caplog):
    """What can't be stored is 503 and logged; the next that can be is taken."""
    seen = []
    receiver = WebhookReceiver(SECRET, inbox=SQLiteInbox(path))
    receiver.on_message(keeping(seen))

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    async with receiver:
        with monkeypatch.context() as patched:
            patched.setattr(SQLiteInbox, "_commit", full)
            assert (await receiver.receive(SECRET, {}, texts("a"))).status == 503
        assert "disk is full" in caplog.text
        assert (receiver.stats.received, receiver.stats.duplicates, receiver.stats.refused) == (0, 0, 1)
        assert (await receiver.receive(SECRET, {}, texts("a"))).status == 200
    assert seen == ["a"]
    assert (receiver.stats.received, receiver.stats.duplicates) == (1, 0)


@pytest.fixture
def failing_marks(monkeypatch):
    """Let the disk be full for the next so many writes that mark an event."""
    commit, left = SQLiteInbox.commit, [0]

    async def failing(inbox, arrived, ended, **options):
        if ended and left[0]:
            left[0] -= 1
            raise sqlite3.OperationalError("database or disk is full")
        return await commit(inbox, arrived, ended, **options)

    monkeypatch.setattr(SQLiteInbox, "commit", failing)
    return left


@pytest.mark.parametrize("bodies", [1, 2])
async def test_a_mark_that_fails(path, failing_marks, caplog, bodies):
    """It is made good by the next write, or by the stop: without a kill, nothing is handled twice."""
    seen = []
    receiver = WebhookReceiver(SECRET, inbox=SQLiteInbox(path))
    receiver.on_message(keeping(seen))
    failing_marks[0] = 1
    async with receiver:
        for key in "ab"[:bodies]:
            assert (await receiver.receive(SECRET, {}, texts(key))).status == 200
            await anyio.wait_all_tasks_blocked()
    assert "0 events refused, 1 marks kept" in caplog.text
    await take(path, handler=keeping(seen))
    assert seen == list("ab"[:bodies])
    assert rows(path, "handled_at IS NULL, raw") == [(False, None)] * bodies


async def test_marks_that_never_succeed(path, failing_marks, caplog):
    """A stop says how many events will be handled again, and ends all the same."""
    failing_marks[0] = 99
    seen = []
    await take(path, texts("a", "b"), handler=keeping(seen))
    assert "2 handled events will be handled again at the next start" in caplog.text
    failing_marks[0] = 0
    await take(path, handler=keeping(seen))
    assert seen == ["a", "b", "a", "b"]


async def test_a_stop_in_the_middle_of_a_mark(path, monkeypatch):
    """A handler that ended before the stop has its mark, also if the disk was too slow for it till then."""
    commit, seen, stopping = SQLiteInbox.commit, [], anyio.Event()

    async def slow(inbox, arrived, ended, **options):
        if ended and "slow" not in seen:
            seen.append("slow")
            await stopping.wait()
        return await commit(inbox, arrived, ended, **options)

    monkeypatch.setattr(SQLiteInbox, "commit", slow)
    receiver = WebhookReceiver(SECRET, inbox=SQLiteInbox(path), drain_timeout=0)
    receiver.on_message(keeping(seen))
    async with receiver:
        await receiver.receive(SECRET, {}, texts("a"))
        await anyio.wait_all_tasks_blocked()
        stopping.set()
    await take(path, handler=keeping(seen))
    assert seen == ["a", "slow"]


async def test_stopped_while_storing(path):
    """Whoever waits for the disk when the receiver is torn down is told 503, not left waiting."""
    receiver, statuses = WebhookReceiver(SECRET, inbox=SQLiteInbox(path)), []

    async def request():
        statuses.append((await receiver.receive(SECRET, {}, texts("a"))).status)

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with receiver:
                tasks.start_soon(request)
                await anyio.lowlevel.checkpoint()
                scope.cancel()
                await anyio.lowlevel.checkpoint()
    assert statuses in ([200], [503])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", None),
        ("path", b"inbox.db"),
        ("keep", -1),
        ("keep", "7 days"),
        ("keep", True),
        ("busy_timeout", float("nan")),
    ],
)
def test_unusable_arguments(path, field, value):
    """What makes no sense is refused by its name when the inbox is made."""
    with pytest.raises(ConfigurationError, match=rf"^{field} .*must be"):
        SQLiteInbox(**{"path": path, field: value})


def test_repr(path):
    """The repr names the file."""
    assert repr(SQLiteInbox(path)) == f"SQLiteInbox({str(path)!r})"


@VIRTUAL
async def test_an_event_is_marked_after_it_was_fed_durably(path):
    """A crash before that hands it out again."""
    gate = anyio.Event()

    class Shelf:
        async def feed(self, *events):
            await gate.wait()

    receiver, seen = WebhookReceiver(SECRET, inbox=SQLiteInbox(path)), []
    receiver.on_message(keeping(seen))
    receiver.feed(Shelf())
    async with receiver:
        await receiver.receive(SECRET, {}, texts("a"))
        await anyio.sleep(1)
        assert seen == ["a"]
        with sqlite3.connect(path) as db:
            assert db.execute("SELECT handled_at FROM events").fetchall() == [(None,)]
        db.close()
        gate.set()
    assert rows(path, "handled_at IS NULL") == [(0,)]
