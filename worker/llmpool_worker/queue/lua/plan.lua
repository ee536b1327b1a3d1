-- The leader's word. KEYS: plan. ARGV: worker, epoch that it was decided on, news channel, then fields and values.
-- Answers the new epoch, or 0 where somebody else leads or the plan has moved on. A repeat after a lost reply answers 0,
-- and the next turn shows what there is.
local bad = wrong_type({ 'hash' })
if bad then return bad end
if redis.call('HGET', KEYS[1], 'leader') ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[1], 'epoch') or '0') ~= ARGV[2] then return 0 end
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('PUBLISH', ARGV[3], ARGV[1])
return epoch
