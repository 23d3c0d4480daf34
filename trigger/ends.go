package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pawlrun/pawl"
)

// Events that pawl publishes itself, when a run has ended. Nobody else can. Their data is a [RunEnd]. They reach subscriptions
// only, and are kept only if one takes them.
const (
	WorkflowCompleted = "workflow.completed"
	WorkflowFailed    = "workflow.failed"
)

// RunEnd is the data of the events [WorkflowCompleted] and [WorkflowFailed].
type RunEnd struct {
	WorkflowID  string          `json:"workflowId"`
	ExecutionID string          `json:"executionId"`
	Version     string          `json:"version,omitempty"`
	Status      pawl.State      `json:"status"` // completed or failed
	Output      json.RawMessage `json:"output"` // null if it failed, or is too large for an event
	Error       string          `json:"error"`  // "" if it completed
	CostUSD     float64         `json:"cost"`   // of the run and its children
	StartedAt   time.Time       `json:"startedAt"`
	EndedAt     time.Time       `json:"endedAt"`
	// Depth is how many runs before it have started each other by their ends. A run whose depth is [MaxDepth] starts no other.
	Depth int `json:"depth"`
}

// MaxDepth bounds how many runs can start each other by their ends, one after the other.
const MaxDepth = 10

// DepthAttribute is the attribute of a run that the end of another has started: how many there were before it.
const DepthAttribute = "depth"

// isEnd reports whether an event is one of a run's end.
func isEnd(name string) bool { return name == WorkflowCompleted || name == WorkflowFailed }

// Ends lets the runs that an engine works tell of their ends, where a subscription asks for that: in the transaction of the
// end, so that none is lost, and for nothing where nobody asks. A [Runner] publishes them. Every program
// that works runs of a store has to do this: a flow.Registry does, by its Refresh and its Watch. Others make one before the engine runs, and Refresh it every
// second or so, as subscriptions may be another program's.
type Ends struct {
	engine *pawl.Engine
	asked  atomic.Pointer[map[string]bool] // tenants with a subscription
}

// NewEnds gives the engine what tells of ends. Call Refresh before the engine runs.
func NewEnds(e *pawl.Engine) *Ends {
	w := &Ends{engine: e}
	e.OnEnd(w.tell)
	return w
}

// endSpace has a record for each subscription to ends, of all tenants.
const endSpace = "trigger.ends"

// Refresh finds out which tenants ask for ends.
func (w *Ends) Refresh(ctx context.Context) error {
	asked := map[string]bool{}
	for after := ""; ; {
		page, err := w.engine.Records(ctx, endSpace, "", after, 1000)
		if err != nil {
			return fmt.Errorf("read who asks for the ends of runs: %w", err)
		}
		for _, record := range page {
			var tenant string
			if err := json.Unmarshal(record.Data, &tenant); err != nil {
				return fmt.Errorf("record %s of %s: %w", record.Key, endSpace, err)
			}
			asked[tenant], after = true, record.Key
		}
		if len(page) < 1000 {
			w.asked.Store(&asked)
			return nil
		}
	}
}

// tell makes an end due in the index of what is due: see turnEnd.
func (w *Ends) tell(run *pawl.RunInfo, seq int64) []pawl.Put {
	asked := w.asked.Load()
	if asked == nil || !(*asked)[run.Tenant] {
		return nil
	}
	data, _ := json.Marshal(dueEntry{Tenant: run.Tenant, Run: run.ID, Seq: seq, State: run.State})
	return []pawl.Put{{Space: dueSpace, Key: endKey(run.Ended, run.Tenant, run.ID, seq), If: pawl.AnyVersion, Data: data}}
}

func endKey(at time.Time, tenant, run string, seq int64) string {
	return dueKey(at, "r", tenant, run+"\x00"+strconv.FormatInt(seq, 10))
}

// asks is the record of a subscription to ends.
func (s *Subscription) asks() pawl.Put {
	data, _ := json.Marshal(s.Tenant)
	return pawl.Put{Space: endSpace, Key: hashOf(s.Tenant, s.ID), If: pawl.AnyVersion, Data: data}
}

// asksNoMore removes it.
func (s *Subscription) asksNoMore() pawl.Put {
	return pawl.Put{Space: endSpace, Key: hashOf(s.Tenant, s.ID), If: pawl.AnyVersion}
}

// turnEnd publishes the end of a run, if a subscription takes it, and removes it from the index, where it lies under key.
func turnEnd(ctx context.Context, e *pawl.Engine, d dueEntry, key string) error {
	err := publishEnd(ctx, e, d, mostOutput)
	if errors.Is(err, pawl.ErrTooLarge) { // the engine takes less
		err = publishEnd(ctx, e, d, 0)
	}
	if err != nil {
		return fmt.Errorf("tell of the end of run %s: %w", d.Run, err)
	}
	_, err = e.Write(ctx, pawl.Put{Space: dueSpace, Key: key, If: pawl.AnyVersion})
	return err
}

func publishEnd(ctx context.Context, e *pawl.Engine, d dueEntry, most int) error {
	row, err := endOf(ctx, e, d, most)
	if err != nil || row == nil {
		return err
	}
	if err := row.match(ctx, e); err != nil || len(row.Starts)+len(row.Errors) == 0 {
		return err
	}
	_, err = row.publish(ctx, e)
	return err
}

// endOf makes the event of an end, with a result of at most most bytes; nil: the run was deleted.
func endOf(ctx context.Context, e *pawl.Engine, d dueEntry, most int) (*eventRow, error) {
	info, err := e.Get(ctx, pawl.Ref{Tenant: d.Tenant, ID: d.Run})
	if errors.Is(err, pawl.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	depth, _ := strconv.Atoi(info.Attrs[DepthAttribute])
	end := RunEnd{WorkflowID: info.Workflow, ExecutionID: info.ID, Version: info.Version, Status: d.State, StartedAt: info.Created, Depth: depth, Output: json.RawMessage("null")}
	row := &eventRow{ID: "end:" + info.ID + ":" + strconv.FormatInt(d.Seq, 10), Name: WorkflowCompleted, Tenant: d.Tenant, From: info.Workflow, Depth: depth + 1}
	for entry, err := range e.JournalAfter(ctx, pawl.Ref{Tenant: d.Tenant, ID: d.Run}, d.Seq-1) {
		if err != nil {
			return nil, err
		}
		end.EndedAt = entry.At
		if entry.Failed {
			end.Error = entry.Failure().Message
			end.Error = strings.ToValidUTF8(end.Error[:min(len(end.Error), mostError)], "")
		} else if len(entry.Data) > 0 && len(entry.Data) <= most {
			end.Output = entry.Data
		}
		break
	}
	if d.State == pawl.Failed {
		row.Name = WorkflowFailed
	}
	costs, err := e.Costs(ctx, pawl.CostFilter{ChargeFilter: pawl.ChargeFilter{Tenant: d.Tenant, RunID: d.Run, Family: true, Meter: pawl.USD}})
	if err != nil {
		return nil, err
	}
	for _, c := range costs {
		end.CostUSD += float64(c.Amount) / 1e6
	}
	row.At = time.Now().UTC().Truncate(time.Microsecond)
	row.Until = row.At.Add(leastKept)
	row.Data, err = json.Marshal(end)
	return row, err
}

// What an event takes along, in bytes.
const (
	mostOutput = 512 << 10 // a longer result is left out
	mostError  = 4 << 10   // of a longer one its beginning
)

// chained decides whether an event may start a run of a subscription's: no run's end starts one of its own workflow, nor one
// behind too many others.
func (r *eventRow) chained(s *Subscription) (ok bool, why string) {
	switch {
	case !isEnd(r.Name):
		return true, ""
	case s.Workflow == r.From:
		return false, ""
	case r.Depth > MaxDepth:
		return false, fmt.Sprintf("subscription %s: it is behind %d runs that have started each other by their ends, and there may be %d: %s is started no more", s.ID, r.Depth, MaxDepth, s.Workflow)
	}
	return true, ""
}

// ByItself reports whether a subscription to ends would take those of its own workflow, as far as can be told: who makes one
// should say in Where whose it wants.
func (s *Subscription) ByItself(ctx context.Context) bool {
	if !isEnd(s.Event) {
		return false
	}
	m, err := matchOf(s.Where)
	if err != nil {
		return false
	}
	return slices.ContainsFunc([]string{"null", `{}`, `""`}, func(output string) bool {
		end := RunEnd{WorkflowID: s.Workflow, ExecutionID: "x", Version: "1", Status: pawl.Completed, Output: json.RawMessage(output)}
		if s.Event == WorkflowFailed {
			end.Status, end.Error = pawl.Failed, "x"
		}
		data, _ := json.Marshal(end)
		fits, err := m.Fits(ctx, "end:x:1", s.Event, data)
		return err == nil && fits
	})
}

// reserved refuses to publish what pawl publishes itself.
func reserved(name string) error {
	if !isEnd(name) {
		return nil
	}
	return fmt.Errorf("%w: events named %s are published by pawl when a run has ended, and by nobody else: choose another name", pawl.ErrInput, strings.TrimSpace(name))
}
