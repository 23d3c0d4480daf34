package trigger

import (
	"math/bits"
	"time"
)

// Next returns the first time after t at which the expression comes, in its zone, in whole
// seconds. It is zero if none comes within the next hundred years.
//
// How it is found: clocks that are not set are arithmetic. So time is taken in stretches in
// which the zone has one offset, and in each the wall clock is searched field by field, as
// if it were UTC. Only where a stretch ends are there gaps and folds.
func (c *Cron) Next(t time.Time) time.Time {
	if c.every > 0 {
		step := int64(c.every / time.Second)
		n := t.Unix()/step + 1
		if t.Unix() < 0 && t.Unix()%step != 0 { // division rounds towards zero
			n--
		}
		return time.Unix(n*step, 0).In(c.zone)
	}
	repeats := c.real || c.twice // a fold's times come twice
	s := stretchOf(t, c.zone)
	from := t.Unix() + s.offset + 1 // wall time, as Unix seconds
	if !repeats && s.start != 0 {
		// What the stretch before has shown is done, and so is the gap.
		from = max(from, s.start+stretchOf(time.Unix(s.start-1, 0), c.zone).offset)
	}
	limit := t.Unix() + 100*366*86400
	for {
		wall, ok := c.match(from)
		if !ok || wall-s.offset > limit {
			return time.Time{}
		}
		if s.end == 0 || wall < s.end+s.offset {
			return time.Unix(wall-s.offset, 0).In(c.zone)
		}
		next := stretchOf(time.Unix(s.end, 0), c.zone)
		switch was, is := s.end+s.offset, s.end+next.offset; { // not next.start, which ZoneBounds misplaces around 2038
		case is > was: // a gap
			if !c.real && !c.noGap && wall < is {
				return time.Unix(s.end, 0).In(c.zone)
			}
			from = is
		case repeats:
			from = is
		default:
			from = was
		}
		s = next
	}
}

// stretch is a time in which a zone's clocks are not set: [start, end), 0 for no bound.
type stretch struct{ start, end, offset int64 }

func stretchOf(t time.Time, zone *time.Location) stretch {
	t = t.In(zone)
	_, offset := t.Zone()
	s := stretch{offset: int64(offset)}
	start, end := t.ZoneBounds()
	if !start.IsZero() {
		s.start = start.Unix()
	}
	if !end.IsZero() {
		s.end = end.Unix()
	}
	return s
}

// match finds the first wall time from from on that fits, if one does within some years: a
// February 29 may be eight away.
func (c *Cron) match(from int64) (int64, bool) {
	t := time.Unix(from, 0).UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	for last := year + 10; year <= last; {
		m, found := from6(c.month, int(month))
		if !found {
			year, month, day, hour, minute, second = year+1, 1, 1, 0, 0, 0
			continue
		}
		if m != int(month) {
			month, day, hour, minute, second = time.Month(m), 1, 0, 0, 0
		}
		length := daysOf(year, month)
		weekday := int(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Weekday())
		for day <= length && !c.days(day, length, weekday) {
			day, weekday, hour, minute, second = day+1, (weekday+1)%7, 0, 0, 0
		}
		if day > length {
			month, day, hour, minute, second = month+1, 1, 0, 0, 0
			if month > 12 {
				year, month = year+1, 1
			}
			continue
		}
		if h, ok := from6(c.hour, hour); !ok {
			day, hour, minute, second = day+1, 0, 0, 0
			if day > length {
				month, day = month+1, 1
				if month > 12 {
					year, month = year+1, 1
				}
			}
			continue
		} else if h != hour {
			hour, minute, second = h, 0, 0
		}
		if n, ok := from6(c.minute, minute); !ok {
			hour, minute, second = hour+1, 0, 0
			continue
		} else if n != minute {
			minute, second = n, 0
		}
		n, ok := from6(c.second, second)
		if !ok {
			minute, second = minute+1, 0
			continue
		}
		return time.Date(year, month, day, hour, minute, n, 0, time.UTC).Unix(), true
	}
	return 0, false
}

// from6 finds the first number from n on, below 64, that is in a set.
func from6(set uint64, n int) (int, bool) {
	set &= ^uint64(0) << n
	return bits.TrailingZeros64(set), set != 0
}

func daysOf(year int, month time.Month) int {
	if month == time.February && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		return 29
	}
	if month == time.February {
		return 28
	}
	return longest[month]
}

// days reports whether a day fits: either field where both are given, both where one is a star.
func (c *Cron) days(day, length, weekday int) bool {
	inMonth := c.day&(1<<day) != 0 || c.last && day == length
	inWeek := c.weekday&(1<<weekday) != 0
	if c.anyDay || c.anyWeekD {
		return inMonth && inWeek
	}
	return inMonth || inWeek
}
