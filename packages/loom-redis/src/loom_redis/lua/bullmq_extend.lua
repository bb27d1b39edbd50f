-- Let locks end so many ms from now. KEYS: prefixes. ARGV: ms, then per job: number of its queue, id, token.

local outcomes = {}
for n = 2, #ARGV, 3 do
  local prefix, id, token = KEYS[tonumber(ARGV[n])], ARGV[n + 1], ARGV[n + 2]
  outcomes[#outcomes + 1] = official.extendLock({prefix .. id .. ':lock', prefix .. 'stalled'}, {token, ARGV[1], id})
end
return outcomes
