package api

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// A connection that has come a moment ago may have its request on the way: a thousand views that
// open at once are no attack. Those do not count until there are very many.
const (
	young  = time.Second
	atOnce = 8 // times as many as may wait
)

// crowd bounds how many connections each address has open that ask for nothing: those that
// have sent no whole head of a request yet, and idle ones. One too many costs the one that
// has asked for nothing for longest its place, if that is not young. So who opens thousands of sockets and never
// ends a request loses but his own, and who shares his address, as behind a proxy, is
// served: a request that is sent at once is never the oldest. Connections in a request, as
// live views are, are not counted.
type crowd struct {
	most int

	mu      sync.Mutex
	all     map[net.Conn]*visitor
	waiting map[string]*list.List // of *visitor by address, who waits for longest first
}

// visitor is one connection.
type visitor struct {
	conn    net.Conn
	address string
	place   *list.Element // in the list of its address; nil: it is in a request, or gone
	since   time.Time     // since when it waits
	asking  int           // requests under way
	gone    bool
}

type visitorKey struct{}

func newCrowd(most int) *crowd {
	return &crowd{most: most, all: map[net.Conn]*visitor{}, waiting: map[string]*list.List{}}
}

// enter is an http.Server's ConnContext.
func (c *crowd) enter(ctx context.Context, conn net.Conn) context.Context {
	v := &visitor{conn: conn, address: clientAddress(conn.RemoteAddr().String())}
	c.mu.Lock()
	c.all[conn] = v
	over := c.wait(v)
	c.mu.Unlock()
	end(over)
	return context.WithValue(ctx, visitorKey{}, v)
}

// wait puts a connection behind those of its address, and returns those that are to go.
func (c *crowd) wait(v *visitor) (over []*visitor) {
	l := c.waiting[v.address]
	if l == nil {
		l = list.New()
		c.waiting[v.address] = l
	}
	v.place = l.PushBack(v)
	v.since = time.Now()
	for l.Len() > c.most {
		first := l.Front().Value.(*visitor)
		if v.since.Sub(first.since) < young && l.Len() <= atOnce*c.most {
			break
		}
		first.gone = true
		c.unwait(first)
		over = append(over, first)
	}
	return over
}

func (c *crowd) unwait(v *visitor) {
	if v.place == nil {
		return
	}
	l := c.waiting[v.address]
	l.Remove(v.place)
	v.place = nil
	if l.Len() == 0 {
		delete(c.waiting, v.address)
	}
}

// left is an http.Server's ConnState.
func (c *crowd) left(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.all[conn]; v != nil {
		delete(c.all, conn)
		v.gone = true
		c.unwait(v)
	}
}

// around lets a handler answer on connections that are counted.
func (c *crowd) around(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, ok := r.Context().Value(visitorKey{}).(*visitor)
		if !ok {
			h.ServeHTTP(w, r)
			return
		}
		c.mu.Lock()
		v.asking++
		c.unwait(v)
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			var over []*visitor
			if v.asking--; v.asking == 0 && !v.gone {
				over = c.wait(v)
			}
			c.mu.Unlock()
			end(over)
		}()
		h.ServeHTTP(w, r)
	})
}

// end closes connections without a word, of which TLS would wait for the other end to take it.
func end(over []*visitor) {
	for _, v := range over {
		conn := v.conn
		if t, ok := conn.(*tls.Conn); ok {
			conn = t.NetConn()
		}
		_ = conn.Close() // it is given up
	}
}

// clientAddress is the address of a caller, of an address with or without port. Addresses of IPv6
// are those of one caller by their first 64 bits, of which one line has all.
func clientAddress(text string) string {
	host, _, err := net.SplitHostPort(text)
	if err != nil {
		host = text
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host[:min(len(host), 64)]
	}
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}
