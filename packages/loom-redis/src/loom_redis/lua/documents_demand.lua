-- From now on, writers to the partition must know so many indexes. KEYS: documents, marker. ARGV: version, a nonce.
-- Returns 1 when the partition holds documents. An empty one gets a marker, which voids the tickets of those who are
-- about to write its first; returns 0. With version 0 it does no more than that.

local meta = redis.call('HGET', KEYS[1], '')
if not meta then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', 30000)
  return 0
end
local version, rest = string.match(meta, '^(%d+)(;.*)$')
if tonumber(version) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], '', ARGV[1] .. rest)
end
return 1
