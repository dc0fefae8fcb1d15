-- Renews a node's lease and stores its record; O(nodes). ARGV 2 node, 3 record, 4 lease (ms).
-- Gives whether the lease lived until now, the table's birth and version, and every node's record.
local held = leased(ARGV[2]) and 1 or 0
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[4]), ARGV[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
local table = redis.call('HMGET', KEYS[4], 'birth', 'version')
return { held, table[1], table[2], redis.call('HVALS', KEYS[2]) }
