-- Charge an attempt to each job whose lock is held. KEYS: prefixes. ARGV, per job: number of its queue, id, token.

local outcomes = {}
for n = 1, #ARGV, 3 do
  local job = KEYS[tonumber(ARGV[n])] .. ARGV[n + 1]
  local held = rcall('GET', job .. ':lock') == ARGV[n + 2]
  if held then rcall('HINCRBY', job, 'atm', 1) end
  outcomes[#outcomes + 1] = held and 1 or 0
end
return outcomes
