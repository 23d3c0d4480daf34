package service

import (
	"encoding/json"
	"net/url"
)

// Located is a service whose calls go to more than one place, each of which may fail while the others work.
type Located interface {
	// Endpoint names the place to which a call goes, such as a host or a database; "" is the one of all that name none. It asks nobody, and
	// bears parameters that don't fit.
	Endpoint(c Call) string
}

// Endpoint is the host of the call's address.
func (h *HTTP) Endpoint(c Call) string { return hostOf(c.Params) }

// Endpoint is the host of the call's address.
func (w *Webhook) Endpoint(c Call) string { return hostOf(c.Params) }

func hostOf(params json.RawMessage) string {
	var p struct {
		URL string `json:"url"`
	}
	if json.Unmarshal(params, &p) != nil {
		return ""
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return ""
	}
	return u.Host
}
