package trigger

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
)

// Arrival is a request to a [Route] whose signature was checked.
type Arrival struct {
	ID     string // what the signature's scheme says names the delivery; "": nothing does
	Method string
	Header http.Header
	Query  url.Values
	Body   []byte // as it came
}

// Accepted is what came of an arrival.
type Accepted struct {
	Run      string `json:"run"`                // the id of the run that it starts, or has started
	Repeated bool   `json:"repeated,omitempty"` // it came before: nothing was started
	Waits    bool   `json:"waits,omitempty"`    // the run starts when more has come, or nothing more comes: see [Control]
	Skipped  bool   `json:"skipped,omitempty"`  // nothing was started, as this run of the same [Singleton] key has not ended
	// Challenge is what Slack wants to hear to know whether the address is ours. Nothing was started.
	Challenge string `json:"challenge,omitempty"`
}

// ArrivalError reports a request that can't be read as its route says. It is an ErrInput.
type ArrivalError struct{ Why string }

func (e *ArrivalError) Error() string { return e.Why }

// Is makes it an ErrInput.
func (e *ArrivalError) Is(target error) bool { return target == pawl.ErrInput }

// DedupeFor is how long the id of a delivery is known: one that comes again within it starts nothing.
const DedupeFor = 24 * time.Hour

// Accept starts the run of a request. When it returns nil the run is stored. A delivery that came before, by its id and
// within [DedupeFor], starts nothing and has the first one's run, whatever its body.
// *[ArrivalError], *[PlaceError]: the request is not as it must be. ErrInput: the workflow refuses what was made of it. ErrState: no version of it is active.
// With any other error the request may be sent again.
func (r *Route) Accept(ctx context.Context, e *pawl.Engine, a Arrival) (Accepted, error) {
	if len(a.Body) == 0 && r.Scheme != None { // its signature would fit any other query
		return Accepted{}, &ArrivalError{"the body is empty, and nothing else is signed by " + string(r.Scheme)}
	}
	body, err := r.read(&a)
	if err != nil {
		return Accepted{}, err
	}
	if object, is := body.(map[string]any); is && r.Scheme == Slack && object["type"] == "url_verification" {
		challenge, _ := object["challenge"].(string)
		return Accepted{Challenge: challenge}, nil
	}
	id, err := r.delivery(&a, body)
	if err != nil {
		return Accepted{}, err
	}
	input, err := r.input(&a, id, body)
	if err != nil {
		return Accepted{}, err
	}
	data, err := json.Marshal(body)
	if err != nil {
		return Accepted{}, err
	}
	b, gate, err := r.Control.bind(ctx, r.ID, &subject{id: id, name: r.Path, data: data})
	if err != nil {
		return Accepted{}, &ArrivalError{err.Error()}
	}
	l := launch{trigger: r.ID, tenant: r.Tenant, workflow: r.Workflow, input: input, bounds: b}
	if r.Control.gathers() {
		if err := l.check(ctx, e, r.Control); err != nil {
			return Accepted{}, err
		}
		run, repeated, err := l.gather(ctx, e, r.Control, gate, id, time.Now().Add(DedupeFor))
		return Accepted{Run: run, Repeated: repeated, Waits: true}, err
	}
	if id == "" {
		l.run = r.ID + "@" + hashOf(rand.Text())
	} else if first, err := l.name(ctx, e, id); err != nil || first != "" {
		return Accepted{Run: first, Repeated: first != ""}, err
	}
	info, err := l.start(ctx, e)
	switch {
	case errors.Is(err, pawl.ErrConflict) && id != "": // another request with its id was faster
		return Accepted{Run: l.run, Repeated: true}, nil
	case err != nil:
		return Accepted{}, err
	}
	return Accepted{Run: info.ID, Repeated: info.Existed && info.ID == l.run, Skipped: info.ID != l.run}, nil
}

// read decodes the body, by what the route says and not by what the request says of itself; nil: there is none.
func (r *Route) read(a *Arrival) (any, error) {
	switch {
	case len(a.Body) == 0 && a.Method == http.MethodGet, len(a.Body) == 0 && a.Method == http.MethodDelete:
		return nil, nil
	case r.Form:
		fields, err := url.ParseQuery(string(a.Body))
		if err != nil {
			return nil, &ArrivalError{"the body is no form"}
		}
		object := map[string]any{}
		for name, values := range fields {
			if !utf8.ValidString(name + values[0]) {
				return nil, &ArrivalError{fmt.Sprintf("field %.100q of the form is not UTF-8", name)}
			}
			object[name] = values[0]
		}
		return object, nil
	}
	if !utf8.Valid(a.Body) {
		return nil, &ArrivalError{"the body is not UTF-8"}
	}
	body, err := exact(a.Body)
	if err != nil {
		return nil, &ArrivalError{"the body can't be taken: " + err.Error()}
	}
	return body, nil
}

// delivery is what names the delivery; "": nothing does.
func (r *Route) delivery(a *Arrival, body any) (string, error) {
	header, isHeader := strings.CutPrefix(r.Dedupe, "header:")
	switch {
	case isHeader:
		values := a.Header.Values(header)
		if len(values) != 1 || values[0] == "" {
			return "", &ArrivalError{"the header " + header + ", which names the delivery, must be there once"}
		}
		return values[0], nil
	case r.Dedupe == DedupeBody:
		sum := sha256.Sum256(a.Body)
		return "body:" + hex.EncodeToString(sum[:]), nil
	case r.Dedupe != "":
		value, _ := find(body, segments(r.Dedupe))
		switch v := value.(type) {
		case string:
			if v != "" {
				return v, nil
			}
		case json.Number:
			return v.String(), nil
		}
		return "", &ArrivalError{"the body has no id of the delivery at " + r.Dedupe}
	case a.ID == "":
		if keys := a.Header.Values("Idempotency-Key"); len(keys) == 1 {
			return keys[0], nil
		}
	}
	return a.ID, nil
}

// input is that of the run.
func (r *Route) input(a *Arrival, id string, body any) (json.RawMessage, error) {
	if r.Input != nil {
		return r.Input.fill(r.document(a, id, body))
	}
	if body == nil && len(a.Body) == 0 {
		return json.Marshal(firsts(a.Query))
	}
	return json.Marshal(body)
}

// document is what places of a request lead into: what is made of it is stored, so nothing that lets its holder in somewhere.
func (r *Route) document(a *Arrival, id string, body any) map[string]any {
	headers := map[string]any{}
	for name, value := range firsts(a.Header) {
		if !slices.Contains(credentials, http.CanonicalHeaderKey(name)) {
			headers[strings.ToLower(name)] = value
		}
	}
	return map[string]any{"id": id, "method": a.Method, "path": r.Path, "query": firsts(a.Query), "headers": headers, "body": body}
}

// firsts are the first values of names that have several.
func firsts(all map[string][]string) map[string]any {
	out := map[string]any{}
	for name, values := range all {
		if len(values) > 0 {
			out[strings.ToValidUTF8(name, "\ufffd")] = strings.ToValidUTF8(values[0], "\ufffd")
		}
	}
	return out
}
