package openai

import (
	"net/http"
	"strconv"
	"time"
)

// maxWait bounds what an endpoint can make a caller wait: a day. It keeps a broken header
// from parking a run for years.
const maxWait = 24 * time.Hour

// retryAfter returns how long the endpoint asks to wait, or 0 if it does not ask.
// Retry-After-Ms is the finer one and goes first; Retry-After is in seconds, or a date,
// which is read against the endpoint's own clock if it tells the time.
func retryAfter(h http.Header) time.Duration {
	if d, ok := duration(h.Get("Retry-After-Ms"), time.Millisecond); ok {
		return d
	}
	value := h.Get("Retry-After")
	if d, ok := duration(value, time.Second); ok {
		return d
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(at.Sub(now), 0), maxWait)
}

// duration reads a number of units, which may have a fraction.
func duration(s string, unit time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n >= 0) { // NaN is not
		return 0, false
	}
	if n >= float64(maxWait/unit) {
		return maxWait, true
	}
	return time.Duration(n * float64(unit)), true
}
