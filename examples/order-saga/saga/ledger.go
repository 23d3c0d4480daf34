package saga

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/pawlrun/pawl"
)

// Ledger plays the world in a file: a line for each deed, with its key. It keeps what it did
// when the process dies, as warehouses and banks do.
type Ledger struct {
	File  string
	Fails string // the deed that never succeeds: reserve, charge or ship; "": none

	mu sync.Mutex
}

// Reserve takes an item from the stock.
func (l *Ledger) Reserve(_ context.Context, key, item string) (string, error) {
	return l.do("reserve", key, item)
}

// Release gives an item back.
func (l *Ledger) Release(_ context.Context, key, reservation string) error {
	_, err := l.do("release", key, reservation)
	return err
}

// Charge asks a card for money.
func (l *Ledger) Charge(_ context.Context, key string, cents int) (string, error) {
	return l.do("charge", key, fmt.Sprintf("%d.%02d", cents/100, cents%100))
}

// Refund gives it back, or takes the question back.
func (l *Ledger) Refund(_ context.Context, key, charge string) error {
	_, err := l.do("refund", key, charge)
	return err
}

// Ship sends a parcel.
func (l *Ledger) Ship(_ context.Context, key, item string) (string, error) {
	return l.do("ship", key, item)
}

// do writes a deed down, once per key, and returns its number.
func (l *Ledger) do(deed, key, what string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if deed == l.Fails {
		return "", pawl.Fatal(fmt.Errorf("%s %s: refused", deed, what))
	}
	f, err := os.OpenFile(l.File, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return "", err
	}
	number, err := write(f, deed, key, what)
	return number, errors.Join(err, f.Close())
}

func write(f *os.File, deed, key, what string) (string, error) {
	n := 1
	lines := bufio.NewScanner(f)
	for ; lines.Scan(); n++ {
		if strings.HasPrefix(lines.Text(), key+"\t") {
			return fmt.Sprint("#", n), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(f, "%s\t%s %s\n", key, deed, what); err != nil {
		return "", err
	}
	return fmt.Sprint("#", n), f.Sync()
}

// Deeds returns what was done, in order.
func (l *Ledger) Deeds() ([]string, error) {
	f, err := os.Open(l.File)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	var deeds []string
	for line := range strings.Lines(string(text)) {
		_, deed, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		deeds = append(deeds, deed)
	}
	return deeds, nil
}
