-- Put failed jobs back as new ones. KEYS[1]: prefix. ARGV, per job: its id, and another to try.

local prefix, outcomes = KEYS[1], {}
for n = 1, #ARGV, 2 do
  local id = ARGV[n]
  if not rcall('ZSCORE', prefix .. 'failed', id) then id = ARGV[n + 1] end
  local job = prefix .. id
  local keys = keys_of(prefix, id, 'events', 'failed', 'wait', 'meta', 'active', 'marker', 'prioritized', 'pc')
  local done = official.reprocessJob(keys, {id, 'LPUSH', 'failedReason', 'failed', '1', '1'})
  if done == 1 then
    rcall('HDEL', job, 'stc', 'defa', 'stacktrace')
    rcall('HSET', job, 'loom:redriven', now) -- its expiry no longer counts
    local lift = lift_of(prefix, id)
    if lift > 0 and rcall('LREM', prefix .. 'wait', 1, id) == 1 then place(prefix, id, lift, false) end
  end
  outcomes[#outcomes + 1] = done == 1 and 1 or 0
end
return outcomes
