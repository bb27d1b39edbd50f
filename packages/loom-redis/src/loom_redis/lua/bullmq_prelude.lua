-- What our scripts over BullMQ share. `official` holds BullMQ's own scripts, each as a function of KEYS and ARGV.
-- A queue is named by its prefix, "bull:NAME:", from which BullMQ itself makes the keys of its jobs.

local rcall = redis.call

-- The server's clock in milliseconds: the one clock that every client of ours has in common with the locks.
local time = rcall('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function keys_of(prefix, ...)
  local keys = {...}
  for i, part in ipairs(keys) do keys[i] = prefix .. part end
  return keys
end

-- A job's options. Anybody may have written them.
local function decoded(text)
  local fine, opts = pcall(cjson.decode, text or '')
  return fine and type(opts) == 'table' and opts or {}
end

local function marks_of(text)
  if not text or not string.find(text, '"loom"', 1, true) then return {} end
  local marks = decoded(text)['loom']
  return type(marks) == 'table' and marks or {}
end

-- How far above normal the sender put a job. Bull has nothing above "no priority".
local function lift_of(prefix, id)
  return tonumber(marks_of(rcall('HGET', prefix .. id, 'opts'))['priority']) or 0
end

-- Put a job where it belongs in the wait list, whose right end is taken next: behind the higher ones, and behind its
-- equals unless it comes back to an `old` place.
local function place(prefix, id, lift, old)
  local wait = prefix .. 'wait'
  local function goes_behind(n)
    local other = rcall('LINDEX', wait, -n)
    if not other then return false end
    local theirs = lift_of(prefix, other)
    return theirs > lift or (theirs == lift and not old)
  end
  local low, high = 0, 1
  while goes_behind(high) do low, high = high, high * 2 end
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if goes_behind(middle) then low = middle else high = middle end
  end
  if low == 0 then
    rcall('RPUSH', wait, id)
  else
    rcall('LINSERT', wait, 'BEFORE', rcall('LINDEX', wait, -low), id)
  end
end

-- Return a job from active to the place where it was taken; 0 or more when it is done. Token "0" asks for no lock.
local function give_back(prefix, id, token)
  local done = official.moveJobFromActiveToWait(
    keys_of(prefix, 'active', 'wait', 'stalled', 'paused', 'meta', 'limiter', 'prioritized', 'marker', 'events'),
    {id, token, prefix .. id})
  if done == -1 then rcall('LREM', prefix .. 'active', 0, id) end -- a job without data would come back for ever
  if done < 0 then return done end
  if rcall('LINDEX', prefix .. 'wait', -1) == id then -- else it went to the prioritized ones
    rcall('RPOP', prefix .. 'wait')
    place(prefix, id, lift_of(prefix, id), true)
  end
  -- Bull's script wakes nobody for a prioritized job.
  rcall('ZADD', prefix .. 'marker', 0, '0')
  return done
end

local SIZES = {wait = 'LLEN', active = 'LLEN', paused = 'LLEN', delayed = 'ZCARD', prioritized = 'ZCARD',
  failed = 'ZCARD', ['waiting-children'] = 'ZCARD'}

local function holds_something(prefix)
  for part, size in pairs(SIZES) do
    if rcall(size, prefix .. part) > 0 then return true end
  end
  return false
end

-- A queue whose messages all expire, such as that of one caller's replies, is forgotten a while after the last of them:
-- its reader may never come back. That it is of this kind shows in its meta expiring.
local PARTS = {'wait', 'active', 'paused', 'delayed', 'prioritized', 'failed', 'waiting-children', 'meta', 'id', 'events',
  'marker', 'pc', 'completed', 'stalled', 'stalled-check'}

local function keep(prefix)
  if rcall('PTTL', prefix .. 'meta') < 0 then return end
  for _, part in ipairs(PARTS) do rcall('PERSIST', prefix .. part) end
end

-- Lists and sets are made anew without an expiry. What a Queue object of Node has opened (its meta has more than the one
-- field that every job sets) is kept, and what holds dead letters.
local function let_expire(prefix)
  local left = rcall('PTTL', prefix .. 'meta')
  if left < 0 then return end
  local failed = rcall('ZRANGE', prefix .. 'failed', 0, -1)
  for _, id in ipairs(failed) do rcall('PERSIST', prefix .. id) end
  if #failed > 0 or rcall('HLEN', prefix .. 'meta') > 1 then return keep(prefix) end
  for _, part in ipairs(PARTS) do rcall('PEXPIRE', prefix .. part, left) end
end
