-- Everything that is done with a lock.
-- KEYS: the lease (a hash: h holder, e end, t token, q tickets given out, r the last release), the line of waiters (a
-- sorted set of "holder client ttl" by ticket), the clients that wait (a hash: alive until).
-- ARGV: operation, now or '', beginning of the channels that wake clients, client, '1' where PUBLISH counts every
-- listener of the deployment, then what the operation needs.
-- The lease's key stays when nobody holds it: the next token goes on from it.

local lease, line, clients = KEYS[1], KEYS[2], KEYS[3]
local operation, now = ARGV[1], now_of(ARGV[2])
local wake, client, counts_all = ARGV[3], ARGV[4], ARGV[5] == '1'
local PRESUMED_ALIVE = 10

local held = redis.call('HMGET', lease, 'h', 'e', 't', 'r')
local holder, ends, token = held[1], tonumber(held[2] or '0'), held[3] or '0'

local function is_held() return ends > now end

local function current() return { holder, token, string.format('%.17g', ends) } end

local function give(to, ttl)
  holder, ends, token = to, now + ttl, string.format('%.0f', tonumber(token) + 1)
  redis.call('HSET', lease, 'h', holder, 'e', string.format('%.17g', ends), 't', token)
end

-- Give the free lock to the first in line whose client lives, and wake that client. One that hears nothing is passed
-- over: it stands in line again, with its old ticket, when it next says that it waits. Returns whether the lock went to
-- a waiter of this client, who learns it from the reply.
local function hand_over()
  while redis.call('EXISTS', line) == 1 do
    local first = redis.call('ZPOPMIN', line)[1]
    local waiter, owner, ttl = string.match(first, '^(%S+) (%S+) (%S+)$')
    local own = owner == client
    if own or tonumber(redis.call('HGET', clients, owner) or '0') > now then
      if own or redis.call('PUBLISH', wake .. owner, '') > 0 or not counts_all then
        give(waiter, tonumber(ttl))
        return own
      end
    end
  end
  return false
end

-- Deleting first: it is allowed when memory is full, and with it what follows. Room comes by what is given back.
local function set_end(at)
  redis.call('HDEL', lease, 'e')
  ends = at
  if at > now then redis.call('HSET', lease, 'e', string.format('%.17g', at)) end
end

local function alive()
  redis.call('HSET', clients, client, string.format('%.17g', now + PRESUMED_ALIVE))
  redis.call('EXPIRE', clients, 10 * PRESUMED_ALIVE)
end

-- The free lock goes to the next in line; the lease, if that is a waiter of this client.
local function free(call)
  set_end(0)
  redis.call('HSET', lease, 'r', call)
  return hand_over() and current() or {}
end

local operations = {}

-- ARGV: holder, ttl, '1' to stand in line when it is taken. Returns the lease in a list, or the seconds that the other's
-- lease has left, one's ticket, and that lease if it went to another waiter of this client just now.
function operations.acquire()
  local me, ttl = ARGV[6], ARGV[7]
  local own = not is_held() and hand_over()
  if is_held() then
    if holder == me then return { current() } end  -- the call is repeated
    local ticket = '0'
    if ARGV[8] == '1' then
      local member = me .. ' ' .. client .. ' ' .. ttl
      ticket = redis.call('ZSCORE', line, member)
      if not ticket then
        ticket = redis.call('HINCRBY', lease, 'q', 1)
        redis.call('ZADD', line, ticket, member)
      end
      alive()
    end
    return { string.format('%.17g', ends - now), tostring(ticket), own and current() or {} }
  end
  give(me, tonumber(ttl))
  return { current() }
end

-- ARGV: holder, ttl, token. Returns the lease, or nil when it had ended.
function operations.renew()
  if not is_held() or holder ~= ARGV[6] or token ~= ARGV[8] then return false end
  set_end(now + tonumber(ARGV[7]))
  return current()
end

-- ARGV: holder, an id of this call, token. Returns whether it was released, and the next lease if it is this client's.
function operations.release()
  if is_held() and holder == ARGV[6] and token == ARGV[8] then return { 1, free(ARGV[7]) } end
  local done = held[4] == ARGV[7] and 1 or 0
  if not is_held() and hand_over() then return { done, current() } end
  return { done, {} }
end

-- ARGV: holder, ttl, what to do with the lease if it was handed over meanwhile: 'keep', 'free' or 'ignore'. Leaves the
-- line. Returns the lease that is kept, or the next one if it is this client's.
function operations.leave()
  redis.call('ZREM', line, ARGV[6] .. ' ' .. client .. ' ' .. ARGV[7])
  if is_held() and holder == ARGV[6] then
    if ARGV[8] == 'keep' then return current() end
    if ARGV[8] == 'free' then return free('') end
  end
  return {}
end

-- ARGV: holder, ttl and ticket of each waiter of this client. Says that they wait, puts those in line that are not, and
-- hands over what has ended. Returns the seconds that the lease has left, and the lease if it is one of theirs.
function operations.stay()
  alive()
  local own = false
  for at = 6, #ARGV, 3 do
    if is_held() and holder == ARGV[at] then
      own = true
    else
      redis.call('ZADD', line, 'NX', ARGV[at + 2], ARGV[at] .. ' ' .. client .. ' ' .. ARGV[at + 1])
    end
  end
  if not is_held() then own = hand_over() end
  return { string.format('%.17g', ends - now), own and current() or {} }
end

function operations.holder()
  return is_held() and current()
end

return operations[operation]()
