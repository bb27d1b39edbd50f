-- What there is; writes nothing. ARGV: 'order': names of queues that have something receivable, behind, or dead.
-- 'names', from: names of queues of a page of the timers; none when there is no such page. 'order of one', queue: how
-- much is receivable, waits behind, is dead, and how many timers there are. 'timers of one', queue, from: see below.

local what = ARGV[5]
if what == 'order' then
  local names = {}
  for n, kind in ipairs({ 'r', 'w', 'e' }) do
    local from, found = '[' .. kind, {}
    while true do
      local member = call('ZRANGEBYLEX', Z, from, '(' .. string.char(string.byte(kind) + 1), 'LIMIT', 0, 1)[1]
      if not member then break end
      local queue = sub(member, 2, find(member, '\0', 1, true) - 1)
      names[#names + 1] = queue
      from = '[' .. kind .. queue .. '\1'
    end
  end
  return names
elseif what == 'names' then
  local seen, names = {}, {}
  for _, message in ipairs(call('ZRANGE', T, ARGV[6], ARGV[6] + 999)) do
    local queue = queue_of(message)
    if not seen[queue] then
      seen[queue] = true
      names[#names + 1] = queue
    end
  end
  return names
elseif what == 'order of one' then
  local queue = ARGV[6]
  local function size(kind) return call('ZLEXCOUNT', Z, '[' .. kind .. queue .. '\0', '(' .. kind .. queue .. '\1') end
  return { size('r'), size('w'), size('e'), call('ZCARD', T) }
end
-- Of a page of the timers, how many are leased, how many delayed, and how many are not counted in the order, for they
-- are the first of their lanes or never had a place. What is over is ready, and only not settled yet.
local queue, leased, delayed, apart = ARGV[6], 0, 0, 0
local page, mine, fields = call('ZRANGE', T, ARGV[7], ARGV[7] + 999), {}, {}
for _, message in ipairs(page) do
  if queue_of(message) == queue then
    mine[#mine + 1] = message
    fields[#fields + 1] = 'l' .. message
    fields[#fields + 1] = 'm' .. message
  end
end
local found = get_many(fields)
for n = 1, #mine do
  local is, sent = found[2 * n - 1], found[2 * n]
  if is and sent then
    local state = sub(is, 1, 1)
    if unpack_from('>d', is, 2) > now then
      if state == 'L' then leased = leased + 1 else delayed = delayed + 1 end
    end
    if state == 'P' or is_first(queue, group_of(sent), sub(is, 14, 21)) then apart = apart + 1 end
  end
end
return { leased, delayed, apart }
