package journal_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
)

// unreachable is a Source that fails, and sends the time of each attempt.
type unreachable struct {
	journaltest.Offline
	attempts chan time.Time
}

func (u unreachable) Newest(ctx context.Context) (journal.SequencedRecord, error) { // the first request of an edge without a state
	u.attempts <- time.Now()
	return u.Offline.Newest(ctx)
}

// TestRetryNow checks that RetryNow ends the wait for the next attempt, and that the following waits are short again.
func TestRetryNow(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		attempts := make(chan time.Time, 100)
		f, err := journal.NewFollower(journal.FollowerConfig{Dir: dir, Source: unreachable{attempts: attempts}, Trust: k.Trust(), Node: journal.Node{ID: "e"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Start(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = f.Run(ctx)
		}()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for len(attempts) > 0 {
			<-attempts
		}
		back := time.Now()
		f.RetryNow()
		if took := (<-attempts).Sub(back); took != 0 {
			t.Errorf("the first attempt was made %v after the network was back", took)
		}
		if took := (<-attempts).Sub(back); took > time.Second {
			t.Errorf("the second attempt was made %v after the network was back", took)
		}
		cancel()
		<-done
	})
}
