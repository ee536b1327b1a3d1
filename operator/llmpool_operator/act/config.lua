-- Tell a pool's workers what they should do. KEYS: config. ARGV: uid of the pool, the writer's transition, ms that a
-- drain lasts, ms without a renewal after which the hash is nobody's, ms that the hash lives, the preload list, number
-- of workers to drain, those workers, then the workers that go on.
-- Answers {'written', now, version}, {'taken', now, owner} or {'old', now, transition}: the latter two changed nothing.
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'none' and kind ~= 'hash' then
  return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' holds a ' .. kind .. ', wanted a hash')
end
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local function text(ms) return string.format('%.0f', ms) end

local held = redis.call('HMGET', KEYS[1], 'owner', 'transition', 'renewed_ms', 'preload', 'version')
local owner, preload = held[1] or '', held[4]
local ours = owner == ARGV[1]
if owner ~= '' and now - (tonumber(held[3] or '') or 0) <= tonumber(ARGV[4]) then
  if not ours then return { 'taken', now, owner } end
  if (tonumber(held[2] or '') or 0) > tonumber(ARGV[2]) then return { 'old', now, held[2] } end
end

local version, changed = tonumber(held[5] or '') or 0, not ours or preload ~= ARGV[6]
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  -- Drains that lapsed, and those of another owner, which is gone.
  if string.sub(fields[i], 1, 6) == 'drain:' and (not ours or (tonumber(fields[i + 1]) or 0) <= now) then
    redis.call('HDEL', KEYS[1], fields[i])
    changed = true
  end
end
local last = 7 + tonumber(ARGV[7])
for i = last + 1, #ARGV do
  if redis.call('HDEL', KEYS[1], 'drain:' .. ARGV[i]) == 1 then changed = true end
end
for i = 8, last do
  if redis.call('HSET', KEYS[1], 'drain:' .. ARGV[i], text(now + tonumber(ARGV[3]))) == 1 then changed = true end
end
if changed then version = version + 1 end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'transition', ARGV[2], 'renewed_ms', text(now), 'preload', ARGV[6],
  'version', text(version))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return { 'written', now, version }
