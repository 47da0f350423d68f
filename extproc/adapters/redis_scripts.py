"""What Redis does for the cache in one step each; Lua, as Redis runs it.

Keys of one gateway's stored responses begin with the same prefix. `gen` names this set of data: it
is another one after a flush or on another server, and then nothing that was learned before holds.
Where a server comes back with less than it had, `seq` is behind what is known, and it is another
one too.
"""

from __future__ import annotations

# KEYS: the response, its lease. ARGV: largest, owner, lease ms (0 for no lease), then pairs of a
# request field's name and its value. The response is a hash: `vary` names the fields that select,
# and each variant is under the SHA-1 of theirs.
LOOK = """
local names = redis.call('HGET', KEYS[1], 'vary')
if names then
  local values = {}
  for i = 4, #ARGV, 2 do values[ARGV[i]] = ARGV[i + 1] end
  local parts = {}
  for name in string.gmatch(names, '[^,]+') do
    local value = values[name]
    parts[#parts + 1] = name .. (value and '=' .. value or '') .. '\\n'
  end
  local field = redis.sha1hex(table.concat(parts))
  if redis.call('HSTRLEN', KEYS[1], field) <= tonumber(ARGV[1]) then
    local data = redis.call('HGET', KEYS[1], field)
    if data then return {data, ''} end
  end
end
if ARGV[3] == '0' then return {false, ''} end
local set = redis.pcall('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3])
if type(set) == 'table' and set['ok'] then return {false, 'mine'} end
if type(set) == 'table' and set['err'] then return {false, ''} end
return {false, redis.call('GET', KEYS[2]) or ''}
"""

# KEYS: the lease. ARGV: owner, lease ms.
LEASE = """
local set = redis.pcall('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
if type(set) == 'table' and set['ok'] then return 'mine' end
if type(set) == 'table' and set['err'] then return '' end
return redis.call('GET', KEYS[1]) or ''
"""

# KEYS: leases. ARGV: owner, lease ms. Only what is still ours is prolonged.
RENEW = """
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('PEXPIRE', key, ARGV[2]) end
end
return 1
"""

# KEYS: the lease. ARGV: owner, what to leave in its place, for how many ms (0: nothing).
RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

# KEYS: the response. ARGV: names of the selecting fields, the variant's field, data, ttl ms, most.
KEEP = """
local vary = redis.call('HGET', KEYS[1], 'vary')
if vary and vary ~= ARGV[1] then redis.call('DEL', KEYS[1]) end
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[5]) then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'vary', ARGV[1], ARGV[2], ARGV[3])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 1
"""

# KEYS: seq, marks, floor. ARGV: most, then marks. What is trimmed raises the floor.
MARK = """
local made = {}
for i = 2, #ARGV do
  local seq = redis.call('INCR', KEYS[1])
  redis.call('ZADD', KEYS[2], seq, seq .. ' ' .. ARGV[i])
  made[#made + 1] = seq
end
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[1])
if over > 0 then
  local last = redis.call('ZRANGE', KEYS[2], over - 1, over - 1, 'WITHSCORES')
  redis.call('SET', KEYS[3], last[2])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, over - 1)
end
return made
"""

# Marks may be missing, as a Redis that is full evicts what isn't read: nobody knows what they said.
# KEYS: gen, seq, marks, floor. ARGV: a new gen, the newest mark that is known, and in which gen.
POLL = """
local gen = redis.call('GET', KEYS[1])
local seq = redis.call('GET', KEYS[2]) or '0'
if not gen or (gen == ARGV[3] and tonumber(seq) < tonumber(ARGV[2])) then
  redis.call('SET', KEYS[1], ARGV[1])
  gen = ARGV[1]
end
local floor = redis.call('GET', KEYS[4]) or '0'
if tonumber(seq) <= tonumber(ARGV[2]) then return {gen, seq, floor, {}} end
local marks = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[2], '+inf')
if #marks < tonumber(seq) - math.max(tonumber(ARGV[2]), tonumber(floor)) then
  redis.call('SET', KEYS[4], seq)
  floor = seq
end
return {gen, seq, floor, marks}
"""
