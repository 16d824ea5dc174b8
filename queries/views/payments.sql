-- Payments by everything that operations slice by. Amounts are in minor units of the key `currency`.
CREATE MATERIALIZED VIEW payments WITH (retention = '90 days', fill = 'zero', max_keys = 20000) AS
SELECT date_trunc('minute', occurred_at) AS minute,
       status, kind, channel, region, currency,
       sum(count) AS transactions,
       sum(amount_minor) AS amount_minor,
       histogram(latency_us, count) AS latency
FROM transactions
GROUP BY ALL
