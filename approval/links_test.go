package approval_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
)

func TestALinkIsForOneApprovalAndOneApprover(t *testing.T) {
	eachStore(t, func(t *testing.T, s pawl.Store) {
		w := asks(approval.Request{Approvers: []string{"ann", "bob"}, Need: 2})
		e, _ := work(t, s, w)
		links := approval.Links{Engine: e, BaseURL: base + "/"}
		run := start(t, e, w, "one")
		a := asked(t, e, "one/buy")
		token := func(a approval.Approval, by string) string {
			url, err := links.For(a, by)
			if err != nil {
				t.Fatal(err)
			}
			out, ok := strings.CutPrefix(url, base+approval.LinkPath)
			if !ok {
				t.Fatalf("link %s", url)
			}
			return out
		}
		ann, bob := token(a, "ann"), token(a, "bob")
		if _, err := links.For(a, "eve"); !errors.Is(err, approval.ErrNotAllowed) {
			t.Errorf("a link for eve: %v", err)
		}
		if _, err := (approval.Links{Engine: e, BaseURL: "pawl"}).For(a, "ann"); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("a link to nowhere: %v", err)
		}
		if _, err := (approval.Links{Engine: pawl.New(s, nil), BaseURL: base}).For(a, "ann"); !errors.Is(err, pawl.ErrState) {
			t.Errorf("without a secret: %v", err)
		}
		// Each character counts, and each half belongs to the other.
		forged := []string{"", ".", "x", ann + "x", ann + ".x", strings.Split(ann, ".")[0] + "." + strings.Split(bob, ".")[1], strings.Replace(ann, ".", "", 1)}
		for i := range ann {
			c := byte('A')
			if ann[i] == c {
				c = 'B'
			}
			forged = append(forged, ann[:i]+string(c)+ann[i+1:])
		}
		data, err := base64.RawURLEncoding.DecodeString(strings.Split(ann, ".")[0])
		if err != nil {
			t.Fatal(err)
		}
		mac, err := e.Sign("something else", data)
		if err != nil {
			t.Fatal(err)
		}
		forged = append(forged, strings.Split(ann, ".")[0]+"."+base64.RawURLEncoding.EncodeToString(mac))
		for _, f := range forged {
			if _, err := links.Decide(t.Context(), f, approval.Answer{Approved: true}); !errors.Is(err, approval.ErrLink) {
				t.Fatalf("%q: %v", f, err)
			}
		}
		// Who the answer says it is, and what it says it is about, does not matter.
		for range 3 {
			o, err := links.Open(t.Context(), ann)
			equal(t, "opened", line(o.Approval.ID, o.Approver, o.Approval.State, len(o.Approval.Votes), err), "one/buy ann pending 0 <nil>")
		}
		got, err := links.Decide(t.Context(), ann, approval.Answer{Approved: true, By: "bob", Shown: "x"})
		equal(t, "first", line(got.State, err), "pending <nil>")
		var used *approval.DecidedError
		if _, err := links.Decide(t.Context(), ann, approval.Answer{Approved: false}); !errors.As(err, &used) || used.First.By != "ann" || used.First.Via != "link" {
			t.Errorf("ann's again: %v", err)
		}
		got, err = links.Decide(t.Context(), bob, approval.Answer{Approved: true})
		equal(t, "second", line(got.State, err), "decided <nil>")
		d, err := run.Result(t.Context())
		equal(t, "decision", line(d.Approved, len(d.Votes), err), "true 2 <nil>")

		// The run is deleted and comes again: the old links are not for it.
		if err := e.Delete(t.Context(), pawl.Ref{ID: "one"}); err != nil {
			t.Fatal(err)
		}
		start(t, e, w, "one")
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			if a = asked(t, e, "one/buy"); a.State == approval.Pending {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the new run's approval is %s", a.State)
			}
		}
		if _, err := links.Decide(t.Context(), ann, approval.Answer{Approved: true}); !errors.Is(err, approval.ErrChanged) {
			t.Errorf("an old link: %v", err)
		}
		if _, err := approval.Decide(t.Context(), e, pawl.Ref{ID: "one/buy"}, approval.Answer{Approved: true, By: "ann", Shown: a.Shown}); err != nil {
			t.Errorf("the new approval has an old vote: %v", err)
		}
	})
}

func TestFormsOfFields(t *testing.T) {
	schema := []byte(`{"type":"object","required":["amount","how"],"properties":{
		"zeta":{"type":"string"},"amount":{"type":"integer","title":"Amount","minimum":1,"description":"in cents"},"how":{"enum":["card","cash",3,true]},
		"text":{"type":"string","maxLength":500,"default":"a \"b\""},"day":{"type":"string","format":"date"},"sure":{"type":"boolean"},
		"tags":{"type":"array","items":{"enum":["a","b"]}},"more":{"type":"object"},"any":true}}`)
	fields, err := approval.Fields(schema)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range fields {
		got = append(got, fmt.Sprint(f.Name, ":", f.Kind, f.Required))
	}
	equal(t, "fields", strings.Join(got, " "), "zeta:textfalse amount:integertrue how:selecttrue text:textareafalse day:datefalse sure:checkboxfalse tags:severalfalse more:jsonfalse any:jsonfalse")
	equal(t, "amount", line(fields[1].Title, fields[1].Help, fields[1].Min), "Amount in cents 1")
	equal(t, "default", fields[3].Default, `a "b"`)
	form, err := approval.FormOf(fields, map[string][]string{
		"zeta": {" 12 "}, "amount": {"7"}, "how": {"3"}, "text": {"a\r\nb"}, "day": {"2026-01-31"}, "sure": {"on"}, "tags": {`"a"`, `"b"`}, "more": {`{"x":1}`}, "any": {"free"}, "evil": {"x"},
	})
	equal(t, "form", line(string(form), err), `{"amount":7,"any":"free","day":"2026-01-31","how":3,"more":{"x":1},"sure":true,"tags":["a","b"],"text":"a\nb","zeta":"12"} <nil>`)
	if _, err := approval.CheckForm(schema, form); err != nil {
		t.Error(err)
	}
	form, err = approval.FormOf(fields, map[string][]string{"amount": {"many"}, "how": {"gold"}, "day": {"soon"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = approval.CheckForm(schema, form)
	var bad *approval.FormError
	if !errors.As(err, &bad) || len(bad.Faults) != 3 {
		t.Fatalf("%s: %v", form, err)
	}
}
