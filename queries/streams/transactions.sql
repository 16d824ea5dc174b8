-- The built-in stream: one row a transaction event. Only occurred_at and status are required.
CREATE TABLE transactions (
    event_id        TEXT,
    occurred_at     TIMESTAMP NOT NULL,
    status          TEXT NOT NULL,
    kind            TEXT,
    channel         TEXT,
    region          TEXT,
    account_id      TEXT,
    counterparty_id TEXT,
    amount_minor    BIGINT,
    currency        TEXT,
    latency_us      BIGINT CHECK (latency_us >= 0),
    auth_code       TEXT,
    ip              TEXT,
    count           BIGINT DEFAULT 1 CHECK (count >= 0),
    attributes      MAP(TEXT, TEXT)
) WITH (
    event_time = 'occurred_at',
    id = 'event_id',
    lateness = '30 seconds',
    dedup_span = '1 hour',
    max_ahead = '5 minutes',
    live_for = '24 hours',
    amount = 'amount_minor',
    currency = 'currency'
);
