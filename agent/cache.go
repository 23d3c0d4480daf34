package agent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Cache keeps answers of models, in records that all workers of a store share. Of those who
// ask the same at the same moment, on whichever workers, one calls and the others wait for
// its answer; if its worker dies, another takes over when its claim runs out.
//
// Failures are never kept, nor are answers that declined, nor those over the size limit. It
// is safe for concurrent use.
type Cache struct {
	opt CacheOptions

	mu      sync.Mutex
	flights map[flightKey]*flight
	counts  map[*pawl.Engine]*CacheStats // not yet in the store
	timers  map[*pawl.Engine]*time.Timer
}

// CacheOptions are settings of a Cache.
type CacheOptions struct {
	Lease     time.Duration // how long a claim lasts that is not prolonged, as of a worker that died; 0 means 15 s
	MaxAnswer int           // bytes of JSON that a kept answer may have; 0 means 256 KiB
}

// NewCache makes a Cache. opt may be nil.
func NewCache(opt *CacheOptions) *Cache {
	var o CacheOptions
	if opt != nil {
		o = *opt
	}
	o.Lease = max(cmp.Or(max(o.Lease, 0), 15*time.Second), 30*time.Millisecond)
	o.MaxAnswer = cmp.Or(max(o.MaxAnswer, 0), 256<<10)
	return &Cache{opt: o, flights: map[flightKey]*flight{}, counts: map[*pawl.Engine]*CacheStats{}, timers: map[*pawl.Engine]*time.Timer{}}
}

// CacheScope says who shares an answer.
type CacheScope string

// The scopes. "" means CacheWorkflow.
const (
	CacheWorkflow CacheScope = "workflow" // runs of one workflow of one tenant
	CacheTenant   CacheScope = "tenant"   // runs of one tenant
	CacheAll      CacheScope = "all"      // all runs: one tenant may get what another has paid for, and can tell that somebody asked
)

// CacheKey is all that an answer depends on. Requests that differ in anything but the
// spelling of their JSON schemas are not the same.
type CacheKey struct {
	Scope    CacheScope
	Tenant   string // of the run
	Workflow string // "" means that of the step whose body was given ctx
	Provider string // where the model is asked, such as "openai"
	Prompt   string // the prompt's name and version, if it has them
	Request  *llm.Request
}

// CacheSource says where an answer came from.
type CacheSource string

// The sources.
const (
	CacheMiss CacheSource = "miss" // a call of one's own
	CacheHit  CacheSource = "hit"  // the cache had it
	CacheWait CacheSource = "wait" // another made the same call, and it was waited for; also with that one's error
)

const (
	cacheSpace = "agent.cache"
	pollFirst  = 20 * time.Millisecond
	pollMost   = 500 * time.Millisecond
	largeKept  = time.Minute // that an answer was too large is known for so long
)

// Generate returns the answer that is kept under key, or waits for it if it is on its way,
// or else makes call and keeps what it returns for the time of ttl. ttl 0 or less: the cache
// is not used. An answer from the cache is whole but for Raw, which is not kept; what it
// cost was paid by who made the call, so only with CacheMiss is there anything to pay.
//
// An error of call is returned, and to those who wait for it in this process too if it is
// an *llm.Error that was not due to the caller's own ctx; others make the call themselves.
// call may make several calls. It is given ctx, which the cache does not end.
//
// ErrInput: key says too little, or has no JSON form; other errors are the store's.
func (c *Cache) Generate(ctx context.Context, engine *pawl.Engine, key CacheKey, ttl time.Duration, call func(context.Context) (*llm.Response, error)) (*llm.Response, CacheSource, error) {
	if ttl <= 0 {
		resp, err := call(ctx)
		return resp, CacheMiss, err
	}
	if engine == nil {
		return nil, CacheMiss, pawl.Fatal(fmt.Errorf("%w: the cache: there is no engine; in a step's body use pawl.EngineOf(ctx)", pawl.ErrInput))
	}
	if key.Workflow == "" {
		key.Workflow = pawl.InfoOf(ctx).Workflow
	}
	name, err := key.name()
	if err != nil {
		return nil, CacheMiss, pawl.Fatal(fmt.Errorf("%w: the cache: %w", pawl.ErrInput, err))
	}
	resp, source, err := c.generate(ctx, flightKey{engine, name}, ttl, call)
	c.count(engine, resp, source, err)
	return resp, source, err
}

// Clear forgets the answers of a scope: key's Scope, Tenant and Workflow. It returns how
// many it forgot. Calls under way keep theirs.
func (c *Cache) Clear(ctx context.Context, engine *pawl.Engine, key CacheKey) (int, error) {
	prefix, err := key.prefix()
	if err != nil {
		return 0, fmt.Errorf("%w: clear the cache: %w", pawl.ErrInput, err)
	}
	for n, after := 0, ""; ; {
		page, err := engine.Records(ctx, cacheSpace, prefix, after, 100)
		if err != nil {
			return n, fmt.Errorf("clear the cache: %w", err)
		}
		for _, r := range page {
			var kept cached
			if json.Unmarshal(r.Data, &kept) == nil && kept.Claim != "" {
				continue
			}
			switch _, err := engine.Write(ctx, pawl.Put{Space: cacheSpace, Key: r.Key, If: r.Version}); {
			case err == nil:
				n++
			case !errors.Is(err, pawl.ErrConflict):
				return n, fmt.Errorf("clear the cache: %w", err)
			}
		}
		if len(page) < 100 {
			return n, nil
		}
		after = page[len(page)-1].Key
	}
}

// forget deletes an answer that turned out to be no use. Calls under way keep theirs.
func (c *Cache) forget(ctx context.Context, engine *pawl.Engine, name string) error {
	r, err := engine.Record(ctx, cacheSpace, name)
	var kept cached
	if err != nil || json.Unmarshal(r.Data, &kept) != nil || kept.Answer == nil {
		return err
	}
	_, err = engine.Write(ctx, pawl.Put{Space: cacheSpace, Key: name, If: r.Version})
	return err
}

// prefix begins the names of all answers of the scope.
func (k *CacheKey) prefix() (string, error) {
	switch k.Scope {
	case CacheWorkflow, "":
		if k.Workflow == "" {
			return "", errors.New("the scope is a workflow, and none is named; set Workflow, or another Scope")
		}
		return "w/" + scopeHash(k.Tenant, k.Workflow) + "/", nil
	case CacheTenant:
		return "t/" + scopeHash(k.Tenant) + "/", nil
	case CacheAll:
		return "a/", nil
	}
	return "", fmt.Errorf("the scope %q is none of workflow, tenant, all", k.Scope)
}

// scopeHash tells scopes apart, byte for byte.
func scopeHash(parts ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", parts))
	return hex.EncodeToString(sum[:12])
}

// name is the key of the answer's record.
func (k *CacheKey) name() (string, error) {
	prefix, err := k.prefix()
	if err != nil {
		return "", err
	}
	if k.Request == nil {
		return "", errors.New("there is no request; set Request")
	}
	text, err := json.Marshal(k.Request)
	if err != nil {
		return "", fmt.Errorf("the request has no JSON form: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(text)) // into maps, which are written in the order of their keys
	d.UseNumber()
	var plain any
	if err := d.Decode(&plain); err != nil {
		return "", fmt.Errorf("the request's JSON form does not read back: %w", err)
	}
	text, err = json.Marshal([]any{k.Provider, k.Prompt, plain})
	if err != nil {
		return "", fmt.Errorf("the request has no JSON form: %w", err)
	}
	sum := sha256.Sum256(text)
	return prefix + hex.EncodeToString(sum[:]), nil
}
