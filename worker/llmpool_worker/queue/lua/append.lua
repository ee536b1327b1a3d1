-- Add pieces of an answer to its stream, unless the job isn't this worker's any more.
-- KEYS: claimed, stream. ARGV: handle, ttl ms, attempt, number of the first piece, then kind and text of each piece.
-- Answers held or lost. Pieces are numbered, so a call repeated after a lost reply adds nothing twice.
local bad = wrong_type({ 'hash', 'stream' })
if bad then return bad end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 'lost' end

local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local have = -1
if newest and field(newest[2], 'by') == ARGV[1] then have = tonumber(field(newest[2], 'seq')) end
local seq = tonumber(ARGV[4])
for i = 5, #ARGV, 2 do
  if seq > have then
    redis.call('XADD', KEYS[2], '*', 'kind', ARGV[i], 'text', ARGV[i + 1], 'attempt', ARGV[3], 'by', ARGV[1], 'seq', seq)
  end
  seq = seq + 1
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 'held'
