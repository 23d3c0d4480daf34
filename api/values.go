package api

import (
	"fmt"
	"time"
)

// output is an answer that is nothing but a body.
type output[T any] struct{ Body T }

// span is a duration of the query.
type span struct{ Duration time.Duration }

// UnmarshalText reads a duration as Go writes it.
func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("write a duration such as 90s or 1h30m")
	}
	s.Duration = d
	return nil
}

func (s span) atMost(most time.Duration) error {
	if s.Duration > most {
		return badRequest("wait is %s, the most is %s: ask again", s.Duration, most)
	}
	return nil
}

// duration reads one of a body.
func duration(what, text string) (time.Duration, error) {
	var s span
	if err := s.UnmarshalText([]byte(text)); err != nil {
		return 0, badRequest("%s is %q; %v", what, text, err)
	}
	return s.Duration, nil
}

// moment is a time of the query.
type moment struct{ Time time.Time }

// UnmarshalText reads a day in UTC, or a time as RFC 3339 writes it.
func (m *moment) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, string(text)); err == nil {
			m.Time = at
			return nil
		}
	}
	return fmt.Errorf("write a day such as 2026-11-21, or a time such as 2026-11-21T18:00:00Z")
}
