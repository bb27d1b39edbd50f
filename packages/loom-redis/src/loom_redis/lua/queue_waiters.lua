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
