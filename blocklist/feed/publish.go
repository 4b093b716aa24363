package feed

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/store"
	"rempart/internal/durable"
	"rempart/internal/setfile"
)

// publisher makes the set from the copies of the lists, stores the set in the data folder and puts it in force. Only the writer uses it.
type publisher struct {
	*shared
	copies  *copies
	observe observer

	counter *durable.Counter
	file    *setfile.File // of the set in force
	content uint64        // fingerprint of the copies of the published set
	damaged bool          // the next set is compiled of all copies: the snapshot on disk is damaged, or it is unknown from which lists it was made
	whole   bool          // the properties of a source changed: the set is compiled, not amended
	err     error         // why the set in force does not have the newest content
	retryAt time.Time     // the time of the next attempt after err

	mergeJob   *mergeJob      // the merge that is running; nil if there is none
	merged     chan *mergeJob // receives mergeJob at its end
	verified   chan error     // receives the result of verifyLater
	background sync.WaitGroup // merges and verifications that are running
}

// observer is notified by the publisher, in the goroutine of the writer or of Start.
type observer interface {
	setReplaced()                        // a set that was made of the present copies is in force
	lastSetInForce(view *blocklist.View) // the set of the last run is in force until the next one is compiled
}

func newPublisher(s *shared, c *copies, o observer) *publisher {
	return &publisher{shared: s, copies: c, observe: o, merged: make(chan *mergeJob, 1), verified: make(chan error, 1)}
}

// publish makes the set of all copies and puts it in force, unless it is in force already. On an error the present set stays in force, except after errRestored:
// then the previous snapshot is in force.
func (p *publisher) publish() error {
	err := p.withGoodCopies(p.publishOnce)
	p.err = err
	if err != nil {
		p.retryAt = time.Now().Add(jitter(p.timing.writeAgain))
		p.prune() // however long this lasts, no more than two copies of a list are kept
	}
	return err
}

func (p *publisher) prune() {
	wanted := map[string][]*store.Record{}
	for _, li := range slices.Concat(p.removed, p.lists) {
		wanted[li.key] = append(wanted[li.key], li.copy, li.published)
	}
	if err := p.store.Prune(wanted); err != nil {
		p.log.Warn("copies that are not needed any more could not be removed", "err", err)
	}
}

func (p *publisher) publishOnce() error {
	now := time.Now()
	content := p.fingerprint(now)
	have := p.set.View()
	above := have.Version()
	if above > 0 && p.content == content {
		return nil
	}
	defer p.cfg.LowMemory()()
	switch {
	case above > 0 && p.damaged: // compile all copies, whatever changed
	case above > 0:
		c, err := p.changes(now)
		if err == nil {
			err = c.check(p)
		}
		if err != nil {
			return err
		}
		if done, err := p.amend(c, content, now); done || err != nil {
			return err
		}
	default: // just started: the set of the last run may be the wanted one
		view, err := p.openSet()
		switch {
		case err == nil && view.Info().Content == content && view.Version() > 0:
			p.verifyLater(view)
			return p.putInForce(view, content, now)
		case err == nil:
			above = view.Version()
			p.useLast(view) // compiling the next takes as long as the lists are large, and nothing would be blocked
		case !errors.Is(err, fs.ErrNotExist):
			p.log.Error("the snapshot is refused; it is compiled again", "err", err)
			if p.restorePrevious() {
				return errRestored
			}
		}
	}
	return p.compile(content, above, now)
}

// errRestored is not logged as an error: a set is in force, and the next one is compiled soon.
var errRestored = errors.New("the snapshot was damaged; the one before it is in force until it is compiled again")

// compile compiles all copies into a new snapshot and puts it in force.
func (p *publisher) compile(content, above uint64, now time.Time) error {
	inputs, closeInputs, err := p.inputs(now)
	defer closeInputs()
	if err != nil {
		return err
	}
	version, err := p.counter.Next(above)
	if err != nil {
		return err
	}
	p.keepPrevious()
	info := p.info(version, content, now)
	err = durable.WriteFile(p.path(snapshotFile), func(w io.Writer) error {
		return blocklist.Compile(p.unlessEnding(w), info, inputs...)
	})
	if err != nil {
		return p.whichCopy(err, now)
	}
	f, err := setfile.Open(p.path(snapshotFile))
	if err != nil {
		return err
	}
	p.useFile(f)
	p.abandonMerge()
	p.damaged, p.whole = false, false
	if err := ignoreMissing(os.Remove(p.path(overlayFile))); err != nil {
		p.log.Warn("the overlay of an earlier snapshot could not be removed; nothing reads it", "err", err)
	}
	return p.putInForce(f.View, content, now)
}

// unlessEnding returns a writer to w that fails once the program ends, so that the end does not wait for a set that takes seconds to write.
func (p *publisher) unlessEnding(w io.Writer) io.Writer { return &endable{w, p.ctx} }

type endable struct {
	w   io.Writer
	ctx context.Context
}

func (e *endable) Write(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.w.Write(p)
}

// info returns the description of a state of the set. The state expires when the first list in it reaches its maximum age.
func (p *publisher) info(version, content uint64, now time.Time) blocklist.Info {
	info := blocklist.Info{Version: version, Created: now, Content: content}
	for _, li := range p.lists {
		rec := li.activeCopy(now)
		if rec == nil || li.feed.MaxAge == 0 {
			continue
		}
		if end := rec.Fetched.Add(li.feed.MaxAge); info.Expiry.IsZero() || end.Before(info.Expiry) {
			info.Expiry = end
		}
	}
	return info
}

// putInForce replaces the view of the set, and records the copies from which the new view was made.
func (p *publisher) putInForce(view *blocklist.View, content uint64, now time.Time) error {
	if err := p.set.Replace(view); err != nil {
		return err
	}
	p.content = content
	for _, li := range p.lists {
		li.published = li.activeCopy(now)
	}
	p.removed = nil
	p.prune()
	p.observe.setReplaced()
	st := view.Stats()
	p.log.Info("set in force", "version", st.Version, "names", st.Names, "overlay", st.Overlay)
	return nil
}
