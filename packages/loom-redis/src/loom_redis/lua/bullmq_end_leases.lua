-- Give back what is locked by tokens of ours; how many jobs that were. KEYS: prefixes. ARGV[1]: how our tokens begin.

local ended = 0
for _, prefix in ipairs(KEYS) do
  for _, id in ipairs(rcall('LRANGE', prefix .. 'active', 0, -1)) do
    local token = rcall('GET', prefix .. id .. ':lock')
    if not token then
      give_back(prefix, id, '0')
    elseif string.sub(token, 1, #ARGV[1]) == ARGV[1] and give_back(prefix, id, token) >= 0 then
      ended = ended + 1
    end
  end
end
return ended
