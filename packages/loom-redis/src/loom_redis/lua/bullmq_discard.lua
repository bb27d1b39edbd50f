-- Remove failed jobs for good. KEYS[1]: prefix. ARGV: dedupe window (ms), then per job: its id, and another to try.

local prefix, window, outcomes = KEYS[1], tonumber(ARGV[1]), {}
for n = 2, #ARGV, 2 do
  local id = ARGV[n]
  if not rcall('ZSCORE', prefix .. 'failed', id) then id = ARGV[n + 1] end
  local done = 0
  if rcall('ZSCORE', prefix .. 'failed', id) then
    done = official.removeJob({prefix .. id, prefix .. 'repeat'}, {id, '0', prefix})
  end
  if done == 1 then
    -- Belongs to no state, so Bull shows it nowhere; it makes a late second sending a duplicate.
    rcall('HSET', prefix .. id, 'loom:discarded', now)
    rcall('PEXPIRE', prefix .. id, window)
  end
  outcomes[#outcomes + 1] = done == 1 and 1 or 0
end
return outcomes
