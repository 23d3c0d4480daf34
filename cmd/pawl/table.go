package main

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// columns are the head of a table. One that begins with "+" is shown with -o wide only.
type columns []string

// plain has no borders: columns are two spaces apart.
var plain = table.Style{
	Box:     table.BoxStyle{PaddingRight: "  ", UnfinishedRow: "…"},
	Format:  table.FormatOptions{},
	Options: table.OptionsNoBordersAndSeparators,
}

const (
	least = 10 // narrower than this no column is made to fit
	gap   = 2  // between columns
)

// table prints rows under a header. Cells in which a person would look for a value and
// find none hold a dash. On a terminal the last column takes what is left of its width, and
// if that is too little the widest ones give; the first one, which is copied from, never.
// With -o wide nothing is cut. A cell that is a style is printed as it is.
func (a *app) table(head columns, rows [][]any) {
	var shown []int
	var header table.Row
	for i, name := range head {
		name, extra := strings.CutPrefix(name, "+")
		if !extra || a.output == "wide" {
			shown = append(shown, i)
			header = append(header, string(a.out.dim(name)))
		}
	}
	w := table.NewWriter()
	w.SetStyle(plain)
	w.SuppressTrailingSpaces()
	widths := make([]int, len(shown))
	measure := func(row table.Row) {
		for i, cell := range row {
			widths[i] = max(widths[i], text.StringWidthWithoutEscSequences(cell.(string)))
		}
	}
	if !a.noHeader {
		w.AppendHeader(header)
		measure(header)
	}
	for _, row := range rows {
		var cells table.Row
		for _, i := range shown {
			cells = append(cells, cellOf(row[i]))
		}
		w.AppendRow(cells)
		measure(cells)
	}
	if a.out.width > 0 && a.output != "wide" {
		w.SetColumnConfigs(fit(widths, a.out.width))
	}
	fmt.Fprintln(a.stdout, w.Render())
}

func cellOf(cell any) string {
	s, ok := cell.(style)
	if !ok {
		s = style(oneLine(fmt.Sprint(cell)))
	}
	if s == "" {
		return "-"
	}
	return string(s)
}

// fit makes columns of these widths fit into a line of n characters, as far as it goes.
func fit(widths []int, n int) (limits []table.ColumnConfig) {
	over := gap*(len(widths)-1) - n
	for _, w := range widths {
		over += w
	}
	give := func(i int) {
		if cut := min(over, widths[i]-least); cut > 0 {
			widths[i] -= cut
			over -= cut
		}
	}
	give(len(widths) - 1)
	for i := len(widths) - 2; i > 0; i-- {
		give(i)
	}
	for i, w := range widths {
		limits = append(limits, table.ColumnConfig{Number: i + 1, WidthMax: w, WidthMaxEnforcer: func(s string, n int) string {
			return text.Snip(s, n, "…")
		}})
	}
	return limits
}

// paintState colours the name of a state.
func (p *printer) paintState(state string) style {
	switch state {
	case "completed":
		return p.green(state)
	case "failed", "blocked":
		return p.red(state)
	case "waiting", "paused":
		return p.yellow(state)
	case "cancelled":
		return p.dim(state)
	}
	return style(clean(state))
}
