package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// The disk is watched from both ends. A write is refused while less than a reserve is free, so that the store never meets
// a full disk and reading goes on. Where others fill the disk all the same, the store fails and takes no more writes: it is closed
// and opened again when there is room, which drops the record that was cut short, and which nobody was told is kept.

// maxReserve bounds the room that is kept free, an eighth of the disk otherwise.
const maxReserved = 64 << 20

// diskSpace holds the free space and the size of a disk, in bytes.
type diskSpace struct{ free, total uint64 }

// reserve returns how many bytes must stay free.
func (d diskSpace) reserve() uint64 { return min(maxReserved, d.total/8) }

// room is an error when n octets more cannot be written.
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

// takes ends when the store that runs now takes no more writes.
func (e *embedded) currentWrites() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.writesContext
}

// suspect has the store looked at now.
func (e *embedded) requestCheck() {
	select {
	case e.checkDue <- struct{}{}:
	default:
	}
}

// watch looks at the store now and then, and when a write is not answered.
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

// mend notes when the store has failed, and starts the server anew where that helps and there is room. A disk that fails is not
// helped by trying again: what could not be synced may be gone, and who runs it must look.
func (e *embedded) recoverStore() {
	e.mu.Lock()
	s, log, failed := e.server, e.serverLog, e.failed
	e.mu.Unlock()
	if failed == nil {
		if failed = storeError(s, log); failed == nil {
			return
		}
		e.log.Error("the journal takes no writes", "err", failed)
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
		e.log.Error("the journal cannot be opened again, which is tried on", "err", err)
		return
	}
	e.log.Info("the journal takes writes again")
}

// errStopped says that the server has closed its store, which it does where its folder is full or cannot be written.
var errStopped = errors.New("the journal's store has stopped")

// storeError returns why the store of a server takes no writes; nil if it takes them.
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
	return fmt.Errorf("the journal's disk fails: check it, then start again: %w", failed)
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
