package trigger

import (
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// Describe says in words when the expression comes: "at 09:30, on Monday to Friday, in
// Europe/Berlin".
func (c *Cron) Describe() string {
	if c.every > 0 {
		return "every " + spoken(c.every)
	}
	parts := []string{c.clock()}
	day, week := c.dayWords(), ""
	if c.weekday != 1<<7-1 {
		week = "on " + numbers(c.weekday, func(n int) string { return time.Weekday(n).String() })
	}
	switch {
	case day == "":
		day = week
	case week == "":
	case c.anyDay || c.anyWeekD:
		day += ", if it is " + strings.TrimPrefix(week, "on ")
	default:
		day += " or " + week
	}
	if day != "" {
		parts = append(parts, day)
	}
	if c.month != 1<<13-2 {
		parts = append(parts, "in "+numbers(c.month, func(n int) string { return time.Month(n).String() }))
	}
	return strings.Join(append(parts, "in "+c.zone.String()), ", ")
}

// mostTimes is how many times of a day are listed one by one.
const mostTimes = 6

func (c *Cron) clock() string {
	hours, minutes, seconds := bits.OnesCount64(c.hour), bits.OnesCount64(c.minute), bits.OnesCount64(c.second)
	atSecond := ""
	if c.second != 1 {
		atSecond = unit(c.second, 60, "second") + ", "
	}
	if hours*minutes <= mostTimes && seconds == 1 {
		var times []string
		for h := range 24 {
			for m := range 60 {
				if c.hour&(1<<h) != 0 && c.minute&(1<<m) != 0 {
					text := fmt.Sprintf("%02d:%02d", h, m)
					if c.second != 1 {
						text += fmt.Sprintf(":%02d", bits.TrailingZeros64(c.second))
					}
					times = append(times, text)
				}
			}
		}
		return "at " + listed(times)
	}
	if c.hour == 1<<24-1 {
		if c.minute == 1 && c.second == 1 {
			return "every hour"
		}
		return atSecond + unit(c.minute, 60, "minute")
	}
	return atSecond + unit(c.minute, 60, "minute") + " of " + unit(c.hour, 24, "hour")
}

// unit says which of a clock's units fit: "every 15 minutes", "minutes 5, 7".
func unit(set uint64, size int, name string) string {
	if set == 1<<size-1 {
		return "every " + name
	}
	for step := 2; step <= size/2; step++ {
		var all uint64
		for n := 0; n < size; n += step {
			all |= 1 << n
		}
		if set == all {
			return fmt.Sprintf("every %d %ss", step, name)
		}
	}
	if bits.OnesCount64(set) > 1 {
		name += "s"
	}
	return name + " " + numbers(set, func(n int) string { return fmt.Sprint(n) })
}

func (c *Cron) dayWords() string {
	if c.day == 1<<32-2 {
		return ""
	}
	last := "the last day of the month"
	if c.day == 0 {
		return "on " + last
	}
	what := "day"
	if bits.OnesCount64(c.day) > 1 {
		what = "days"
	}
	text := "on " + what + " " + numbers(c.day, func(n int) string { return fmt.Sprint(n) })
	if c.last {
		return text + " and " + last
	}
	return text + " of the month"
}

// numbers lists a set, three and more in a row as a range.
func numbers(set uint64, name func(int) string) string {
	var out []string
	for n := 0; n < 64; n++ {
		if set&(1<<n) == 0 {
			continue
		}
		end := n
		for end < 63 && set&(1<<(end+1)) != 0 {
			end++
		}
		if end-n >= 2 {
			out = append(out, name(n)+" to "+name(end))
			n = end
			continue
		}
		out = append(out, name(n))
	}
	return listed(out)
}

func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// spoken is a duration without what is zero.
func spoken(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = text[:len(text)-2]
	}
	if strings.HasSuffix(text, "h0m") {
		text = text[:len(text)-2]
	}
	return text
}
