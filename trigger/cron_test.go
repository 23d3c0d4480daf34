package trigger

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"
)

func cron(t testing.TB, text, zone string) *Cron {
	t.Helper()
	c, err := ParseCron(text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// slots are the times at which c comes from one instant on, before another.
func slots(c *Cron, from, to time.Time) (out []string) {
	for t := c.Next(from.Add(-time.Second)); !t.IsZero() && t.Before(to); t = c.Next(t) {
		out = append(out, t.Format("01-02T15:04Z07"))
	}
	return out
}

func TestCronAtTheEdgesOfSummerTime(t *testing.T) {
	ny, _ := time.LoadLocation("America/New_York")
	spring, autumn := time.Date(2026, 3, 8, 0, 0, 0, 0, ny), time.Date(2026, 11, 1, 0, 0, 0, 0, ny)
	for _, c := range []struct {
		text string
		gap  Gap
		fold Fold
		day  time.Time
		want string
	}{
		{"30 2 * * *", "", "", spring, "03-08T03:00-04"},
		{"30 2 * * *", GapSkip, "", spring, ""},
		{"0,30 2 * * *", "", "", spring, "03-08T03:00-04"},
		{"30 2,3 * * *", "", "", spring, "03-08T03:00-04 03-08T03:30-04"},
		{"0 1-4 * * *", "", "", spring, "03-08T01:00-05 03-08T03:00-04 03-08T04:00-04"},
		{"30 0-4/1 * * *", "", "", spring, "03-08T00:30-05 03-08T01:30-05 03-08T03:30-04 03-08T04:30-04"},
		{"30 1 * * *", "", "", autumn, "11-01T01:30-04"},
		{"30 1 * * *", "", FoldTwice, autumn, "11-01T01:30-04 11-01T01:30-05"},
		{"*/30 1-2 * * *", "", "", autumn, "11-01T01:00-04 11-01T01:30-04 11-01T02:00-05 11-01T02:30-05"},
		{"0 */1 1 11 *", "", "", autumn, "11-01T00:00-04 11-01T01:00-04 11-01T01:00-05 11-01T02:00-05 11-01T03:00-05 11-01T04:00-05"},
	} {
		parsed, err := parseCron(c.text, "America/New_York", c.gap, c.fold)
		if err != nil {
			t.Fatal(err)
		}
		got := slots(parsed, c.day, c.day.Add(6*time.Hour))
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s (%s %s): %v, want %s", c.text, c.gap, c.fold, got, c.want)
		}
	}
	if n := len(slots(cron(t, "@hourly", "America/New_York"), spring, spring.AddDate(0, 0, 1))); n != 23 {
		t.Errorf("%d hours in spring", n)
	}
	if n := len(slots(cron(t, "@hourly", "America/New_York"), autumn, autumn.AddDate(0, 0, 1))); n != 25 {
		t.Errorf("%d hours in autumn", n)
	}
}

func TestCronNext(t *testing.T) {
	for _, c := range []struct{ text, zone, after, want string }{
		{"0 9 * * 1-5", "", "2026-11-20T09:00:00Z", "2026-11-23T09:00:00Z"},
		{"0 9 * * MON-FRI", "Europe/Berlin", "2026-11-22T12:00:00Z", "2026-11-23T08:00:00Z"},
		{"CRON_TZ=Asia/Tokyo 0 9 * * *", "", "2026-11-22T12:00:00Z", "2026-11-23T00:00:00Z"},
		{"0 0 * * 7", "", "2026-11-22T12:00:00Z", "2026-11-29T00:00:00Z"},
		{"0 0 * * fri-sun", "", "2026-11-22T12:00:00Z", "2026-11-27T00:00:00Z"},
		{"0 0 L * *", "", "2026-02-01T00:00:00Z", "2026-02-28T00:00:00Z"},
		{"0 0 L 2 *", "", "2027-03-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"0 0 29 2 *", "", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"},
		{"0 0 13 * 5", "", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"},  // either
		{"0 0 */2 * 5", "", "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z"}, // both: begins with a star
		{"*/10 * * * * *", "", "2026-11-22T12:00:00Z", "2026-11-22T12:00:10Z"},
		{"5/20 * * * *", "", "2026-11-22T12:30:00Z", "2026-11-22T12:45:00Z"},
		{"@every 90s", "", "1970-01-01T00:01:00Z", "1970-01-01T00:01:30Z"},
		{"@every 90s", "", "1970-01-01T00:01:30Z", "1970-01-01T00:03:00Z"},
		{"@every 90s", "", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"},
		{"0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z"},  // midnight is in the gap
		{"0 9 * * *", "Pacific/Apia", "2011-12-29T20:00:00Z", "2011-12-30T10:00:00Z"},      // a day that was not
		{"30 1 * * *", "America/New_York", "2026-11-01T06:10:00Z", "2026-11-02T06:30:00Z"}, // asked in the second 01:10
		{"* * * * SUN", "Australia/Lord_Howe", "2038-01-19T03:14:00Z", "2038-01-23T13:00:00Z"},
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T15:00:00Z", "2026-10-03T15:30:00Z"},
	} {
		after, _ := time.Parse(time.RFC3339, c.after)
		if got := cron(t, c.text, c.zone).Next(after).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%s in %q after %s: %s, want %s", c.text, c.zone, c.after, got, c.want)
		}
	}
}

func TestCronExpressionsThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "it has 0 fields",
		"* * * *":                      "it has 4 fields",
		"* * * * * * *":                "it has 7 fields",
		"60 * * * *":                   "minute at position 1: 60 is not from 0 to 59",
		"* 24 * * *":                   "hour at position 3: 24 is not",
		"* * 0 * *":                    "day of month at position 5: 0 is not",
		"* * * 13 *":                   "month at position 7",
		"* * * * 8":                    "day of week at position 9",
		"1,2,x * * * *":                `minute at position 5: "x" is no value`,
		"1,,2 * * * *":                 "minute at position 3: a value is missing",
		"5-1 * * * *":                  "runs backwards",
		"*/0 * * * *":                  "minute at position 3: a step must be",
		"*/90 * * * *":                 "there is @every",
		"*/ * * * *":                   "minute at position 3: a value is missing",
		"-1 * * * *":                   "a value is missing",
		"+1 * * * *":                   "is no value",
		"1- * * * *":                   "minute at position 3: a value is missing",
		"99999999999999999999 * * * *": "too large",
		"* L * * *":                    `hour at position 3: "L"`,
		"* * L/2 * *":                  "L takes no step",
		"* * * FEBMAR *":               "is no value",
		"* * * EBM *":                  "is no value",
		"0 0 30 2 *":                   "day of month at position 5: no month",
		"0 0 31 4,6,9,11 *":            "no month",
		"@fortnightly":                 "there is no",
		"@every":                       "takes one duration",
		"@every 1":                     "is none",
		"@every 1.5s":                  "whole number",
		"@every -1m":                   "whole number",
		"CRON_TZ=Mars/Base * * * * *":  "time zone",
		"CRON_TZ= * * * * *":           "names none",
		"CRON_TZ=Local * * * * *":      "another on each machine",
		strings.Repeat("*", 600):       "the limit is 512",
	} {
		_, err := ParseCron(text, "")
		var fault *CronError
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := ParseCron("CRON_TZ=UTC * * * * *", "Asia/Tokyo"); err == nil {
		t.Error("two zones were taken")
	}
}

func TestCronInWords(t *testing.T) {
	for text, want := range map[string]string{
		"30 9 * * MON-FRI": "at 09:30, on Monday to Friday, in UTC",
		"0 9,17 1,L * *":   "at 09:00 and 17:00, on day 1 and the last day of the month, in UTC",
		"*/15 * * * *":     "every 15 minutes, in UTC",
		"@hourly":          "every hour, in UTC",
		"* * * * *":        "every minute, in UTC",
		"*/5 9-17 * * *":   "every 5 minutes of hours 9 to 17, in UTC",
		"0 0 13 * 5":       "at 00:00, on day 13 of the month or on Friday, in UTC",
		"0 0 L 2 *":        "at 00:00, on the last day of the month, in February, in UTC",
		"*/10 * * * * *":   "every 10 seconds, every minute, in UTC",
		"30 0 12 * * *":    "at 12:00:30, in UTC",
		"@every 90m":       "every 1h30m",
		"@every 1h":        "every 1h",
	} {
		if got := cron(t, text, "").Describe(); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// zones have summer time at midnight and at two, half hours of it, offsets that changed for good,
// a day that was left out, months of winter time in summer, and none at all.
var zones = []string{
	"UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "America/Santiago",
	"Africa/Casablanca", "Asia/Kathmandu", "Europe/Dublin", "America/St_Johns",
}

// walk is what Next means, minute by minute: it looks at every real minute, and knows nothing of
// zones but what the wall clock shows.
func walk(c *Cron, from, to time.Time, noGap, twice bool) (out []time.Time) {
	wall := func(t time.Time) int64 {
		_, offset := t.In(c.zone).Zone()
		return t.Unix() + int64(offset)
	}
	fits := func(w int64) bool {
		t := time.Unix(w, 0).UTC()
		inMonth := c.day&(1<<t.Day()) != 0 || c.last && t.AddDate(0, 0, 1).Day() == 1
		inWeek := c.weekday&(1<<t.Weekday()) != 0
		day := inMonth && inWeek
		if !c.anyDay && !c.anyWeekD {
			day = inMonth || inWeek
		}
		return day && c.month&(1<<t.Month()) != 0 && c.hour&(1<<t.Hour()) != 0 && c.minute&(1<<t.Minute()) != 0
	}
	t := from.Add(-48 * time.Hour)
	shown, last := wall(t), wall(t) // the furthest that the clock has shown, and what it showed a minute ago
	for t = t.Add(time.Minute); t.Before(to); t = t.Add(time.Minute) {
		w := wall(t)
		due := fits(w) && (c.real || twice || w > shown)
		if !c.real && !noGap {
			for skipped := last + 60; skipped < w; skipped += 60 {
				due = due || fits(skipped) && (skipped > shown || twice)
			}
		}
		shown, last = max(shown, w), w
		if due && !t.Before(from) {
			out = append(out, t)
		}
	}
	return out
}

// expression draws one without seconds.
func expression(t *rapid.T) string {
	part := func(low, high int) string {
		n := func() int { return rapid.IntRange(low, high).Draw(t, "n") }
		switch rapid.IntRange(0, 5).Draw(t, "form") {
		case 0, 1:
			return "*"
		case 2:
			return fmt.Sprint(n())
		case 3:
			a, b := n(), n()
			return fmt.Sprintf("%d-%d", min(a, b), max(a, b))
		case 4:
			return fmt.Sprintf("%d,%d", n(), n())
		default:
			return fmt.Sprintf("*/%d", rapid.IntRange(1, high-low).Draw(t, "step"))
		}
	}
	// Hours are mostly those in which clocks are set.
	hour := rapid.SampledFrom([]string{"*", "0", "1", "2", "3", "0-4", "1,2", "*/2", "1-3/2", "23"}).Draw(t, "hour")
	day, month := rapid.SampledFrom([]string{"*", "*", "*", "L", "1", "30", "*/2"}).Draw(t, "day"), "*"
	return strings.Join([]string{part(0, 59), hour, day, month, rapid.SampledFrom([]string{"*", "*", "SUN", "0,6"}).Draw(t, "weekday")}, " ")
}

func TestCronIsTheWalkOfMinutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom(zones).Draw(t, "zone")
		gap := rapid.SampledFrom([]Gap{GapAfter, GapAfter, GapSkip}).Draw(t, "gap")
		fold := rapid.SampledFrom([]Fold{FoldOnce, FoldOnce, FoldTwice}).Draw(t, "fold")
		c, err := parseCron(expression(t), zone, gap, fold)
		if err != nil {
			t.Skip(err)
		}
		// From somewhere in these years on, begin around the next time that clocks are set.
		from := time.Unix(rapid.Int64Range(1262304000, 2145916800).Draw(t, "from")/60*60, 0)
		if _, end := from.In(c.zone).ZoneBounds(); !end.IsZero() && rapid.Bool().Draw(t, "near") {
			from = end.Truncate(time.Minute).Add(time.Duration(rapid.IntRange(-2000, 200).Draw(t, "before")) * time.Minute)
		}
		to := from.Add(72 * time.Hour)
		want := walk(c, from, to, gap == GapSkip, fold == FoldTwice)
		at := from.Add(-time.Second)
		for i := 0; ; i++ {
			next := c.Next(at)
			if next.IsZero() || !next.Before(to) {
				if i != len(want) {
					t.Fatalf("%s in %s from %s: %d times, want %d; after %s comes %v, want %s", c, zone, from.In(c.zone), i, len(want), at.In(c.zone), next, want[i].In(c.zone))
				}
				return
			}
			if i >= len(want) || !next.Equal(want[i]) {
				t.Fatalf("%s in %s from %s: time %d is %s, want %v", c, zone, from.In(c.zone), i, next, want[min(i, len(want)):min(i+1, len(want))])
			}
			// Whatever the time it is asked at, the answer is the same.
			between := at.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(at))-1).Draw(t, "between")))
			if again := c.Next(between); !again.Equal(next) {
				t.Fatalf("%s in %s: after %s comes %s, and after %s, which lies between, %s", c, zone, at, next, between, again)
			}
			at = next
		}
	})
}

func FuzzParseCron(f *testing.F) {
	for _, text := range []string{"* * * * *", "*/5 1-3,7 L JAN-MAR sun", "@every 90s", "CRON_TZ=Asia/Tokyo 0 9 * * *", "0 0 30 2 *", "1/2 3/4 5/6 7 8 9"} {
		f.Add(text)
	}
	after := time.Unix(1790000000, 0)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCron(text, "")
		if err != nil {
			var fault *CronError
			if !errors.As(err, &fault) || fault.Offset < 0 || fault.Offset > len(text) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		next := c.Next(after)
		if next.IsZero() || !next.After(after) {
			t.Errorf("%q: after %v comes %v", text, after, next)
		}
		if c.Describe() == "" {
			t.Errorf("%q has no words", text)
		}
	})
}
