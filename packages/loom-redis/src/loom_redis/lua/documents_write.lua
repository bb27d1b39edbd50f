-- One batch in one partition: checks every condition, then writes, then purges some of what has expired.
-- KEYS: documents, order and indexes, members, expiries, marker. ARGV: now, the caller's schema version, a nonce, the
-- ticket (time, state, due, token; the time is empty for none), then six per operation: id, check ('' none, '+' create
-- only, '=' and an ETag), new ETag ('' deletes), ttl, members, body. Without operations it only purges.
-- Returns 1, or {'done', token if the partition is empty now, an expiry per operation}, or what stood against it:
-- {'conflict', n, ETag found}, {'stale'}, {'register', state}.

local d, i, x, t, m = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call, match = redis.call, string.match
local FIRST, EACH = 8, 6
local PURGE = 100            -- expired documents purged by one call: others wait while a script runs
local TICKET_SECONDS = 10    -- a third of the marker's life, so that servers of a cluster may disagree by 20 s
local MARKER_MS = 30000
local LATEST_MS = 1e14       -- no expiry of keys beyond the year 5138: PEXPIREAT would refuse some

local function number(text)
  return text == 'inf' and math.huge or tonumber(text)
end

local function text_of(value)
  return value == math.huge and 'inf' or string.format('%.17g', value)
end

local known
local function now()
  known = known or now_of(ARGV[1])
  return known
end

-- What the partition says of itself: how many indexes its writers know at least, until when it is listed, and by whom.
local meta = call('HGET', d, '')
local version, due, token
if meta then version, due, token = match(meta, '^(%d+);([^;]*);(.*)$') end

local need, puts = 0, false
for at = FIRST, #ARGV, EACH do
  local check = ARGV[at + 1]
  if check ~= '' then
    local found = meta and call('HGET', d, ARGV[at])
    local etag, expires
    if found then
      etag, expires = match(found, '^([^;]*);([^;]*);')
      if expires ~= '' and number(expires) <= now() then etag = nil end
    end
    if check == '+' then
      if etag then return { 'conflict', (at - FIRST) / EACH, etag } end
    elseif not etag or '=' .. etag ~= check then
      return { 'conflict', (at - FIRST) / EACH, etag or false }
    end
  end
  if ARGV[at + 2] ~= '' then
    puts = true
    local ttl = ARGV[at + 3]
    need = math.max(need, ttl == '' and math.huge or now() + number(ttl))
  end
end

if not puts and not meta then return 1 end
if puts then
  local opened = meta
  if meta and tonumber(version) > tonumber(ARGV[2]) then return { 'stale' } end
  if not meta or need > number(due) then
    -- The partition must be in the list of partitions, for long enough, before it holds the document. The ticket says
    -- that it is; it is void when the partition was emptied, or got more indexes, since it was given.
    local marker = not meta and call('GET', m)
    local state = meta and 'o' .. token or marker and 'c' .. marker or ''
    if ARGV[4] == '' or ARGV[5] ~= state or now_of('') - tonumber(ARGV[4]) > TICKET_SECONDS
      or need > number(ARGV[6]) then
      return { 'register', state }
    end
    due, token = ARGV[6], ARGV[7]
  end
  version = ARGV[2]
  meta = version .. ';' .. due .. ';' .. token
  if meta ~= opened then call('HSET', d, '', meta) end
end

local indexed, timed, removed = version ~= '0', call('EXISTS', t) == 1, false

local function each(command, packed)
  local arguments, at = { command, i }, 1
  while at <= #packed do
    local size = struct.unpack('>I4', packed, at)
    if command == 'ZADD' then arguments[#arguments + 1] = 0 end
    arguments[#arguments + 1] = string.sub(packed, at + 4, at + 3 + size)
    at = at + 4 + size
  end
  if #arguments > 2 then call(unpack(arguments)) end
end

local function change_members(id, members)
  if not indexed then return end
  local old = call('HGET', x, id) or ''
  if old == members then return end
  each('ZREM', old)
  each('ZADD', members)
  if members == '' then
    call('HDEL', x, id)
  else
    call('HSET', x, id, members)
  end
end

local function remove(id)
  if call('HDEL', d, id) == 1 then
    removed = true
    call('ZREM', i, '\0' .. id)
    change_members(id, '')
    if timed then call('ZREM', t, id) end
  end
end

-- Puts first: out of memory, Redis refuses HSET before anything was written, but would let deletions through.
local reply, expiring = { 'done', '' }, false
for at = FIRST, #ARGV, EACH do
  local id, etag, ttl, expires = ARGV[at], ARGV[at + 2], ARGV[at + 3], ''
  if etag ~= '' then
    if ttl ~= '' then
      expires, expiring = text_of(now() + number(ttl)), true
    end
    if call('HSET', d, id, etag .. ';' .. expires .. ';' .. ARGV[at + 5]) == 1 then
      call('ZADD', i, 0, '\0' .. id)
    end
    change_members(id, ARGV[at + 4])
    if ttl ~= '' then
      call('ZADD', t, expires, id)
    elseif timed then
      call('ZREM', t, id)
    end
  end
  reply[#reply + 1] = expires
end
for at = FIRST, #ARGV, EACH do
  if ARGV[at + 2] == '' then remove(ARGV[at]) end
end

if timed then
  for _, id in ipairs(call('ZRANGEBYSCORE', t, '-inf', text_of(now()), 'LIMIT', 0, PURGE)) do
    remove(id)
  end
end

if not (removed or timed or expiring) then return 1 end
local left = call('HLEN', d) - 1
if left <= 0 then
  call('DEL', d)
  call('SET', m, ARGV[3], 'PX', MARKER_MS)
  reply[2] = token
  return reply
end

-- A partition of which every document expires goes by itself, even if nobody ever comes back to it; some time after
-- the last, so that one that is refreshed for ever seldom needs to be told.
if timed or expiring then
  local last = math.huge
  if ARGV[1] == '' and call('ZCARD', t) == left then
    last = math.ceil(number(call('ZRANGE', t, -1, -1, 'WITHSCORES')[2]) * 1000)
  end
  local life = call('PEXPIRETIME', d)
  if last < LATEST_MS then
    if life < last then
      last = string.format('%.0f', last + math.max(0, last - now() * 1000) / 4)
      for _, key in ipairs({ d, i, x, t }) do call('PEXPIREAT', key, last) end
    elseif indexed then
      call('PEXPIREAT', x, string.format('%.0f', life))  -- it alone may be made anew among others that live
    end
  elseif life > 0 then
    for _, key in ipairs({ d, i, x, t }) do call('PERSIST', key) end
  end
end

if expiring then return reply end
return 1
