package api

import "context"

// Caller is who sends a request.
type Caller struct {
	Tenant string
	Scopes []Scope
}

type callerKey struct{}

// callerOf returns who sends the request of a context.
func callerOf(ctx context.Context) *Caller {
	c, _ := ctx.Value(callerKey{}).(*Caller)
	return c
}

// tenantOf returns the tenant that a handler may look into.
func tenantOf(ctx context.Context) string {
	if c := exchangeOf(ctx).caller; c != nil {
		return c.Tenant
	}
	return ""
}

// expiry is a context that ends when a request's key does.
func expiry(context.Context) context.Context { return context.Background() }
