-- What is in a queue now, for metrics. Changes nothing, so it may be repeated.
-- KEYS: high, normal, low, delayed, claimed, dead. Answers {now, ready, delayed, claimed, dead, Unix seconds at which the
-- oldest job at a list's head was enqueued by its producer's own word, '' = none of the heads says}.
-- A longer body isn't decoded for it: that would cost all other callers time, and a pattern could match a prompt's words.
local LOOK_BYTES = 16384
local bad = wrong_type({ 'list', 'list', 'list', 'zset', 'hash', 'stream' })
if bad then return bad end

local function enqueued_at(list)
  local head = redis.call('LINDEX', list, 0)
  local body = head and split(head, 'n').body
  if not body or #body > LOOK_BYTES then return end
  local ok, doc = pcall(cjson.decode, body)
  local at = ok and type(doc) == 'table' and doc.enqueued_at
  return type(at) == 'number' and at >= 0 and at < 1e12 and at or nil
end

local ready, oldest = 0, nil
for i = 1, 3 do
  ready = ready + redis.call('LLEN', KEYS[i])
  local at = enqueued_at(KEYS[i])
  if at and (not oldest or at < oldest) then oldest = at end
end
return { now_ms(), ready, redis.call('ZCARD', KEYS[4]), redis.call('HLEN', KEYS[5]), redis.call('XLEN', KEYS[6]),
  oldest and string.format('%.3f', oldest) or '' }
