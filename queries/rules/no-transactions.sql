/*
name = "no-transactions"
severity = "critical"
lookback = "1 day"
warmup = "60 minutes"
cooldown = "5m"
summary = "No transactions at all in this minute; the hour before had {{ usual }} a minute"
description = """
A minute without any transaction where chance does not explain it: the hour before had at least 20 a minute, or five
minutes have been empty and the hour before had at least 4. An outage that has emptied the hour itself goes on being
reported while half an hour has been empty and the day before had at least 5 a minute.
"""
*/
WITH volume AS (
    SELECT
        minute,
        sum(transactions) AS value,
        coalesce(sum(trailing_mean(transactions, '60 minutes')), 0) AS usual,
        coalesce(sum(trailing_mean(transactions, '5 minutes')), 0) AS just_before,
        coalesce(sum(trailing_mean(transactions, '30 minutes')), 0) AS half_hour,
        coalesce(sum(trailing_mean(transactions, '1 day')), 0) AS of_the_day
    FROM payments_by_status
    GROUP BY minute
)
SELECT minute, value, usual
FROM volume
WHERE value = 0
    AND (usual >= 20 OR (just_before = 0 AND usual >= 4) OR (half_hour = 0 AND of_the_day >= 5))
