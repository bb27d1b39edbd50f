-- What the scripts of the queue share. A "unit" is what one script may touch: one queue, or every queue of a deployment
-- with one server. Names of queues come with NUL escaped, so a message is known by "queue NUL id" and a lane, which is
-- one group of one queue, by "queue NUL group" (escaped likewise).
-- KEYS: a hash, the order, the timers, the finished, the waiters.
--   hash      n: how many places were given out; m<message>: what was sent; l<message>: what became of it (absent while
--             nothing did); g<lane>: the place of its first message, and how many are behind it
--   order     a sorted set by bytes: r<queue NUL rank place id> is receivable, w<lane NUL place rank id> stands behind
--             the first of its lane, e<queue NUL id> is a dead letter
--   timers    messages by the end of their lease or delay
--   finished  messages by when their id is forgotten
--   waiters   who waits: 1<queue>: for this queue only; *: for several; i<digest>: for which
-- ARGV: now or '', '1' when the call is repeated, the beginning of the channels of clients, '1' if what is published
-- reaches only whom PUBLISH counts (then messages are handed to who waits, else waiters are only told).
-- Nothing is written before `flush`, so that whatever a check finds can still refuse the call.

local H, Z, T, F, A = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call, sub, find, pack, unpack_from = redis.call, string.sub, string.find, struct.pack, struct.unpack
local now, again, channel_prefix, hands_over = now_of(ARGV[1]), ARGV[2] == '1', ARGV[3], ARGV[4] == '1'
local CHUNK, WAITER = 4000, 60
local h, z, t = {}, {}, {}           -- what to write: false deletes
local lanes, woken, timed = {}, {}, {}

local function queue_of(message) return sub(message, 1, find(message, '\0', 1, true) - 1) end
local function id_of(message) return sub(message, find(message, '\0', 1, true) + 1) end

-- What was sent: when (8 bytes), by which call (10), its end (8), its rank (4: the higher the priority the lower), the
-- size of its group (2), the group, the body.
local function rank_of(sent) return sub(sent, 27, 30) end
local function group_of(sent) return sub(sent, 33, 32 + unpack_from('>I2', sent, 31)) end
local function expired(sent) return unpack_from('>d', sent, 19) <= now end

-- What became of it: L leased, R returned with a delay, P planned (sent with a delay), A available, D dead; until when
-- (8), attempts (4), place (8), the receive that leased it (10), the call that began it (10).
local function fate(state, due, attempts, place, receive, begun)
  return state .. pack('>dI4', due, attempts) .. place .. (receive or '') .. (begun or '')
end
local function attempts_of(is) return is and unpack_from('>I4', is, 10) or 0 end
local function held(is, receive)
  return is and sub(is, 1, 1) == 'L' and sub(is, 22, 31) == receive and unpack_from('>d', is, 2) > now
end
local function waits(is) return not is or sub(is, 1, 1) == 'A' end

local function in_chunks(command, key, list)
  for from = 1, #list, CHUNK do call(command, key, unpack(list, from, math.min(from + CHUNK - 1, #list))) end
end

-- A member of a sorted set is named behind its score, a field of a hash before its value.
local function write(set, key, writer, deleter, scored)
  local put, del, size, value_of, text = {}, {}, 0, nil, nil
  for name, value in pairs(set) do
    if value == false then
      del[#del + 1] = name
    elseif scored then
      if value ~= value_of then value_of, text = value, string.format('%.17g', value) end
      put[size + 1], put[size + 2] = text, name
      size = size + 2
    else
      put[size + 1], put[size + 2] = name, value
      size = size + 2
    end
  end
  in_chunks(writer, key, put)
  in_chunks(deleter, key, del)
end

local function flush()
  if next(h) then write(h, H, 'HSET', 'HDEL'); h = {} end
  if next(z) then write(z, Z, 'ZADD', 'ZREM', true); z = {} end
  if next(t) then write(t, T, 'ZADD', 'ZREM', true); t = {} end
end

-- As of this script: what is about to be written counts.
local function get(field)
  local value = h[field]
  if value == nil then return call('HGET', H, field) end
  return value
end

local function get_many(fields)
  local values = {}
  for from = 1, #fields, CHUNK do
    local found = call('HMGET', H, unpack(fields, from, math.min(from + CHUNK - 1, #fields)))
    if #fields <= CHUNK then return found end
    for _, value in ipairs(found) do values[#values + 1] = value end
  end
  return values
end

local function timer(queue, message, due)
  t[message] = due
  if not timed[queue] or due < timed[queue] then timed[queue] = due end
end
