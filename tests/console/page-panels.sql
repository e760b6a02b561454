select question, state, sentence, next_step, since from restante.health
select status::text as status, type, subscriber, sender, events, oldest_created_at from restante.outbox_overview order by events desc
select hour, sum(done)::bigint as done, sum(ignored + cancelled)::bigint as other, sum(failed_attempts)::bigint as failed from restante.outbox_throughput group by hour order by hour
select hour, extract(epoch from max(waited_p50))::float8 as half, extract(epoch from max(waited_p95))::float8 as most from restante.outbox_throughput where done > 0 group by hour order by hour
select kind, type, failed_last_hour, failed_last_day, events_retrying, events_dead, last_failed_at, for_example from restante.failures_by_kind order by failed_last_hour desc, failed_last_day desc limit 12
select subscriber, waiting, running, retrying, dead, behind_by, how from restante.subscriber_lag order by subscriber limit 30
select key, front_id, front, front_status::text as front_status, front_since, reason, waiting from restante.key_stuck order by waiting desc limit 10
select at, who, what, of_what, how_many, reason from restante.operation order by at desc limit 12
select submission, tag, state, requests, succeeded + errored + canceled + expired + cancelled + other as answered, errored, results_vanish_in, expires_in, likely_end_at, dollars::float8 as dollars, created_at from restante.submission_overview where submission in (select s.name from restante.submission as s order by s.created_at desc limit 25) order by created_at desc
select o.id, o.progress, o.requests::bigint as requests, o.results_stored, o.errored::bigint as errored, o.at_risk, o.results_vanish_in, c.dollars::float8 as dollars, o.created_at from restante.batch_overview as o left join restante.batch_cost as c on c.batch_id = o.id and c.account = o.account where (o.id, o.account) in (select b.id, b.account from restante.batch as b order by b.created_at desc nulls first limit 25) order by o.at_risk desc, o.created_at desc nulls first
select tag, per, amount::float8 as amount, spent::float8 as spent, under_way::float8 as under_way, left_over::float8 as left_over from restante.budget_overview order by left_over limit 20
select id, key, tag, state, reason, attempt, model, lane, input_tokens, output_tokens, dollars::float8 as dollars, deliver_by, created_at from restante.message_overview where id in (select m.id from restante.message as m order by m.id desc limit 50) order by id desc
select name, url, status, disabled_because, waiting, parked, dead, delivered_last_day, failed_last_day, oldest_waiting_since, last_attempt_at, last_status from restante.endpoint_overview order by name limit 50
select endpoint, outbox_id, event_id, type, attempt, delivered_at, took, status, error from restante.endpoint_delivery order by id desc limit 30
select kind, type, events_dead, for_example from restante.failures_by_kind where events_dead > 0 order by events_dead desc limit 20
select id, event_id, type, subscriber, key, attempt, kind, failed_at, last_error from restante.outbox_dead order by id desc limit 50
select name, asked_at, asked_by, status, events, replayed, left_out, reason from restante.replay_overview order by asked_at desc limit 10
