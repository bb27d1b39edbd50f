-- Charge attempts, or extend leases. ARGV: a call (10 bytes) and '' to charge, or '' and a lease to extend by; then per
-- delivery its message and its receive. Returns for each 1, or 0 when the lease was lost. Charging is done once a call.

local caller, lease = ARGV[5], tonumber(ARGV[6])
local fields, outcomes = {}, {}
for at = 7, #ARGV, 2 do fields[#fields + 1] = 'l' .. ARGV[at] end
local found = get_many(fields)
for n, field in ipairs(fields) do
  local is = h[field] or found[n]
  if held(is, ARGV[6 + 2 * n]) then
    outcomes[n] = 1
    if lease then
      h[field] = 'L' .. pack('>d', now + lease) .. sub(is, 10)
      timer(ARGV[5 + 2 * n], now + lease)
    elseif not again or sub(is, 32, 41) ~= caller then
      h[field] = fate('L', unpack_from('>d', is, 2), attempts_of(is) + 1, sub(is, 14, 21), sub(is, 22, 31), caller)
    end
  else
    outcomes[n] = 0
  end
end
flush()
if lease then wake() end
return outcomes
