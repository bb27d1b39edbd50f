-- Dead letters. ARGV: 'redrive', 'discard' or 'list'; the call (10 bytes), the window of dedupe, or the limit; then
-- messages, or where to begin. Returns for each 1, or 0 when it is not there; or of each what it is known by, its fate
-- and what was sent.

local what, detail = ARGV[5], ARGV[6]
if what == 'list' then
  local members, fields = call('ZRANGEBYLEX', Z, ARGV[7], ARGV[8], 'LIMIT', 0, detail), {}
  for _, member in ipairs(members) do
    fields[#fields + 1] = 'l' .. sub(member, 2)
    fields[#fields + 1] = 'm' .. sub(member, 2)
  end
  return { members, get_many(fields) }
end
settle()
local outcomes = {}
for n = 1, #ARGV - 6 do
  local message = ARGV[6 + n]
  local is, sent = get('l' .. message), get('m' .. message)
  if is and sub(is, 1, 1) == 'D' and sent then
    outcomes[n] = 1
    h['l' .. message], z['e' .. message] = false, false
    if what == 'redrive' then
      -- A new message: sent now by this call, without an end.
      sent = pack('>d', now) .. detail .. pack('>d', math.huge) .. sub(sent, 27)
      h['m' .. message] = sent
      enter(queue_of(message), id_of(message), group_of(sent), rank_of(sent))
    else
      h['m' .. message] = false
      flush()
      call('ZADD', F, string.format('%.17g', now + tonumber(detail)), message)
    end
  elseif again and what == 'redrive' then
    outcomes[n] = sent and sub(sent, 9, 18) == detail and 1 or 0
  elseif again then
    outcomes[n] = not is and tonumber(call('ZSCORE', F, message) or '0') > now and 1 or 0
  else
    outcomes[n] = 0
  end
end
flush()
if what == 'discard' then tidy() end
wake()
return outcomes
