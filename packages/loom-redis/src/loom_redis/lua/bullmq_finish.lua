-- Complete or fail jobs; 1 for each that was done, 0 for each whose lock was lost.
-- KEYS: prefixes. ARGV: "completed" or "failed", dedupe window (ms), then per job: number of its queue, id, token,
-- value (JSON, or the reason).

local target, window = ARGV[1], tonumber(ARGV[2])
local property = target == 'completed' and 'returnvalue' or 'failedReason'

-- What Bull calls removeOnComplete: nothing, yes, a number to keep, or {age, count}. Dead letters are always kept.
local function kept(opts)
  local keep = opts['removeOnComplete']
  if target == 'failed' or keep == nil or keep == false or keep == cjson.null then return {count = -1} end
  if keep == true then return {count = 0} end
  return type(keep) == 'table' and keep or {count = tonumber(keep) or -1}
end

local outcomes = {}
for n = 3, #ARGV, 4 do
  local prefix, id, token, value = KEYS[tonumber(ARGV[n])], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3]
  local job = prefix .. id
  local known = rcall('HMGET', job, 'opts', 'atm')
  local opts, attempts = decoded(known[1]), tonumber(known[2]) or 0
  local keys = keys_of(prefix, 'wait', 'active', 'prioritized', 'events', 'stalled', 'limiter', 'delayed', 'paused',
    'meta', 'pc', target, id, 'metrics:' .. target, 'marker')
  local done = official.moveToFinished(keys, {id, now, property, value, target, '', prefix, cmsgpack.pack({
    token = token, keepJobs = kept(opts), attempts = tonumber(opts['attempts']) or 1, maxMetricsSize = '',
  })})
  local fine = type(done) ~= 'number' or done >= 0
  if fine and rcall('EXISTS', job) == 1 then
    -- `begin` has charged what Bull charges here once more.
    rcall('HSET', job, 'atm', target == 'completed' and math.max(1, attempts) or attempts)
    if target == 'completed' and rcall('PTTL', prefix .. 'meta') > 0 then
      rcall('PEXPIRE', job, window) -- elsewhere the next to be completed removes what is too old
    end
  end
  outcomes[#outcomes + 1] = fine and 1 or 0
end
for _, prefix in ipairs(KEYS) do let_expire(prefix) end
return outcomes
