-- Looking into bodies, as far as a claim needs it: whose job it is, for which model, and how much of a slot it takes.
-- Only a look: a body is never written anew, and what can't be read is nobody's and may be taken by anybody.

local LOOK_BYTES, HINT_BYTES = 16384, 2048

local function folded(name)
  if string.find(string.match(name, '[^/]*$'), ':', 1, true) then return name end
  return name .. ':latest'
end

-- Decoding a long prompt to learn its model is not worth the time: producers write the short fields first or last.
local function hint(body, name)
  local pattern = '[{,]%s*"' .. name .. '"%s*:%s*"([^"\\]*)"'
  return string.match(string.sub(body, 1, HINT_BYTES), pattern) or string.match(string.sub(body, -HINT_BYTES), pattern)
end

local MODEL = '^%w[%w._:/@-]*$' -- what can be a model's name at all: any other is refused as soon as it is claimed

local function text_of(value, longest)
  return type(value) == 'string' and value ~= '' and #value <= longest and value or nil
end

-- {model, tenant, inputs}: model nil = unknown, tenant '' = none, inputs nil = not an embed job.
local function look(body)
  local found = {}
  if #body <= LOOK_BYTES then
    local ok, doc = pcall(cjson.decode, body)
    if not ok or type(doc) ~= 'table' then return { tenant = '' } end
    found = { model = doc.model, tenant = doc.tenant, type = doc.type, input = doc.input }
  else
    found = { model = hint(body, 'model'), tenant = hint(body, 'tenant'), type = hint(body, 'type') }
  end
  local model, inputs = text_of(found.model, 253), nil
  if model and not string.match(model, MODEL) then model = nil end
  if found.type == 'embed' then inputs = type(found.input) == 'table' and math.max(1, #found.input) or 1 end
  if found.type == 'embed' and found.input == nil then inputs = nil end -- a long body: as good as a whole slot
  return { model = model and folded(model) or nil, tenant = text_of(found.tenant, 512) or '', inputs = inputs }
end

-- What a job takes of a slot that is worth `batch` inputs of embed jobs.
local function cost_of(seen, batch)
  return seen.inputs and math.min(seen.inputs, batch) or batch
end

-- Which of a window's entries to take, in order: the turn that was served longest ago first, within a turn by age.
-- Each entry has `seen`, `turn` (whose), and `metered`, the tenant that it counts for. left: units free; caps: model ->
-- units, '*' = any other, nil = any; turns: when each was served; allowed: tenant -> jobs that it may have.
-- Answers indexes and the units that are free then. What isn't taken is marked, entry.over: 'model' (not open here),
-- 'limit' (its tenant's), 'full' (no place just now). A job that is too large for what is free lets no younger one of its
-- model past, nor, where it is the units, anybody's: small jobs would keep it waiting for good.
local function pick(entries, left, caps, batch, turns, allowed)
  local taken, queues, order = {}, {}, {}
  for i, entry in ipairs(entries) do
    local queue = queues[entry.turn]
    if not queue then
      queue = { at = 1, served = turns[entry.turn] or 0 }
      queues[entry.turn] = queue
      order[#order + 1] = queue
    end
    queue[#queue + 1] = i
  end

  local function over(entry, cap, cost)
    if entry.metered and allowed[entry.metered] < 1 then return 'limit' end
    if cap and not caps[cap] then return 'model' end
    if left < cost then
      left = 0
      return 'full'
    end
    if cap and caps[cap] < cost then
      caps[entry.seen.model] = 0
      return 'full'
    end
  end

  local function take_from(queue)
    while queue.at <= #queue do
      local index = queue[queue.at]
      local entry = entries[index]
      local model, cost = entry.seen.model, cost_of(entry.seen, batch)
      local cap = caps and model and (caps[model] and model or '*')
      queue.at = queue.at + 1
      entry.over = over(entry, cap, cost)
      if not entry.over then
        left = left - cost
        if cap then caps[cap] = caps[cap] - cost end
        if entry.metered then allowed[entry.metered] = allowed[entry.metered] - 1 end
        return index
      end
    end
  end

  while true do
    local first
    for _, queue in ipairs(order) do
      if queue.at <= #queue and (not first or queue.served < first.served) then first = queue end
    end
    if not first then return taken, left end
    local index = take_from(first)
    if index then
      taken[#taken + 1] = index
      first.served = 9e15 + #taken -- behind everybody who wasn't served in this window
    end
  end
end

-- Two counters of a minute each, the older one weighted by what is left of it.
-- (The sliding-window counter of Cloudflare's "How we built rate limiting", 2017.)
local function usage(used, tenant, kind, now)
  local minute = math.floor(now / 60000)
  local current = tonumber(redis.call('HGET', used, minute .. '|' .. kind .. '|' .. tenant) or '0')
  local previous = tonumber(redis.call('HGET', used, (minute - 1) .. '|' .. kind .. '|' .. tenant) or '0')
  return previous, current
end

-- Ms until a tenant may have another job. nil: at once.
local function wait_of(previous, current, limit, now)
  local into = now % 60000
  if previous * (1 - into / 60000) + current < limit then return nil end
  if current < limit then return math.ceil((1 - (limit - current) / previous) * 60000 - into) + 1 end
  return math.ceil(60000 - into + (1 - limit / current) * 60000) + 1
end

local function over_limit(used, tenant, limits, now)
  local longest
  for kind, limit in pairs(limits) do
    local previous, current = usage(used, tenant, kind, now)
    local wait = wait_of(previous, current, limit, now)
    if wait and (not longest or wait > longest) then longest = wait end
  end
  return longest
end

-- How many jobs a tenant may have now. What they will use in tokens is known only afterwards.
local function allowance(used, tenant, limits, now)
  local jobs = math.huge
  for kind, limit in pairs(limits) do
    local previous, current = usage(used, tenant, kind, now)
    local free = limit - current - previous * (1 - now % 60000 / 60000)
    if kind == 'j' then jobs = math.min(jobs, math.ceil(free)) elseif free <= 0 then jobs = 0 end
  end
  return jobs
end

local function use(used, tenant, kind, amount, now)
  local minute = math.floor(now / 60000)
  if redis.call('HSETNX', used, minute .. '|', '') == 1 then -- the first of a minute clears away what is too old to count
    for _, name in ipairs(redis.call('HKEYS', used)) do
      local of = tonumber(string.match(name, '^(%d+)|') or '')
      if of and of < minute - 1 then redis.call('HDEL', used, name) end
    end
  end
  redis.call('HINCRBY', used, minute .. '|' .. kind .. '|' .. tenant, amount)
  redis.call('PEXPIRE', used, 180000)
end
