"""The client's Lua. Every key is declared; types are checked first, since a script that fails is not rolled back."""

_WANT = """
local function want(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then
    return redis.error_reply('WRONGTYPE ' .. key .. ' holds a ' .. found .. ', not a ' .. kind)
  end
end
"""

SUBMIT = (
    _WANT
    + """
-- KEYS: ready list, stats, then a result key and an ids key per job.
-- ARGV: life of an ids key (s), then each job's JSON.
-- Answers 0 (pushed) or 1 (an id that is live or answered already) per job.
local bad = want(KEYS[1], 'list') or want(KEYS[2], 'hash')
if bad then return bad end
local answers, dropped = {}, 0
for n = 2, #ARGV do
  local ids = KEYS[2 * n]
  if redis.call('EXISTS', KEYS[2 * n - 1], ids) > 0 then
    answers[n - 1] = 1
    dropped = dropped + 1
  else
    redis.call('SET', ids, 'queued', 'EX', ARGV[1])
    redis.call('RPUSH', KEYS[1], ARGV[n])
    answers[n - 1] = 0
  end
end
if dropped > 0 then redis.call('HINCRBY', KEYS[2], 'dropped_duplicates', dropped) end
return answers
"""
)

LOOK = """
-- KEYS: result, ids, claimed, cancel. ARGV: life of the wish to cancel (s, 0: only look), channel, job id.
-- Answers the result, the ids key's value and whether its handle is claimed, all as of one moment.
local result, mark, running = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]), 0
local handle = mark and string.match(mark, '^%S+ (%S+)$')
if handle then running = redis.call('HEXISTS', KEYS[3], handle) end
if not result and ARGV[1] ~= '0' then
  redis.call('SET', KEYS[4], '1', 'EX', ARGV[1])
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return {result, mark, running}
"""

REPLAY = (
    _WANT
    + """
-- KEYS: dead, ready list, stats, ids, then what the id left behind: result, cancel, stream.
-- ARGV: entry, id, life of an ids key (s).
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then return 'gone' end
local letter = {}
for n = 1, #found[1][2], 2 do letter[found[1][2][n]] = found[1][2][n + 1] end
if (letter.id or '') ~= ARGV[2] then return 'gone' end
local size = tonumber(letter.size or '')
if not letter.body or not size or size > #letter.body then return 'truncated' end
local bad = want(KEYS[2], 'list') or want(KEYS[3], 'hash') or want(KEYS[4], 'string') or want(KEYS[5], 'string')
if bad then return bad end
if ARGV[2] ~= '' then
  local mark, result = redis.call('GET', KEYS[4]), redis.call('GET', KEYS[5])
  if (mark and mark ~= 'queued') or (result and not string.find(result, '"status":"failed"', 1, true)) then
    return 'live'
  end
end
-- Removals first: once a script has written, Redis at maxmemory lets the rest of it pass.
redis.call('XDEL', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then redis.call('DEL', KEYS[5], KEYS[6], KEYS[7]) end
redis.call('HINCRBY', KEYS[3], 'dead_bytes', -(#letter.body + #(letter.reason or '')))
if ARGV[2] ~= '' then redis.call('SET', KEYS[4], 'queued', 'EX', ARGV[3]) end
redis.call('RPUSH', KEYS[2], letter.body)
return 'replayed'
"""
)

PURGE = (
    _WANT
    + """
-- KEYS: dead, stats. ARGV: first entry, last entry, how many at most. Answers how many went.
local bad = want(KEYS[2], 'hash')
if bad then return bad end
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local bytes = 0
for _, entry in ipairs(found) do
  for n = 1, #entry[2], 2 do
    if entry[2][n] == 'body' or entry[2][n] == 'reason' then bytes = bytes + #entry[2][n + 1] end
  end
  redis.call('XDEL', KEYS[1], entry[1])
end
if #found > 0 then redis.call('HINCRBY', KEYS[2], 'dead_bytes', -bytes) end
return #found
"""
)
