-- Add jobs in order; 1 for each that is new, 0 for each whose id the queue knows.
-- KEYS: prefixes. ARGV: dedupe window (ms), events to keep, then per job: number of its queue, id, name, data,
-- options (msgpack), delay (ms), Bull's priority, lift, expiry (Unix ms, 0 for never).

local window, grace = tonumber(ARGV[1]), 60000
local brief, last = {}, {} -- by queue: whether it may be forgotten; when its last message expires

for _, prefix in ipairs(KEYS) do
  brief[prefix] = rcall('EXISTS', prefix .. 'meta') == 0 or rcall('PTTL', prefix .. 'meta') > 0
  rcall('HSETNX', prefix .. 'meta', 'opts.maxLenEvents', ARGV[2])
end

-- An id that finished before the window is free again, though Bull cleans up only when another job finishes.
local function free_if_old(prefix, id)
  local finished = tonumber(rcall('HGET', prefix .. id, 'finishedOn') or '')
  if finished and now - finished >= window and rcall('ZSCORE', prefix .. 'completed', id) then
    official.removeJob({prefix .. id, prefix .. 'repeat'}, {id, '0', prefix})
  end
end

local outcomes = {}
for n = 3, #ARGV, 9 do
  local prefix, id, name, data, opts = KEYS[tonumber(ARGV[n])], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3], ARGV[n + 4]
  local delay, priority, lift = tonumber(ARGV[n + 5]), tonumber(ARGV[n + 6]), tonumber(ARGV[n + 7])
  local expires = tonumber(ARGV[n + 8])
  local job = prefix .. id
  if rcall('EXISTS', job) == 1 then free_if_old(prefix, id) end
  local new = 1 - rcall('EXISTS', job)
  local args = {cmsgpack.pack({prefix, id, name, now}), data, opts}
  if delay > 0 then
    official.addDelayedJob(keys_of(prefix, 'marker', 'meta', 'id', 'delayed', 'completed', 'events'), args)
  elseif priority > 0 then
    official.addPrioritizedJob(
      keys_of(prefix, 'marker', 'meta', 'id', 'prioritized', 'delayed', 'completed', 'active', 'events', 'pc'), args)
  else
    official.addStandardJob(
      keys_of(prefix, 'wait', 'paused', 'meta', 'id', 'completed', 'delayed', 'active', 'events', 'marker'), args)
    if new == 1 and lift > 0 and rcall('LREM', prefix .. 'wait', 1, id) == 1 then place(prefix, id, lift, false) end
  end
  outcomes[#outcomes + 1] = new
  if expires == 0 then
    brief[prefix] = false
  elseif brief[prefix] then
    last[prefix] = math.max(last[prefix] or now, expires)
    if new == 1 then rcall('PEXPIRE', job, math.max(expires - now, 0) + grace) end
  end
end

for _, prefix in ipairs(KEYS) do
  if brief[prefix] and last[prefix] then
    rcall('PEXPIRE', prefix .. 'meta', math.max(rcall('PTTL', prefix .. 'meta'), last[prefix] - now + grace))
    let_expire(prefix)
  else
    keep(prefix)
  end
end
return outcomes
