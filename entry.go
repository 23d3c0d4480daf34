package pawl

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"
)

// Kind says what a journal entry records. Kinds are stored as numbers: they are never
// renumbered and never reused.
type Kind uint8

// The kinds of entries.
const (
	KindInput      Kind = 1  // seq 0: what the run was started with
	KindStep       Kind = 2  // a step's result, or the failure that ended it
	KindAttempt    Kind = 3  // an attempt that failed and will be repeated
	KindSleep      Kind = 4  // a sleep began; Data holds when it ends
	KindEvent      Kind = 5  // a wait for an event ended: payload, or timeout
	KindHook       Kind = 6  // a hook was registered, or found its token taken
	KindPayload    Kind = 7  // a wait on a hook ended: payload, or timeout
	KindHookClosed Kind = 8  // a hook was given back, or another has taken its token over
	KindChild      Kind = 9  // a child was started
	KindChildEnd   Kind = 10 // a child's result reached its parent
	KindRace       Kind = 11 // which branch came first
	KindVersion    Kind = 12 // which version of a change this run follows
	KindAttributes Kind = 13 // attributes were set
	KindChunk      Kind = 14 // the workflow function wrote to a stream
	KindScope      Kind = 15 // a time by which something ends was set: of a scope, of a wait, of a step that waits for a budget
	KindOrder      Kind = 16 // an operator's order took effect: cancel, pause, retry, wake
	KindDrift      Kind = 17 // entries that the code had not asked for when it came to something new
	KindResult     Kind = 18 // the end: the run's result, or the failure that ended it
	KindNote       Kind = 19 // what an attempt of a step left for people; no replay reads it
)

var kindNames = map[Kind]string{
	KindInput: "input", KindStep: "step", KindAttempt: "attempt", KindSleep: "sleep", KindEvent: "event",
	KindHook: "hook", KindPayload: "payload", KindHookClosed: "hook_closed", KindChild: "child", KindChildEnd: "child_end",
	KindRace: "race", KindVersion: "version", KindAttributes: "attributes", KindChunk: "chunk", KindScope: "scope",
	KindOrder: "order", KindDrift: "drift", KindResult: "result", KindNote: "note",
}

func (k Kind) String() string {
	if n, ok := kindNames[k]; ok {
		return n
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// MarshalText writes the kind's name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the kind's name.
func (k *Kind) UnmarshalText(b []byte) error {
	for kind, n := range kindNames {
		if n == string(b) {
			*k = kind
			return nil
		}
	}
	return fmt.Errorf("pawl: no kind of entry is called %q", b)
}

// Entry is one line of a run's journal. Entries are appended by the run's owner and never
// changed; those of a kind that has a result are looked up by Key when a run is replayed.
type Entry struct {
	Seq     int64           `json:"seq"` // 0, 1, 2, … within the run
	Kind    Kind            `json:"kind"`
	Key     string          `json:"key"`               // scope path, name and occurrence: research, research#2, notify/email/send
	Attempt int             `json:"attempt,omitempty"` // steps: which attempt this was, from 1
	Failed  bool            `json:"failed,omitempty"`  // Data tells the failure, which [Entry.Failure] reads
	At      time.Time       `json:"at"`                // when it ended, to the microsecond
	Took    time.Duration   `json:"took,omitempty"`    // steps: how long the body ran, in nanoseconds
	Data    json.RawMessage `json:"data,omitempty"`
	Size    int             `json:"size,omitempty"` // how many bytes Data has, where it was left out
}

// NameOf returns a key without what tells the occurrences of its names apart: ask of ask#2,
// map/ask of map#2[17]/ask#3.
func NameOf(key string) string { return occurrence.ReplaceAllString(key, "$1") }

var occurrence = regexp.MustCompile(`(?:#[0-9]+)?(?:\[[0-9]+\])?(/|$)`)

// Failure decodes the failure that a failed entry holds: its Data, or of a KindAttempt, whose
// Data is {"first": …, "next": …, "error": failure} with the times at which the step was first
// begun and will be tried again, the error in it. Of data that holds none it says so.
func (e *Entry) Failure() *Failure {
	f, err := &Failure{}, error(nil)
	if e.Kind == KindAttempt {
		err = json.Unmarshal(e.Data, &attemptEntry{Error: f})
	} else {
		err = json.Unmarshal(e.Data, f)
	}
	if err != nil {
		return &Failure{Message: "unreadable failure: " + err.Error()}
	}
	if f.Message == "" && f.Type == "" {
		f.Message = "unreadable failure"
	}
	return f
}

// renewal is the data of a KindHook or KindChild entry that stands for a hook or child which is
// not the run's own, or is gone: the run makes another when it comes there in its replay.
var renewal = json.RawMessage(`{"renew":true}`)

func (e *Entry) renews() bool {
	var d struct{ Renew bool }
	return !e.Failed && json.Unmarshal(e.Data, &d) == nil && d.Renew
}
