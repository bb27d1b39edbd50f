-- End deliveries. ARGV: 'ack', 'nack' or 'bury'; the window of dedupe, the delay, or the reason; then per delivery its
-- message, its receive, its group and its rank. Returns for each 1, or 0 when the lease was lost.

local what, detail = ARGV[5], ARGV[6]
local fields, names, outcomes = {}, {}, {}
for at = 7, #ARGV, 4 do
  local message, group = ARGV[at], ARGV[at + 2]
  fields[#fields + 1] = 'l' .. message
  fields[#fields + 1] = group ~= '' and 'g' .. queue_of(message) .. '\0' .. group or 'n'
  names[#names + 1] = message
end
local found = get_many(fields)
local finished, ended = {}, {}
local forgotten_at = what == 'ack' and string.format('%.17g', now + tonumber(detail))
for n, message in ipairs(names) do
  local at = 3 + 4 * n
  local receive, group, rank = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local is = found[2 * n - 1]
  if ended[message] then is = false end
  if group ~= '' and lanes[sub(fields[2 * n], 2)] == nil then lanes[sub(fields[2 * n], 2)] = found[2 * n] end
  if held(is, receive) then
    outcomes[n], ended[message] = 1, true
    local queue, place = queue_of(message), sub(is, 14, 21)
    if what == 'nack' then
      local delay = tonumber(detail)
      if delay > 0 then
        h['l' .. message] = fate('R', now + delay, attempts_of(is), place, receive)
        timer(queue, message, now + delay)
      else
        release(message, is, group, rank)
      end
    else
      t[message] = false
      if what == 'ack' then
        h['l' .. message], h['m' .. message] = false, false
        finished[#finished + 1] = forgotten_at
        finished[#finished + 1] = message
      else
        h['l' .. message] = fate('D', now, attempts_of(is), place, receive) .. detail
        z['e' .. message] = 0
      end
      leave(queue, id_of(message), group, rank, place)
    end
  elseif not again then
    outcomes[n] = 0
  elseif what == 'ack' then
    -- Repeated: what is finished needs no more to be done.
    outcomes[n] = not is and tonumber(call('ZSCORE', F, message) or '0') > now and 1 or 0
  elseif what == 'nack' then
    outcomes[n] = (not is or sub(is, 1, 1) ~= 'L') and call('HEXISTS', H, 'm' .. message) or 0
  else
    outcomes[n] = is and sub(is, 1, 1) == 'D' and sub(is, 22, 31) == receive and 1 or 0
  end
end
flush()
if #finished > 0 then
  in_chunks('ZADD', F, finished)
  local old = call('ZRANGEBYSCORE', F, '-inf', string.format('%.17g', now), 'LIMIT', 0, #finished + 8)
  if #old > 0 then in_chunks('ZREM', F, old) end
  tidy()
end
wake()
return outcomes
