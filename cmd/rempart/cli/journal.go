package cli

import (
	"errors"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// sendJournal sends a record to systemd's journal, as journal.Send does.
type sendJournal func(message string, priority journal.Priority, fields map[string]string) error

const (
	journalPatience = 200 * time.Millisecond // for one record
	journalPause    = 5 * time.Second        // without another attempt, after a record that took longer
)

var errJournalStuck = errors.New("it accepts no records at the moment")

// boundedJournal bounds the time that a record takes: a journal of systemd that hangs must not keep the server from starting, answering or ending.
type boundedJournal struct {
	send sendJournal
	free chan struct{} // holds a token while no record is being sent

	mu      sync.Mutex
	retryAt time.Time // no record is sent before; zero: at once
}

func newBoundedJournal(send sendJournal) *boundedJournal {
	b := &boundedJournal{send: send, free: make(chan struct{}, 1)}
	b.free <- struct{}{}
	return b
}

// Send sends a record. A record whose error is errJournalStuck may arrive later all the same.
func (b *boundedJournal) Send(message string, priority journal.Priority, fields map[string]string) error {
	if b.pauses() {
		return errJournalStuck
	}
	timer := time.NewTimer(journalPatience)
	defer timer.Stop()
	select {
	case <-b.free:
	case <-timer.C:
		return b.stuck()
	}
	sent := make(chan error, 1)
	go func() { // If the journal hangs, this goroutine continues after Send has returned; free allows one such goroutine.
		sent <- b.send(message, priority, fields)
		b.free <- struct{}{}
	}()
	select {
	case err := <-sent:
		return err
	case <-timer.C:
		return b.stuck()
	}
}

func (b *boundedJournal) pauses() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.retryAt)
}

func (b *boundedJournal) stuck() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retryAt = time.Now().Add(journalPause)
	return errJournalStuck
}
