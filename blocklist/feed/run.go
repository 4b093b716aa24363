package feed

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Run keeps lists and set up to date until ctx ends, then gives the data folder back and returns
// nil. It watches files, asks URLs again, and looks at everything on Reload.
func (l *Lists) Run(ctx context.Context) error {
	if l.unlock != nil {
		defer l.unlock()
	}
	if l.cfg.ReadOnly {
		<-ctx.Done()
		return nil
	}
	defer l.endStart()
	defer context.AfterFunc(ctx, l.endStart)()
	<-l.started // until then, begin is the writer
	l.ctx = ctx
	l.savePending()
	var beside sync.WaitGroup // fetches and the file watcher
	defer beside.Wait()
	running, cancel := context.WithCancel(ctx)
	defer cancel() // before Wait
	defer l.background.Wait()
	slots := make(chan struct{}, maxFetches)
	changed := make(chan []string)
	beside.Go(func() {
		l.watch.Run(running, l.timing.poll, func(paths []string) {
			select {
			case changed <- paths:
			case <-running.Done():
			}
		})
	})

	beside.Go(func() { l.guards.Run(running, l.timing.poll) })
	for _, r := range l.late {
		l.ingest(r)
	}
	l.late = nil
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.reload:
			for _, li := range l.lists {
				li.leaveAlone = time.Time{}
			}
			l.lookAtAll()
		case <-l.retry:
			l.lookAtAll()
		case c := <-l.configure:
			l.reconfigured(c)
		case paths := <-changed:
			l.filesChanged(paths)
		case <-l.guards.Changed():
			l.judgeAllAgain()
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
		for _, li := range l.lists {
			switch {
			case li.busy || now.Before(li.due()):
			case li.kind == KindURL:
				beside.Go(l.downloading(running, slots, li, running.Done()))
			default:
				l.refreshFile(li)
			}
		}
		l.retryFolder(now)
		if len(l.results) == 0 { // or it would be compiled once more at once
			l.publishDue(now)
			l.rest(now)
		}
		l.report()
		timer.Reset(time.Until(l.nextDue()))
	}
}

// lookAtAll makes every list due, except those that are to be left alone.
func (l *Lists) lookAtAll() {
	_, _ = l.guards.Reload() // it logs the error; the guards from before stay in use
	for _, li := range l.lists {
		li.next = time.Time{}
	}
	l.setAgain = time.Time{}
}

// filesChanged makes the lists due that are read from the files at paths.
func (l *Lists) filesChanged(paths []string) {
	for _, li := range l.lists {
		if li.kind != KindURL && slices.Contains(paths, li.source) {
			li.next = time.Time{}
		}
	}
}

// judgeAllAgain passes every list through changed guards: a list in a file is read again, a list with a URL from its stored content.
func (l *Lists) judgeAllAgain() {
	for _, li := range l.lists {
		if li.kind == KindURL {
			l.judgeAgain(li)
		} else {
			li.next = time.Time{}
		}
	}
}

// judgeAgain passes a list with a URL through the guards again. A content that was held whole was not kept: it is fetched.
func (l *Lists) judgeAgain(li *list) {
	if current, err := l.current(li); err != nil || current {
		return
	}
	if held := (*massChange)(nil); errors.As(li.err, &held) || li.copy == nil || !l.parseBodyAgain(li) {
		li.next = time.Time{}
	}
}

// watched returns the paths of all files that lists are read from.
func (l *Lists) watched() (paths []string) {
	for _, li := range l.lists {
		if li.kind != KindURL {
			paths = append(paths, li.source)
		}
	}
	return paths
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
func (l *Lists) nextDue() time.Time {
	due := time.Now().Add(l.cfg.Refresh)
	earliest := func(t time.Time) {
		if t.Before(due) {
			due = t
		}
	}
	for _, li := range l.lists {
		if !li.busy {
			earliest(li.due())
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
	if l.guards.Acquired() {
		earliest(l.rested.Add(restEvery))
	}
	return due
}

// restEvery is how often what reading lists takes is given back at most: lists that change all the time keep it.
const restEvery = 10 * time.Second

// rest gives back what reading lists took, once nothing is left to read.
func (l *Lists) rest(now time.Time) {
	if now.Sub(l.rested) < restEvery || !l.guards.Release() {
		return
	}
	l.rested = now
	defer l.cfg.LowMemory()()
	debug.FreeOSMemory()
}
