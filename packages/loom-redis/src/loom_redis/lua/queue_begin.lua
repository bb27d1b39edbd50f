-- Charge attempts, once a call. ARGV: the call (10 bytes); then per delivery its message and its receive. Returns for
-- each 1, or 0 when the lease was lost.

local caller = ARGV[5]
local fields, outcomes = {}, {}
for at = 6, #ARGV, 2 do fields[#fields + 1] = 'l' .. ARGV[at] end
local found = get_many(fields)
for n, field in ipairs(fields) do
  local is = h[field] or found[n]
  outcomes[n] = held(is, ARGV[5 + 2 * n]) and 1 or 0
  if outcomes[n] == 1 and not (again and sub(is, 32, 41) == caller) then
    h[field] = sub(is, 1, 9) .. pack('>I4', attempts_of(is) + 1) .. sub(is, 14, 31) .. caller
  end
end
flush()
return outcomes
