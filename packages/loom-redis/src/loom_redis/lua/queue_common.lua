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

local function write(set, key, writer, deleter, score)
  local put, del = {}, {}
  for member, value in pairs(set) do
    if value == false then
      del[#del + 1] = member
    elseif score then
      put[#put + 1] = score == 0 and 0 or string.format('%.17g', value)
      put[#put + 1] = member
    else
      put[#put + 1] = member
      put[#put + 1] = value
    end
  end
  in_chunks(writer, key, put)
  in_chunks(deleter, key, del)
end

local function flush()
  if next(h) then write(h, H, 'HSET', 'HDEL'); h = {} end
  if next(z) then write(z, Z, 'ZADD', 'ZREM', 0); z = {} end
  if next(t) then write(t, T, 'ZADD', 'ZREM', 1); t = {} end
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

local function timer(message, due)
  t[message] = due
  local queue = queue_of(message)
  if not timed[queue] or due < timed[queue] then timed[queue] = due end
end

local function ready(queue, rank, place, id)
  z['r' .. queue .. '\0' .. rank .. place .. id] = 0
  woken[queue] = true
end

local function lane_of(lane)
  local found = lanes[lane]
  if found == nil then
    found = call('HGET', H, 'g' .. lane)
    lanes[lane] = found
  end
  return found
end

local function set_lane(lane, value)
  lanes[lane] = value
  h['g' .. lane] = value
end

local last_place
local function next_place()
  last_place = (last_place or tonumber(get('n') or '0')) + 1
  h['n'] = string.format('%.0f', last_place)
  return pack('>I8', last_place)
end

-- Give a message that is receivable from now on its place.
local function enter(queue, id, sent)
  local place, group, rank = next_place(), group_of(sent), rank_of(sent)
  if group == '' then return ready(queue, rank, place, id), place end
  local lane = queue .. '\0' .. group
  local first = lane_of(lane)
  if first then
    set_lane(lane, sub(first, 1, 8) .. pack('>I4', unpack_from('>I4', first, 9) + 1))
    z['w' .. lane .. '\0' .. place .. rank .. id] = 0
  else
    set_lane(lane, place .. '\0\0\0\0')
    ready(queue, rank, place, id)
  end
  return nil, place
end

-- Take a message out of its lane; if it was the first, the next steps forward.
local function leave(queue, id, group, rank, place)
  if group == '' then return end
  local lane = queue .. '\0' .. group
  local first = lane_of(lane)
  if not first then return end
  local behind = unpack_from('>I4', first, 9)
  if sub(first, 1, 8) ~= place then
    z['w' .. lane .. '\0' .. place .. rank .. id] = false
    set_lane(lane, sub(first, 1, 8) .. pack('>I4', math.max(0, behind - 1)))
    return
  end
  if behind > 0 and next(z) then flush() end
  local following = behind > 0 and call('ZRANGEBYLEX', Z, '[w' .. lane .. '\0', '(w' .. lane .. '\1', 'LIMIT', 0, 1)[1]
  if not following then return set_lane(lane, false) end
  local at = #lane + 3
  local its_place, its_rank, its_id = sub(following, at, at + 7), sub(following, at + 8, at + 11), sub(following, at + 12)
  z[following] = false
  set_lane(lane, its_place .. pack('>I4', behind - 1))
  if waits(get('l' .. queue .. '\0' .. its_id)) then ready(queue, its_rank, its_place, its_id) end
end

local function is_first(queue, group, place)
  if group == '' then return true end
  local first = lane_of(queue .. '\0' .. group)
  return not first or sub(first, 1, 8) == place
end

-- End a lease or the delay of a nack: the message can be taken again in its old place.
local function release(message, is, sent)
  local place, attempts = sub(is, 14, 21), attempts_of(is)
  h['l' .. message] = attempts > 0 and fate('A', 0, attempts, place, sub(is, 22, 31)) or false
  t[message] = false
  local queue = queue_of(message)
  if is_first(queue, group_of(sent), place) then ready(queue, rank_of(sent), place, id_of(message)) end
end

-- Let leases and delays end that are due, in the order of their ends.
local function settle()
  repeat
    local due = call('ZRANGEBYSCORE', T, '-inf', string.format('%.17g', now), 'LIMIT', 0, 500)
    if #due == 0 then return end
    local fields = {}
    for _, message in ipairs(due) do
      fields[#fields + 1] = 'l' .. message
      fields[#fields + 1] = 'm' .. message
    end
    local found = get_many(fields)
    for n, message in ipairs(due) do
      local is, sent = found[2 * n - 1], found[2 * n]
      t[message] = false
      if is and sent then
        if sub(is, 1, 1) == 'P' then
          h['l' .. message] = false
          enter(queue_of(message), id_of(message), sent)
        else
          release(message, is, sent)
        end
      end
    end
    flush()
  until #due < 500
end

-- Lease up to a number of messages of `queues`, each an equal share before any gives more. Returns them as one text
-- each: sizes of its name and of what was sent, attempts, place; name; what was sent.
local function take(queues, limit, till, receive)
  local taken, offsets, dropped = {}, {}, false
  local share = math.max(1, math.floor(limit / math.max(1, #queues)))
  while #taken < limit and #queues > 0 do
    local heads, fields, more = {}, {}, {}
    for _, queue in ipairs(queues) do
      local want = math.min(share, limit - #taken - #heads)
      if want <= 0 then break end
      local from = offsets[queue] or 0
      local found = call('ZRANGEBYLEX', Z, '[r' .. queue .. '\0', '(r' .. queue .. '\1', 'LIMIT', from, want)
      offsets[queue] = from + #found
      if #found == want then more[#more + 1] = queue end
      local at = #queue + 3
      for _, member in ipairs(found) do
        local message = queue .. '\0' .. sub(member, at + 12)
        heads[#heads + 1] = { queue = queue, message = message, member = member, place = sub(member, at + 4, at + 11) }
        fields[#fields + 1] = 'm' .. message
        fields[#fields + 1] = 'l' .. message
      end
    end
    if #heads == 0 then break end
    local found = get_many(fields)
    for n, one in ipairs(heads) do
      local sent = found[2 * n - 1]
      if not sent then
        z[one.member] = false
      elseif expired(sent) then
        z[one.member], h['m' .. one.message], h['l' .. one.message] = false, false, false
        leave(one.queue, id_of(one.message), group_of(sent), rank_of(sent), one.place)
        dropped = true
      else
        one.sent, one.is, one.group, one.rank = sent, found[2 * n], group_of(sent), rank_of(sent)
        taken[#taken + 1] = one
      end
    end
    queues = more
  end
  -- Behind the first of a lane others may follow in the same receive.
  local lanes_taken, fields = {}, {}
  if #taken < limit then
    for _, one in ipairs(taken) do
      if one.group ~= '' then
        lanes_taken[#lanes_taken + 1] = one
        fields[#fields + 1] = 'g' .. one.queue .. '\0' .. one.group
      end
    end
  end
  if #fields > 0 then
    local sorts = false
    for n, first in ipairs(get_many(fields)) do
      local head, room = lanes_taken[n], limit - #taken
      if first and room > 0 and unpack_from('>I4', first, 9) > 0 then
        local lane = head.queue .. '\0' .. head.group
        local at, rank, ids, wanted = #lane + 3, head.rank, {}, {}
        local behind = call('ZRANGEBYLEX', Z, '[w' .. lane .. '\0', '(w' .. lane .. '\1', 'LIMIT', 0, room)
        for _, member in ipairs(behind) do
          local message = head.queue .. '\0' .. sub(member, at + 12)
          wanted[#wanted + 1] = 'm' .. message
          wanted[#wanted + 1] = 'l' .. message
        end
        local found = get_many(wanted)
        for m, member in ipairs(behind) do
          local message, sent, is = sub(wanted[2 * m], 2), found[2 * m - 1], found[2 * m]
          if not waits(is) then break end
          if not sent then
            z[member] = false
          elseif expired(sent) then
            h['m' .. message], h['l' .. message] = false, false
            leave(head.queue, id_of(message), head.group, rank_of(sent), sub(member, at, at + 7))
          else
            if rank_of(sent) > rank then rank = rank_of(sent) end
            taken[#taken + 1] = { queue = head.queue, message = message, place = sub(member, at, at + 7), sent = sent,
                                  is = is, rank = rank }
            sorts = true
          end
        end
      end
    end
    if sorts then
      table.sort(taken, function(a, b)
        if a.rank ~= b.rank then return a.rank < b.rank end
        return a.place < b.place
      end)
    end
  end
  local parts = {}
  for n, one in ipairs(taken) do
    local attempts = attempts_of(one.is)
    if one.member then z[one.member] = false end
    h['l' .. one.message] = fate('L', till, attempts, one.place, receive)
    timer(one.message, till)
    parts[n] = pack('>I2I4I4', #one.message, #one.sent, attempts) .. one.place .. one.message .. one.sent
  end
  return parts, dropped
end

-- A waiter: its receive (10 bytes), until when it waits (8), when it looks again by itself (8), limit (4), lease (8),
-- its client (16), the digest of its queues (6, zeros if it is one).
local function forget_waiter(field, receive)
  local all = call('HGET', A, field)
  if not all then return false end
  for at = 1, #all, WAITER do
    if sub(all, at, at + 9) == receive then
      local rest = sub(all, 1, at - 1) .. sub(all, at + WAITER)
      if rest == '' then call('HDEL', A, field) else call('HSET', A, field, rest) end
      return true
    end
  end
  return false
end

-- Give what is ready to one who waits. Returns whether the waiter has been told.
local function serve(waiter, queues)
  local receive, channel = sub(waiter, 1, 10), channel_prefix .. sub(waiter, 39, 54)
  if unpack_from('>d', waiter, 11) <= now then return true end
  local limit, lease = unpack_from('>I4', waiter, 27), unpack_from('>d', waiter, 31)
  local payload = receive
  if hands_over then
    local parts, dropped
    repeat
      parts, dropped = take(queues, limit, now + lease, receive)
      if dropped and #parts == 0 then flush() end
    until #parts > 0 or not dropped
    if #parts == 0 then return false end
    payload = receive .. pack('>d', now + lease) .. table.concat(parts)
  end
  redis.set_repl(redis.REPL_NONE)
  local heard = call('PUBLISH', channel, payload)
  redis.set_repl(redis.REPL_ALL)
  if hands_over then
    if heard > 0 then flush() else h, z, t, lanes = {}, {}, {}, {} end
  end
  return true
end

local function tell(waiter)
  redis.set_repl(redis.REPL_NONE)
  call('PUBLISH', channel_prefix .. sub(waiter, 39, 54), sub(waiter, 1, 10))
  redis.set_repl(redis.REPL_ALL)
end

-- Call last, after `flush`: wake those who wait for what has become ready, or for a moment later than it will.
local function wake()
  if not next(woken) and not next(timed) then return end
  if call('EXISTS', A) == 0 then return end
  local queues, fields = {}, { '*' }
  for queue in pairs(woken) do queues[#queues + 1] = queue end
  local ready_ones = #queues
  for queue in pairs(timed) do
    if not woken[queue] then queues[#queues + 1] = queue end
  end
  for n, queue in ipairs(queues) do fields[n + 1] = '1' .. queue end
  local found, changes = {}, {}
  for from = 1, #fields, CHUNK do
    for _, value in ipairs(call('HMGET', A, unpack(fields, from, math.min(from + CHUNK - 1, #fields)))) do
      found[#found + 1] = value
    end
  end
  local soonest = timed
  timed = {}
  local function pass(field, all, interest)
    local kept = {}
    for at = 1, #all, WAITER do
      local waiter = sub(all, at, at + WAITER - 1)
      local armed, wanted, early = unpack_from('>d', waiter, 19), {}, false
      local blob = interest and interest(waiter)
      for n, queue in ipairs(queues) do
        if not interest and field == '1' .. queue or blob and find(blob, '\0' .. queue .. '\0', 1, true) then
          if n <= ready_ones then wanted[#wanted + 1] = queue end
          if math.min(soonest[queue] or armed, timed[queue] or armed) < armed then early = true end
        end
      end
      if not (#wanted > 0 and serve(waiter, wanted)) then
        if early then tell(waiter) else kept[#kept + 1] = waiter end
      end
    end
    local rest = table.concat(kept)
    if rest ~= all then changes[field] = rest end
  end
  for n = 2, #found do
    if found[n] then pass(fields[n], found[n]) end
  end
  if found[1] then
    local blobs = {}
    pass('*', found[1], function(waiter)
      local digest = sub(waiter, 55, 60)
      if blobs[digest] == nil then blobs[digest] = call('HGET', A, 'i' .. digest) end
      return blobs[digest]
    end)
  end
  if next(changes) then
    redis.set_repl(redis.REPL_NONE)
    for field, rest in pairs(changes) do
      if rest == '' then call('HDEL', A, field) else call('HSET', A, field, rest) end
    end
    redis.set_repl(redis.REPL_ALL)
  end
end

-- Keep nothing of a unit that holds nothing.
local function tidy()
  if call('HLEN', H) == 1 and call('HEXISTS', H, 'n') == 1 then call('DEL', H) end
end

-- Messages leased by a receive: for one that is repeated, or was given up.
local function leased_by(receive, lease)
  local found, from = {}, 0
  while true do
    local due = call('ZRANGEBYSCORE', T, string.format('(%.17g', now), string.format('%.17g', now + lease + 1),
                     'LIMIT', from, 1000)
    if #due == 0 then return found end
    local fields = {}
    for n, message in ipairs(due) do fields[n] = 'l' .. message end
    for n, is in ipairs(get_many(fields)) do
      if held(is, receive) then found[#found + 1] = { message = due[n], is = is } end
    end
    from = from + 1000
  end
end
