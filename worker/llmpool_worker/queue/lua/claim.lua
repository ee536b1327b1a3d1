-- Take ready jobs: each leaves its list, becomes a claim of this worker and gets a lease.
-- KEYS: claimed, lease, dead, stats, delayed, waiting, turns, used, then the three ready lists in the order to try.
-- ARGV: token, units wanted, lease ms, worker, job max bytes, reply max bytes, bytes of an oversized body to keep,
--       dead max entries, dead max bytes, units that a slot is worth, most jobs,
--       caps as JSON {model: units, '*': units of any other} or '' (any model),
--       '1' where tenants take turns, tenants' limits as JSON {tenant: {j: jobs, t: tokens a minute}, '*': {...}} or '',
--       then the letter of each list's priority.
-- Answers {now, oversized bodies buried, '1' where units ran out, {model, since, ...} passed over for their model,
--       {model, ...} of which more may wait, {handle, origin, priority, deliveries, attempts, first, id, body}, ...}.
--
-- The same token gets the same handles again: a client that lost the reply asks once more and nothing is stranded.
-- A job is looked into only where that may change who takes it: caps, a tenant or an embed job.
-- What isn't used isn't asked for: most claims are of queues without tenants, limits or models to choose from.
local bad = wrong_type({
  'hash', 'zset', 'stream', 'hash', 'zset', ARGV[12] ~= '' and 'hash', ARGV[13] == '1' and 'zset',
  ARGV[14] ~= '' and 'hash', 'list', 'list', 'list',
})
if bad then return bad end

local claimed, lease, dead, stats = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local delayed, waiting, turns_key, used = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local token, units, lease_ms, worker = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local job_max, reply_max, keep = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local dead_entries, dead_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
local batch, most = tonumber(ARGV[10]), tonumber(ARGV[11])
local caps = ARGV[12] ~= '' and cjson.decode(ARGV[12]) or nil
local fair, limits = ARGV[13] == '1', ARGV[14] ~= '' and cjson.decode(ARGV[14]) or nil
local by_tenant = fair or limits
local now = now_ms()
local jobs, passed, more = {}, {}, {}
local buried, n, bytes, full, unseen, turned = 0, 0, 0, false, false, false

local function answer(handle, e)
  jobs[#jobs + 1] = { handle, e.origin, e.priority, e.deliveries, e.attempts, string.format('%.0f', e.first), e.id, e.body }
end

local function reply()
  local answered = { now, buried, full and '1' or '0', {}, {} }
  for model, since in pairs(passed) do
    table.insert(answered[4], model)
    table.insert(answered[4], since)
  end
  for model in pairs(more) do table.insert(answered[5], model) end
  for _, job in ipairs(jobs) do answered[#answered + 1] = job end
  return answered
end

if redis.call('HEXISTS', claimed, token .. ':1') == 1 then
  for k = 1, 64 do
    local handle = token .. ':' .. k
    local raw = redis.call('HGET', claimed, handle)
    if not raw then break end
    redis.call('ZADD', lease, now + lease_ms, handle)
    answer(handle, split(raw, 'n'))
  end
  return reply()
end

local function too_long(e)
  if #e.body <= job_max then return false end
  bury(dead, stats, e, 'too_large', 'job: ' .. #e.body .. ' bytes, allowed are ' .. job_max .. ' (JOB_MAX_BYTES)',
    keep, now, dead_entries, dead_bytes)
  buried = buried + 1
  return true
end

local function take(e)
  -- A repeat after its lease lapsed may find some of its handles still there: never over them.
  repeat n = n + 1 until redis.call('HEXISTS', claimed, token .. ':' .. n) == 0
  bytes = bytes + #e.body
  local handle = token .. ':' .. n
  if e.origin == '' then e.origin = handle end
  if e.first == 0 then e.first = now end
  e.deliveries = e.deliveries + 1
  e.worker = worker
  redis.call('HSET', claimed, handle, join(e))
  redis.call('ZADD', lease, now + lease_ms, handle)
  answer(handle, e)
end

local function room()
  return units > 0 and #jobs < most and bytes < reply_max
end

local function needs_look(body)
  return caps or string.find(body, '"embed"', 1, true) or by_tenant and string.find(body, '"tenant"', 1, true)
end

local function limits_of(tenant)
  return limits[tenant] or limits['*']
end

-- The tenant that a job counts for, where that has limits. Once counted, a retry isn't again.
local function metered(e, tenant)
  if not limits or tenant == '' or e.first ~= 0 or not limits_of(tenant) then return nil end
  return tenant
end

-- Beyond its limit a tenant's job waits among the delayed ones: at the head of the list it would be in everybody's way.
-- Many at once are spread as the limit will let them through. Its mark is its own, also where the call is repeated.
local function hold_back(e, tenant, waits)
  local of_tenant = limits_of(tenant)
  local wait = waits[tenant] or over_limit(used, tenant, of_tenant, now)
  if not wait then return false end
  waits[tenant] = wait + (of_tenant.j and 60000 / of_tenant.j or 0)
  local number = redis.call('HINCRBY', stats, 'held_back', 1)
  if e.origin == '' then e.origin = token .. ':w' .. number end
  redis.call('ZADD', delayed, math.ceil(now + wait), join(e))
  return true
end

local function window_of(list, letter)
  local entries, turns, allowed, tenants = {}, {}, {}, false
  local popped = redis.call('LPOP', list, 64) or {}
  for _, raw in ipairs(popped) do
    local e = split(raw, letter)
    if not too_long(e) then
      local seen = look(e.body)
      local entry = { raw = raw, e = e, seen = seen, turn = fair and seen.tenant or '', metered = metered(e, seen.tenant) }
      entries[#entries + 1] = entry
      tenants = tenants or entry.turn ~= ''
      if fair and not turns[entry.turn] then
        turns[entry.turn] = tonumber(redis.call('ZSCORE', turns_key, entry.turn) or '0')
      end
      if entry.metered and not allowed[entry.metered] then
        allowed[entry.metered] = allowance(used, entry.metered, limits_of(entry.metered), now)
      end
    end
  end
  return entries, tenants and turns or {}, allowed, #popped
end

-- Two claims are never in the same one, so that turns have an order.
local function microseconds()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function take_chosen(entries, chosen, turns, beyond)
  for _, index in ipairs(chosen) do
    if not room() then return end
    local entry = entries[index]
    entry.gone = true
    if turns[entry.turn] then
      redis.call('ZADD', turns_key, microseconds() + #jobs, entry.turn)
      turned = true
    end
    if entry.metered and limits_of(entry.metered).j then use(used, entry.metered, 'j', 1, now) end
    take(entry.e)
    if entry.seen.model and not beyond then more[entry.seen.model] = nil end
  end
end

-- The first 64 of a list at once: those that may be taken are chosen among them, the others go back as they were.
-- Answers how many it looked at, and whether it left none of them, so that there is reason to look further.
local function take_from_window(list, letter)
  local entries, turns, allowed, popped = window_of(list, letter)
  local chosen, left = pick(entries, units, caps, batch, turns, allowed)
  take_chosen(entries, chosen, turns, redis.call('EXISTS', list) == 1)
  units = left
  local waits, back = {}, {}
  for _, entry in ipairs(entries) do
    if not entry.gone and not (entry.over == 'limit' and hold_back(entry.e, entry.metered, waits)) then
      back[#back + 1] = entry.raw
      if entry.over == 'model' then
        passed[entry.seen.model] = true
      else
        full = true
        if entry.seen.model then more[entry.seen.model] = true end
      end
    end
  end
  for index = #back, 1, -1 do redis.call('LPUSH', list, back[index]) end
  return popped, #back == 0
end

-- LPOP, a removal, comes before the writes: at maxmemory Redis then lets the rest of the script pass.
local function take_from(list, letter)
  local looked = 0
  while room() do
    if looked >= most + 64 then
      unseen = true
      return
    end
    local raw = redis.call('LPOP', list)
    if not raw then return end
    looked = looked + 1
    local e = split(raw, letter)
    if not too_long(e) then
      local seen = needs_look(e.body) and look(e.body) or { tenant = '' }
      local cost = cost_of(seen, batch)
      local cap = caps and seen.model and (caps[seen.model] and seen.model or '*')
      if by_tenant and seen.tenant ~= '' or cap and (caps[cap] or 0) < cost then
        redis.call('LPUSH', list, raw)
        local count, none_left = take_from_window(list, letter)
        if not none_left then return end
        looked = looked + count
      elseif units < cost then
        redis.call('LPUSH', list, raw)
        units, full = 0, true
        return
      else
        units = units - cost
        if cap then
          caps[cap] = caps[cap] - cost
          more[seen.model] = true
        end
        take(e)
      end
    end
  end
end

for i = 9, #KEYS do
  if room() then take_from(KEYS[i], ARGV[i + 6]) end
end
if not room() then full = true end
if not full and not unseen then more = {} end

-- Since when each model's jobs are passed over, for all workers to know.
if next(passed) then
  for model in pairs(passed) do
    redis.call('HSETNX', waiting, model, string.format('%.0f', now))
    passed[model] = redis.call('HGET', waiting, model)
  end
  redis.call('PEXPIRE', waiting, 3600000)
end
if caps and redis.call('EXISTS', waiting) == 1 then
  if not full and not unseen and not next(passed) then
    redis.call('DEL', waiting)
  else
    for model in pairs(caps) do
      if not passed[model] then redis.call('HDEL', waiting, model) end
    end
  end
end
if turned and redis.call('ZCARD', turns_key) > 1000 then redis.call('ZREMRANGEBYRANK', turns_key, 0, -1001) end
return reply()
