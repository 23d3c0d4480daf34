package secret

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
)

// MaxValue is how many bytes a value may have.
const MaxValue = 64 << 10

// maxName is how many bytes a name may have.
const maxName = 128

// Secret is what is told of a secret: never its value.
type Secret struct {
	Name     string    `json:"name"`
	Tenant   string    `json:"tenant,omitempty"`
	Revision int64     `json:"revision" doc:"Another after each change of the value."`
	KeyID    string    `json:"keyId" doc:"The encryption key that it is sealed with."`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated" doc:"When the value was set."`
	By       string    `json:"by,omitempty" doc:"Who has set it."`
	// PreviousUntil is until when signatures by the value before are good too. Zero: they are not.
	PreviousUntil time.Time `json:"previousUntil,omitzero" doc:"Until then signatures by the value before are good too; left out: they are not."`
}

// AnyRevision lets Set write over whatever is there.
const AnyRevision = -1

// Spec says what to set. No format shows the value.
type Spec struct {
	Tenant string
	Name   string // letters, digits, _ - and ., beginning with a letter or _; 1 to 128 bytes
	Value  string `json:"-"` // UTF-8, 1 byte to 64 KiB
	By     string // who sets it, for people
	// PreviousUntil lets the value that is there be good for signatures until then, beside the new one. Zero: it is gone at
	// once. Never are more than two kept. Who sets the value that is there already keeps what was before it.
	PreviousUntil time.Time
	// Revision is what the secret must have: 0 it must be new, AnyRevision whichever.
	Revision int64
}

// String names the secret and shows no value.
func (s Spec) String() string { return fmt.Sprintf("secret %q of tenant %q", s.Name, s.Tenant) }

// Format is String for every verb.
func (s Spec) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue is String.
func (s Spec) LogValue() slog.Value { return slog.StringValue(s.String()) }

// check says what can't be set. It tells nothing of the value.
func (s *Spec) check(now time.Time) error {
	if !isName(s.Name) {
		return fmt.Errorf("%w: %.140q is no name of a secret: it has 1 to %d letters of ASCII, digits, _ - and ., and begins with a letter or _", pawl.ErrInput, s.Name, maxName)
	}
	switch {
	case s.Value == "":
		return fmt.Errorf("%w: secret %s: its value is empty", pawl.ErrInput, s.Name)
	case len(s.Value) > MaxValue:
		return &pawl.TooLargeError{What: "the value of secret " + s.Name, Size: len(s.Value), Limit: MaxValue}
	case !utf8.ValidString(s.Value):
		return fmt.Errorf("%w: secret %s: its value is not UTF-8: give bytes as base64", pawl.ErrInput, s.Name)
	case !s.PreviousUntil.IsZero() && !s.PreviousUntil.After(now):
		return fmt.Errorf("%w: secret %s: the value before would be good until %s, which has passed", pawl.ErrInput, s.Name, s.PreviousUntil.Format(time.RFC3339))
	}
	return nil
}

func isName(name string) bool {
	if name == "" || len(name) > maxName || strings.ContainsRune("0123456789-.", rune(name[0])) {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.", r)
	})
}

// RevisionError reports a change of a secret that is not of the revision it was to be of. It is a pawl.ErrConflict. Nothing
// was written.
type RevisionError struct {
	Name string
	Want int64 // 0: it was to be new
	Have int64 // 0: there is none
}

func (e *RevisionError) Error() string {
	switch {
	case e.Want == 0:
		return fmt.Sprintf("secret %s is there already, with revision %d", e.Name, e.Have)
	case e.Have == 0:
		return fmt.Sprintf("secret %s is not there any more", e.Name)
	}
	return fmt.Sprintf("secret %s has revision %d and not %d: somebody has changed it", e.Name, e.Have, e.Want)
}

// Is makes it an ErrConflict.
func (e *RevisionError) Is(target error) bool { return target == pawl.ErrConflict }

// IfRevision lets a secret be deleted only if it has this revision: else *[RevisionError]. It is decided in the write.
type IfRevision int64

// LostKeysError reports secrets that are sealed with keys which are not given. It is a pawl.ErrState.
type LostKeysError struct {
	Lost    []string // ids
	Secrets int      // how many values are sealed with one of them
	Given   []string // ids
}

func (e *LostKeysError) Error() string {
	given := "none is given"
	if len(e.Given) > 0 {
		given = "given are " + strings.Join(e.Given, ", ")
	}
	one, are := "the encryption key", "1 secret is"
	if len(e.Lost) > 1 {
		one = "the encryption keys"
	}
	if e.Secrets != 1 {
		are = fmt.Sprintf("%d secrets are", e.Secrets)
	}
	return fmt.Sprintf("%s sealed with %s %s, and %s: give PAWL_ENCRYPTION_KEYS all that are in use, the one to seal with first", are, one, strings.Join(e.Lost, ", "), given)
}

// Is makes it an ErrState.
func (e *LostKeysError) Is(target error) bool { return target == pawl.ErrState }

func notFound(name string) error { return fmt.Errorf("%w: secret %.140q", pawl.ErrNotFound, name) }

// of names the secret that an error is about.
func of(name string, err error) error {
	if err == nil || errors.Is(err, pawl.ErrNotFound) {
		return err
	}
	return fmt.Errorf("secret %s: %w", name, err)
}
