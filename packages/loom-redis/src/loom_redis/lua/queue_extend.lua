-- Let leases end later, or sooner. ARGV: the lease from now on; then per delivery its message and its receive. Returns
-- for each 1, or 0 when the lease was lost.

local till = now + tonumber(ARGV[5])
local fields, outcomes = {}, {}
for at = 6, #ARGV, 2 do fields[#fields + 1] = 'l' .. ARGV[at] end
for n, is in ipairs(get_many(fields)) do
  outcomes[n] = held(is, ARGV[5 + 2 * n]) and 1 or 0
  if outcomes[n] == 1 then
    local message = ARGV[4 + 2 * n]
    h['l' .. message] = 'L' .. pack('>d', till) .. sub(is, 10)
    timer(queue_of(message), message, till)
  end
end
flush()
wake()
return outcomes
