-- Enqueue messages, whole or not at all. ARGV: the call (10 bytes), the window of dedupe, seconds since the first try,
-- then per message: its name, what is sent without the time, and its delay or ''.
-- Returns for each 1, or 0 when its id was known.

local caller, window, since = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local count = (#ARGV - 7) / 3
settle()
local fields, names, queues, groups, seen, outcomes = { 'n' }, {}, {}, {}, {}, {}
local enqueued_at = pack('>d', now)
for n = 1, count do
  local at = 5 + 3 * n
  local message, part = ARGV[at], ARGV[at + 1]
  local size = unpack_from('>I2', part, 23)
  names[n], queues[n] = message, queue_of(message)
  groups[n] = sub(part, 25, 24 + size)
  fields[2 * n] = 'm' .. message
  fields[2 * n + 1] = size > 0 and 'g' .. queues[n] .. '\0' .. groups[n] or 'n'
end
local known, finished = get_many(fields), {}
for from = 1, count, CHUNK do
  for _, score in ipairs(call('ZMSCORE', F, unpack(names, from, math.min(from + CHUNK - 1, count)))) do
    finished[#finished + 1] = score
  end
end
last_place = tonumber(known[1] or '0')
for n = 1, count do
  local at = 5 + 3 * n
  local message, sent, delay = names[n], known[2 * n], ARGV[at + 2]
  if groups[n] ~= '' then
    local lane = sub(fields[2 * n + 1], 2)
    if lanes[lane] == nil then lanes[lane] = known[2 * n + 1] end
  end
  local done = tonumber(finished[n] or '0')
  if seen[message] then
    outcomes[n] = 0
  elseif sent then
    outcomes[n] = again and sub(sent, 9, 18) == caller and 1 or 0
  elseif done > now then
    -- Finished while this call was under way: it was this call's own message.
    outcomes[n] = again and done - window >= now - since and 1 or 0
  else
    outcomes[n] = 1
    h[fields[2 * n]] = enqueued_at .. ARGV[at + 1]
    if delay == '' then
      enter(queues[n], sub(message, #queues[n] + 2), groups[n], sub(ARGV[at + 1], 19, 22))
    else
      local due = now + tonumber(delay)
      h['l' .. message] = fate('P', due, 0, '\0\0\0\0\0\0\0\0')
      timer(queues[n], message, due)
    end
  end
  seen[message] = true
end
flush()
wake()
return outcomes
