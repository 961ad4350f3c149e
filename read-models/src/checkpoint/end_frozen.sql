-- Ends writers that have been waited for in the midst of COPY for long: whose process is frozen. The server's own limits
-- are not for that: it waits for rows, not for the next statement, and hears of nothing there but its own end.
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user
  AND application_name = current_setting('application_name')
  AND state = 'active' AND wait_event = 'ClientRead' AND query_start < clock_timestamp() - interval '10 seconds'
