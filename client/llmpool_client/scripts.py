"""The client's Lua. Every key is declared; types are checked first, since a script that fails is not rolled back."""

WANT = """
local function want(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then
    return redis.error_reply('WRONGTYPE ' .. key .. ' holds a ' .. found .. ', not a ' .. kind)
  end
end
"""

SUBMIT = (
    WANT
    + """
-- KEYS: ready list, stats, high, normal, low, delayed, limits, then a result key and an ids key per job.
-- ARGV: life of an ids key (s), most jobs that may wait ('': no limit of the caller's), then each job's JSON.
-- Answers {1 where it is refused, then jobs that wait, limit (else zeros), {per job 0: new, 1: its id is live or
-- answered already, 2: it is there before in this call}}. Refused, nothing is pushed. What waits is ready or delayed;
-- what runs doesn't count.
local bad = want(KEYS[1], 'list') or want(KEYS[2], 'hash') or want(KEYS[7], 'hash')
if bad then return bad end
local limit = redis.call('HGET', KEYS[7], 'max_queued')
if limit and not string.match(limit, '^%d+$') then
  return redis.error_reply('ERR ' .. KEYS[7] .. ': max_queued is not a number of jobs')
end
limit = math.min(limit and tonumber(limit) or math.huge, tonumber(ARGV[2]) or math.huge)

local found, new, seen = {}, 0, {}
for n = 3, #ARGV do
  local ids = KEYS[2 * n + 3]
  if redis.call('EXISTS', KEYS[2 * n + 2], ids) > 0 then
    found[n - 2] = 1
  elseif seen[ids] then
    found[n - 2] = 2
  else
    found[n - 2] = 0
    seen[ids] = true
    new = new + 1
  end
end

if new > 0 and limit < math.huge then
  local waiting = redis.call('ZCARD', KEYS[6])
  for n = 3, 5 do waiting = waiting + redis.call('LLEN', KEYS[n]) end
  if waiting + new > limit then return { 1, waiting, limit, found } end
end

for n = 3, #ARGV do
  if found[n - 2] == 0 then
    redis.call('SET', KEYS[2 * n + 3], 'queued', 'EX', ARGV[1])
    redis.call('RPUSH', KEYS[1], ARGV[n])
  end
end
local dropped = #ARGV - 2 - new
if dropped > 0 then redis.call('HINCRBY', KEYS[2], 'dropped_duplicates', dropped) end
return { 0, 0, 0, found }
"""
)

LOOK = """
-- KEYS: result, ids, claimed, cancel. ARGV: life of the wish to cancel (s, 0: only look), channel, job id.
-- Answers the result, the ids key's value and whether its handle is claimed, all as of one moment.
local result, mark, running = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]), 0
local handle = mark and string.match(mark, '^%S+ (%S+)')
if handle then running = redis.call('HEXISTS', KEYS[3], handle) end
if not result and ARGV[1] ~= '0' then
  redis.call('SET', KEYS[4], '1', 'EX', ARGV[1])
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return {result, mark, running}
"""

REPLAY = (
    WANT
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
    WANT
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
