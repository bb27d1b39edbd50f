-- Take jobs under locks, fairly from several queues.
-- KEYS: prefixes. ARGV: token, limit, lease (ms), turn (which queue is first).
-- Returns now (ms), ms until something may become ready (-1: nothing is known to), and a list with four values a job:
-- number of its queue, id, lock token, fields.

local token, limit, lease, turn = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local due = math.huge

-- A job in active without a lock was lost by its worker. It was taken and locked in one step, so there is no need for
-- the second look, half a minute later, that Bull's own check takes.
local function end_lapsed(prefix)
  for _, id in ipairs(rcall('LRANGE', prefix .. 'active', 0, -1)) do -- newest first: the oldest is given back last, in front
    local left = rcall('PTTL', prefix .. id .. ':lock')
    if left == -2 then
      if give_back(prefix, id, '0') >= 0 then
        rcall('XADD', prefix .. 'events', '*', 'event', 'stalled', 'jobId', id)
      end
    elseif left >= 0 then
      due = math.min(due, left)
    end
  end
end

-- Bull would promote these to the end of the line.
local function promote_lifted(prefix)
  for _, id in ipairs(rcall('ZRANGEBYSCORE', prefix .. 'delayed', 0, (now + 1) * 0x1000 - 1, 'LIMIT', 0, 1000)) do
    local lift = lift_of(prefix, id)
    if lift > 0 then
      rcall('ZREM', prefix .. 'delayed', id)
      rcall('HSET', prefix .. id, 'delay', 0)
      place(prefix, id, lift, false)
      rcall('XADD', prefix .. 'events', '*', 'event', 'waiting', 'jobId', id, 'prev', 'delayed')
    end
  end
end

local function has_ready(prefix)
  end_lapsed(prefix)
  local first = rcall('ZRANGE', prefix .. 'delayed', 0, 0, 'WITHSCORES')[2]
  if first then
    local left = math.floor(tonumber(first) / 0x1000) - now
    if left <= 0 then
      promote_lifted(prefix)
      return true
    end
    due = math.min(due, left)
  end
  return rcall('LLEN', prefix .. 'wait') > 0 or rcall('ZCARD', prefix .. 'prioritized') > 0
end

-- Whether a job has expired: its data too may be gone by then.
local function expired(fields)
  local opts, data, redriven
  for i = 1, #fields, 2 do
    if fields[i] == 'opts' then opts = fields[i + 1] end
    if fields[i] == 'data' then data = true end
    if fields[i] == 'loom:redriven' then redriven = true end
  end
  local at = tonumber(marks_of(opts)['expires_at'])
  return not data or (at and not redriven and now >= at * 1000)
end

local taken, count = {}, 0

local function take(n)
  local prefix = KEYS[n]
  while true do
    local mine = token .. '.' .. count
    local reply = official.moveToActive(
      keys_of(prefix, 'wait', 'active', 'prioritized', 'events', 'stalled', 'limiter', 'delayed', 'paused', 'meta', 'pc',
        'marker'),
      {prefix, string.format('%.0f', now), cmsgpack.pack({token = mine, lockDuration = lease, name = 'loom'})})
    local fields, id = reply[1], reply[2]
    if type(fields) ~= 'table' then
      if tonumber(reply[3]) and tonumber(reply[3]) > 0 then due = math.min(due, tonumber(reply[3])) end -- rate limit
      return false
    end
    if not expired(fields) then
      count = count + 1
      for _, value in ipairs({n, id, mine, fields}) do taken[#taken + 1] = value end
      return true
    end
    rcall('DEL', prefix .. id .. ':lock')
    official.removeJob({prefix .. id, prefix .. 'repeat'}, {id, '0', prefix})
  end
end

local ready = {}
for i = 0, #KEYS - 1 do
  local n = (i + turn) % #KEYS + 1
  if has_ready(KEYS[n]) then ready[#ready + 1] = n end
end
local served = ready
local share = math.max(1, math.floor(limit / math.max(1, #ready)))
while #ready > 0 and count < limit do
  local again = {}
  for _, n in ipairs(ready) do
    local got = 0
    while got < share and count < limit and take(n) do got = got + 1 end
    if got == share then again[#again + 1] = n end
  end
  ready = again
end
-- Taking a job leaves a marker that wakes the next worker; with nothing left it would be woken in vain.
for _, n in ipairs(served) do
  let_expire(KEYS[n])
  if rcall('LLEN', KEYS[n] .. 'wait') == 0 and rcall('ZCARD', KEYS[n] .. 'prioritized') == 0 then
    rcall('ZREM', KEYS[n] .. 'marker', '0')
  end
end
return {now, due == math.huge and -1 or due, taken}
