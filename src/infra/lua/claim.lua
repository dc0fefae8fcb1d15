-- Takes free shards for a node. ARGV 2 node, 3… shards. Gives those that are the node's now.
local node = ARGV[2]
local own = {}
if not leased(node) then
  return own
end
local taken = false
for i = 3, #ARGV do
  local owner = redis.call('HGET', KEYS[3], ARGV[i])
  if not owner then
    redis.call('HSET', KEYS[3], ARGV[i], node)
    taken = true
  end
  if not owner or owner == node then
    own[#own + 1] = ARGV[i]
  end
end
if taken then
  changed()
end
return own
