package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	// leastRate is below every price that there is. A smaller one is in another unit: $2.50
	// written as 2 or 3.
	leastRate = 1_000
	// mostRate is a dollar for a token, above every price that there is.
	mostRate = 1_000_000_000_000

	priceFields = "provider, model, from, above, input, cached, cacheWrite, output, source, checked"
)

// priceEntry is one entry of a file of prices.
type priceEntry struct {
	Provider, Model string
	From            string
	Above           int
	Input, Output   *int64
	Cached          *int64
	CacheWrite      *int64
	Source, Checked string

	where string // the file, line and number, for errors
	from  time.Time
}

// readPrices reads a file of prices and checks all that can be wrong with it.
func readPrices(name string, data []byte) (map[modelKey][]Price, error) {
	entries, err := priceEntries(name, data)
	if err != nil {
		return nil, err
	}
	type slot struct {
		modelKey
		from  time.Time
		above int
	}
	seen := map[slot]*priceEntry{}
	for _, e := range entries {
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", e.where, err)
		}
		key := slot{modelKey{e.Provider, e.Model}, e.from, e.Above}
		if other := seen[key]; other != nil {
			return nil, fmt.Errorf("%s: the same model, from and above as %s; remove one of the two", e.where, other.where)
		}
		seen[key] = e
	}
	slices.SortFunc(entries, func(a, b *priceEntry) int {
		if c := a.from.Compare(b.from); c != 0 {
			return c
		}
		return a.Above - b.Above
	})
	out := map[modelKey][]Price{}
	for _, e := range entries {
		key := modelKey{e.Provider, e.Model}
		prices := out[key]
		if e.Above == 0 {
			out[key] = append(prices, Price{From: e.from, Base: e.rates()})
			continue
		}
		if len(prices) == 0 || !prices[len(prices)-1].From.Equal(e.from) {
			return nil, fmt.Errorf("%s: there is no entry without above for %s %s from that day; add what shorter prompts cost", e.where, e.Provider, e.Model)
		}
		last := &prices[len(prices)-1]
		below := last.Base
		if n := len(last.Above); n > 0 {
			below = last.Above[n-1].Rates
		}
		r := e.rates()
		if r.Input < below.Input || r.Cached < below.Cached || r.CacheWrite < below.CacheWrite || r.Output < below.Output {
			return nil, fmt.Errorf("%s: prompts above %d tokens are cheaper than shorter ones; correct the rates, as an upper bound of a cost must be one for shorter prompts too", e.where, e.Above)
		}
		last.Above = append(last.Above, LongRates{Tokens: e.Above, Rates: r})
	}
	return out, nil
}

func (e *priceEntry) check() error {
	switch {
	case e.Provider == "" || e.Model == "":
		return errors.New("provider or model is missing; name both, as llm.Response does")
	case strings.Contains(strings.TrimSuffix(e.Model, "*"), "*"):
		return fmt.Errorf("model %q has a * that is not its end; only the end of a name can be left open", e.Model)
	case e.Above < 0:
		return fmt.Errorf("above is %d; it is a number of tokens, or not there", e.Above)
	}
	if e.From != "" {
		day, err := time.Parse(time.DateOnly, e.From)
		if err != nil {
			return fmt.Errorf("from is %q; write a day as 2026-01-31, or leave it out for always", e.From)
		}
		e.from = day
	}
	for _, f := range []struct {
		name string
		rate *int64
		must bool
	}{{"input", e.Input, true}, {"output", e.Output, true}, {"cached", e.Cached, false}, {"cacheWrite", e.CacheWrite, false}} {
		switch {
		case f.rate == nil && f.must:
			return fmt.Errorf("%s is missing; write what a million tokens cost in micro-USD, or 0 if they are free", f.name)
		case f.rate == nil || *f.rate == 0:
		case *f.rate < 0:
			return fmt.Errorf("%s is %d; a price cannot be negative", f.name, *f.rate)
		case *f.rate < leastRate || *f.rate > mostRate:
			return fmt.Errorf("%s is %d, which cannot be micro-USD for a million tokens; write $2.50 as 2500000", f.name, *f.rate)
		}
	}
	return nil
}

func (e *priceEntry) rates() Rates {
	r := Rates{Input: *e.Input, Cached: *e.Input, CacheWrite: *e.Input, Output: *e.Output}
	if e.Cached != nil {
		r.Cached = *e.Cached
	}
	if e.CacheWrite != nil {
		r.CacheWrite = *e.CacheWrite
	}
	return r
}

// priceEntries decodes the entries one by one, so that an error can name its line.
func priceEntries(name string, data []byte) ([]*priceEntry, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	line := func() int { // of the next value
		at := int(d.InputOffset())
		rest := data[at:]
		at += len(rest) - len(bytes.TrimLeft(rest, " \t\r\n,:"))
		return 1 + bytes.Count(data[:at], []byte("\n"))
	}
	broken := func(err error) error {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%s:%d: not JSON: %w", name, line(), err)
	}
	var entries []*priceEntry
	if t, err := d.Token(); err != nil {
		return nil, broken(err)
	} else if t != json.Delim('{') {
		return nil, fmt.Errorf(`%s: prices are an object, {"prices": [...]}`, name)
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, broken(err)
		}
		at := line()
		switch t {
		case "note":
			var note string
			if err := d.Decode(&note); err != nil {
				return nil, fmt.Errorf("%s:%d: note is not a text", name, at)
			}
		case "prices":
			if t, err := d.Token(); err != nil {
				return nil, broken(err)
			} else if t != json.Delim('[') {
				return nil, fmt.Errorf("%s:%d: prices is not a list", name, at)
			}
			for d.More() {
				e := &priceEntry{where: fmt.Sprintf("%s:%d: price %d", name, line(), len(entries)+1)}
				var raw json.RawMessage
				if err := d.Decode(&raw); err != nil {
					return nil, broken(err)
				}
				if err := strictly(raw, e); err != nil {
					return nil, fmt.Errorf("%s: %w; the fields are %s, and rates whole micro-USD for a million tokens", e.where, err, priceFields)
				}
				entries = append(entries, e)
			}
			if _, err := d.Token(); err != nil {
				return nil, broken(err)
			}
		default:
			return nil, fmt.Errorf("%s:%d: unknown field %q; there are note and prices", name, at, t)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, broken(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s:%d: there is something after the end of the prices; remove it", name, line())
	}
	return entries, nil
}

func strictly(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
