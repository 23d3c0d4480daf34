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
	least  = 5  // narrower than this no column is made to fit
	second = 10 // nor than this the second column, which says what most want to know of the first
	gap    = 2  // between columns
)

// table prints rows under a header. Cells in which a person would look for a value and
// find none hold a dash. On a terminal the last column takes what is left of its width. If
// that is too little the others give, and if that does not do the last ones are left out;
// the first one, which is copied from, stays whole. With -o wide nothing is cut. A cell that
// is a style is printed as it is.
func (a *app) table(head columns, rows [][]any) {
	lines := make([]table.Row, len(rows)+1)
	for i, name := range head {
		name, extra := strings.CutPrefix(name, "+")
		if extra && a.output != "wide" {
			continue
		}
		lines[0] = append(lines[0], string(a.out.dim(name)))
		for n, row := range rows {
			lines[n+1] = append(lines[n+1], cellOf(row[i]))
		}
	}
	if a.noHeader {
		lines = lines[1:]
	}
	w := table.NewWriter()
	w.SetStyle(plain)
	w.SuppressTrailingSpaces()
	if a.out.width > 0 && a.output != "wide" {
		lines = withoutEmpty(lines, !a.noHeader, a.out.width)
		widths := fit(widthsOf(lines), a.out.width)
		for i := range lines {
			lines[i] = lines[i][:len(widths)]
		}
		w.SetColumnConfigs(cutTo(widths))
	}
	for i, line := range lines {
		if i == 0 && !a.noHeader {
			w.AppendHeader(line)
		} else {
			w.AppendRow(line)
		}
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

// withoutEmpty leaves out the columns in which there is nothing, if the lines are too wide with them.
func withoutEmpty(lines []table.Row, header bool, width int) []table.Row {
	all := -gap
	for _, w := range widthsOf(lines) {
		all += w + gap
	}
	if all <= width {
		return lines
	}
	kept := make([]table.Row, len(lines))
	for i := range lines[0] {
		empty := i > 0
		for n, line := range lines {
			empty = empty && (n == 0 && header || line[i] == "-")
		}
		for n, line := range lines {
			if !empty {
				kept[n] = append(kept[n], line[i])
			}
		}
	}
	return kept
}

func widthsOf(lines []table.Row) (widths []int) {
	for _, line := range lines {
		for i, cell := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], text.StringWidthWithoutEscSequences(cell.(string)))
		}
	}
	return widths
}

// fit makes columns of these widths fit into a line of n characters.
func fit(widths []int, n int) []int {
	leastOf := func(i int) int {
		switch i {
		case 0:
			return widths[0]
		case 1:
			return min(widths[1], second)
		}
		return min(widths[i], least)
	}
	for {
		all, atLeast := gap*(len(widths)-1), gap*(len(widths)-1)
		for i, w := range widths {
			all += w
			atLeast += leastOf(i)
		}
		if atLeast > n && len(widths) > 1 {
			widths = widths[:len(widths)-1]
			continue
		}
		for i := len(widths) - 1; i > 0 && all > n; i-- {
			if cut := min(all-n, widths[i]-leastOf(i)); cut > 0 {
				widths[i] -= cut
				all -= cut
			}
		}
		return widths
	}
}

func cutTo(widths []int) (limits []table.ColumnConfig) {
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
