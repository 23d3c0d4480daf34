package trigger

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Scheme is how a sender signs its requests.
type Scheme string

// The schemes.
const (
	GitHub   Scheme = "github"   // X-Hub-Signature-256: sha256=<hex> over the body
	Stripe   Scheme = "stripe"   // Stripe-Signature: t=<unix>,v1=<hex>… over "t.body"
	Slack    Scheme = "slack"    // X-Slack-Signature: v0=<hex> over "v0:timestamp:body"
	Standard Scheme = "standard" // Standard Webhooks: webhook-signature: v1,<base64>… over "id.timestamp.body"
	HMAC     Scheme = "hmac"     // hex or base64 of HMAC-SHA256 over the body, in a header of one's choice
	None     Scheme = "none"     // nothing is signed: whoever knows the address may call
)

// Schemes are all of them.
var Schemes = []Scheme{GitHub, Stripe, Slack, Standard, HMAC, None}

// Tolerance is how far the timestamp of a signed request may lie from now, to either side.
const Tolerance = 5 * time.Minute

// SignatureOptions say how requests are signed.
type SignatureOptions struct {
	// Scheme is one of [Schemes]. There is no default: who wants no signatures says [None].
	Scheme Scheme
	// Secrets are the keys, at least one (with None: none), none of them empty. A request is good if
	// it fits any: give the old and the new one while a secret is being changed.
	// With Standard a secret is the base64 of 24 bytes or more, with or without "whsec_".
	Secrets []string
	// Header has the signature, with HMAC only. It must be given there. What stands before the
	// signature, such as "sha256=", is Prefix, and must be there.
	Header string
	Prefix string
	// IDHeader has the delivery's id. "" means the scheme's own, where it has one: X-GitHub-Delivery
	// of github, webhook-id of standard.
	IDHeader string
}

// Signed is what a verified request has said about itself.
type Signed struct {
	// ID names the delivery, so that a second one of the same ID is a repeat: what a header says
	// ([SignatureOptions].IDHeader); else "id" of the body with Stripe, and "event_id" of it with Slack.
	// Where none of these is there, it is a hash of what was signed if that has a timestamp, so that who
	// overheard a request can't send it again; and "" if it has none: two equal bodies are then two
	// deliveries, and nothing tells them from one that was sent twice.
	ID string
	// Time is when the sender signed. Zero: the scheme does not tell.
	Time time.Time
}

// SignatureError reports a request that was refused. It says what is wrong with it, and never
// what would have been right. Its text may be given to the caller.
type SignatureError struct {
	Scheme Scheme
	Why    string
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("signature of scheme %s: %s", e.Scheme, e.Why)
}

// SignatureOptionsError reports SignatureOptions that no Verifier can be made of. It never holds a secret.
type SignatureOptionsError struct {
	Scheme Scheme
	Why    string
}

func (e *SignatureOptionsError) Error() string {
	return fmt.Sprintf("signatures of scheme %q: %s", e.Scheme, e.Why)
}

// Verifier tells requests of one sender from those of others. It is safe for concurrent use.
type Verifier struct {
	opt    SignatureOptions
	keys   [][]byte
	verify func(v *Verifier, h http.Header, body []byte, now time.Time) (Signed, error)
}

// NewVerifier makes a Verifier. *SignatureOptionsError: the scheme is unknown, or a secret is missing, empty
// or too short. Secrets are used as they are given, white space included.
func NewVerifier(opt SignatureOptions) (*Verifier, error) {
	bad := func(format string, args ...any) (*Verifier, error) {
		return nil, &SignatureOptionsError{Scheme: opt.Scheme, Why: fmt.Sprintf(format, args...)}
	}
	v := &Verifier{opt: opt}
	switch opt.Scheme {
	case GitHub:
		v.verify, v.opt.IDHeader = (*Verifier).github, cmp.Or(opt.IDHeader, "X-GitHub-Delivery")
	case Stripe:
		v.verify = (*Verifier).stripe
	case Slack:
		v.verify = (*Verifier).slack
	case Standard:
		v.verify, v.opt.IDHeader = (*Verifier).standard, cmp.Or(opt.IDHeader, headerID)
	case HMAC:
		v.verify = (*Verifier).plain
		if opt.Header == "" {
			return bad("say in Header which header has the signature")
		}
	case None:
		v.verify = (*Verifier).nothing
		if len(opt.Secrets) > 0 {
			return bad("it uses no secret, and %d were given: choose the scheme that they are for", len(opt.Secrets))
		}
	case "":
		return bad("choose one of %v; none is without signatures", Schemes)
	default:
		return bad("it is unknown; there are %v", Schemes)
	}
	if opt.Scheme != HMAC && (opt.Header != "" || opt.Prefix != "") {
		return bad("Header and Prefix are for the scheme hmac; this one has its own")
	}
	if opt.Scheme != None && len(opt.Secrets) == 0 {
		return bad("it needs a secret")
	}
	for i, s := range opt.Secrets {
		if s == "" {
			return bad("secret %d of %d is empty", i+1, len(opt.Secrets))
		}
		key := []byte(s)
		if opt.Scheme == Standard {
			var err error
			if key, err = standardKey(s); err != nil {
				return bad("secret %d of %d: %v", i+1, len(opt.Secrets), err)
			}
		}
		v.keys = append(v.keys, key)
	}
	v.opt.Secrets = nil // no dump of a Verifier shows them as text
	return v, nil
}

// Scheme tells which scheme it is.
func (v *Verifier) Scheme() Scheme { return v.opt.Scheme }

// String tells the scheme and no secret.
func (v *Verifier) String() string { return "verifier of scheme " + string(v.opt.Scheme) }

// GoString is String: no format shows a secret.
func (v *Verifier) GoString() string { return v.String() }

// Format is String for every verb, so that no %+v prints the keys.
func (v *Verifier) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(v.String())) }

// Verify checks a request that came now: its header, and its body as it came over the wire,
// before anything parses or unpacks it. It takes as long for a signature that is nearly right as for
// any other. *SignatureError: refuse it with 401.
func (v *Verifier) Verify(h http.Header, body []byte, now time.Time) (Signed, error) {
	s, err := v.verify(v, h, body, now)
	if err != nil {
		return Signed{}, err
	}
	if v.opt.IDHeader != "" {
		id, err := v.one(h, v.opt.IDHeader)
		if err != nil {
			return Signed{}, err
		}
		s.ID = id
		return s, nil
	}
	if s.ID = idInBody(v.opt.Scheme, body); s.ID == "" && !s.Time.IsZero() {
		sum := sha256.New()
		fmt.Fprintf(sum, "%d.", s.Time.Unix())
		sum.Write(body)
		s.ID = hex.EncodeToString(sum.Sum(nil))
	}
	return s, nil
}

// idInBody is the name of a delivery of senders that write it into the body; "": it has none, as
// Slack's forms, whose ids are of something else.
func idInBody(scheme Scheme, body []byte) string {
	pointer, known := bodyIDs[scheme]
	if !known {
		return ""
	}
	var value any
	if json.Unmarshal(body, &value) != nil {
		return ""
	}
	return at(value, []string{pointer})
}

// bodyIDs are the fields of bodies that name deliveries.
var bodyIDs = map[Scheme]string{Stripe: "id", Slack: "event_id"}

// VerifyFunc returns what api.Options.Verify is to be, of verifiers by the names of their secrets,
// as [pawl.Signed] names them:
//
//	verify := trigger.VerifyFunc(map[string]*trigger.Verifier{"hub": hub})
//	handler := api.New(engine, api.Options{Verify: verify})
//
// It names a delivery by its [Signed].ID. A name that is not in the map is answered with pawl.ErrNotFound,
// a webhook that wants another scheme than the name's verifier has with pawl.ErrState: faults of the server, not of who calls.
func VerifyFunc(verifiers map[string]*Verifier) func(scheme, secretName string, header http.Header, body []byte, now time.Time) (deliveryID string, err error) {
	verifiers = maps.Clone(verifiers)
	return func(scheme, name string, header http.Header, body []byte, now time.Time) (string, error) {
		v := verifiers[name]
		switch {
		case v == nil:
			return "", fmt.Errorf("%w: the server has no secret of webhooks named %q: give it in its settings, under webhooks, or to trigger.VerifyFunc", pawl.ErrNotFound, name)
		case string(v.Scheme()) != scheme:
			return "", fmt.Errorf("%w: the secret %q is for signatures of %s, and the webhook wants those of %s", pawl.ErrState, name, v.Scheme(), scheme)
		}
		signed, err := v.Verify(header, body, now)
		return signed.ID, err
	}
}

func (v *Verifier) refuse(format string, args ...any) error {
	return &SignatureError{Scheme: v.opt.Scheme, Why: fmt.Sprintf(format, args...)}
}

// one returns the value of a header that must be there once. Of two, a proxy in front may have
// looked at the other.
func (v *Verifier) one(h http.Header, name string) (string, error) {
	switch values := h.Values(name); {
	case len(values) == 0:
		return "", v.refuse("header %s is missing", name)
	case len(values) > 1:
		return "", v.refuse("header %s is there %d times", name, len(values))
	case values[0] == "":
		return "", v.refuse("header %s is empty", name)
	case len(values[0]) > 8<<10:
		return "", v.refuse("header %s is %d bytes long", name, len(values[0]))
	default:
		return values[0], nil
	}
}

var errTimestamp = errors.New("not a number of seconds")

// timestamp reads Unix seconds in their one canonical form: what is signed is the text.
func timestamp(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 1<<40 || strconv.FormatInt(n, 10) != s {
		return time.Time{}, errTimestamp
	}
	return time.Unix(n, 0).UTC(), nil
}

// fresh checks the age of a signed time.
func (v *Verifier) fresh(text string, now time.Time) (time.Time, error) {
	t, err := timestamp(text)
	if err != nil {
		return t, v.refuse("its timestamp %.24q is no number of seconds since 1970", text)
	}
	// Whole seconds, as senders count: 300 are good, 301 are not.
	switch age := now.Unix() - t.Unix(); {
	case age > int64(Tolerance/time.Second):
		return t, v.refuse("its timestamp is %d s old, more than %d", age, int64(Tolerance/time.Second))
	case -age > int64(Tolerance/time.Second):
		return t, v.refuse("its timestamp is %d s in the future, more than %d: look at the clocks", -age, int64(Tolerance/time.Second))
	}
	return t, nil
}

func trimmed(s string) string { return strings.Trim(s, " \t") }
