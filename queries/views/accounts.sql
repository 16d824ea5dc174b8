-- Accounts that stand out within a minute: five transactions or more, or three refusals. All accounts are
-- counted while the minute is open; only these are stored.
CREATE MATERIALIZED VIEW accounts WITH (retention = '7 days', max_keys = 1000000, expose = 'sql') AS
SELECT date_trunc('minute', occurred_at) AS minute,
       account_id,
       sum(count) AS transactions,
       sum(count) FILTER (WHERE status = 'denied') AS denied,
       approx_distinct(counterparty_id) AS counterparties
FROM transactions
WHERE account_id IS NOT NULL
GROUP BY ALL
HAVING sum(count) >= 5 OR sum(count) FILTER (WHERE status = 'denied') >= 3
