-- How long transactions take, over all of them. Percentiles are within 2.2 % of the true value.
CREATE MATERIALIZED VIEW payments_latency WITH (retention = '90 days') AS
SELECT date_trunc('minute', occurred_at) AS minute,
       sum(count) AS transactions,
       histogram_quantile(0.50, histogram(latency_us, count)) AS latency_p50_us,
       histogram_quantile(0.95, histogram(latency_us, count)) AS latency_p95_us,
       histogram_quantile(0.99, histogram(latency_us, count)) AS latency_p99_us,
       histogram(latency_us, count) AS latency
FROM transactions
WHERE latency_us IS NOT NULL
GROUP BY ALL
