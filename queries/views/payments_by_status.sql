-- What the shipped rules judge: transactions a minute of each status.
CREATE MATERIALIZED VIEW payments_by_status WITH (retention = '90 days', fill = 'zero') AS
SELECT date_trunc('minute', occurred_at) AS minute,
       status,
       sum(count) AS transactions
FROM transactions
GROUP BY ALL
