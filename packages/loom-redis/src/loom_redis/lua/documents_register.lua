-- Put a partition into the collection's list, before its first document and before one that outlives what was said.
-- KEYS: names, dues, tokens, schema. ARGV: now, partition, ttl of the document ('' for none), a token of this call's own.
-- Returns the server's time, until when the partition is listed (or 'inf'), and the collection's indexes.

local names, dues, tokens = KEYS[1], KEYS[2], KEYS[3]
local call, partition = redis.call, ARGV[2]
local now = now_of(ARGV[1])
local SLACK = 60   -- seconds by which the servers of a cluster may disagree, and then some
local SWEEP = 20

local before = call('ZSCORE', dues, partition)
local forever = call('HEXISTS', tokens, partition) == 1 and not before
call('HSET', tokens, partition, ARGV[4])
call('ZADD', names, 0, partition)
local due = 'inf'
if ARGV[3] == '' or forever then
  call('ZREM', dues, partition)
else
  -- A quarter more, so that a document that is refreshed for ever seldom asks for more.
  due = string.format('%.17g', now + tonumber(ARGV[3]) * 1.25 + SLACK)
  call('ZADD', dues, 'GT', due, partition)
  due = call('ZSCORE', dues, partition)
end

-- Nothing in a partition outlives its due time, so these are empty.
local gone = call('ZRANGEBYSCORE', dues, '-inf', string.format('(%.17g', now), 'LIMIT', 0, SWEEP)
for _, name in ipairs(gone) do
  call('ZREM', names, name)
  call('ZREM', dues, name)
  call('HDEL', tokens, name)
end
return { string.format('%.17g', now_of('')), due, call('HGET', KEYS[4], 'indexes') or '[]' }
