-- Shared by every script: they are joined behind this text. The framing is that of llmpool_contract/element.py.

local NAMES = { h = 'high', n = 'normal', l = 'low' }

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- A script that fails half-way isn't rolled back, so keys of a wrong type are found before anything is changed.
local function wrong_type(kinds)
  for i, kind in ipairs(kinds) do
    local found = kind and redis.call('TYPE', KEYS[i])['ok'] or 'none' -- false: a key that isn't used this time
    if found ~= 'none' and found ~= kind then
      return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' holds a ' .. found .. ', wanted a ' .. kind)
    end
  end
end

local function split(raw, priority)
  local origin, p, deliveries, attempts, first, worker_len, id_len, start =
    string.match(raw, '^\0011|([%w:_-]+)|([hnl])|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|()')
  if not origin or #origin > 128 or #deliveries > 9 or #attempts > 9 or #first > 15 or #worker_len > 6 or #id_len > 6
    or start - 1 + worker_len + id_len > #raw then
    return { origin = '', priority = priority, deliveries = 0, attempts = 0, first = 0, worker = '', id = '', body = raw }
  end
  local worker_end = start + tonumber(worker_len)
  local id_end = worker_end + tonumber(id_len)
  return {
    origin = origin, priority = p, deliveries = tonumber(deliveries), attempts = tonumber(attempts),
    first = tonumber(first), worker = string.sub(raw, start, worker_end - 1),
    id = string.sub(raw, worker_end, id_end - 1), body = string.sub(raw, id_end),
  }
end

local function join(e)
  return string.format('\0011|%s|%s|%d|%d|%.0f|%d|%d|', e.origin, e.priority, e.deliveries, e.attempts, e.first,
    #e.worker, #e.id) .. e.worker .. e.id .. e.body
end

local function field(entry, name)
  for i = 1, #entry, 2 do
    if entry[i] == name then return entry[i + 1] end
  end
  return ''
end

-- Put a job among the dead letters, and evict the oldest where that passes a bound: counted, never silent.
local function bury(dead, stats, e, code, reason, keep_bytes, now, max_entries, max_bytes)
  local body = string.sub(e.body, 1, keep_bytes)
  if redis.call('XLEN', dead) == 0 then redis.call('HSET', stats, 'dead_bytes', 0) end -- somebody deleted the stream
  redis.call('XADD', dead, '*', 'code', code, 'reason', reason, 'id', e.id, 'body', body,
    'priority', NAMES[e.priority], 'attempts', e.attempts, 'deliveries', e.deliveries,
    'at_ms', string.format('%.0f', now), 'worker', e.worker, 'size', #e.body)
  local bytes = redis.call('HINCRBY', stats, 'dead_bytes', #body + #reason)
  redis.call('HINCRBY', stats, 'dead_total', 1)
  local entries = redis.call('XLEN', dead)
  while entries > 1 and (entries > max_entries or bytes > max_bytes) do
    local oldest = redis.call('XRANGE', dead, '-', '+', 'COUNT', 1)[1]
    redis.call('XDEL', dead, oldest[1])
    bytes = redis.call('HINCRBY', stats, 'dead_bytes', -(#field(oldest[2], 'body') + #field(oldest[2], 'reason')))
    redis.call('HINCRBY', stats, 'dead_evicted', 1)
    entries = entries - 1
  end
end
