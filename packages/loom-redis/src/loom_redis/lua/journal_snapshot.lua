-- Replace the snapshot if this one is newer. KEYS: the stream. ARGV: position, the record to store.
-- Returns 1 taken, 0 not newer, or the head when the position lies beyond it. A record that is there already was put
-- there by an earlier try of the same call, for records are unique to a call: it counts as taken.

local found = redis.call('HMGET', KEYS[1], 'h', 'p')
local seq = tonumber(ARGV[1])
local head = found[1] or '0:'
if seq > tonumber(string.match(head, '^%d+')) then return head end
local current = tonumber(found[2] or '0')
if seq == current and seq > 0 and redis.call('HGET', KEYS[1], 's') == ARGV[2] then return 1 end
if seq <= current then return 0 end
redis.call('HSET', KEYS[1], 'p', ARGV[1], 's', ARGV[2])
return 1
