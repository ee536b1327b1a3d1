-- Tell the pool about this worker, and hear what the pool asks of it.
-- KEYS: workers, config. ARGV: worker, report ('' = gone), '1' for this worker's first report, ms after which a report
-- is a dead worker's. Answers {now, end of the drain lease in ms or '', '1' and the preload list where the pool has one}.
local bad = wrong_type({ 'hash', 'hash' })
if bad then return bad end

local now = now_ms()
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[1], 86400000)
end
-- Only an orderly end takes a report away, and pods have names of their own: each new worker clears away the dead.
if ARGV[3] == '1' then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local at = tonumber(string.match(all[i + 1], '"at_ms":(%d+)'))
    if at and now - at > tonumber(ARGV[4]) then redis.call('HDEL', KEYS[1], all[i]) end
  end
end
local preload = redis.call('HGET', KEYS[2], 'preload')
return { now, redis.call('HGET', KEYS[2], 'drain:' .. ARGV[1]) or '', preload and '1' or '0', preload or '' }
