-- Lease up to a number of messages of `queues`, each an equal share before any gives more. Returns them as one text
-- each: sizes of its name and of what was sent, attempts, place; name; what was sent. `listed` has all that is
-- receivable of a queue where that has been read already.
local function take(queues, limit, till, receive, listed)
  local taken, offsets, dropped = {}, {}, false
  local share = math.max(1, math.floor(limit / math.max(1, #queues)))
  while #taken < limit and #queues > 0 do
    local heads, fields, more = {}, {}, {}
    for _, queue in ipairs(queues) do
      local want = math.min(share, limit - #taken - #heads)
      if want <= 0 then break end
      local from = offsets[queue] or 0
      local found = listed and listed[queue]
      if not found then
        found = call('ZRANGEBYLEX', Z, '[r' .. queue .. '\0', '(r' .. queue .. '\1', 'LIMIT', from, want)
      elseif from > 0 or #found > want then
        found = { unpack(found, from + 1, math.min(from + want, #found)) }
      end
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
    timer(one.queue, one.message, till)
    parts[n] = pack('>I2I4I4', #one.message, #one.sent, attempts) .. one.place .. one.message .. one.sent
  end
  return parts, dropped
end
