package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// The disk is checked before and after it is full. A write is refused while less than a reserve is free, so that the store itself never fills the disk and
// reading continues. If other programs fill the disk, the store fails and refuses writes: it is closed, and opened again when there is space. That drops the
// record that was cut, which was not acknowledged.

// maxReserved bounds the space that stays free, which is otherwise an eighth of the disk.
const maxReserved = 64 << 20

// diskSpace holds the free space and the size of a disk, in bytes.
type diskSpace struct{ free, total uint64 }

// reserve returns how many bytes must stay free.
func (d diskSpace) reserve() uint64 { return min(maxReserved, d.total/8) }

// checkSpace returns an error if n more bytes cannot be written.
func (e *embedded) checkSpace(n int) error {
	e.mu.Lock()
	failed := e.failed
	e.mu.Unlock()
	if failed != nil {
		return failed
	}
	disk, err := readDiskSpace(e.cfg.Dir)
	if err != nil {
		return fmt.Errorf("journal's disk: %w", err)
	}
	if reserve := disk.reserve(); disk.free < reserve+2*uint64(n) {
		return fmt.Errorf("%w: %d MB are left on the disk of %s, and %d MB must stay free: free space there", ErrFull, disk.free>>20, e.cfg.Dir, reserve>>20)
	}
	return nil
}

// currentWrites returns a context that is canceled when the current store fails.
func (e *embedded) currentWrites() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.writesContext
}

// requestCheck makes watch check the store at once.
func (e *embedded) requestCheck() {
	select {
	case e.checkDue <- struct{}{}:
	default:
	}
}

// watch checks the store at intervals, and after a write that was not answered.
func (e *embedded) watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.checkDue:
		case <-tick.C:
		}
		e.recoverStore()
	}
}

// recoverStore detects a failed store, and restarts the server if that helps and there is space. A restart does not help if the disk itself fails: data that
// could not be synced may be lost, and an operator must check the disk.
func (e *embedded) recoverStore() {
	e.mu.Lock()
	s, log, failed := e.server, e.serverLog, e.failed
	e.mu.Unlock()
	if failed == nil {
		if failed = storeError(s, log); failed == nil {
			return
		}
		e.log.Error("the journal refuses writes", "err", failed)
		e.mu.Lock()
		e.failed = failed
		e.mu.Unlock()
		e.failWrites()
	}
	if !errors.Is(failed, ErrFull) && !errors.Is(failed, errStopped) {
		return
	}
	disk, err := readDiskSpace(e.cfg.Dir)
	if err != nil || disk.free < disk.reserve() {
		return
	}
	e.shutdown()
	if err := e.start(); err != nil {
		e.log.Error("reopening the journal failed; trying again", "err", err)
		return
	}
	e.log.Info("the journal accepts writes again")
}

// errStopped is returned if the server has closed its store, because its folder is full or cannot be written.
var errStopped = errors.New("the journal's store has stopped")

// storeError returns why the store of a server refuses writes; nil if it accepts them.
func storeError(s *server.Server, log *serverLog) error {
	if !s.JetStreamEnabled() {
		return errStopped
	}
	cause := log.systemError()
	if cause == nil { // a stream that is being created is reported as failed for a moment
		return nil
	}
	failed := failedStreams(s)
	switch {
	case failed == nil:
		return nil
	case isFullDisk(cause):
		return fmt.Errorf("%w: %w", ErrFull, failed)
	}
	return fmt.Errorf("the journal's disk failed: check it, then restart: %w", failed)
}

// failedStreams returns an error that names the streams that a server could not read or write; nil if there are none.
func failedStreams(s *server.Server) (err error) {
	for _, e := range s.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if e.Type == server.HealthzErrorStream {
			err = errors.Join(err, errors.New(e.Error))
		}
	}
	return err
}
