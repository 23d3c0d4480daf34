package pawl_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

// What pawl itself says of a failure is found again in what Result returns, after the journal has
// had it: by sentinel, by type and by code; and whether it was worth another attempt.
func TestResultTellsMisuseSizeAndPanicByType(t *testing.T) {
	w := pawl.Define("fails", func(c *pawl.Context, how string) (string, error) {
		switch how {
		case "misuse":
			return "", pawl.Do(c, "$mine", nothing)
		case "misuse in a step":
			return "", pawl.Do(c, "outer", func(context.Context) error { return pawl.Fatal(pawl.Do(c, "inner", nothing)) })
		case "too large":
			return "", c.Stream("s").Write(strings.Repeat("x", 1000))
		case "too large in a step":
			_, err := pawl.Step(c, "big", func(context.Context) (string, error) { return strings.Repeat("x", 1000), nil })
			return "", err
		case "panic":
			panic("all is lost")
		case "panic in a step":
			return "", pawl.Do(c, "p", func(context.Context) error { panic("all is lost") }, quick, pawl.MaxAttempts(2))
		}
		return "", pawl.Do(c, "wraps", func(context.Context) error { return errors.Join(nil, pawl.Fatal(&pawl.PanicError{Value: "old"})) })
	})
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := boot(t, open(), &pawl.Options{MaxPayload: 500}, w)
		for how, want := range map[string]struct {
			code  string
			is    error
			fatal bool
		}{
			"misuse": {"misuse", pawl.ErrMisuse, false}, "misuse in a step": {"misuse", pawl.ErrMisuse, true},
			"too large": {"too_large", pawl.ErrTooLarge, false}, "too large in a step": {"too_large", pawl.ErrTooLarge, true},
			"panic": {"panic", nil, false}, "panic in a step": {"panic", nil, false}, "joined": {"panic", nil, true},
		} {
			err := failure(n, start(n, w, how))
			if want.is != nil && !errors.Is(err, want.is) {
				t.Errorf("%s: %v is no %v", how, err, want.is)
			}
			var m *pawl.MisuseError
			var l *pawl.TooLargeError
			var p *pawl.PanicError
			switch want.code {
			case "misuse":
				if !errors.As(err, &m) || !strings.HasPrefix(m.Call, "Do") || m.Why == "" {
					t.Errorf("%s: %+v", how, m)
				}
			case "too_large":
				if !errors.As(err, &l) || l.Size != 1002 || l.Limit != 500 || l.What == "" {
					t.Errorf("%s: %+v", how, l)
				}
			case "panic":
				if !errors.As(err, &p) || p.Value != "all is lost" && p.Value != "old" || p.Value != "old" && !strings.Contains(p.Stack, "goroutine ") {
					t.Errorf("%s: %+v", how, p)
				}
			}
			equal(t, how+": fatal", pawl.IsFatal(err), want.fatal)
			f := lastFailure(n, err.RunID)
			for f.Cause != nil {
				f = f.Cause
			}
			equal(t, how+": code", f.Code, want.code)
		}
	})
}
