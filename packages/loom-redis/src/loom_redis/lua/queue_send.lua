-- Enqueue messages, whole or not at all. ARGV: the call (10 bytes), the window of dedupe, seconds since the first try,
-- then per message: its name, what is sent without the time, and its delay or ''.
-- Returns for each 1, or 0 when its id was known.

local caller, window, since = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local count = (#ARGV - 7) / 3
settle()
local fields, names, seen, outcomes = { 'n' }, {}, {}, {}
for n = 1, count do
  local at = 5 + 3 * n
  local message, group = ARGV[at], group_of('12345678' .. ARGV[at + 1])
  names[n] = message
  fields[2 * n] = 'm' .. message
  fields[2 * n + 1] = group ~= '' and 'g' .. queue_of(message) .. '\0' .. group or 'n'
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
  local group = fields[2 * n + 1]
  if group ~= 'n' and lanes[sub(group, 2)] == nil then lanes[sub(group, 2)] = known[2 * n + 1] end
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
    sent = pack('>d', now) .. ARGV[at + 1]
    h['m' .. message] = sent
    if delay == '' then
      enter(queue_of(message), id_of(message), sent)
    else
      local due = now + tonumber(delay)
      h['l' .. message] = fate('P', due, 0, '\0\0\0\0\0\0\0\0')
      timer(message, due)
    end
  end
  seen[message] = true
end
flush()
wake()
return outcomes
