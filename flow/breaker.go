package flow

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/service"
)

// Circuits is how the names of the circuits of a tenant's services begin, among [agent.Breakers], and of no other tenant's:
// service:tenant/name, or service:tenant/name/host for a service that goes to many places. What stands in the tenant's name that
// could be taken for another part is escaped, and a long name is a hash.
func Circuits(tenant string) string {
	if tenant = strings.ReplaceAll(url.PathEscape(tenant), "~", "%7E"); len(tenant) > maxEndpoint/2 {
		tenant = fmt.Sprintf("~%x", sha256.Sum256([]byte(tenant)))
	}
	return "service:" + tenant + "/"
}

// maxEndpoint is how long the name of a circuit may be.
const maxEndpoint = 256

// guarded calls a service unless it is known not to work: after 3 failures in a row, of all workers, its calls wait for 30 s,
// and then one tries. Each tenant has circuits of its own, so that what one calls in vain keeps no other from it.
func (x *run) guarded(ctx context.Context, name string, s service.Service, c service.Call, redact *service.Redactor) (any, error) {
	endpoint := Circuits(pawl.InfoOf(ctx).Tenant) + name
	if located, is := s.(service.Located); is {
		endpoint = strings.TrimSuffix(endpoint+"/"+located.Endpoint(c), "/")
	}
	endpoint = strings.ToValidUTF8(endpoint[:min(len(endpoint), maxEndpoint)], "")
	pass, err := x.opt.Breaker.Allow(ctx, pawl.EngineOf(ctx), endpoint)
	if err != nil {
		return nil, err
	}
	returned := false
	defer func() {
		if !returned { // a panic says nothing of who was called, and who tries must not keep others from trying
			_ = pass.Done(errors.New("the service panicked"))
		}
	}()
	answer, err := s.Call(ctx, c)
	returned = true
	err = redact.Error(err)
	if untold := pass.Done(health(ctx, err)); untold != nil && x.opt.Logger != nil {
		x.opt.Logger.WarnContext(ctx, "pawl: a circuit breaker was not told how a call ended", "endpoint", endpoint, "error", untold)
	}
	var open *agent.BreakerError
	if err != nil && errors.As(x.opt.Breaker.Open(ctx, pawl.EngineOf(ctx), endpoint), &open) {
		if rest, _ := open.RetryAfter(); !fatal(err) { // the next attempt would not get through before
			err = pawl.RetryAfter(err, rest)
		}
	}
	return answer, err
}

// fatal reports whether another attempt is useless.
func fatal(err error) bool {
	var f interface{ Fatal() bool }
	return errors.As(err, &f) && f.Fatal()
}

// errUnasked tells a breaker that nobody was called.
var errUnasked = errors.New("nobody was called")

// health is what an error says of who was called, as breakers know it. What is refused without a status, as parameters or by rules of the
// service's own, says nothing, and nor does what failed for good before the service could say why, as a secret that is not there.
func health(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err // that the caller was cancelled is nobody's fault
	}
	kind := llm.Unavailable
	var known *service.Error
	is := errors.As(err, &known)
	if !is && fatal(err) || is && known.Status == 0 && (known.Code == service.Invalid || known.Code == service.Forbidden) {
		return errUnasked
	}
	if is {
		switch known.Code {
		case service.Unavailable:
		case service.TimedOut:
			kind = llm.Timeout
		case service.RateLimited:
			kind = llm.RateLimited
		default:
			kind = llm.BadRequest // it has answered
		}
	}
	return &llm.Error{Kind: kind, Provider: "service", Message: err.Error()}
}

// breaker is the program's, or one of its own.
func (o *Options) breaker() {
	if o.Breaker == nil {
		o.Breaker = agent.NewBreaker(nil)
	}
}
