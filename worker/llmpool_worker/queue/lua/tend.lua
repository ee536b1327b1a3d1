-- What any worker may do at any time for all of them: take back expired claims, make due jobs ready.
-- KEYS: claimed, lease, delayed, stats, high, normal, low. ARGV: at most so many of each, lease ms.
-- Both go to the consume end: they have waited already. A claim without a lease is given one, so that nothing is stranded.
-- Answers {now, reaped, promoted, next due ms or -1, next lease end ms or -1}.
local bad = wrong_type({ 'hash', 'zset', 'zset', 'hash', 'list', 'list', 'list' })
if bad then return bad end

local claimed, lease, delayed, stats = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local lists = { h = KEYS[5], n = KEYS[6], l = KEYS[7] }
local limit, lease_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_ms()

local function earliest(zset)
  local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')
  return first[2] and string.format('%.0f', first[2]) or '-1'
end

local reaped = 0
local expired = redis.call('ZRANGEBYSCORE', lease, '-inf', now, 'LIMIT', 0, limit)
for i = #expired, 1, -1 do
  local raw = redis.call('HGET', claimed, expired[i])
  redis.call('ZREM', lease, expired[i])
  if raw then
    redis.call('HDEL', claimed, expired[i])
    local e = split(raw, 'n')
    e.worker = ''
    redis.call('LPUSH', lists[e.priority], join(e))
    reaped = reaped + 1
  end
end
if reaped > 0 then redis.call('HINCRBY', stats, 'reaped', reaped) end

if redis.call('HLEN', claimed) ~= redis.call('ZCARD', lease) then
  for _, handle in ipairs(redis.call('HKEYS', claimed)) do
    if not redis.call('ZSCORE', lease, handle) then redis.call('ZADD', lease, now + lease_ms, handle) end
  end
end

local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, limit)
for i = #due, 1, -1 do
  redis.call('ZREM', delayed, due[i])
  local e = split(due[i], 'n')
  redis.call('LPUSH', lists[e.priority], due[i])
end
return { now, reaped, #due, earliest(delayed), earliest(lease) }
