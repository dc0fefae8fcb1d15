-- The shard table: its version, then shard and owner in turn.
return { redis.call('HGET', KEYS[4], 'version'), redis.call('HGETALL', KEYS[3]) }
