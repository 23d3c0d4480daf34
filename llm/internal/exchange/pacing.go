package exchange

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl/llm"
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
	return clamp(at.Sub(now(h)))
}

// Limits reads what the endpoint says of its rate limits: x-ratelimit-limit-requests and
// its kin, which OpenAI began and many follow, or anthropic-ratelimit-requests-limit and
// its kin. What cannot be read counts as not said.
func (x *Call) Limits() llm.Limits {
	h := x.Header
	if h.Get("Anthropic-Ratelimit-Requests-Limit") != "" || h.Get("Anthropic-Ratelimit-Tokens-Limit") != "" || h.Get("Anthropic-Ratelimit-Input-Tokens-Limit") != "" {
		of := func(what string) llm.Limit {
			prefix := "Anthropic-Ratelimit-" + what + "-"
			return limit(h, prefix+"Limit", prefix+"Remaining", prefix+"Reset")
		}
		return llm.Limits{Requests: of("Requests"), Tokens: of("Tokens"), InputTokens: of("Input-Tokens"), OutputTokens: of("Output-Tokens")}
	}
	of := func(what string) llm.Limit {
		return limit(h, "X-Ratelimit-Limit-"+what, "X-Ratelimit-Remaining-"+what, "X-Ratelimit-Reset-"+what)
	}
	return llm.Limits{Requests: of("Requests"), Tokens: of("Tokens")}
}

func limit(h http.Header, total, remaining, reset string) llm.Limit {
	return llm.Limit{Limit: count(h.Get(total)), Remaining: count(h.Get(remaining)), Reset: until(h, h.Get(reset))}
}

func count(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// until reads when a limit is full again: a time such as Anthropic gives, a duration such
// as 6m0s of OpenAI, or a number of seconds.
func until(h http.Header, s string) time.Duration {
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return clamp(at.Sub(now(h)))
	}
	if d, ok := duration(s, time.Second); ok {
		return d
	}
	days, rest, ok := strings.Cut(s, "d") // which time.ParseDuration does not know
	if ok && count(days) > 0 {
		return maxWait
	}
	if !ok {
		rest = s
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0
	}
	return clamp(d)
}

// now is the endpoint's own time if it tells it, so that clocks that differ do no harm.
func now(h http.Header) time.Time {
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Now()
	}
	return t
}

func clamp(d time.Duration) time.Duration { return min(max(d, 0), maxWait) }

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
