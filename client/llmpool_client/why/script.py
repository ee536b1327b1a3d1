"""The script that finds a job: read only, one queue, and bounded, since Redis serves nobody else meanwhile."""

MOST_ENTRIES = 10_000
MOST_BYTES = 8 * 1_048_576
"""Bytes of elements that one look goes through, beside the entries: some 40 ms of Redis' time at most."""
MOST_DECODED_BYTES = 2 * 1_048_576
"""The same where the id has characters that JSON may spell in two ways, so that each body has to be decoded."""

FIND = """
-- Where is this job, as of one moment? KEYS: result, ids, cancel, claimed, lease, delayed, dead, high, normal, low.
-- ARGV: job id, '1' where JSON spells the id in one way only, most entries, most bytes.
-- Answers {now ms, result, mark, whether a cancel is wished, {lengths of high, normal, low, delayed},
--          place, entries looked at, the dead letter's entry}; place is {} or one of
--   {'claimed', lease end or false, element}
--   {'ready', number of its list, jobs before it, element}
--   {'delayed', when it is due, jobs before it, element}
--   {'beyond'}
local id, plain = ARGV[1], ARGV[2] == '1'
local entries_left, bytes_left = tonumber(ARGV[3]), tonumber(ARGV[4])
local STEP = 50 -- entries of one read; bodies may be a megabyte each
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local result, mark = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
local origin, handle = string.match(mark or '', '^(%S+) (%S+)')

-- A body is decoded only to read its id, and only where it may be the one.
local function names_it(body)
  if plain and not string.find(body, id, 1, true) then return false end
  local ok, job = pcall(cjson.decode, body)
  return ok and type(job) == 'table' and job.id == id
end

local function is_it(raw)
  local its, worker_len, id_len, start =
    string.match(raw, '^\\0011|([%w:_-]+)|[hnl]|%d+|%d+|%d+|(%d+)|(%d+)|()')
  if not its then return not origin and names_it(raw) end
  if origin then return its == origin end
  local worker_end = start + tonumber(worker_len)
  local id_end = worker_end + tonumber(id_len)
  if id_end > worker_end then return string.sub(raw, worker_end, id_end - 1) == id end
  return its == id or names_it(string.sub(raw, id_end))
end

-- Goes through at most what is left; answers where it stands and its entry, or nothing and whether that was the end.
local function find(length, read)
  local at = 0
  while at < length do
    if entries_left <= 0 or bytes_left <= 0 then return nil, false end
    local page = read(at, at + math.min(STEP, entries_left) - 1)
    for n, raw in ipairs(page) do
      if is_it(raw) then return at + n - 1, raw end
      bytes_left = bytes_left - #raw
    end
    if #page == 0 then break end
    at = at + #page
    entries_left = entries_left - #page
  end
  return nil, true
end

local lengths, whole, place = {}, true, nil
for n = 8, 10 do lengths[n - 7] = redis.call('LLEN', KEYS[n]) end
lengths[4] = redis.call('ZCARD', KEYS[6])

local held = handle and redis.call('HGET', KEYS[4], handle)
if held then
  local till = redis.call('ZSCORE', KEYS[5], handle)
  place = { 'claimed', till and string.format('%.0f', till), held }
elseif not result then
  for _, n in ipairs({ 1, 2, 3 }) do
    if not place then
      local at, raw = find(lengths[n], function(from, to) return redis.call('LRANGE', KEYS[n + 7], from, to) end)
      if at then place = { 'ready', n, at, raw } else whole = whole and raw end
    end
  end
  if not place then
    local at, raw = find(lengths[4], function(from, to) return redis.call('ZRANGE', KEYS[6], from, to) end)
    if at then
      place = { 'delayed', string.format('%.0f', redis.call('ZSCORE', KEYS[6], raw)), at, raw }
    else
      whole = whole and raw
    end
  end
end
if not place then place = whole and {} or { 'beyond' } end
local looked = tonumber(ARGV[3]) - entries_left

-- The newest dead letter of the id, where the job failed or has left no other trace: letters outlive results and ids.
local dead, failed = false, result and string.find(result, '"status":"failed"', 1, true)
if not place[1] and (failed or not (result or mark)) then
  local from = '+'
  while not dead and entries_left > 0 and bytes_left > 0 do
    local page = redis.call('XREVRANGE', KEYS[7], from, '-', 'COUNT', 20)
    for _, entry in ipairs(page) do
      for n = 1, #entry[2], 2 do
        if entry[2][n] == 'id' and entry[2][n + 1] == id then dead = dead or entry[1] end
        bytes_left = bytes_left - #entry[2][n + 1]
      end
      from = '(' .. entry[1]
    end
    if #page == 0 then break end
    entries_left = entries_left - #page
  end
end
return { now, result, mark, redis.call('EXISTS', KEYS[3]), lengths, place, looked, dead }
"""
