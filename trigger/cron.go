package trigger

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Gap says what becomes of a wall time that does not exist on a day on which clocks are set
// forward.
type Gap string

// The policies for gaps.
const (
	GapAfter Gap = "after" // it runs once, right after the gap. The default.
	GapSkip  Gap = "skip"  // it does not run that day
)

// Fold says what becomes of a wall time that comes twice on a day on which clocks are set back.
type Fold string

// The policies for folds.
const (
	FoldOnce  Fold = "once"  // it runs the first time. The default.
	FoldTwice Fold = "twice" // it runs both times
)

// Cron is a parsed cron expression with its time zone. It is immutable.
//
// An expression has five fields: minute, hour, day of month, month, day of week; or six, with
// seconds in front. A field is "*", a number, a range "1-5", a list "1,3,5", with a step "*/15",
// "9-17/2" or "5/15" (from 5 on). Months and days of the week may be named (JAN, mon), Sunday
// is 0 and 7, and L as a day of month is the last one. When both days are
// given, one of them has to fit; when one begins with "*", both have to.
// @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually stand for expressions.
// "@every 90s" counts whole seconds from 1970 in UTC, so that each process comes to the same slots.
// "CRON_TZ=Europe/Berlin " in front names the zone.
//
// Where clocks are set, it does as ISC cron does. If its hour field is "*", has a step, or has all
// hours, it follows real time: every hour that passes counts, and none twice. Else it means what
// clocks show: a time in the gap comes once, right after it, and one in the
// fold comes the first time. [Gap] and [Fold] change that.
type Cron struct {
	text  string
	zone  *time.Location
	every time.Duration

	second, minute, hour, day, month, weekday uint64 // bit n: n fits

	last             bool // L: the last day of the month
	anyDay, anyWeekD bool // the field begins with *: see days
	real             bool // it follows real time
	noGap            bool
	twice            bool
}

// CronError reports an expression that is none. Offset is where in Text the fault begins, in bytes.
type CronError struct {
	Text   string
	Offset int
	Field  string // "": the expression as a whole
	Why    string
}

func (e *CronError) Error() string {
	at := ""
	if e.Field != "" {
		at = fmt.Sprintf(", %s at position %d", e.Field, e.Offset+1)
	}
	return fmt.Sprintf("cron expression %.100q%s: %s", e.Text, at, e.Why)
}

// field is one of an expression.
type field struct {
	name     string
	min, max int
	names    string // of three letters each, from min on
}

var fields = [...]field{
	{"second", 0, 59, ""},
	{"minute", 0, 59, ""},
	{"hour", 0, 23, ""},
	{"day of month", 1, 31, ""},
	{"month", 1, 12, "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC"},
	{"day of week", 0, 7, "SUNMONTUEWEDTHUFRISAT"},
}

var macros = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
	"@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}

// maxCron bounds an expression, in bytes.
const maxCron = 512

// ParseCron reads an expression. zone is the IANA name of its time zone; "" means UTC, or what
// CRON_TZ says. A date that never comes, such as February 30, is refused. *CronError.
//
// Names of zones are looked up on the machine; a program for machines that have none imports time/tzdata.
func ParseCron(text, zone string) (*Cron, error) { return parseCron(text, zone, "", "") }

func parseCron(text, zone string, gap Gap, fold Fold) (*Cron, error) {
	p := parser{text: text}
	if len(text) > maxCron {
		return nil, p.fail("", 0, "it is %d bytes long, the limit is %d", len(text), maxCron)
	}
	words := p.words()
	if len(words) > 0 {
		name, value, found := strings.Cut(words[0].text, "=")
		if found && (name == "CRON_TZ" || name == "TZ") {
			if zone != "" && zone != value {
				return nil, p.fail("time zone", words[0].at, "it is %q here and %q beside it: name one", value, zone)
			}
			zone, words = value, words[1:]
			if zone == "" {
				return nil, p.fail("time zone", p.at(words), "%s= names none", name)
			}
		}
	}
	c := &Cron{text: text, noGap: gap == GapSkip, twice: fold == FoldTwice}
	var err error
	if c.zone, err = LoadZone(zone); err != nil {
		return nil, p.fail("time zone", 0, "%v", err)
	}
	if len(words) > 0 && words[0].text == "@every" {
		return c, p.every(c, words[1:])
	}
	if len(words) == 1 {
		if full, found := macros[words[0].text]; found {
			words = (&parser{text: full}).words()
		} else if strings.HasPrefix(words[0].text, "@") {
			return nil, p.fail("", words[0].at, "there is no %.20q; there are @hourly, @daily, @weekly, @monthly, @yearly and @every 90s", words[0].text)
		}
	}
	if len(words) == 5 {
		words = append([]word{{text: "0"}}, words...)
	}
	if len(words) != 6 {
		return nil, p.fail("", p.at(words), "it has %d fields; five are needed (minute, hour, day of month, month, day of week), or six with seconds in front", len(words))
	}
	return c, p.fields(c, words)
}

// LoadZone finds a time zone by its IANA name, such as Europe/Berlin; "" is UTC. The zone of the
// machine ("Local") is refused, as it would be another on each.
func LoadZone(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, fmt.Errorf("time zone Local is another on each machine: name one, such as Europe/Berlin")
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("time zone %.60q: %w; use an IANA name such as Europe/Berlin, and import time/tzdata where the machine has no zones", name, err)
	}
	return zone, nil
}

// parser remembers the text, for its errors.
type parser struct{ text string }

type word struct {
	text string
	at   int // in the text
}

func (p *parser) words() (out []word) {
	start := -1
	for i := 0; i <= len(p.text); i++ {
		blank := i == len(p.text) || p.text[i] == ' ' || p.text[i] == '\t'
		switch {
		case blank && start >= 0:
			out = append(out, word{p.text[start:i], start})
			start = -1
		case !blank && start < 0:
			start = i
		}
	}
	return out
}

// at is where the last of words ends.
func (p *parser) at([]word) int { return len(p.text) }

func (p *parser) fail(field string, at int, format string, args ...any) error {
	return &CronError{Text: p.text, Offset: at, Field: field, Why: fmt.Sprintf(format, args...)}
}

func (p *parser) every(c *Cron, words []word) error {
	if len(words) != 1 {
		return p.fail("", p.at(words), "@every takes one duration, such as 90s or 1h30m")
	}
	d, err := time.ParseDuration(words[0].text)
	if err != nil {
		return p.fail("duration", words[0].at, "%.40q is none; write 90s or 1h30m", words[0].text)
	}
	if why := badEvery(d); why != "" {
		return p.fail("duration", words[0].at, "%s", why)
	}
	c.every = d
	return nil
}

func badEvery(d time.Duration) string {
	switch {
	case d < time.Second || d%time.Second != 0:
		return fmt.Sprintf("%v is not a whole number of seconds, at least one", d)
	case d > 100*365*24*time.Hour:
		return fmt.Sprintf("%v is more than a hundred years", d)
	}
	return ""
}

func (p *parser) fields(c *Cron, words []word) error {
	sets := [...]*uint64{&c.second, &c.minute, &c.hour, &c.day, &c.month, &c.weekday}
	for i, f := range fields {
		set, err := p.list(c, f, words[i])
		if err != nil {
			return err
		}
		*sets[i] = set
	}
	if c.weekday&(1<<7) != 0 { // both are Sunday
		c.weekday = c.weekday&^(1<<7) | 1
	}
	c.anyDay, c.anyWeekD = words[3].text[0] == '*', words[5].text[0] == '*'
	c.real = strings.ContainsAny(words[2].text, "*/") || c.hour == 1<<24-1
	if !c.possible() {
		return p.fail("day of month", words[3].at, "no month of %q has such a day", words[4].text)
	}
	return nil
}

func (p *parser) list(c *Cron, f field, w word) (set uint64, err error) {
	at := w.at
	for part := range strings.SplitSeq(w.text, ",") {
		bits, err := p.part(c, f, word{part, at})
		if err != nil {
			return 0, err
		}
		set |= bits
		at += len(part) + 1
	}
	return set, nil
}

// part reads a number, a range or a star, each with or without a step.
func (p *parser) part(c *Cron, f field, w word) (set uint64, err error) {
	span, stepText, stepped := strings.Cut(w.text, "/")
	low, high := f.min, f.max
	if f.name == "day of week" {
		high = 6
	}
	switch {
	case span == "":
		return 0, p.fail(f.name, w.at, "a value is missing")
	case span == "*":
	case strings.EqualFold(span, "L") && f.name == "day of month":
		if stepped {
			return 0, p.fail(f.name, w.at, "L takes no step")
		}
		c.last = true
		return 0, nil
	default:
		from, to, ranged := strings.Cut(span, "-")
		if low, err = p.value(f, word{from, w.at}); err != nil {
			return 0, err
		}
		if ranged {
			at := w.at + len(from) + 1
			if high, err = p.value(f, word{to, at}); err != nil {
				return 0, err
			}
			if f.name == "day of week" && high == 0 && low > 0 { // FRI-SUN
				high = 7
			}
			if high < low {
				return 0, p.fail(f.name, w.at, "the range %.20q runs backwards; write it as two", span)
			}
		} else if !stepped {
			high = low
		}
	}
	step := 1
	if stepped {
		at := w.at + len(span) + 1
		if step, err = p.number(f, word{stepText, at}); err != nil {
			return 0, err
		}
		if step < 1 || step > f.max-f.min {
			return 0, p.fail(f.name, at, "a step must be from 1 to %d; for longer ones there is @every", f.max-f.min)
		}
	}
	for n := low; n <= high; n += step {
		set |= 1 << n
	}
	return set, nil
}

func (p *parser) value(f field, w word) (int, error) {
	if len(w.text) == 3 && f.names != "" {
		if i := strings.Index(f.names, strings.ToUpper(w.text)); i >= 0 && i%3 == 0 {
			return i/3 + f.min, nil
		}
	}
	n, err := p.number(f, w)
	if err == nil && (n < f.min || n > f.max) {
		err = p.fail(f.name, w.at, "%d is not from %d to %d", n, f.min, f.max)
	}
	return n, err
}

func (p *parser) number(f field, w word) (int, error) {
	if w.text == "" {
		return 0, p.fail(f.name, w.at, "a value is missing")
	}
	for i := range len(w.text) {
		if w.text[i] < '0' || w.text[i] > '9' {
			return 0, p.fail(f.name, w.at, "%.20q is no value of it", w.text)
		}
	}
	n, err := strconv.Atoi(w.text)
	if err != nil || n > 1000 {
		return 0, p.fail(f.name, w.at, "%.20q is too large", w.text)
	}
	return n, nil
}

// longest is how many days each month has at most.
var longest = [13]int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// possible reports whether some date fits.
func (c *Cron) possible() bool {
	if c.last || !c.anyDay && !c.anyWeekD {
		return true // the last day, or a day of the week, comes in every month
	}
	for m := 1; m <= 12; m++ {
		if c.month&(1<<m) != 0 && bits.TrailingZeros64(c.day) <= longest[m] {
			return true
		}
	}
	return false
}

// String returns the expression as it was written.
func (c *Cron) String() string { return c.text }

// Zone returns its time zone.
func (c *Cron) Zone() *time.Location { return c.zone }
