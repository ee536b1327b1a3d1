-- End many claims at once, each by one transition. Only the holder of a handle may: a late one is refused and counted.
-- KEYS: claimed, lease, delayed, dead, stats, high, normal, low, settled:<token>, used, then per job its ids, result and stream keys.
-- ARGV: result ttl ms, dead max entries, dead max bytes, events channel, then six per job:
--   handle|kind|status|number|tokens (0: its use isn't counted), id, payload, reason, note, tenant
--   kind result:  payload = the result's JSON, number = '1' where the text was streamed
--   kind dead:    payload = the failed result's JSON or '' (id unreadable), status = error code, reason, number as above
--   kind retry:   number = delay ms, status = '1' where this attempt counts, note = why it waits, for those who ask
--   kind release: back to the front of its list, at no cost
--   kind drop:    status = the counter to raise in stats
-- Answers per job done or lost. The same token gets the same answer again and changes nothing.
local bad = wrong_type({ 'hash', 'zset', 'zset', 'stream', 'hash', 'list', 'list', 'list', 'string', 'hash' })
if bad then return bad end

local claimed, lease, delayed, dead, stats = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local lists = { h = KEYS[6], n = KEYS[7], l = KEYS[8] }
local ttl, dead_entries, dead_bytes, events = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

local before = redis.call('GET', KEYS[9])
if before then
  local reply = {}
  for word in string.gmatch(before, '%a+') do reply[#reply + 1] = word end
  return reply
end

local now = now_ms()
local released = {}

-- A job that could not even be read may bear the id of another one that lives or was answered: that one's answer counts.
local function may_answer(job, e)
  if redis.call('EXISTS', KEYS[job + 1]) == 1 then return false end
  local known = redis.pcall('GET', KEYS[job])
  return type(known) ~= 'string' or known == 'queued' or string.sub(known, 1, #e.origin + 1) == e.origin .. ' '
end

local function answer(job, id, status, payload, streamed)
  redis.call('DEL', KEYS[job])
  redis.call('SET', KEYS[job + 1], payload, 'PX', ttl)
  if streamed == '1' then
    redis.pcall('XADD', KEYS[job + 2], '*', 'kind', 'end', 'status', status)
    redis.call('PEXPIRE', KEYS[job + 2], ttl)
  end
  redis.call('PUBLISH', events, id)
end

local function settle(e, job, kind, id, status, payload, number, reason)
  if kind == 'result' then
    answer(job, id, status, payload, number)
  elseif kind == 'dead' then
    bury(dead, stats, e, status, reason, #e.body, now, dead_entries, dead_bytes)
    if payload ~= '' and may_answer(job, e) then answer(job, id, 'failed', payload, number) end
  elseif kind == 'retry' then
    e.deliveries = e.deliveries - 1
    e.attempts = e.attempts + tonumber(status)
    redis.call('ZADD', delayed, now + tonumber(number), join(e))
  elseif kind == 'release' then
    e.deliveries = e.deliveries - 1
    released[#released + 1] = e
  else
    redis.call('HINCRBY', stats, status, 1)
  end
end

-- Removals come first, all of them: at maxmemory Redis then lets the writes pass. What isn't there any more is lost.
local held, reply = {}, {}
for i = 1, (#KEYS - 10) / 3 do
  local handle = string.match(ARGV[6 * i - 1], '^[^|]*')
  held[i] = redis.call('HGET', claimed, handle)
  if held[i] then
    redis.call('HDEL', claimed, handle)
    redis.call('ZREM', lease, handle)
  end
  reply[i] = held[i] and 'done' or 'lost'
end

for i = 1, #reply do
  if held[i] then
    local at, job = 6 * i - 1, 8 + 3 * i
    local handle, kind, status, number, tokens = string.match(ARGV[at], '^(.-)|(.-)|(.-)|(.-)|(.*)$')
    local id, payload, reason, note, tenant = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
    local e = split(held[i], 'n')
    if id ~= '' then e.id = id end
    if kind ~= 'dead' then e.worker = '' end
    settle(e, job, kind, id, status, payload, number, reason)
    if kind == 'retry' and id ~= '' and note ~= '' then
      redis.call('SET', KEYS[job], e.origin .. ' ' .. handle .. ' ' .. note, 'PX', ttl)
    end
    if tonumber(tokens) > 0 then use(KEYS[10], tenant, 't', tonumber(tokens), now) end
  else
    redis.pcall('HINCRBY', stats, 'fenced', 1)
  end
end
for i = #released, 1, -1 do -- to the front, in their old order
  redis.call('LPUSH', lists[released[i].priority], join(released[i]))
end
redis.pcall('SET', KEYS[9], table.concat(reply, ' '), 'PX', 60000)
return reply
