package expr

import (
	"strconv"
	"strings"
	"time"
)

// timeFunctions read and take apart times, in UTC: what a machine knows of time zones must not decide.
var timeFunctions = map[string]function{
	"timestamp":       {"timestamp(text)", []kinds{textKind | intKind | timeKind}, 1, false, timeKind, toTime},
	"duration":        {"duration(text)", []kinds{textKind | durationKind}, 1, false, durationKind, toDuration},
	"getFullYear":     ofTime("getFullYear", func(t time.Time) int { return t.Year() }, nil),
	"getMonth":        ofTime("getMonth", func(t time.Time) int { return int(t.Month()) - 1 }, nil),
	"getDate":         ofTime("getDate", func(t time.Time) int { return t.Day() }, nil),
	"getDayOfMonth":   ofTime("getDayOfMonth", func(t time.Time) int { return t.Day() - 1 }, nil),
	"getDayOfYear":    ofTime("getDayOfYear", func(t time.Time) int { return t.YearDay() - 1 }, nil),
	"getDayOfWeek":    ofTime("getDayOfWeek", func(t time.Time) int { return int(t.Weekday()) }, nil),
	"getHours":        ofTime("getHours", func(t time.Time) int { return t.Hour() }, func(d time.Duration) int64 { return int64(d / time.Hour) }),
	"getMinutes":      ofTime("getMinutes", func(t time.Time) int { return t.Minute() }, func(d time.Duration) int64 { return int64(d / time.Minute) }),
	"getSeconds":      ofTime("getSeconds", func(t time.Time) int { return t.Second() }, func(d time.Duration) int64 { return int64(d / time.Second) }),
	"getMilliseconds": ofTime("getMilliseconds", func(t time.Time) int { return t.Nanosecond() / 1e6 }, nil),
}

func ofTime(name string, part func(time.Time) int, all func(time.Duration) int64) function {
	f := function{usage: "time." + name + "()", takes: []kinds{timeKind}, least: 1, result: intKind}
	if all != nil {
		f.takes[0] |= durationKind
	}
	f.call = func(_ *machine, args []any) (any, error) {
		if d, is := args[0].(time.Duration); is {
			return all(d), nil
		}
		return int64(part(args[0].(time.Time))), nil
	}
	return f
}

// toTime reads RFC 3339, or seconds since 1970.
func toTime(_ *machine, args []any) (any, error) {
	switch v := args[0].(type) {
	case string:
		t, err := time.Parse(time.RFC3339, v[:min(len(v), 64)]) // its errors quote what they are given
		if err != nil || len(v) > 64 {
			return nil, operand("%.40q is no time as RFC 3339 writes it: 2026-11-22T10:00:00Z", v)
		}
		return within9999(t.UTC())
	case int64:
		return within9999(time.Unix(v, 0).UTC())
	}
	return args[0], nil
}

// within9999 refuses times that RFC 3339 can't write.
func within9999(t time.Time) (any, error) {
	if t.Year() < 1 || t.Year() > 9999 {
		return nil, operand("a time is of the years 1 to 9999")
	}
	return t, nil
}

func later(t time.Time, d time.Duration) (any, error) { return within9999(t.Add(d)) }

// toDuration reads 1h30m, 90s, 250ms.
func toDuration(_ *machine, args []any) (any, error) {
	s, is := args[0].(string)
	if !is {
		return args[0], nil
	}
	d, err := time.ParseDuration(s[:min(len(s), 65)])
	if err != nil || len(s) > 64 {
		return nil, operand("%.40q is no duration: 90s, 1h30m, 250ms", s)
	}
	return d, nil
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// durationText writes seconds: 90s, 0.25s.
func durationText(d time.Duration) string {
	seconds, rest := int64(d/time.Second), int64(d%time.Second)
	sign := ""
	if d < 0 {
		sign, seconds, rest = "-", -seconds, -rest
	}
	text := sign + strconv.FormatInt(seconds, 10)
	if rest > 0 {
		digits := strconv.FormatInt(1e9+rest, 10)[1:]
		text += "." + strings.TrimRight(digits, "0")
	}
	return text + "s"
}
