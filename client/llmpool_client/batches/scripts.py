"""The batches' Lua. Every key is declared; each script may be sent twice."""

from llmpool_client.scripts import WANT

CREATE = (
    WANT
    + """
-- KEYS: batches, the batch. ARGV: batch id, window (ms), life of the record past it (ms), then fields and values.
-- Answers the record as it is now: the one that was there, or a new one.
local bad = want(KEYS[1], 'zset') or want(KEYS[2], 'hash')
if bad then return bad end
if redis.call('EXISTS', KEYS[2]) == 0 then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local deadline = now + ARGV[2]
  local expires = string.format('%.0f', deadline + ARGV[3])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
  redis.call('HSET', KEYS[2], 'id', ARGV[1], 'submitted', 0, 'created_ms', string.format('%.0f', now),
    'deadline_ms', string.format('%.0f', deadline), 'expires_ms', expires, unpack(ARGV, 4))
  redis.call('PEXPIREAT', KEYS[2], expires)
  redis.call('ZADD', KEYS[1], expires, ARGV[1])
end
return redis.call('HGETALL', KEYS[2])
"""
)

PUSH = (
    WANT
    + """
-- KEYS: ready list, stats, the batch, its ids, its faults, then a result key and an ids key per request.
-- ARGV: requests before these, end of the record's life (Unix ms), then per request: custom id, job or fault, its JSON.
-- Answers how many requests of the batch are submitted now; what isn't next was pushed before, and isn't again.
-- -1: there is no such batch. -2: it was cancelled.
local bad = want(KEYS[1], 'list') or want(KEYS[2], 'hash') or want(KEYS[3], 'hash') or want(KEYS[4], 'list')
  or want(KEYS[5], 'hash')
if bad then return bad end
local submitted, cancelled = unpack(redis.call('HMGET', KEYS[3], 'submitted', 'cancelled_ms'))
if not submitted then return -1 end
if cancelled then return -2 end
if submitted ~= ARGV[1] then return tonumber(submitted) end
local count, dropped = (#ARGV - 2) / 3, 0
for n = 1, count do
  local custom_id, kind, payload = ARGV[3 * n], ARGV[3 * n + 1], ARGV[3 * n + 2]
  local result, ids = KEYS[2 * n + 4], KEYS[2 * n + 5]
  redis.call('RPUSH', KEYS[4], custom_id)
  if kind == 'fault' then
    redis.call('HSET', KEYS[5], custom_id, payload)
  elseif redis.call('EXISTS', result, ids) > 0 then
    dropped = dropped + 1
  else
    redis.call('SET', ids, 'queued', 'PXAT', ARGV[2])
    redis.call('RPUSH', KEYS[1], payload)
  end
end
redis.call('PEXPIREAT', KEYS[4], ARGV[2])
redis.call('PEXPIREAT', KEYS[5], ARGV[2])
if dropped > 0 then redis.call('HINCRBY', KEYS[2], 'dropped_duplicates', dropped) end
return redis.call('HINCRBY', KEYS[3], 'submitted', count)
"""
)

LOOK = """
-- KEYS: claimed, then a result key and an ids key per job. ARGV: how many bytes of a result to show.
-- Answers per job the result's beginning and size, the ids key's value and whether its handle is claimed: all as of one
-- moment, since a job that settles between two looks would be seen in neither.
local answers = {}
for n = 1, (#KEYS - 1) / 2 do
  local result, mark, running = KEYS[2 * n], redis.call('GET', KEYS[2 * n + 1]), 0
  local handle = mark and string.match(mark, '^%S+ (%S+)$')
  if handle then running = redis.call('HEXISTS', KEYS[1], handle) end
  local size = redis.call('STRLEN', result)
  answers[n] = {size > 0 and redis.call('GETRANGE', result, 0, ARGV[1] - 1), size, mark, running}
end
return answers
"""

STOP = (
    WANT
    + """
-- KEYS: the batch. Marks it as cancelled, so that no submit goes on with it. Answers whether it is there.
local bad = want(KEYS[1], 'hash')
if bad then return bad end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local time = redis.call('TIME')
redis.call('HSETNX', KEYS[1], 'cancelled_ms', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
return 1
"""
)

CANCEL = """
-- KEYS: a result key, an ids key and a cancel key per job. ARGV: end of the wishes' life (Unix ms), channel, job ids.
-- Answers how many jobs are now wished cancelled: those that live and have no result.
local wished = 0
for n = 1, #KEYS / 3 do
  if redis.call('EXISTS', KEYS[3 * n - 2]) == 0 and redis.call('EXISTS', KEYS[3 * n - 1]) == 1 then
    redis.call('SET', KEYS[3 * n], '1', 'PXAT', ARGV[1])
    redis.call('PUBLISH', ARGV[2], ARGV[n + 2])
    wished = wished + 1
  end
end
return wished
"""
