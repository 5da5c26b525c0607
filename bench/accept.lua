-- 300-byte POST bodies for wrk: an envelope as clients send it.
local parameters = '{"horizon":28,"region":"north","weights":[0.25,0.5,0.125,0.125],"seed":9007199254740993,"labels":["a","b","c","d","e"],"note":"'
local body = '{"algorithmParameters":' .. parameters .. string.rep("x", 107) .. '"},"requestApiVersion":"1.2","tag":"bench"}'
wrk.method = "POST"
wrk.body = body
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format("RESULT requests=%d duration_us=%d status=%d socket=%d p50_us=%d p99_us=%d bytes=%d\n",
        summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(99), #body))
end
