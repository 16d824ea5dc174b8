/*
name = "latency-creep"
severity = "high"
lookback = "60 minutes"
warmup = "60 minutes"
for = "3m"
keep_firing_for = "2m"
cooldown = "5m"
summary = "95 % of transactions took up to {{ p95_ms }} ms, which was {{ usual_ms }} ms in the hour before"
description = """
The 95th percentile of a minute's latencies is half again as high as its median over the hour before, three minutes in a
row. The median does not follow the creep for half an hour; minutes with few transactions say little and are left out.
"""
*/
WITH latency AS (
    SELECT
        minute,
        transactions,
        latency_p95_us / 1000.0 AS p95_ms,
        trailing_median(latency_p95_us, '60 minutes') / 1000.0 AS usual_ms
    FROM payments_latency
)
SELECT minute, p95_ms, usual_ms, transactions
FROM latency
WHERE transactions >= 50 AND p95_ms > 1.5 * usual_ms
