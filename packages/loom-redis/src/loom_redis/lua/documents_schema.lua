-- Replace the collection's list of indexes if it is still the one given. KEYS: schema. ARGV: expected, wanted.
-- Returns the list that holds now.

local found = redis.call('HGET', KEYS[1], 'indexes') or '[]'
if found ~= ARGV[1] then return found end
redis.call('HSET', KEYS[1], 'indexes', ARGV[2])
return ARGV[2]
