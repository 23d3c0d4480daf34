package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// printer writes for people. Whatever it is given to print is cleaned first: names, errors
// and models' answers come from outside, and must not be able to move the cursor, hide
// text or change what was printed before. Only its own styles reach the terminal.
type printer struct {
	w             io.Writer
	color         bool
	tty           bool
	width, height int // of the terminal; 0: not one
}

// style is text that is printed as it is.
type style string

// printerOn writes to w, in colours if the flags, the environment and w allow it.
func (a *app) printerOn(w io.Writer) *printer {
	p := &printer{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.tty = true
		p.width, p.height, _ = term.GetSize(int(f.Fd()))
	}
	force := a.env("CLICOLOR_FORCE")
	switch {
	case a.color == "always":
		p.color = true
	case a.color == "never" || a.env("NO_COLOR") != "":
	case force != "" && force != "0":
		p.color = true
	default:
		p.color = p.tty && a.env("TERM") != "dumb"
	}
	return p
}

// note tells people something beside the data, on standard error. -q silences it.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		a.printerOn(a.stderr).line(format, args...)
	}
}

func (p *printer) paint(code, text string) style {
	if !p.color {
		return style(clean(text))
	}
	return style("\x1b[" + code + "m" + clean(text) + "\x1b[0m")
}

func (p *printer) red(text string) style    { return p.paint("31", text) }
func (p *printer) green(text string) style  { return p.paint("32", text) }
func (p *printer) yellow(text string) style { return p.paint("33", text) }
func (p *printer) dim(text string) style    { return p.paint("2", text) }
func (p *printer) bold(text string) style   { return p.paint("1", text) }

// line prints a line. Every argument that is not a style or a number is cleaned.
func (p *printer) line(format string, args ...any) {
	for i, arg := range args {
		switch v := arg.(type) {
		case style, int, int64:
		case json.RawMessage:
			args[i] = clean(string(v))
		default:
			args[i] = clean(fmt.Sprint(v))
		}
	}
	fmt.Fprintf(p.w, format+"\n", args...)
}

// clean takes out what a terminal would obey or what would make text look like other text:
// control characters but line breaks and tabs, and marks of writing direction.
func clean(s string) string {
	if !strings.ContainsFunc(s, dangerous) && utf8.ValidString(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if dangerous(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

func dangerous(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case unicode.IsControl(r): // C0, DEL and C1
		return true
	case r == '\u061C', r == '\u200E', r == '\u200F', r >= '\u202A' && r <= '\u202E', r >= '\u2066' && r <= '\u2069':
		return true
	case r == '\u2028' || r == '\u2029':
		return true
	}
	return false
}

// oneLine is text for a cell of a table.
func oneLine(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }

// cut shortens s to n characters; 0 means no limit.
func cut(s string, n int) string {
	if n <= 0 || utf8.RuneCountInString(s) <= n {
		return s
	}
	if n == 1 {
		return "…"
	}
	return string([]rune(s)[:n-1]) + "…"
}

// fit cuts s to what is left of the terminal's width beside n characters.
func (p *printer) fit(s string, n int) string {
	if p.width == 0 {
		return cut(s, 160)
	}
	return text.Snip(s, max(p.width-n, 20), "…")
}

// json prints the server's answer as it came, but dangerous characters in their escaped form, which
// means the same: what goes into a pipe may come to a terminal.
func (p *printer) json(body []byte) {
	body = bytes.TrimRight(body, "\n")
	fmt.Fprintf(p.w, "%s\n", escaped(string(body))) // in JSON dangerous characters stand in strings only
}

// escaped writes dangerous characters as strings of JSON and of YAML may have them.
func escaped(text string) string {
	if !strings.ContainsFunc(text, dangerous) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if dangerous(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// value prints JSON so that people can read it, and a text as the text that it is.
func (p *printer) value(data json.RawMessage) {
	var text string
	if data[0] == '"' && json.Unmarshal(data, &text) == nil {
		p.line("%s", text)
		return
	}
	var b bytes.Buffer
	if json.Indent(&b, data, "", "  ") != nil {
		p.line("%s", data)
		return
	}
	p.line("%s", readable(b.String()))
}

// readable undoes what encoding/json does for the sake of web pages.
func readable(s string) string {
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(s)
}

// took is a duration for people.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return spoken(d)
}

// spoken is a duration of a minute or more for people: its two largest units.
func spoken(d time.Duration) string {
	d = d.Round(time.Second)
	big, small, names := 24*time.Hour, time.Hour, "dh"
	switch {
	case d < time.Hour:
		big, small, names = time.Minute, time.Second, "ms"
	case d < 24*time.Hour:
		big, small, names = time.Hour, time.Minute, "hm"
	}
	text := fmt.Sprintf("%d%c", d/big, names[0])
	if rest := d % big / small; rest > 0 {
		text += fmt.Sprintf(" %d%c", rest, names[1])
	}
	return text
}

// when writes a time as --time says. The zero time is nothing.
func (a *app) when(t time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case a.times == "iso":
		return t.UTC().Format("2006-01-02T15:04:05.000Z")
	case a.times == "local":
		return t.Local().Format(time.DateTime)
	}
	d := time.Since(t)
	if d < 0 {
		return "in " + about(-d)
	}
	return about(d) + " ago"
}

// about is a duration in one unit.
func about(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// shellQuote makes s one word of a command line.
func shellQuote(s string) string {
	s = oneLine(s)
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_./:@%+=,", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
