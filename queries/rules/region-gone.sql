/*
name = "region-gone"
severity = "high"
lookback = "60 minutes"
warmup = "60 minutes"
cooldown = "5m"
summary = "{{ region }}: {{ value }} transactions in a minute instead of {{ usual }}"
description = """
A region that had at least 30 transactions a minute in the hour before has less than a tenth of that. By chance a count of
mean 30 falls that low once in 40,000 years.
"""
*/
WITH volume AS (
    SELECT minute, region, transactions AS value, trailing_mean(transactions, '60 minutes') AS usual
    FROM payments_by_region
)
SELECT minute, region, value, usual
FROM volume
WHERE usual >= 30 AND value < 0.1 * usual
