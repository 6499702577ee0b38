"""The ledger's tables. Only SQL lives here; a step once released is never changed, the next one is added.

State is kept per batch, and per recipient only where one differs from its batch, so a million recipients
cost a few thousand writes. A batch holds its members as packed numbers: 8 bytes each, in one place.
"""

APPLICATION_ID = 0x44333630  # "D360": tells a ledger from anybody else's SQLite file

_FIRST = """
CREATE TABLE campaign (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    settings TEXT NOT NULL,
    loads INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL
);
CREATE TABLE parameter_set (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    digest BLOB NOT NULL,
    parameters TEXT NOT NULL,
    UNIQUE (campaign, digest)
);
CREATE TABLE recipient (
    campaign INTEGER NOT NULL,
    phone INTEGER NOT NULL,
    parameter_set INTEGER NOT NULL,
    line INTEGER NOT NULL,
    load INTEGER NOT NULL,
    PRIMARY KEY (campaign, phone)
) WITHOUT ROWID;
CREATE TABLE skipped (
    campaign INTEGER NOT NULL,
    line INTEGER NOT NULL,
    reason TEXT NOT NULL,
    phone TEXT NOT NULL,
    PRIMARY KEY (campaign, line, reason, phone)
) WITHOUT ROWID;
CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    parameter_set INTEGER NOT NULL,
    kind TEXT NOT NULL,
    size INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    reason TEXT,
    message_id TEXT,
    members BLOB NOT NULL
);
CREATE INDEX batch_of_set ON batch (parameter_set, first);
CREATE INDEX batch_open ON batch (campaign, id) WHERE state IN ('pending', 'intent');
CREATE INDEX batch_message ON batch (message_id) WHERE message_id IS NOT NULL;
CREATE TABLE exception (
    campaign INTEGER NOT NULL,
    phone INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (campaign, phone)
) WITHOUT ROWID;
CREATE INDEX exception_batch ON exception (batch);
CREATE TABLE request (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    batch INTEGER,
    started REAL NOT NULL,
    ended REAL,
    outcome TEXT
);
CREATE TABLE delivery (
    campaign INTEGER NOT NULL,
    phone INTEGER NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (campaign, phone, status)
) WITHOUT ROWID;
"""

_AUDIT = """
CREATE TABLE resolution (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    at REAL NOT NULL,
    action TEXT NOT NULL,
    scope TEXT NOT NULL,
    recipients INTEGER NOT NULL
);
CREATE TABLE resolved (
    resolution INTEGER NOT NULL,
    phone INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (resolution, phone)
) WITHOUT ROWID;
"""

# A webhook may be faster than the answer that says which message it is about.
_EARLY = """
CREATE TABLE early (
    campaign INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (campaign, message_id, status)
) WITHOUT ROWID;
"""

MIGRATIONS = (_FIRST, _AUDIT, _EARLY)
# A load's rows wait here, and touch the campaign only when all of them are there.
STAGING = """
CREATE TEMP TABLE IF NOT EXISTS staged (
    line INTEGER PRIMARY KEY, phone INTEGER NOT NULL, parameter_set INTEGER NOT NULL
);
CREATE TEMP TABLE IF NOT EXISTS left_out (
    line INTEGER PRIMARY KEY, reason TEXT NOT NULL, phone TEXT NOT NULL
)
"""
