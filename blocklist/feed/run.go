package feed

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Run keeps lists and set up to date until ctx ends, then unlocks the data folder and returns nil. It watches files, fetches URLs
// at their intervals, and checks every list on Reload.
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
	l.copies.savePostponed()
	var beside sync.WaitGroup // fetches and the file watchers
	defer beside.Wait()
	running, cancel := context.WithCancel(ctx)
	defer cancel() // before Wait
	defer l.publisher.background.Wait()
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
	for _, r := range l.lateDownloads {
		l.handleDownload(r)
	}
	l.lateDownloads = nil
	timer := time.NewTimer(0)
	defer timer.Stop()
	for l.handleEvent(ctx, changed, timer.C) {
		now := time.Now()
		for _, li := range l.lists {
			switch {
			case li.fetching || now.Before(li.due()):
			case li.kind == KindURL:
				beside.Go(l.startDownload(running, slots, li, running.Done()))
			default:
				l.copies.refreshFile(li)
			}
		}
		l.retryFolder(now)
		if len(l.results) == 0 { // or it would be compiled once more at once
			l.publishDue(now)
			l.freeMemory(now)
		}
		l.updateStatus()
		timer.Reset(time.Until(l.nextDue()))
	}
	return nil
}

// handleEvent waits for one event, handles it, and reports whether ctx is still in force. due receives the time of the next thing to do.
func (l *Lists) handleEvent(ctx context.Context, changed <-chan []string, due <-chan time.Time) bool {
	select {
	case <-ctx.Done():
	case <-l.reload:
		for _, li := range l.lists {
			li.notBefore = time.Time{}
		}
		l.makeAllDue()
	case <-l.retry:
		l.makeAllDue()
	case c := <-l.configure:
		l.applyConfiguration(c)
	case paths := <-changed:
		l.filesChanged(paths)
	case <-l.guards.Changed():
		l.rejudgeAll()
	case r := <-l.results:
		l.handleDownload(r)
	case err := <-l.publisher.verified:
		l.publisher.afterVerify(err)
	case m := <-l.publisher.merged:
		l.publisher.afterMerge(m)
	case <-due:
	}
	return ctx.Err() == nil // of several that were ready, select may have taken another
}

// makeAllDue makes every list due, except lists whose server asked for a pause.
func (l *Lists) makeAllDue() {
	_, _ = l.guards.Reload() // it logs the error; the guards from before stay in use
	for _, li := range l.lists {
		li.next = time.Time{}
	}
	l.publisher.retryAt = time.Time{}
}

// filesChanged makes the lists due that are read from the files at paths.
func (l *Lists) filesChanged(paths []string) {
	for _, li := range l.lists {
		if li.kind != KindURL && slices.Contains(paths, li.source) {
			li.next = time.Time{}
		}
	}
}

// rejudgeAll passes every list through changed guards: a list in a file is read again, a list with a URL from its stored content.
func (l *Lists) rejudgeAll() {
	for _, li := range l.lists {
		if li.kind == KindURL {
			l.rejudge(li)
		} else {
			li.next = time.Time{}
		}
	}
}

// rejudge passes a list with a URL through the guards again. A content that was held as a whole was not stored: it is fetched.
func (l *Lists) rejudge(li *list) {
	if current, err := l.copies.isCurrent(li); err != nil || current {
		return
	}
	if held := (*massChange)(nil); errors.As(li.err, &held) || li.copy == nil || !l.copies.reparseBody(li) {
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
	failed := l.publisher.err != nil
	if failed && now.Before(l.publisher.retryAt) {
		return
	}
	err := l.publisher.publish()
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
		l.log.Info("the set has the newest content again")
	}
}

// nextDue returns the time of the next work that no event triggers.
func (l *Lists) nextDue() time.Time {
	due := time.Now().Add(l.cfg.Refresh)
	earliest := func(t time.Time) {
		if t.Before(due) {
			due = t
		}
	}
	for _, li := range l.lists {
		if !li.fetching {
			earliest(li.due())
		}
		if age := li.feed.MaxAge; age > 0 && li.published != nil && l.publisher.err == nil {
			earliest(li.copy.Fetched.Add(age)) // from then on it is too old
		}
	}
	if l.publisher.err != nil {
		earliest(l.publisher.retryAt)
	}
	if l.folderState.err != nil {
		earliest(l.folderState.retryAt)
	}
	if l.guards.Acquired() {
		earliest(l.memoryFreed.Add(freeEvery))
	}
	return due
}

// freeEvery is the shortest interval at which the memory for reading lists is freed: lists that change all the time keep it.
const freeEvery = 10 * time.Second

// freeMemory frees the memory for reading lists when no list is left to read.
func (l *Lists) freeMemory(now time.Time) {
	if now.Sub(l.memoryFreed) < freeEvery || !l.guards.Release() {
		return
	}
	l.memoryFreed = now
	defer l.cfg.LowMemory()()
	debug.FreeOSMemory()
}
