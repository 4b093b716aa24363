package upstream

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rempart/internal/wire"
)

// TestQuestionWithoutAnswerEndsWhileAnotherUpstreamRefuses asks for a name that one upstream never answers, while the other upstream refuses every question and the first
// answers other names: the question ends after the timeout of the pool.
func TestQuestionWithoutAnswerEndsWhileAnotherUpstreamRefuses(t *testing.T) {
	lost := func(q *Question) bool { return strings.HasPrefix(wire.Text(q.Name), "lost.") }
	refuses, answers := &fake{delay: after(time.Millisecond), err: syscall.ECONNREFUSED}, &fake{delay: after(time.Millisecond), lost: lost}
	scene(t, []*fake{refuses, answers}, func(t *testing.T, p *Pool) {
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		go func() {
			for ctx.Err() == nil {
				_, _ = exchangeWith(p, ctx, question(t, "www.example"))
				time.Sleep(100 * time.Millisecond)
			}
		}()
		time.Sleep(time.Second)
		defer time.Sleep(time.Second) // the goroutine ends
		defer stop()
		began := time.Now()
		if _, err := exchangeWith(p, ctx, question(t, "lost.example")); err == nil {
			t.Error("the question was answered")
		}
		if took := time.Since(began); took > defaultTimeout {
			t.Errorf("the question ended after %v, want at most %v", took, defaultTimeout)
		}
	})
}

// TestRefusedQuestionIsRepeatedAFewTimes asks for a name whose questions are refused by a port, as a firewall does at a limit of a rate, while the upstream answers others.
func TestRefusedQuestionIsRepeatedAFewTimes(t *testing.T) {
	only := &fake{delay: after(time.Millisecond)}
	var refused atomic.Int64
	only.refused = func(q *Question) bool {
		is := strings.HasPrefix(wire.Text(q.Name), "refused.")
		if is {
			refused.Add(1)
		}
		return is
	}
	scene(t, []*fake{only}, func(t *testing.T, p *Pool) {
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		go func() {
			for ctx.Err() == nil {
				_, _ = exchangeWith(p, ctx, question(t, "www.example"))
			}
		}()
		time.Sleep(time.Second)
		defer time.Sleep(time.Second) // the goroutine ends
		defer stop()
		if _, err := exchangeWith(p, ctx, question(t, "refused.example")); err == nil {
			t.Error("the question was answered")
		}
		if n := refused.Load(); n > 20 {
			t.Errorf("the question was sent %d times", n)
		}
	})
}

// TestQuestionsWaitForRestartTogether checks that questions that wait for the only upstream are answered when it is there again.
func TestQuestionsWaitForRestartTogether(t *testing.T) {
	only := &fake{delay: after(time.Millisecond)}
	scene(t, []*fake{only}, func(t *testing.T, p *Pool) {
		ask(t, p)
		only.setErr(syscall.ECONNREFUSED)
		var waiting sync.WaitGroup
		for range 1000 {
			waiting.Go(func() { ask(t, p) })
		}
		time.Sleep(time.Second)
		only.setErr(nil)
		waiting.Wait()
	})
}
