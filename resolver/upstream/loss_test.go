package upstream

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/internal/wire"
)

// lossy returns the delays of an upstream that answers after rtt and loses a share of the packets.
func lossy(seed uint64, share float64, rtt time.Duration) func() time.Duration {
	rnd := rand.New(rand.NewPCG(seed, seed))
	var mu sync.Mutex
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		if rnd.Float64() < share {
			return never
		}
		return rtt
	}
}

// lossOf returns a function that reports whether a packet is lost, for this share of all packets. In every run the same packets of a question are lost,
// in whatever order goroutines run.
func lossOf(seed uint64, share float64) func(*Question) bool {
	var mu sync.Mutex
	sent := map[string]uint64{}
	return func(q *Question) bool {
		mu.Lock()
		defer mu.Unlock()
		key := string(q.Name) + string(rune(q.Type))
		sent[key]++
		rnd := rand.New(rand.NewPCG(seed<<32|sent[key], xxhash.Sum64String(key)))
		return rnd.Float64() < share
	}
}

// inBursts returns the delays of an upstream that answers after rtt, and loses all packets during the last part of each period. every is the period, off is
// the length of that part.
func inBursts(every, off, rtt time.Duration) func() time.Duration {
	start := time.Now()
	return func() time.Duration {
		if time.Since(start)%every >= every-off {
			return never
		}
		return rtt
	}
}

// clientPatience is how long the resolver waits for an answer.
const clientPatience = 4 * time.Second

// crowd makes concurrent clients ask count questions and returns the number of questions that were not answered.
func crowd(t *testing.T, p *Pool, clients, count int, pause time.Duration) (failed int) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := c; i < count; i += clients {
				ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
				a, err := exchangeWith(p, ctx, question(t, fmt.Sprintf("q%d.example", i)))
				cancel()
				mu.Lock()
				if err != nil || wire.Rcode(a.Packed) != wire.Success {
					failed++
					t.Logf("q%d.example: %v", i, err)
				}
				mu.Unlock()
				time.Sleep(pause)
			}
		})
	}
	all.Wait()
	return failed
}

// TestLossFailsNoQuestion checks that none of 600 questions fails if upstreams lose packets, do not answer, or return errors.
func TestLossFailsNoQuestion(t *testing.T) {
	const rtt, count = 20 * time.Millisecond, 600
	well := func() *fake { return &fake{delay: after(rtt)} }
	loss := func(seed uint64, share float64) *fake { return &fake{delay: after(rtt), lost: lossOf(seed, share)} }
	for name, fakes := range map[string]func(seed uint64) []*fake{
		"single upstream, 10 % loss":            func(s uint64) []*fake { return []*fake{loss(s, .1)} },
		"single upstream, 20 % loss":            func(s uint64) []*fake { return []*fake{loss(s, .2)} },
		"preferred of two loses 20 %":           func(s uint64) []*fake { return []*fake{loss(s, .2), well()} },
		"preferred of two loses 50 %":           func(s uint64) []*fake { return []*fake{loss(s, .5), well()} },
		"both of two lose 20 %":                 func(s uint64) []*fake { return []*fake{loss(s, .2), loss(s+1, .2)} },
		"all of three lose packets":             func(s uint64) []*fake { return []*fake{loss(s, .2), loss(s+1, .1), loss(s+2, .2)} },
		"preferred dead, second loses 20 %":     func(s uint64) []*fake { return []*fake{{delay: after(never)}, loss(s, .2)} },
		"preferred loses 20 %, second dead":     func(s uint64) []*fake { return []*fake{loss(s, .2), {delay: after(never)}} },
		"single upstream, bursts of loss":       func(uint64) []*fake { return []*fake{{delay: inBursts(5*time.Second, time.Second, rtt)}} },
		"preferred of two, bursts of loss":      func(uint64) []*fake { return []*fake{{delay: inBursts(5*time.Second, time.Second, rtt)}, well()} },
		"single upstream, short bursts of loss": func(uint64) []*fake { return []*fake{{delay: inBursts(time.Second, 300*time.Millisecond, rtt)}} },
		"preferred has bursts, second loses 20 %": func(s uint64) []*fake {
			return []*fake{{delay: inBursts(5*time.Second, time.Second, rtt)}, loss(s, .2)}
		},
		"preferred answers REFUSED":  func(uint64) []*fake { return []*fake{{delay: after(rtt), rcode: wire.Refused}, well()} },
		"preferred answers SERVFAIL": func(uint64) []*fake { return []*fake{{delay: after(rtt), rcode: wire.ServFail}, well()} },
	} {
		for _, clients := range []int{1, 20} {
			t.Run(fmt.Sprintf("%s, %d clients", name, clients), func(t *testing.T) {
				sent, asked := 0, 0
				for seed := range uint64(5) {
					fakes := fakes(10*seed + 1)
					scene(t, fakes, func(t *testing.T, p *Pool) {
						start := time.Now()
						if failed := crowd(t, p, clients, count, 10*time.Millisecond); failed > 0 {
							t.Errorf("%d of %d questions failed", failed, count)
						}
						for _, f := range fakes {
							n, probed := f.counts()
							sent += n + probed
						}
						asked += count
						t.Logf("mean %v", time.Since(start)*time.Duration(clients)/count-10*time.Millisecond)
					})
				}
				if len(fakes(1)) == 1 && sent > asked*13/10 {
					t.Errorf("%d packets for %d questions, want at most 1.3 per question", sent, asked)
				}
			})
		}
	}
}

// TestDeadUpstreamIsNotFlooded checks that the number of packets to an upstream that no longer answers is bounded.
func TestDeadUpstreamIsNotFlooded(t *testing.T) {
	only := &fake{delay: after(20 * time.Millisecond)}
	scene(t, []*fake{only}, func(t *testing.T, p *Pool) {
		crowd(t, p, 20, 4000, 10*time.Millisecond)
		only.set(never)
		before, _ := only.counts()
		const count = 3000
		crowd(t, p, 100, count, 10*time.Millisecond)
		asked, _ := only.counts()
		if most := before + count*11/10 + maxCredit + maxTokens; asked > most {
			t.Errorf("%d packets for %d questions, want at most %d", asked-before, count, most-before)
		}
	})
}

// TestSlowNamesAreNotTreatedAsLoss checks that few questions are repeated if some names are slow to resolve.
func TestSlowNamesAreNotTreatedAsLoss(t *testing.T) {
	for _, every := range []int{50, 20, 10, 4} {
		for _, clients := range []int{1, 20} {
			slow := func(q *Question) bool {
				var n int
				fmt.Sscanf(wire.Text(q.Name), "q%d.", &n)
				return n%every == every-1
			}
			only := &fake{delay: after(20 * time.Millisecond), slow: slow}
			scene(t, []*fake{only}, func(t *testing.T, p *Pool) {
				const count = 2000
				if failed := crowd(t, p, clients, count, 10*time.Millisecond); failed > 0 {
					t.Errorf("%d of %d questions failed", failed, count)
				}
				if asked, _ := only.counts(); asked > count*6/5 {
					t.Errorf("one name in %d is slow, %d clients: %d packets for %d questions, want at most 1.2 per question", every, clients, asked, count)
				}
			})
		}
	}
}

// TestRepeatedQuestionsForDeadZoneAreBounded checks that the number of repeated questions is bounded while clients ask many questions that no upstream answers,
// and others that are answered.
func TestRepeatedQuestionsForDeadZoneAreBounded(t *testing.T) {
	dead := func(q *Question) bool { return bytes.HasPrefix(q.Name, []byte("\x04dead")) }
	rtt := 20 * time.Millisecond
	fakes := []*fake{{delay: after(rtt), lost: dead}, {delay: after(rtt), lost: dead}}
	scene(t, fakes, func(t *testing.T, p *Pool) {
		crowd(t, p, 20, 2000, time.Millisecond)
		var all sync.WaitGroup
		most := int64(0)
		for range MaxInFlight + 100 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
				defer cancel()
				exchangeWith(p, ctx, question(t, "dead.example"))
			})
		}
		for range 40 {
			time.Sleep(100 * time.Millisecond)
			ask := question(t, "good.example")
			exchangeWith(p, t.Context(), ask)
			most = max(most, p.repeats.Load())
		}
		all.Wait()
		if most > MaxInFlight/4+maxTokens+MaxInFlight/perToken {
			t.Errorf("%d questions were repeated at the same time", most)
		}
	})
}
