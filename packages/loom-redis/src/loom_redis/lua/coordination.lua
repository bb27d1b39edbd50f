-- Everything that is done with a fleet: who is in it, who owns which shard, who leads.
-- KEYS: settings (hash: shards, v the last change of an owner), members (hash: id -> JSON), seen (hash: id -> time of the
-- last heartbeat), shards (hash: shard -> "epoch:owner"), types that are set apart (hash: "shard type" ->
-- "epoch:owner"), leaders (hash: role -> id). An owner may be empty: an epoch stays when nobody owns.
-- ARGV: operation, now or '', seconds for which a heartbeat counts, a number unique to this call, the member, and more.
-- What needs a living member returns nil when it is none.

local settings, members, seen, shards, types, leaders = unpack(KEYS)
local operation, now, ttl, change, me = ARGV[1], now_of(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]

local known = {}
local function lives(id)
  if known[id] == nil then
    local at = redis.call('HGET', seen, id)
    known[id] = at and tonumber(at) + ttl > now
  end
  return known[id]
end

local function parse(text)
  if not text then return 0, '' end
  local epoch, owner = string.match(text, '^(%d+):(.*)$')
  return tonumber(epoch), owner
end

local function join(epoch, owner) return string.format('%.0f:', epoch) .. owner end

-- Deleting first: it is allowed when memory is full, and with it what follows. A fleet must not die of that.
local function replace(key, pairs_)
  if #pairs_ == 0 then return end
  local fields = {}
  for at = 1, #pairs_, 2 do fields[#fields + 1] = pairs_[at] end
  redis.call('HDEL', key, unpack(fields))
  redis.call('HSET', key, unpack(pairs_))
end

local function changed() redis.call('HSET', settings, 'v', change) end

-- The highest epoch of the types that are set apart, by shard.
local function highest_of_types()
  local highest, all = {}, redis.call('HGETALL', types)
  for at = 1, #all, 2 do
    local shard = string.match(all[at], '^%d+')
    highest[shard] = math.max(highest[shard] or 0, (parse(all[at + 1])))
  end
  return highest
end

local operations = {}

function operations.shard_count()
  if ARGV[6] ~= '0' then redis.call('HSETNX', settings, 'shards', ARGV[6]) end
  return redis.call('HGET', settings, 'shards') or '0'
end

-- ARGV: the record.
function operations.join()
  redis.call('HSET', members, me, ARGV[6])
  redis.call('HSET', seen, me, string.format('%.17g', now))
  return 1
end

function operations.heartbeat()
  if not lives(me) then return false end
  replace(seen, { me, string.format('%.17g', now) })
  return 1
end

function operations.leave()
  redis.call('HDEL', members, me)
  redis.call('HDEL', seen, me)
  local any = false
  for _, key in ipairs({ shards, types }) do
    local freed, all = {}, redis.call('HGETALL', key)
    for at = 1, #all, 2 do
      local epoch, owner = parse(all[at + 1])
      if owner == me then
        freed[#freed + 1], freed[#freed + 2] = all[at], join(epoch, '')
        -- In pieces, for unpack takes some thousands at most.
        if #freed >= 2000 then
          replace(key, freed)
          freed = {}
        end
        any = true
      end
    end
    replace(key, freed)
  end
  local all = redis.call('HGETALL', leaders)
  for at = 1, #all, 2 do
    if all[at + 1] == me then redis.call('HDEL', leaders, all[at]) end
  end
  if any then changed() end
  return 1
end

function operations.members()
  local alive, all = {}, redis.call('HGETALL', members)
  for at = 1, #all, 2 do
    if lives(all[at]) then alive[#alive + 1] = all[at + 1] end
  end
  return alive
end

-- ARGV: shards. Returns those that are the member's now, each with its epoch, and all types that are set apart. Records
-- of the dead go: whoever joins again has nothing.
function operations.claim()
  if not lives(me) then return false end
  local mine, taken = {}, {}
  local highest = highest_of_types()
  for at = 6, #ARGV do
    local shard = ARGV[at]
    local epoch, owner = parse(redis.call('HGET', shards, shard))
    if owner ~= me and not lives(owner) then
      epoch, owner = math.max(epoch, highest[shard] or 0) + 1, me
      taken[#taken + 1], taken[#taken + 2] = shard, join(epoch, me)
    end
    if owner == me then mine[#mine + 1], mine[#mine + 2] = shard, string.format('%.0f', epoch) end
  end
  if #taken > 0 then
    redis.call('HSET', shards, unpack(taken))
    changed()
  end
  for _, id in ipairs(redis.call('HKEYS', seen)) do
    if not lives(id) then
      redis.call('HDEL', seen, id)
      redis.call('HDEL', members, id)
    end
  end
  return { mine, redis.call('HGETALL', types) }
end

-- ARGV: shards.
function operations.release()
  local freed = {}
  for at = 6, #ARGV do
    local epoch, owner = parse(redis.call('HGET', shards, ARGV[at]))
    if owner == me then freed[#freed + 1], freed[#freed + 2] = ARGV[at], join(epoch, '') end
  end
  replace(shards, freed)
  if #freed > 0 then changed() end
  return 1
end

-- ARGV: the change that the client knows. Returns nil when there was none since.
function operations.owners()
  local last = redis.call('HGET', settings, 'v') or ''
  if last == ARGV[6] then return false end
  return { last, redis.call('HGETALL', shards), redis.call('HGETALL', types) }
end

-- ARGV, here and below: a shard and a type for each unit. Returns "epoch:owner" for each, nil where it is not set apart.
function operations.set_apart()
  local leases, any = {}, false
  for at = 6, #ARGV, 2 do
    local unit, lease = ARGV[at] .. ' ' .. ARGV[at + 1], false
    local _, owner = parse(redis.call('HGET', shards, ARGV[at]))
    if owner == me then
      any = redis.call('HSETNX', types, unit, '0:') == 1 or any
      lease = redis.call('HGET', types, unit)
    end
    leases[#leases + 1] = lease
  end
  if any then changed() end
  return leases
end

-- Returns "epoch:owner" for each, nil where somebody else has it.
function operations.claim_types()
  if not lives(me) then return false end
  local highest, leases, any, served = highest_of_types(), {}, false, {}

  local function serves(id, name)
    if not lives(id) then return false end
    if not served[id] then
      served[id] = {}
      for _, each in ipairs(cjson.decode(redis.call('HGET', members, id)).serves) do served[id][each] = true end
    end
    return served[id][name]
  end

  for at = 6, #ARGV, 2 do
    local shard, name = ARGV[at], ARGV[at + 1]
    local unit, lease = shard .. ' ' .. name, false
    local home = redis.call('HGET', shards, shard)
    if home then
      local epoch, owner = parse(home)
      local found = redis.call('HGET', types, unit)
      local _, holder = parse(found)
      if holder == me then
        lease = found
      else
        local at_home
        if owner == me then at_home = not found else at_home = serves(owner, name) end
        if not lives(holder) and not at_home then
          highest[shard] = math.max(epoch, highest[shard] or 0) + 1
          lease = join(highest[shard], me)
          redis.call('HSET', types, unit, lease)
          any = true
        end
      end
    end
    leases[#leases + 1] = lease
  end
  if any then changed() end
  return leases
end

function operations.release_types()
  local freed = {}
  for at = 6, #ARGV, 2 do
    local unit = ARGV[at] .. ' ' .. ARGV[at + 1]
    local epoch, owner = parse(redis.call('HGET', types, unit))
    if owner == me then freed[#freed + 1], freed[#freed + 2] = unit, join(epoch, '') end
  end
  replace(types, freed)
  if #freed > 0 then changed() end
  return 1
end

-- Returns the new epoch of the shard for each, nil where the member does not have both.
function operations.reunite()
  local highest, epochs, any = highest_of_types(), {}, false
  for at = 6, #ARGV, 2 do
    local shard, unit = ARGV[at], ARGV[at] .. ' ' .. ARGV[at + 1]
    local epoch, owner = parse(redis.call('HGET', shards, shard))
    local _, holder = parse(redis.call('HGET', types, unit))
    local new = false
    if owner == me and holder == me then
      epoch = math.max(epoch, highest[shard] or 0) + 1
      redis.call('HDEL', types, unit)
      redis.call('HSET', shards, shard, join(epoch, me))
      new, any = string.format('%.0f', epoch), true
    end
    epochs[#epochs + 1] = new
  end
  if any then changed() end
  return epochs
end

-- ARGV: role.
function operations.lead()
  if not lives(me) then return false end
  local leader = redis.call('HGET', leaders, ARGV[6])
  if leader and leader ~= me and lives(leader) then return 0 end
  if leader ~= me then redis.call('HSET', leaders, ARGV[6], me) end
  return 1
end

return operations[operation]()
