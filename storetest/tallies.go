package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// tallies: how the runs of a workflow have come out, counted by the store.
var tallies = []promise{
	{"a tally counts the runs of one workflow and one tenant, by version and state", func(d *desk) {
		d.runs("a", 3, pawl.Completed, "1", time.Second)
		d.runs("b", 2, pawl.Failed, "1", time.Second)
		d.runs("c", 1, pawl.Completed, "2", time.Second)
		d.start("d", versioned("2"))
		d.start("e", of("another"))
		d.start("f", tenant("acme"), versioned("1"))
		d.same("counts", d.tally(pawl.TallyFilter{}), "1 completed 3, 1 failed 2, 2 completed 1, 2 pending 1")
		d.same("of a tenant", d.tally(pawl.TallyFilter{Tenant: "acme"}), "1 pending 1")
		d.same("of nobody", d.tally(pawl.TallyFilter{Workflow: "nobody's"}), "")
	}},
	{"a tally may be of a span of time: from its first moment on, before its last", func(d *desk) {
		d.start("a")
		d.pass(time.Hour)
		from := d.now
		d.start("b")
		d.start("c")
		d.pass(time.Hour)
		d.same("from", d.tally(pawl.TallyFilter{From: from}), " pending 2")
		d.same("to", d.tally(pawl.TallyFilter{To: from}), " pending 1")
		d.same("behind", d.tally(pawl.TallyFilter{From: d.now}), "")
	}},
	{"a tally tells how long the completed runs took", func(d *desk) {
		for i := range 100 {
			d.runs(fmt.Sprint("r", i, "-"), 1, pawl.Completed, "", time.Duration((i*37)%100+1)*time.Second)
		}
		d.runs("slow", 1, pawl.Failed, "", time.Hour)
		got, err := d.store.Tally(d.ctx, pawl.TallyFilter{Workflow: flow, Most: 1000})
		d.ok(err)
		d.same("took", got.Took, pawl.Spread{Of: 100, Mean: 50500 * time.Millisecond, P50: 50 * time.Second, P95: 95 * time.Second, P99: 99 * time.Second})
		d.same("all", got.Since.IsZero(), true)
		none, err := d.store.Tally(d.ctx, pawl.TallyFilter{Workflow: flow, From: d.now.Add(time.Hour), Most: 1000})
		d.ok(err)
		d.same("of none", none.Took, pawl.Spread{})
	}},
	{"a tally looks at no more runs than it is to, the newest, and says since when", func(d *desk) {
		d.start("a")
		d.pass(time.Second)
		since := d.now
		d.start("b")
		d.pass(time.Second)
		d.start("c")
		got, err := d.store.Tally(d.ctx, pawl.TallyFilter{Workflow: flow, Most: 2})
		d.ok(err)
		d.same("runs", got.Counts[0].Runs, int64(2))
		d.same("since", got.Since.Equal(since), true)
	}},
	{"costs are summed by the version of the run and by the buyer's label, and say of how many runs they are", func(d *desk) {
		w := d.join("w")
		one, two := d.hold(w, "a", versioned("1")), d.hold(w, "b", versioned("2"))
		buyAs := func(r pawl.RunInfo, step, label string, most int64) {
			b := buy(step, most)
			b.Label = label
			d.say(r, &pawl.Change{Reserves: []*pawl.Reserve{b}})
		}
		buyAs(one, "ask", "greet@1", 10)
		buyAs(one, "ask", "greet@1", 10)
		buyAs(two, "ask", "greet@2", 30)
		buyAs(two, "ask#2", "", 5)
		sums := func(by pawl.CostBy) string {
			costs, err := d.store.Costs(d.ctx, pawl.CostFilter{By: by})
			d.ok(err)
			var out []string
			for _, c := range costs {
				out = append(out, fmt.Sprintf("%s %d of %d in %d", c.Key, c.Amount, c.Charges, c.Times))
			}
			slices.Sort(out)
			return strings.Join(out, ", ")
		}
		d.same("by version", sums(pawl.ByVersion), "1 20 of 2 in 1, 2 35 of 2 in 1")
		d.same("by label", sums(pawl.ByLabel), " 5 of 1 in 1, greet@1 20 of 2 in 1, greet@2 30 of 1 in 1")
		d.same("by step", sums(pawl.ByStep), "ask 50 of 3 in 2, ask#2 5 of 1 in 1")
		c := d.charges(pawl.ChargeFilter{})[2]
		d.same("charge", c.Version+" "+c.Label, "2 greet@2")
	}},
}

func versioned(version string) func(*pawl.NewRun) {
	return func(n *pawl.NewRun) { n.Version = version }
}

// runs makes runs that end after a time.
func (d *desk) runs(id string, many int, end pawl.State, version string, took time.Duration) {
	d.Helper()
	w := d.join("w" + id)
	for i := range many {
		r := d.hold(w, fmt.Sprint(id, i), versioned(version))
		began := d.now
		d.now = began.Add(took)
		d.end(r, end, `1`)
		d.now = began
	}
}

// tally is what a tally counts, in words.
func (d *desk) tally(f pawl.TallyFilter) string {
	d.Helper()
	f.Workflow, f.Most = cmp.Or(f.Workflow, flow), 1000
	got, err := d.store.Tally(d.ctx, f)
	d.ok(err)
	var out []string
	for _, c := range got.Counts {
		out = append(out, fmt.Sprintf("%s %s %d", c.Version, c.State, c.Runs))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
