-- Keep answers, unless that takes memory which jobs will need.
-- KEYS: the answers' keys. ARGV: ttl ms, share of maxmemory in percent, then a value per key.
-- Answers {how many are kept, why others aren't or ''}: 'full' is the share, all else is Redis' own word.

-- Where INFO isn't allowed, or Redis has no bound, there is no share to keep to.
local function used_percent()
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return 0 end
  local used, most = string.match(info, 'used_memory:(%d+)'), string.match(info, 'maxmemory:(%d+)')
  if not used or not most or tonumber(most) == 0 then return 0 end
  return 100 * tonumber(used) / tonumber(most)
end

if used_percent() >= tonumber(ARGV[2]) then return { 0, 'full' } end
local kept, why = 0, ''
for i, key in ipairs(KEYS) do
  local done = redis.pcall('SET', key, ARGV[i + 2], 'PX', ARGV[1])
  if done.ok then kept = kept + 1 else why = done.err or 'refused' end
end
return { kept, why }
