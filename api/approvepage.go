package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
)

// The page of a link to an approval. It needs no script, loads nothing, and shows what runs
// and models say as text. Reading it changes nothing, whoever reads: mail scanners open links.
// A POST decides. Its origin is not checked: browsers hide it, as the address must not leak,
// and who knows the address may decide, from wherever.

//go:embed page/approve.html
var approveHTML string

//go:embed page/approve.css
var approveCSS string

var approvePage = template.Must(template.New("approve").Parse(approveHTML))

// approvePolicy lets the page have its own style, and send its form to where it came from.
var approvePolicy = func() string {
	sum := sha256.Sum256([]byte(approveCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// maxFormBody is how many bytes a form may be as it is sent: each may be three there.
const maxFormBody = 3 * (approval.MaxShown + approval.MaxComment)

// page is what the template shows.
type page struct {
	Title   string
	Style   template.CSS
	State   *pageState
	Asked   *pageAsked
	Open    bool // it can be decided here
	Fields  []pageField
	Comment string
	Faults  []pageFault

	status int
}

type pageState struct{ Class, Text, Comment string }

type pageAsked struct {
	ID, Message, JSON, As, Until, UntilText, When, WhenText string
	Rows                                                    []pageRow
	Votes                                                   []string
}

type pageRow struct {
	Name, Value string
	JSON        bool
}

type pageField struct {
	approval.Field
	ID, Input, Value, Wrong string
	On                      bool
	Choices                 []pageChoice
}

type pageChoice struct {
	approval.Option
	On bool
}

type pageFault struct{ Anchor, Label, Why string }

func (s *server) links() approval.Links { return approval.Links{Engine: s.engine} }

// showLink answers GET and HEAD.
func (s *server) showLink(ctx context.Context, token string) *page {
	o, err := s.links().Open(ctx, token)
	if err != nil {
		return s.linkError(err)
	}
	return pageOf(&o, nil, nil)
}

// decideLink answers POST. A page of nil means that the decision is made: the browser is sent
// to look at it, so that a reload sends nothing again.
func (s *server) decideLink(ctx context.Context, token string, values url.Values) *page {
	o, err := s.links().Open(ctx, token)
	if err != nil {
		return s.linkError(err)
	}
	in := approval.Answer{Comment: strings.TrimSpace(strings.ReplaceAll(values.Get("comment"), "\r\n", "\n"))}
	choice := values.Get("decision")
	if in.Approved = choice == "approve"; !in.Approved && choice != "reject" {
		return pageOf(&o, values, []pageFault{{Why: "it says neither approve nor reject: use one of the buttons"}})
	}
	if len(o.Approval.Schema) > 0 && in.Approved {
		fields, err := approval.Fields(o.Approval.Schema)
		if err == nil {
			in.Form, err = approval.FormOf(fields, fieldValues(values))
		}
		if err != nil {
			return s.linkError(err)
		}
	}
	a, err := s.links().Decide(ctx, token, in)
	var form *approval.FormError
	var late *approval.DecidedError
	switch {
	case err == nil, errors.As(err, &late) && late.First.By == o.Approver: // sent twice: it is there
		return nil
	case errors.As(err, &form):
		var faults []pageFault
		for _, f := range form.Faults {
			faults = append(faults, pageFault{Label: f.Field, Why: f.Why})
		}
		return pageOf(&o, values, faults)
	case errors.As(err, &late):
		o.Approval = a
		p := pageOf(&o, nil, nil)
		p.status, p.Open = http.StatusConflict, false
		if p.State == nil {
			p.State = stateOf(&late.First)
		}
		return p
	case errors.Is(err, approval.ErrNotAllowed), errors.Is(err, pawl.ErrInput):
		return pageOf(&o, values, []pageFault{{Why: plain(err)}})
	}
	return s.linkError(err)
}

// fieldValues are those of the form's own fields.
func fieldValues(values url.Values) url.Values {
	out := url.Values{}
	for name, v := range values {
		if field, ok := strings.CutPrefix(name, "f."); ok {
			out[field] = v
		}
	}
	return out
}

// linkError is the page of a link that leads nowhere. What is wrong with a forged one is not said.
func (s *server) linkError(err error) *page {
	p := &page{Style: template.CSS(approveCSS)}
	switch {
	case errors.Is(err, approval.ErrLink), errors.Is(err, pawl.ErrNotFound):
		p.status, p.Title, p.State = http.StatusNotFound, "There is nothing here", &pageState{Text: "This address leads to no approval. Look whether it was cut off on its way."}
	case errors.Is(err, approval.ErrExpired):
		p.status, p.Title, p.State = http.StatusGone, "This has expired", &pageState{Class: "no", Text: "Nobody decided in time. There is nothing more to do here."}
	case errors.Is(err, pawl.ErrEnded):
		p.status, p.Title, p.State = http.StatusGone, "This is over", &pageState{Class: "no", Text: "What asked for the decision has ended without it. There is nothing more to do here."}
	case errors.Is(err, approval.ErrChanged):
		p.status, p.Title, p.State = http.StatusConflict, "This has changed", &pageState{Class: "no", Text: "What is to be decided is not what this address was made for. Nothing was decided; ask for a new address."}
	default:
		s.log.Error("pawl: link to an approval failed", "error", err)
		p.status, p.Title, p.State = http.StatusServiceUnavailable, "This did not work", &pageState{Class: "no", Text: "The server has met an error that is not yours. Whether the decision was taken you see by opening this address again in a while."}
	}
	return p
}

// pageOf shows an approval; values are what was filled in, if it has to be corrected.
func pageOf(o *approval.Opened, values url.Values, faults []pageFault) *page {
	a := &o.Approval
	p := &page{Title: visible(a.Title), Style: template.CSS(approveCSS), status: http.StatusOK, Comment: values.Get("comment")}
	const text = "2 January 2006, 15:04 MST"
	p.Asked = &pageAsked{
		ID: visible(a.ID), Message: visible(a.Message), As: visible(o.Approver),
		Until: a.Expires.Format(time.RFC3339), UntilText: a.Expires.Format(text), When: a.Asked.Format(time.RFC3339), WhenText: a.Asked.Format(text),
	}
	p.Asked.Rows, p.Asked.JSON = details(a.Details)
	now := time.Now()
	may, why := a.May(o.Approver, now)
	vote := a.Voted(o.Approver)
	switch {
	case a.Decision != nil && a.State == approval.Decided:
		p.State = stateOf(a.Decision)
		return p
	case a.State == approval.Expired || a.State == approval.Pending && !now.Before(a.Expires):
		p.status, p.State = http.StatusGone, &pageState{Class: "no", Text: "This has expired: nobody decided in time."}
		return p
	case a.State == approval.Ended:
		p.status, p.State = http.StatusGone, &pageState{Class: "no", Text: "This is over: " + a.Reason + "."}
		return p
	case vote != nil:
		p.State = stateOf(vote)
		p.State.Text += fmt.Sprintf(" It needs %d; so far there are %d.", a.Need, len(a.Votes))
		return p
	case !may:
		p.State = &pageState{Text: "You may not decide on this now: " + visible(why) + "."}
		return p
	}
	for _, v := range a.Votes {
		p.Asked.Votes = append(p.Asked.Votes, visible(v.By)+", "+v.At.Format(text))
	}
	p.Open, p.Faults = true, faults
	if len(faults) > 0 {
		p.status = http.StatusUnprocessableEntity
	}
	fields, err := approval.Fields(a.Schema)
	if err != nil { // Ask has compiled it
		p.Open, p.State = false, &pageState{Class: "no", Text: "Its form can't be shown."}
		return p
	}
	for i, f := range fields {
		p.Fields = append(p.Fields, fieldOf(i, f, values, p.Faults))
	}
	return p
}

func fieldOf(i int, f approval.Field, values url.Values, faults []pageFault) pageField {
	out := pageField{Field: f, ID: fmt.Sprintf("field-%d", i), Input: "f." + f.Name}
	given := values[out.Input]
	switch {
	case values == nil:
		out.Value, out.On = f.Default, f.Default == "true"
	case len(given) > 0:
		out.Value, out.On = given[0], true
	}
	for _, o := range f.Options {
		on := slices.Contains(given, o.Value) || values == nil && f.Default != "" && o.Label == f.Default
		out.Choices = append(out.Choices, pageChoice{approval.Option{Value: o.Value, Label: visible(o.Label)}, on})
	}
	for j := range faults {
		fault := &faults[j]
		name, _, _ := strings.Cut(fault.Label, "/")
		missing := fault.Label == "" && strings.HasPrefix(fault.Why, "missing") && strings.Contains(fault.Why, "'"+f.Name+"'")
		if missing {
			fault.Why = "must be filled in"
		}
		if name == f.Name && fault.Anchor == "" || missing {
			fault.Anchor, fault.Label, out.Wrong = out.ID, visible(f.Title), fault.Why
		}
	}
	out.Title, out.Help = visible(f.Title), visible(f.Help)
	return out
}

func stateOf(d *approval.Decision) *pageState {
	st := &pageState{Class: "no", Text: "Rejected", Comment: visible(d.Comment)}
	if d.Approved {
		st.Class, st.Text = "yes", "Approved"
	}
	if d.By != "" {
		st.Text += " by " + visible(d.By)
	}
	st.Text += " on " + d.At.UTC().Format("2 January 2006, 15:04 MST") + "."
	return st
}

// details are rows, where JSON is an object, or else its text.
func details(data json.RawMessage) (rows []pageRow, text string) {
	if len(data) == 0 {
		return nil, ""
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err == nil && t == json.Delim('{') {
		for d.More() {
			name, err := d.Token()
			var v json.RawMessage
			if err == nil {
				err = d.Decode(&v)
			}
			if err != nil {
				break
			}
			rows = append(rows, rowOf(fmt.Sprint(name), v))
		}
		if len(rows) > 0 {
			return rows, ""
		}
	}
	return nil, rowOf("", data).Value
}

func rowOf(name string, v json.RawMessage) pageRow {
	row := pageRow{Name: visible(name)}
	var s string
	if json.Unmarshal(v, &s) == nil && v[0] == '"' {
		row.Value = visible(s)
		return row
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false) // the template does
	e.SetIndent("", "  ")
	row.JSON = len(v) > 0 && (v[0] == '{' || v[0] == '[')
	if err := e.Encode(v); err != nil {
		row.Value = visible(string(v))
		return row
	}
	row.Value = visible(strings.TrimSpace(out.String()))
	return row
}

// visible writes out characters that would hide or turn others around: what is decided must
// be what is seen.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\u200c' || r == '\u200d' || !unicode.Is(unicode.Cc, r) && !unicode.Is(unicode.Bidi_Control, r) && !unicode.Is(unicode.Cf, r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// htmlType has no space: the document lists the types of an answer apart by spaces.
const htmlType = "text/html;charset=utf-8"

type linkInput struct {
	Link string `path:"link"`
}

func (s *server) getLink(ctx context.Context, in *linkInput) (*liveOutput, error) {
	return sendPage(ctx, s.showLink(ctx, in.Link))
}

func (s *server) postLink(ctx context.Context, in *linkInput) (*liveOutput, error) {
	x := exchangeOf(ctx)
	values, p := readForm(x.w, x.r)
	if p == nil {
		p = s.decideLink(ctx, in.Link, values)
	}
	return sendPage(ctx, p)
}

// sendPage answers with a page, or with where to look.
func sendPage(ctx context.Context, p *page) (*liveOutput, error) {
	x := exchangeOf(ctx)
	var out bytes.Buffer
	status := http.StatusSeeOther
	if p == nil {
		p = &page{Title: "The decision is made", Style: template.CSS(approveCSS)}
		x.w.Header().Set("Location", x.r.URL.EscapedPath())
	} else {
		status = p.status
	}
	if err := approvePage.Execute(&out, p); err != nil {
		return nil, err
	}
	h := x.w.Header()
	h.Set("Content-Security-Policy", approvePolicy)
	h.Set("X-Robots-Tag", "noindex, nofollow")
	return &liveOutput{func(huma.Context) {
		x.live = true
		send(x.w, status, htmlType, bytes.TrimSpace(out.Bytes()))
	}}, nil
}

// readForm reads what a browser sends.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, *page) {
	wrong := func(status int, text string) *page {
		return &page{status: status, Title: "This was not sent", Style: template.CSS(approveCSS), State: &pageState{Class: "no", Text: text}}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, wrong(http.StatusUnsupportedMediaType, "A decision is sent as a form, as browsers do: application/x-www-form-urlencoded.")
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(readLimit)) // not every ResponseWriter has one
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFormBody))
	_ = rc.SetReadDeadline(time.Time{})
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, wrong(http.StatusRequestEntityTooLarge, fmt.Sprintf("The form is over %d bytes.", large.Limit))
	}
	var values url.Values
	if err == nil {
		values, err = url.ParseQuery(string(data))
	}
	if err != nil {
		return nil, wrong(http.StatusBadRequest, "The form can't be read.")
	}
	return values, nil
}
