package trigger

import "testing"

// A sender's secret is changed without a gap: with two that hold, whichever comes first, each scheme takes either.
func TestEitherOfTwoSecretsWillDo(t *testing.T) {
	const other = "whsec_YW5vdGhlciBzZWNyZXQsIG9mIGFub3RoZXIgdGltZQ=="
	for _, r := range signedRequests() {
		mine := r.opt.Secrets
		for _, both := range [][]string{append([]string{other}, mine...), append(append([]string{}, mine...), other)} {
			opt := r.opt
			opt.Secrets = both
			if _, err := verifier(t, opt).Verify(r.header(), []byte(r.body), r.now()); err != nil {
				t.Errorf("%s with %d secrets: %v", r.name, len(both), err)
			}
		}
		opt := r.opt
		opt.Secrets = []string{other}
		refused(t, verifier(t, opt), r.header(), r.body, r.now(), r.name+" with the other alone")
	}
}
