package content

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// Outbox is a file that stands for the outside world: a mail server, a blog, a payment
// provider. One JSON object a line. Like any service worth calling from a durable
// workflow it knows idempotency keys: a message whose key is there already is not put in
// again. One process at a time may write to it.
type Outbox string

// Message is a line of the outbox.
type Message struct {
	Key   string `json:"key"`  // pawl's StepID
	Kind  string `json:"kind"` // article or escalation
	Title string `json:"title"`
	Text  string `json:"text"`
}

var writing sync.Mutex // runs of one process share the file

// Put appends m, unless a message with its key is there. When it returns nil the message
// is on disk. The last line of a writer that was killed half way is cut off.
func (o Outbox) Put(m Message) error {
	writing.Lock()
	defer writing.Unlock()
	all, end, err := o.read()
	if err != nil {
		return fmt.Errorf("publish to %s: %w", o, err)
	}
	for _, old := range all {
		if old.Key == m.Key {
			return nil
		}
	}
	if err := o.append(m, end); err != nil {
		return fmt.Errorf("publish to %s: %w", o, err)
	}
	return nil
}

// Messages returns what is in the outbox.
func (o Outbox) Messages() ([]Message, error) {
	all, _, err := o.read()
	return all, err
}

// read returns the messages and where the last complete one ends.
func (o Outbox) read() (all []Message, end int64, err error) {
	data, err := os.ReadFile(string(o))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	for {
		n := bytes.IndexByte(data[end:], '\n')
		if n < 0 {
			return all, end, nil
		}
		var m Message
		if err := json.Unmarshal(data[end:end+int64(n)], &m); err != nil {
			return nil, 0, fmt.Errorf("line %d is no message: %w", len(all)+1, err)
		}
		all, end = append(all, m), end+int64(n)+1
	}
}

func (o Outbox) append(m Message, at int64) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(string(o), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(at)
	if err == nil {
		_, err = f.WriteAt(append(line, '\n'), at)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
