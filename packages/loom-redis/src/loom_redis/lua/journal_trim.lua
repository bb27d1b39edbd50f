-- Delete entries up to a position and to the snapshot's, oldest first. KEYS: the stream. ARGV: through, how many at most.
-- Returns how many were deleted.

local found = redis.call('HMGET', KEYS[1], 'p', 't')
local trimmed = tonumber(found[2] or '0')
local last = math.min(tonumber(ARGV[1]), tonumber(found[1] or '0'), trimmed + tonumber(ARGV[2]))
if last <= trimmed then return 0 end
local fields = {}
for seq = trimmed + 1, last do fields[#fields + 1] = string.format('%.0f', seq) end
redis.call('HDEL', KEYS[1], unpack(fields))
redis.call('HSET', KEYS[1], 't', string.format('%.0f', last))
return last - trimmed
