-- Keep these claims: a new lease end for each, and word of those that are lost or that somebody wants cancelled.
-- KEYS: claimed, lease, then per job its cancel key. ARGV: lease ms, then the handles.
-- Answers per job: held, lost or cancelled (held, but a cancel is wished).
local bad = wrong_type({ 'hash', 'zset' })
if bad then return bad end

local until_ms = now_ms() + tonumber(ARGV[1])
local reply = {}
for i = 2, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then
    reply[i - 1] = 'lost'
  else
    redis.call('ZADD', KEYS[2], until_ms, ARGV[i])
    reply[i - 1] = redis.call('EXISTS', KEYS[i + 1]) == 1 and 'cancelled' or 'held'
  end
end
return reply
