-- Give a job back, uncharged; 1, or 0 when its lock was lost. KEYS[1]: prefix. ARGV: id, token, delay (ms).

local prefix, id, token, delay = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
if delay == 0 then
  local done = give_back(prefix, id, token)
  let_expire(prefix)
  return done >= 0 and 1 or 0
end
local keys = keys_of(prefix, 'marker', 'active', 'prioritized', 'delayed', id, 'events', 'meta', 'stalled', 'wait',
  'limiter', 'pc')
local skip_attempt, no_fields, no_fetch = '1', '', '0'
local done = official.moveToDelayed(keys, {prefix, now, id, token, delay, skip_attempt, no_fields, no_fetch})
let_expire(prefix)
return done == 0 and 1 or 0
