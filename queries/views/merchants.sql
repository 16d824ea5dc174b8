-- Each merchant or payee by status. Beyond 20,000 keys a minute new merchants are counted together as `__other__`.
CREATE MATERIALIZED VIEW merchants WITH (retention = '30 days', max_keys = 20000, overflow = 'counterparty_id', expose = 'sql') AS
SELECT date_trunc('minute', occurred_at) AS minute,
       counterparty_id, status,
       sum(count) AS transactions,
       approx_distinct(account_id) AS accounts
FROM transactions
WHERE counterparty_id IS NOT NULL
GROUP BY ALL
