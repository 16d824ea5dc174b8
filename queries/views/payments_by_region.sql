-- Volume of each region, so that one that falls silent is seen.
CREATE MATERIALIZED VIEW payments_by_region WITH (retention = '90 days', fill = 'zero') AS
SELECT date_trunc('minute', occurred_at) AS minute,
       region,
       sum(count) AS transactions
FROM transactions
WHERE region IS NOT NULL
GROUP BY ALL
