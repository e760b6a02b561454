select * from restante.outbox_overview
select * from restante.outbox_waiting order by received_at limit 50
select waits_for, count(*) from restante.outbox_waiting group by 1
select * from restante.outbox_running
select * from restante.outbox_stuck order by run_at limit 50
select * from restante.outbox_standing
select * from restante.outbox_trouble
select type, outcome, left(last_error, 30), count(*) from restante.outbox_dead group by 1, 2, 3
select * from restante.outbox_keys order by waiting desc limit 20
select * from restante.key_stuck order by waiting desc limit 20
select * from restante.paused_key
select * from restante.failures_by_kind
select * from restante.outbox_throughput
select * from restante.throughput(now() - interval '1 day')
select * from restante.subscriber_lag
select * from restante.outbox_horizon
select * from restante.history('sesn_4711')
select * from restante.history('held_7')
select * from restante.received(now() - interval '3 days', now() - interval '3 days' + interval '1 minute')
select * from restante.received(now() - interval '1 minute')
select * from restante.outbox_events where finished_at > now() - interval '1 minute' order by finished_at desc limit 20
select * from restante.outbox_events where event_id = 'evt_5000000'
select * from restante.notifications_of(5000000)
select restante.replay(type => 'batch.*')
select restante.replay(type => 'vault.*', status => 'done', since => now() - interval '26 hours', until => now() - interval '25 hours')
select * from restante.replay_overview
select * from restante.operation order by at desc limit 20
select * from restante.batch_overview
select * from restante.submission_overview
select * from restante.health
select * from restante.sender_overview
select relation, what, keep, goes_at, rows_estimated, bytes, step, pending_since, is_overdue from restante.retention_overview order by bytes desc
