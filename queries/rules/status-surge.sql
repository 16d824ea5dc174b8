/*
name = "status-surge"
severity = "warning"
lookback = "60 minutes"
warmup = "60 minutes"
cooldown = "5m"
summary = "{{ status }}: {{ value }} in a minute, {{ score }} standard deviations above the hour before (mean {{ usual }})"
description = """
Rolling z-score over the 60 minutes before, per status: above 2.5 a warning, above 4.0 critical. An occurrence after an
hour without any is critical at once: there is no deviation to measure it by. Where every minute of the hour before was
the same, the deviation of a Poisson count of that mean stands in for a measured one.
"""
*/
WITH scored AS (
    SELECT
        minute,
        status,
        transactions AS value,
        coalesce(trailing_mean(transactions, '60 minutes'), 0) AS usual,
        (transactions - trailing_mean(transactions, '60 minutes')) / coalesce(
            nullif(trailing_stddev(transactions, '60 minutes'), 0),
            nullif(sqrt(trailing_mean(transactions, '60 minutes')), 0)
        ) AS score
    FROM payments_by_status
    WHERE status IN ('denied', 'failed', 'reversed', 'backend_reversed')
)
SELECT
    minute,
    status,
    CASE WHEN usual = 0 OR score > 4.0 THEN 'critical' ELSE 'warning' END AS severity,
    value,
    usual,
    score
FROM scored
WHERE score > 2.5 OR (usual = 0 AND value > 0)
