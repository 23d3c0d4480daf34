package flow

import (
	"strings"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/trigger"
)

// maxSecrets bounds how many names of secrets are looked for while a document is checked: each may be a question to the store.
const maxSecrets = 100

// secrets warns of secrets that are not there by which requests are checked that start the flow, or that its waits wait for, and of
// those that services are given beside their parameters, or that these name. Those that stand in parameters are looked at where other paths are.
func (k *checker) secrets() {
	if k.world.Secret == nil {
		return
	}
	for _, s := range k.flow.starts {
		if s.kind == "webhook" && s.route.Scheme != trigger.None {
			k.signer(s.at, true)
		}
	}
	k.flow.main.each(func(s *step) {
		if w, is := s.work.(*wait); is && w.what == "webhook" {
			k.signer(s.at.get("config"), false)
		}
	})
	k.flow.main.each(func(s *step) {
		for _, p := range s.params() {
			for _, at := range p.secrets {
				k.secret(at, at.text, "calls with it fail", nil)
			}
		}
		switch w := s.work.(type) {
		case *call:
			k.given(s.at.get("config").get("service"), w.action)
		case *wait:
			for _, n := range w.notices {
				k.given(n.at.get("service"), n.action)
			}
		case *agentWork:
			for _, t := range w.tools {
				k.given(t.at, t.action)
			}
		}
	})
}

// given looks for the secrets that an action is given.
func (k *checker) given(at *node, action service.Action) {
	for _, name := range action.Secrets {
		k.secret(at, name, "calls of the service fail", nil)
	}
}

// signer looks for the secret of an object with a scheme and a secret. The server's settings go before secrets of the tenant. hmac
// has its header from the settings, unless the object has one.
func (k *checker) signer(of *node, header bool) {
	at, scheme := of.get("secret"), of.get("scheme").str()
	if !at.is(textKind) || scheme == "" {
		return
	}
	has, set := k.world.Signers[at.text]
	known := sortedNames(k.world.Signers)
	switch {
	case set && has != scheme:
		k.f.warn(at, "name another secret, or mend the settings", "the secret %q of the server's settings is for signatures of %s: requests are refused", at.text, has)
	case set:
	case scheme == string(trigger.HMAC) && !header:
		hint := "give it under webhooks in the server's settings, with the header that has the signature"
		if near := k.f.did(at.text, known); near != "" {
			hint = near + " Or " + hint
		}
		k.f.warn(at, hint, "the server's settings have no secret %q: until they do, requests are refused", at.text)
	default:
		k.secret(at, at.text, "requests are refused", known)
	}
}

// secret warns, once for each name, of a secret that the tenant does not have, and says what happens until it is set. Others are
// names that would do as well.
func (k *checker) secret(at *node, name, until string, others []string) {
	if k.world.Secret == nil || k.looked[name] || len(k.looked) >= maxSecrets {
		return
	}
	if k.looked == nil {
		k.looked = map[string]bool{}
	}
	k.looked[name] = true
	names, missing := k.world.Secret(name)
	if !missing {
		return
	}
	hint := "set it: pawl secrets set " + name
	if strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789_-.") != "" || strings.HasPrefix(name, "-") {
		hint = "name one that can be set: letters, digits, _, - and ."
	}
	if near := k.f.did(name, append(others, names...)); near != "" {
		hint = near + " Or " + hint
	}
	k.f.warn(at, hint, "there is no secret %q: until it is set, %s", name, until)
}
