-- End leases that nobody will. ARGV: a receive (10 bytes), its lease and its queue if it waited for one: what it has
-- leased is given back, and it waits no more. Or '', the queues as for a receive: every lease in them ends.
-- Returns how many ended.

settle()
local ended = {}
if ARGV[5] ~= '' then
  redis.set_repl(redis.REPL_NONE)
  forget_waiter(ARGV[7], ARGV[5])
  redis.set_repl(redis.REPL_ALL)
  ended = leased_by(ARGV[5], tonumber(ARGV[6]))
else
  -- Who took the queues over must not see what it ends go to a waiter of the last reader, who may be paused: nothing is
  -- handed over, and whoever waits for these queues is told to look for itself, if it still looks.
  hands_over = false
  for queue in string.gmatch(ARGV[6], '[^%z]+') do woken[queue] = true end
  local from = 0
  while true do
    local some = call('ZRANGE', T, from, from + 999)
    if #some == 0 then break end
    local mine, fields = {}, {}
    for _, message in ipairs(some) do
      if find(ARGV[6], '\0' .. queue_of(message) .. '\0', 1, true) then
        mine[#mine + 1] = message
        fields[#fields + 1] = 'l' .. message
      end
    end
    for n, is in ipairs(get_many(fields)) do
      if is and sub(is, 1, 1) == 'L' then ended[#ended + 1] = { message = mine[n], is = is } end
    end
    from = from + 1000
  end
end
for _, one in ipairs(ended) do
  local sent = call('HGET', H, 'm' .. one.message)
  if sent then
    release(one.message, one.is, group_of(sent), rank_of(sent))
  else
    t[one.message] = false
  end
end
flush()
wake()
return #ended
