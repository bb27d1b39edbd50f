-- The heads of many streams: for each of KEYS "seq:entry_id", fence and snapshot_seq, or nils.

local heads = {}
for i, key in ipairs(KEYS) do
  heads[i] = redis.call('HMGET', key, 'h', 'f', 'p')
end
return heads
