-- Transactions by authorisation code. Codes are text: `00` is not `0`.
CREATE MATERIALIZED VIEW payments_by_code WITH (retention = '90 days', fill = 'zero', max_keys = 2000, overflow = 'auth_code') AS
SELECT date_trunc('minute', occurred_at) AS minute,
       auth_code,
       sum(count) AS transactions
FROM transactions
WHERE auth_code IS NOT NULL
GROUP BY ALL
