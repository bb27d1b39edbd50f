-- Which queues hold jobs or dead letters: 1 or 0 for each. KEYS: prefixes.

local outcomes = {}
for n, prefix in ipairs(KEYS) do outcomes[n] = holds_something(prefix) and 1 or 0 end
return outcomes
