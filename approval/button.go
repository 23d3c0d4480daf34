package approval

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pawlrun/pawl"
)

// pressed is what the key is for that signs buttons.
const pressed = "approval button"

// Button makes what a button in a chat holds: it names an approval and what is shown of it, signed as links are, and nobody who
// decides. It is no secret: who presses it the chat says, and who takes the press checks. pawl.ErrState: the engine has no
// Options.Secret.
func (l Links) Button(a Approval) (string, error) {
	data, err := json.Marshal(ticket{Tenant: a.Tenant, ID: a.ID, Shown: a.Shown, Asked: a.Asked.UnixMicro(), Expires: a.Expires.Unix()})
	if err != nil {
		return "", err
	}
	mac, err := l.Engine.Sign(pressed, data)
	if err != nil {
		return "", fmt.Errorf("buttons of approvals are signed: %w", err)
	}
	enc := base64.RawURLEncoding.Strict()
	return enc.EncodeToString(data) + "." + enc.EncodeToString(mac), nil
}

// Press decides by a button. By is who pressed it, whom the caller has made sure of, and Via the chat; the Shown is that of the
// button. Errors are those of Open and of the function Decide.
func (l Links) Press(ctx context.Context, button string, in Answer) (Approval, error) {
	t, err := l.readSigned(pressed, button)
	if err != nil {
		return Approval{}, err
	}
	o, err := l.opened(ctx, t)
	if err != nil {
		return o.Approval, err
	}
	in.Shown = t.Shown
	a, err := Decide(ctx, l.Engine, pawl.Ref{Tenant: t.Tenant, ID: t.ID}, in)
	if a.ID == "" && !errors.Is(err, ErrLink) {
		a = o.Approval
	}
	return a, err
}
