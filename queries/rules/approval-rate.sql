/*
name = "approval-rate"
severity = "critical"
lookback = "60 minutes"
warmup = "0m"
for = "2m"
keep_firing_for = "2m"
cooldown = "5m"
summary = "Only {{ approved_percent }} % of {{ attempts }} transactions were approved"
description = """
Less than four fifths of a minute's payments were approved, two minutes in a row, with at least 100 of them in each.
Refunds are no attempts to pay and are not counted.
"""
*/
WITH attempted AS (
    SELECT
        minute,
        sum(transactions) AS attempts,
        coalesce(sum(transactions) FILTER (WHERE status = 'approved'), 0) AS approved
    FROM payments_by_status
    WHERE status <> 'refunded'
    GROUP BY minute
)
SELECT minute, attempts, 100.0 * approved / attempts AS approved_percent
FROM attempted
WHERE attempts >= 100 AND approved < 0.8 * attempts
