-- Ends writers whose process is frozen, as it seems. In the midst of COPY: the server's own limits are not for that, it waits
-- for rows, not for the next statement, and hears of nothing there but its own end. And in a transaction that waits for
-- another store, for which its limit is that store's: only one of the generation that is taken over ($1), since it may be
-- slow and not frozen. What is ended by mistake is written again.
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user
  AND (application_name = current_setting('application_name')
       AND state = 'active' AND wait_event = 'ClientRead' AND query_start < clock_timestamp() - interval '10 seconds'
    OR application_name = $1
       AND state = 'idle in transaction' AND state_change < clock_timestamp() - interval '15 seconds')
