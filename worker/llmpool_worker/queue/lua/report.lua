-- Tell the pool about this worker, and hear what the pool asks of it.
-- KEYS: workers, config. ARGV: worker, report ('' = gone). Answers {now, end of the drain lease in ms or ''}.
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return { now_ms(), redis.call('HGET', KEYS[2], 'drain:' .. ARGV[1]) or '' }
