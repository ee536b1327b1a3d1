-- One worker's turn at a model server that it shares: report, hear the plan, hold places of the models' shared limits.
-- KEYS: members, alive, plan, permits.
-- ARGV: worker, membership ms, report ('' = it leaves), news channel, ms that a place stays with who got it, then five
--   for each model with a shared limit: model, places that it may fill already, places wanted, the limit, '1' where jobs
--   wait for a place.
-- Answers {now, '1' if this worker leads, the plan's fields and values, places that it may fill from now per model,
--   ms until a turn ends that others wait for or -1, workers and their reports (the leader's only)}. May be repeated.
local bad = wrong_type({ 'hash', 'zset', 'hash', 'hash' })
if bad then return bad end

local members, alive, plan, permits = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me, lease_ms, report, news = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local turn_ms = tonumber(ARGV[5])
local now = now_ms()
local changed = false

local function forget(worker)
  redis.call('ZREM', alive, worker)
  redis.call('HDEL', members, worker)
  for _, name in ipairs(redis.call('HKEYS', permits)) do
    if string.sub(name, -#worker - 1) == '\n' .. worker then redis.call('HDEL', permits, name) end
  end
  if redis.call('HGET', plan, 'leader') == worker then redis.call('HDEL', plan, 'leader', 'leader_until') end
  changed = true
end

for _, worker in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', now)) do
  if worker ~= me then forget(worker) end
end
if report == '' then
  forget(me)
  if redis.call('ZCARD', alive) == 0 then redis.call('DEL', members, alive, plan, permits) end -- the last one
  redis.call('PUBLISH', news, me)
  return { now, '0', {}, {}, -1, {} }
end

if redis.call('ZADD', alive, now + lease_ms, me) == 1 then changed = true end
local planned = redis.call('HGETALL', plan)
local leader = field(planned, 'leader')
-- At a barrier the leader waits for what the others report: places and jobs stand still until it hears.
if leader ~= me and field(planned, 'target') ~= '' and field(planned, 'doing') == ''
  and redis.call('HGET', members, me) ~= report then changed = true end
redis.call('HSET', members, me, report)

-- The lead is a lease, too. A new leader begins from the plan that it finds.
if leader == '' or leader == me or now >= tonumber(field(planned, 'leader_until')) then
  leader = me
  redis.call('HSET', plan, 'leader', me, 'leader_until', string.format('%.0f', now + lease_ms))
end

-- Places of a shared limit. Each member with work has an equal share, and more while nobody else wants it; one without
-- keeps what nobody wants. Where there are fewer places than members, who has waited longest is next. What a member may
-- fill already, by a job or by a claim that is on its way, stays its own in here until it says that it won't: the answer
-- only tells what it may fill from now.
-- A member's entry: places, since when it waits for its share (0: it doesn't), since when it has places, how many more it
-- would like, '1' where it has work.
local function entry(text)
  local held, waits, from, lacks, work = string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d)$')
  return { held = tonumber(held), waits = tonumber(waits), from = tonumber(from), lacks = tonumber(lacks), work = work == '1' }
end

local function read_permits(model)
  local mine, others = { held = 0, waits = 0, from = 0, lacks = 0 }, {}
  local all = redis.call('HGETALL', permits)
  for i = 1, #all, 2 do
    if all[i] == model .. '\n' .. me then
      mine = entry(all[i + 1])
    elseif string.sub(all[i], 1, #model + 1) == model .. '\n' then
      others[#others + 1] = entry(all[i + 1])
    end
  end
  return mine, others
end

local again = -1 -- ms until a turn of this worker's ends that others wait for

local function hold(model, taken, want, limit, has_work)
  local mine, others = read_permits(model)
  local free, members, idle, lacking = limit, 1, false, 0
  for _, other in ipairs(others) do
    free = free - other.held
    lacking = lacking + other.lacks
    if other.held > 0 or other.waits > 0 then members = members + 1 end
    if other.held > 0 and not other.work then idle = true end
  end
  free = math.max(0, free)

  local share, older, owed = math.max(1, math.floor(limit / members)), 0, 0
  for _, other in ipairs(others) do
    if other.waits > 0 and other.held < share then
      owed = owed + share - other.held
      if mine.waits == 0 or other.waits < mine.waits then older = older + 1 end
    end
  end
  local floor = 0
  if has_work then
    -- A turn, or places would change hands with every job. Who yielded and waits again has had its own.
    local in_turn = mine.held > 0 and mine.waits == 0 and now - mine.from < turn_ms
    if limit >= members or free > older or in_turn then floor = share end
  else
    owed = lacking
  end
  local fair = math.min(want, free, math.max(floor, free - owed))
  local kept = math.max(fair, math.min(taken, free))

  local waits, lacks, from = 0, has_work and want - fair or 0, mine.from
  if has_work and fair < math.min(want, share) then waits = mine.waits > 0 and mine.waits or now end
  if mine.held == 0 or waits > 0 and mine.waits == 0 then from = now end
  if fair > 0 and owed > 0 then
    local left = math.max(1, turn_ms - (now - from))
    again = again < 0 and left or math.min(again, left)
  end
  local comes_to_wait = waits > 0 and mine.waits == 0 or lacks > 0 and mine.lacks == 0 and idle
  if comes_to_wait or kept < mine.held and lacking > 0 then changed = true end
  redis.call('HSET', permits, model .. '\n' .. me,
    string.format('%d %.0f %.0f %d %d', kept, waits, from, lacks, has_work and 1 or 0))
  return fair
end

local held = {}
for i = 6, #ARGV, 5 do
  held[#held + 1] = hold(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), ARGV[i + 4] == '1')
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 86400000) end
if changed then redis.call('PUBLISH', news, me) end
return { now, leader == me and '1' or '0', planned, held, again,
  leader == me and redis.call('HGETALL', members) or {} }
