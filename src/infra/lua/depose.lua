-- Ends the lease of a node whose inbox nobody listens on. ARGV 2 node, 3 its inbox channel; an empty channel: already
-- counted where the channel lives (Redis Cluster). Gives 1 where a lease was ended.
if ARGV[3] ~= '' then
  local listeners = redis.call('PUBSUB', 'NUMSUB', ARGV[3])
  if tonumber(listeners[2]) > 0 then
    return 0
  end
end
if not leased(ARGV[2]) then
  return 0
end
drop({ ARGV[2] })
return 1
