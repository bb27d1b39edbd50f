-- Lease messages, or wait for some. ARGV: the receive (10 bytes), limit, lease, the queues (each behind a NUL and all
-- before one), how many they are, where to begin, then what a waiter is known by: seconds to wait or '', client,
-- digest of the queues, seconds of a waiter's life.
-- Returns when the leases end and one text with all messages; or, when there are none, in how many seconds to look
-- again ('' never).

local receive, limit, lease = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local wanted, count, start = ARGV[8], tonumber(ARGV[9]), ARGV[10]
local wait, client, digest = ARGV[11], ARGV[12], ARGV[13]
local field = count == 1 and '1' .. sub(wanted, 2, -2) or '*'

settle()
if again then
  redis.set_repl(redis.REPL_NONE)
  local waited = forget_waiter(field, receive)
  redis.set_repl(redis.REPL_ALL)
  local found = waited and {} or leased_by(receive, lease)
  if #found > 0 then
    table.sort(found, function(a, b) return sub(a.is, 14, 21) < sub(b.is, 14, 21) end)
    local parts = {}
    for n, one in ipairs(found) do
      local sent = call('HGET', H, 'm' .. one.message)
      parts[n] = pack('>I2I4I4', #one.message, #sent, attempts_of(one.is)) .. sub(one.is, 14, 21) .. one.message .. sent
    end
    return { string.format('%.17g', unpack_from('>d', found[1].is, 2)), table.concat(parts) }
  end
end

local function each_wanted(visit)
  for queue in string.gmatch(wanted, '[^%z]+') do visit(queue) end
end

-- The queues that have something, from `start` on and around: found by going through what is ready while that is less
-- than what is wanted, else one by one.
local listed
local function ready_queues()
  listed = {}
  if count == 1 then return { sub(wanted, 2, -2) } end
  local found, seen, steps, page = {}, {}, 0, 32
  local from, to, wrapped = '[r' .. start .. '\0', '(s', false
  while #found < limit and steps < count do
    steps = steps + 1
    local members = call('ZRANGEBYLEX', Z, from, to, 'LIMIT', 0, page)
    local queue, several, mine
    for _, member in ipairs(members) do
      local its = sub(member, 2, find(member, '\0', 1, true) - 1)
      several = several or queue and its ~= queue
      queue = its
      if not seen[queue] then
        seen[queue] = true
        mine = find(wanted, '\0' .. queue .. '\0', 1, true)
        if mine then found[#found + 1], listed[queue] = queue, {} end
      end
      if mine then
        local all = listed[queue]
        all[#all + 1] = member
      end
    end
    if #members == page then
      listed[queue] = nil  -- there may be more of the last one
      from = '[r' .. queue .. '\1'
      page = several and 32 or 2
    elseif wrapped or start == '' then
      return found
    else
      wrapped, from, to = true, '[r', '(r' .. start .. '\0'
    end
  end
  if #found < limit then
    each_wanted(function(queue)
      if not seen[queue] and #found < limit
        and #call('ZRANGEBYLEX', Z, '[r' .. queue .. '\0', '(r' .. queue .. '\1', 'LIMIT', 0, 1) > 0 then
        found[#found + 1] = queue
      end
    end)
  end
  return found
end

local parts, dropped
repeat
  parts, dropped = take(ready_queues(), limit, now + lease, receive, listed)
  flush()
until #parts > 0 or not dropped
if dropped then tidy() end
wake()
if #parts > 0 then return { string.format('%.17g', now + lease), table.concat(parts) } end

-- Nobody knows which of thousands of timers concern a receiver without looking at all of them: it looks at some, and
-- looks again when those are over.
local due = ''
local soon = call('ZRANGE', T, 0, 31, 'WITHSCORES')
for n = 1, #soon, 2 do
  due = soon[n + 1]
  if find(wanted, '\0' .. queue_of(soon[n]) .. '\0', 1, true) then break end
  if n == #soon - 1 and #soon < 64 then due = '' end
end
if wait ~= '' then
  -- Neither the append-only file nor a replica needs to know who waits here.
  redis.set_repl(redis.REPL_NONE)
  local armed = due == '' and math.huge or tonumber(due)
  local waiter = receive .. pack('>ddI4d', now + tonumber(wait), armed, limit, lease) .. client .. digest
  if field == '*' then call('HSETNX', A, 'i' .. digest, wanted) end
  call('HSET', A, field, (call('HGET', A, field) or '') .. waiter)
  call('EXPIRE', A, ARGV[14])
  redis.set_repl(redis.REPL_ALL)
end
return { due == '' and '' or string.format('%.17g', tonumber(due) - now), '' }
