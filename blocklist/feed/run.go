package feed

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Run keeps lists and set up to date until ctx ends, then gives the data folder back and returns
// nil. It watches the folders of files, asks URLs again, and looks at everything on Reload.
func (l *Lists) Run(ctx context.Context) error {
	if l.unlock != nil {
		defer l.unlock()
	}
	if l.cfg.ReadOnly {
		<-ctx.Done()
		return nil
	}
	l.ctx = ctx
	l.savePending()
	watch := l.newWatch()
	defer watch.close()
	events, errs := watch.channels()
	var fetches sync.WaitGroup
	defer fetches.Wait()
	fetching, cancel := context.WithCancel(ctx)
	defer cancel() // before Wait
	defer l.background.Wait()
	slots := make(chan struct{}, maxFetches)

	timer := time.NewTimer(0)
	defer timer.Stop()
	var changing change
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.reload:
			l.guarding.changed()
			for _, li := range l.lists {
				li.next = time.Time{}
			}
			l.setAgain = time.Time{}
		case e, ok := <-events:
			if !ok {
				events = nil
			} else if e.Op != fsnotify.Chmod {
				changing.seen(time.Now(), l.timing)
			}
		case _, ok := <-errs: // events were lost: all may have changed
			if !ok {
				errs = nil
			} else {
				changing.seen(time.Now(), l.timing)
			}
		case r := <-l.results:
			l.ingest(r)
		case err := <-l.verified:
			l.afterVerify(err)
		case m := <-l.merged:
			l.afterMerge(m)
		case <-timer.C:
		}
		if ctx.Err() != nil { // of several that were ready, select may have taken another
			return nil
		}
		now := time.Now()
		if watch.add() {
			changing.seen(now, l.timing)
		}
		changed := changing.over(now)
		if changed {
			l.guarding.changed()
		}
		for _, li := range l.lists {
			switch {
			case li.busy:
			case li.kind == KindURL:
				if !now.Before(li.next) {
					fetches.Go(l.downloading(fetching, slots, li))
				}
			case changed || !now.Before(li.next):
				l.refreshFile(li)
			}
		}
		l.retryFolder(now)
		if len(l.results) == 0 { // or it would be compiled once more at once
			l.publishDue(now)
			l.rest(now)
		}
		l.report()
		timer.Reset(time.Until(l.nextDue(changing)))
	}
}

// publishDue publishes, but after a failure not before setAgain; it logs the first failure only.
func (l *Lists) publishDue(now time.Time) {
	failed := l.setErr != nil
	if failed && now.Before(l.setAgain) {
		return
	}
	err := l.publish()
	mass := (*massChange)(nil)
	switch {
	case l.ctx.Err() != nil:
	case errors.As(err, &mass):
		if !failed {
			l.log.Error("the set is held; the last one stays in force", "err", err)
		}
	case err != nil && !failed:
		l.log.Error("the set could not be written; the last one stays in force", "err", err)
	case err == nil && failed:
		l.log.Info("the set is of the newest content again")
	}
}

// nextDue is when there is something to do though nothing happens.
func (l *Lists) nextDue(c change) time.Time {
	due := time.Now().Add(l.cfg.Refresh)
	earliest := func(t time.Time) {
		if t.Before(due) {
			due = t
		}
	}
	for _, li := range l.lists {
		if !li.busy {
			earliest(li.next)
		}
		if age := li.feed.MaxAge; age > 0 && li.published != nil && l.setErr == nil {
			earliest(li.copy.Fetched.Add(age)) // from then on it does not count
		}
	}
	if l.setErr != nil {
		earliest(l.setAgain)
	}
	if l.folder.err != nil {
		earliest(l.folder.again)
	}
	if c.pending() {
		earliest(c.read)
	}
	if l.guarding.held() {
		earliest(l.rested.Add(restEvery))
	}
	return due
}

// restEvery is how often what reading lists takes is given back at most: lists that change all the time keep it.
const restEvery = 10 * time.Second

// rest gives back what reading lists took, once nothing is left to read.
func (l *Lists) rest(now time.Time) {
	if now.Sub(l.rested) < restEvery || !l.guarding.letGo() {
		return
	}
	l.rested = now
	defer l.thrift.begin()()
	debug.FreeOSMemory()
}

// change is a burst of changes to files: they are read once it is over.
type change struct {
	first time.Time // zero: none is pending
	read  time.Time
}

func (c *change) pending() bool { return !c.first.IsZero() }

func (c *change) seen(now time.Time, t timing) {
	if !c.pending() {
		c.first = now
	}
	c.read = now.Add(t.quiet)
	if last := c.first.Add(t.unquiet); c.read.After(last) {
		c.read = last
	}
}

// over reports, once, that a burst is.
func (c *change) over(now time.Time) bool {
	if !c.pending() || now.Before(c.read) {
		return false
	}
	*c = change{}
	return true
}
