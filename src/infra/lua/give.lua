-- Hands over shards. ARGV 2 giver, then shard and receiver in turn. What isn't the giver's, or whose receiver has no
-- lease, stays as it is. Gives how many were handed over.
local given = 0
for i = 3, #ARGV, 2 do
  if redis.call('HGET', KEYS[3], ARGV[i]) == ARGV[2] and leased(ARGV[i + 1]) then
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    given = given + 1
  end
end
if given > 0 then
  changed()
end
return given
