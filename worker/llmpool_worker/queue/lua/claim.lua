-- Take up to `want` ready jobs: each leaves its list, becomes a claim of this worker and gets a lease.
-- KEYS: claimed, lease, dead, stats, then the ready lists in the order to try.
-- ARGV: token, want, lease ms, worker, job max bytes, reply max bytes, bytes of an oversized body to keep,
--       dead max entries, dead max bytes, then the letter of each list's priority.
-- Answers {now, oversized bodies buried, {handle, origin, priority, deliveries, attempts, first, id, body}, ...}.
--
-- The same token gets the same handles again: a client that lost the reply asks once more and nothing is stranded.
local bad = wrong_type({ 'hash', 'zset', 'stream', 'hash', 'list', 'list', 'list' })
if bad then return bad end

local claimed, lease, dead, stats = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, want, lease_ms, worker = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local job_max, reply_max, keep = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local dead_entries, dead_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
local now = now_ms()
local reply = { now, 0 }

local function answer(handle, e)
  reply[#reply + 1] = { handle, e.origin, e.priority, e.deliveries, e.attempts, string.format('%.0f', e.first), e.id, e.body }
end

if redis.call('HEXISTS', claimed, token .. ':1') == 1 then
  for n = 1, 64 do
    local handle = token .. ':' .. n
    local raw = redis.call('HGET', claimed, handle)
    if not raw then break end
    redis.call('ZADD', lease, now + lease_ms, handle)
    answer(handle, split(raw, 'n'))
  end
  return reply
end

-- LPOP, a removal, comes before the writes: at maxmemory Redis then lets the rest of the script pass.
local n, taken, bytes, looked = 0, 0, 0, 0
for i = 5, #KEYS do
  local letter = ARGV[i + 5]
  while taken < want and bytes < reply_max and looked < want + 64 do
    local raw = redis.call('LPOP', KEYS[i])
    if not raw then break end
    looked = looked + 1
    local e = split(raw, letter)
    if #e.body > job_max then
      bury(dead, stats, e, 'too_large', 'job: ' .. #e.body .. ' bytes, allowed are ' .. job_max .. ' (JOB_MAX_BYTES)',
        keep, now, dead_entries, dead_bytes)
      reply[2] = reply[2] + 1
    else
      -- A repeat after its lease lapsed may find some of its handles still there: never over them.
      repeat n = n + 1 until redis.call('HEXISTS', claimed, token .. ':' .. n) == 0
      taken = taken + 1
      bytes = bytes + #e.body
      local handle = token .. ':' .. n
      if e.origin == '' then
        e.origin = handle
        e.first = now
      end
      e.deliveries = e.deliveries + 1
      e.worker = worker
      redis.call('HSET', claimed, handle, join(e))
      redis.call('ZADD', lease, now + lease_ms, handle)
      answer(handle, e)
    end
  end
end
return reply
