-- In front of every script: the keys, the time, and the end of leases that ran out.
--
-- KEYS  1 leases: sorted set, node -> end of its lease (ms)   2 nodes: hash, node -> record
--       3 shards: hash, shard -> node                         4 table: hash, birth and version
--       5 the events channel
-- ARGV  1 PUBLISH, or SPUBLISH in a Redis Cluster
--
-- Invariant behind `expire`: every owner in `shards` has a lease in `leases` that has not run out.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- An emptied table starts at the time of day in microseconds, so above every version it had before.
local birth = string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))
if redis.call('HSETNX', KEYS[4], 'birth', birth) == 1 then
  redis.call('HSET', KEYS[4], 'version', birth)
end

local function changed()
  redis.call('HINCRBY', KEYS[4], 'version', 1)
  redis.call(ARGV[1], KEYS[5], 'table')
end

local function leased(node)
  return redis.call('ZSCORE', KEYS[1], node) and true or false
end

-- Ends the leases of these nodes and frees what they own. Reads the whole table: only for when a node is gone.
local function drop(nodes)
  if #nodes == 0 then
    return
  end
  local gone = {}
  for _, node in ipairs(nodes) do
    gone[node] = true
    redis.call('ZREM', KEYS[1], node)
    redis.call('HDEL', KEYS[2], node)
  end
  local owners = redis.call('HGETALL', KEYS[3])
  for i = 1, #owners, 2 do
    if gone[owners[i + 1]] then
      redis.call('HDEL', KEYS[3], owners[i])
    end
  end
  changed()
end

drop(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now))

