package database

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl/service"
)

// params are what a call says, read and checked.
type params struct {
	Connection string `json:"connection"`
	Query      string `json:"query"`
	Values     []any  `json:"values"`
	TimeoutMs  *int   `json:"timeoutMs"`
	MaxRows    *int   `json:"maxRows"`
	MaxBytes   *int   `json:"maxBytes"`

	database          *database
	execute           bool
	givesRows         bool
	bound             []any
	timeout           time.Duration
	maxRows, maxBytes int
}

func (p *params) action() string {
	if p.execute {
		return "execute"
	}
	return "query"
}

func (s *Service) readParams(data json.RawMessage, execute bool) (*params, error) {
	p := &params{execute: execute, timeout: s.opt.Timeout, maxRows: s.opt.MaxRows, maxBytes: s.opt.MaxBytes}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(p); err != nil {
		return nil, fault(service.Invalid, "the parameters of %s: %v", p.action(), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fault(service.Invalid, "the parameters of %s: something stands behind the object", p.action())
	}
	if err := p.limits(); err != nil {
		return nil, err
	}
	names := s.names(execute)
	if p.Connection == "" && len(names) == 1 {
		p.Connection = names[0]
	}
	p.database = s.named[p.Connection]
	switch {
	case p.database == nil:
		return nil, fault(service.Invalid, "there is no connection %q; there are %q", p.Connection, names)
	case execute && !p.database.Execute:
		return nil, fault(service.Forbidden, "execute is not allowed on the connection %s", p.Connection)
	case len(p.Query) > maxText:
		return nil, fault(service.Forbidden, "the statement has %d bytes; %d are allowed", len(p.Query), maxText)
	case len(p.Values) > maxValues:
		return nil, fault(service.Forbidden, "%d values; %d are allowed", len(p.Values), maxValues)
	}
	size := 0
	var err error
	if p.givesRows, err = p.check(); err != nil {
		return nil, err
	}
	for i, v := range p.Values {
		bound, err := bind(v, p.database.dialect, i+1)
		if err != nil {
			return nil, err
		}
		if text, is := bound.(string); is {
			size += len(text)
		}
		p.bound = append(p.bound, bound)
	}
	if size > maxBound {
		return nil, fault(service.Forbidden, "the values have %d bytes; %d are allowed", size, maxBound)
	}
	return p, nil
}

func (p *params) limits() error {
	for _, limit := range []struct {
		name string
		said *int
		most int
		into *int
	}{{"timeoutMs", p.TimeoutMs, int(longest.Milliseconds()), nil}, {"maxRows", p.MaxRows, mostRows, &p.maxRows}, {"maxBytes", p.MaxBytes, mostBytes, &p.maxBytes}} {
		if limit.said == nil {
			continue
		}
		if *limit.said < 1 || *limit.said > limit.most {
			return fault(service.Invalid, "%s is %d, want 1 to %d", limit.name, *limit.said, limit.most)
		}
		if limit.into != nil {
			*limit.into = *limit.said
			continue
		}
		p.timeout = time.Duration(*limit.said) * time.Millisecond
	}
	return nil
}

// bind makes a value as it is bound. PostgreSQL knows the type of each place, so it gets the digits of numbers and
// reads them itself; the others get whole numbers as such.
func bind(v any, of dialect, place int) (any, error) {
	switch v := v.(type) {
	case nil, bool:
		return v, nil
	case string:
		if len(v) > maxText {
			return nil, fault(service.Forbidden, "value %d has %d bytes; %d are allowed", place, len(v), maxText)
		}
		return v, nil
	case json.Number:
		if len(v) > 1000 {
			return nil, fault(service.Invalid, "value %d is a number of %d digits", place, len(v))
		}
		if of == postgres {
			return v.String(), nil
		}
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		if of == mysql {
			return v.String(), nil
		}
		n, err := v.Float64()
		if err != nil || !strings.ContainsAny(v.String(), ".eE") {
			return nil, fault(service.Invalid, "value %d is %s, which no number of SQLite can hold: bind it as text", place, strconv.Quote(v.String()))
		}
		return n, nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fault(service.Invalid, "value %d: %v", place, err)
	}
	if len(data) > maxText {
		return nil, fault(service.Forbidden, "value %d has %d bytes as JSON; %d are allowed", place, len(data), maxText)
	}
	return string(data), nil
}
