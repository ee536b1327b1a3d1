-- May these claimed jobs run? Also makes each one's id known, so that a second job with it never runs.
-- KEYS: claimed, then per job its ids, result and cancel keys. ARGV: ids ttl ms, then per job handle, origin.
-- Answers per job: run, lost, answered, duplicate or cancelled.
local bad = wrong_type({ 'hash' })
if bad then return bad end

local reply = {}
for i = 1, (#KEYS - 1) / 3 do
  local ids, result, cancel = KEYS[3 * i - 1], KEYS[3 * i], KEYS[3 * i + 1]
  local handle, origin = ARGV[2 * i], ARGV[2 * i + 1]
  local verdict
  if redis.call('HEXISTS', KEYS[1], handle) == 0 then
    verdict = 'lost'
  elseif redis.call('EXISTS', result) == 1 then
    verdict = 'answered'
  else
    local known = redis.pcall('GET', ids)
    if type(known) == 'table' then known = false end -- a key of another type is somebody else's, and no id's mark
    if known and known ~= 'queued' and string.sub(known, 1, #origin + 1) ~= origin .. ' ' then
      verdict = 'duplicate'
    elseif redis.call('EXISTS', cancel) == 1 then
      verdict = 'cancelled'
    else
      redis.call('SET', ids, origin .. ' ' .. handle, 'PX', ARGV[1])
      verdict = 'run'
    end
  end
  reply[i] = verdict
end
return reply
