-- What wrk sends, and how it tells what it measured:  wrk ... -s load.lua URL -- SIZE NETWORKS THINK_MS HEADS
--
-- Each request has parameters of its own; the id is always 1, because the static node always answers that one. SIZE is
-- small, or the length to which bodies are padded, by which the node chooses its answer. Requests go round the paths
-- /n0 .. /n(NETWORKS - 1). THINK_MS is the mean pause before each request, for a load below the maximum.
-- HEADS is same, or unique: a header that differs in each request, as tracing adds one.

local BODIES = 8192
local SMALL = '{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x%040x","latest"]}'
local SIZED = '{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["0x%06x",true%s]}'

local requests, place, think = {}, 0, 0

local function body_of(number, size)
    if size == nil then
        return string.format(SMALL, number)
    end
    local bare = string.format(SIZED, number, "")
    return string.format(SIZED, number, string.rep(" ", size - #bare))
end

local function next_request()
    place = place % #requests + 1
    return requests[place]
end

local function pause()
    return math.random(think * 0.5, think * 1.5)
end

function init(arguments)
    local size, networks = tonumber(arguments[1]), tonumber(arguments[2])
    think = tonumber(arguments[3])
    for number = 1, BODIES do
        local path = "/n" .. (number % networks)
        local headers = {["Content-Type"] = "application/json"}
        if arguments[4] == "unique" then
            headers["Traceparent"] = string.format("00-%032x-%016x-01", number, number)
        end
        requests[number] = wrk.format("POST", path, headers, body_of(number, size))
    end
    place = math.random(BODIES)
    request = next_request
    if think > 0 then
        delay = pause
    end
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        'RESULT {"requests":%d,"bytes":%d,"seconds":%.6f,"p50_us":%.0f,"p99_us":%.0f,"mean_us":%.2f,"errors":%d}\n',
        summary.requests, summary.bytes, summary.duration / 1e6,
        latency:percentile(50), latency:percentile(99), latency.mean,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout
    ))
end
