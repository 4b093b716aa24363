package listen

import (
	"context"
	"os"
	"testing"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/listen/fake"
)

// byForward makes serve wrap its Handler in a forwarding.
var byForward bool

// TestMain runs all tests twice: slow queries are continued by Slow, then by Forward.
func TestMain(m *testing.M) {
	os.Exit(dnstest.RunTwice(m, "by Forward", func() { byForward = true }))
}

// forwarding is a Forwarder that calls the Handler's Slow for each query, and returns the queries of a call one by one or, if the first of them does not wait,
// together. It leaves queries for names that begin with "slowleft".
type forwarding struct{ Handler }

func (f forwarding) Forward(ctx context.Context, queries []*wire.Query) (left []*wire.Query) {
	left = queries[:0]
	for i, q := range queries {
		switch name := fake.Label(q); {
		case name == "slowleft":
			left = append(left, q)
		case name == "slow":
			together := append([]*wire.Query(nil), queries[i:]...)
			go func() {
				for _, q := range together {
					f.Handler.Slow(ctx, q)
				}
				q.Return.Return(together)
			}()
			return left
		default:
			renewal := q.Renew
			go func() {
				f.Handler.Slow(ctx, q)
				if renewal {
					q.Outcome = wire.Dropped
				}
				q.Return.Return([]*wire.Query{q})
			}()
		}
	}
	return left
}
