-- Take empty partitions off the collection's list, unless somebody has registered them since.
-- KEYS: names, dues, tokens. ARGV: pairs of a partition and the token that it had when it was still listed for nothing.

for at = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[3], ARGV[at]) == ARGV[at + 1] then
    redis.call('HDEL', KEYS[3], ARGV[at])
    redis.call('ZREM', KEYS[1], ARGV[at])
    redis.call('ZREM', KEYS[2], ARGV[at])
  end
end
return 1
