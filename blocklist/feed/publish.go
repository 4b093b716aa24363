package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch"
	"rempart/blocklist/feed/store"
	"rempart/internal/durable"
	"rempart/internal/setfile"
)

// publish puts the set made of all copies in force, unless it is already. On an error the set
// that was in force stays.
func (l *Lists) publish() error {
	err := l.withGoodCopies(l.publishOnce)
	l.setErr = err
	if err != nil {
		l.setAgain = time.Now().Add(jitter(l.timing.writeAgain))
		l.prune() // however long this lasts, no more than two copies of a list are kept
	}
	return err
}

func (l *Lists) prune() {
	wanted := map[string][]*store.Record{}
	for _, li := range slices.Concat(l.removed, l.lists) {
		wanted[li.key] = append(wanted[li.key], li.copy, li.published)
	}
	if err := l.store.Prune(wanted); err != nil {
		l.log.Warn("copies that are not needed any more stay", "err", err)
	}
}

// withGoodCopies has compile compile, and again each time it met a bad copy: each time that copy is
// made again, or given up.
func (l *Lists) withGoodCopies(compile func() error) error {
	err := compile()
	for range l.lists {
		bad := (*badCopy)(nil)
		if !errors.As(err, &bad) {
			break
		}
		l.rebuildCopy(bad.list, bad.err)
		err = compile()
	}
	return err
}

// badCopy is the error of a copy that is not, and will not be, what it was.
type badCopy struct {
	list *list
	err  error
}

func (e *badCopy) Error() string { return fmt.Sprintf("copy of %s: %v", e.list.name, e.err) }
func (e *badCopy) Unwrap() error { return e.err }

func (l *Lists) publishOnce() error {
	now := time.Now()
	content := l.fingerprint(now)
	have := l.set.View()
	above := have.Version()
	if above > 0 && l.content == content {
		return nil
	}
	defer l.cfg.LowMemory()()
	switch {
	case above > 0 && l.damaged: // compiled of all copies, whatever changed
	case above > 0:
		c, err := l.changes(now)
		if err == nil {
			err = c.check(l)
		}
		if err != nil {
			return err
		}
		if done, err := l.amend(c, content, now); done || err != nil {
			return err
		}
	default: // just started: what the last run left may be what is wanted
		view, err := l.openSet()
		switch {
		case err == nil && view.Info().Content == content && view.Version() > 0:
			l.verifyLater(view)
			return l.putInForce(view, content, now)
		case err == nil:
			above = view.Version()
			l.useLast(view) // compiling the next takes as long as the lists are large, and nothing would be blocked
		case !errors.Is(err, fs.ErrNotExist):
			l.log.Error("the snapshot is refused; it is compiled again", "err", err)
			if l.restorePrevious() {
				return errRestored
			}
		}
	}
	return l.compile(content, above, now)
}

// errRestored is not logged as one: there is a set, and a better one will be.
var errRestored = errors.New("the snapshot was damaged; the one before it is in force until it is compiled again")

// compile makes the set's snapshot of all copies.
func (l *Lists) compile(content, above uint64, now time.Time) error {
	inputs, closeInputs, err := l.inputs(now)
	defer closeInputs()
	if err != nil {
		return err
	}
	version, err := l.counter.Next(above)
	if err != nil {
		return err
	}
	l.keepPrevious()
	info := l.info(version, content, now)
	err = durable.WriteFile(l.path(snapshotFile), func(w io.Writer) error {
		return blocklist.Compile(l.unlessEnding(w), info, inputs...)
	})
	if err != nil {
		return l.whichCopy(err, now)
	}
	f, err := setfile.Open(l.path(snapshotFile))
	if err != nil {
		return err
	}
	l.useFile(f)
	l.abandonMerge()
	l.damaged, l.whole = false, false
	if err := ignoreMissing(os.Remove(l.path(overlayFile))); err != nil {
		l.log.Warn("the overlay of an earlier snapshot stays; nothing reads it", "err", err)
	}
	return l.putInForce(f.View, content, now)
}

// unlessEnding returns a writer to w that fails when the program ends: nobody waits for a set that takes seconds to write then.
func (l *Lists) unlessEnding(w io.Writer) io.Writer { return &endable{w, l.ctx} }

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

// info is what a state of the set says of itself. It expires when the first list in it is too old to count.
func (l *Lists) info(version, content uint64, now time.Time) blocklist.Info {
	info := blocklist.Info{Version: version, Created: now, Content: content}
	for _, li := range l.lists {
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

// putInForce exchanges the set's pointer, and notes what it was made of.
func (l *Lists) putInForce(view *blocklist.View, content uint64, now time.Time) error {
	if err := l.set.Replace(view); err != nil {
		return err
	}
	l.content = content
	for _, li := range l.lists {
		li.published = li.activeCopy(now)
	}
	l.removed = nil
	l.prune()
	st := view.Stats()
	if l.cfg.Changed != nil {
		l.updateStatus() // before Changed: its receivers call Status for the lists in the set
		l.cfg.Changed()
	}
	l.log.Info("set in force", "version", st.Version, "names", st.Names, "overlay", st.Overlay)
	return nil
}

// whichCopy finds, after a compilation failed on damage, whose copy it was.
func (l *Lists) whichCopy(err error, now time.Time) error {
	if !errors.Is(err, blocklist.ErrSnapshot) {
		return err
	}
	for _, li := range l.lists {
		rec := li.activeCopy(now)
		if rec == nil || li.inMemory != nil || li.postponed != nil {
			continue
		}
		input, closeInput, openErr := l.store.OpenCopy(li.key, rec)
		if openErr == nil {
			openErr = input.Verify()
			closeInput()
		}
		if openErr != nil {
			return &badCopy{li, openErr}
		}
	}
	return err
}

func (l *Lists) path(file string) string { return filepath.Join(l.cfg.Dir, file) }

// openSet opens the set of an earlier run: the snapshot, under its overlay if there is one.
func (l *Lists) openSet() (*blocklist.View, error) {
	f, err := setfile.Open(l.path(snapshotFile))
	if err != nil {
		return nil, err
	}
	l.useFile(f)
	return l.underOverlay(f.View), nil
}

// underOverlay returns the view of the snapshot in the data folder under its overlay, or as it is without a valid one: the changes of an overlay that is damaged, or
// belongs to another snapshot, are compiled again.
func (l *Lists) underOverlay(view *blocklist.View) *blocklist.View {
	if under, err := setfile.Under(view, l.path(overlayFile), fetch.MaxBody); err == nil {
		return under
	}
	return view
}

// useFile records which file the set in force reads, and evicts the pages of the previous one.
func (l *Lists) useFile(f *setfile.File) {
	l.file.Evict()
	l.file = f
}

// keepPrevious keeps the snapshot that is about to be replaced, if it was in force and no damage is known.
func (l *Lists) keepPrevious() {
	if l.set.View().Version() == 0 || l.damaged {
		return
	}
	if err := setfile.KeepPrevious(l.path(snapshotFile), l.path(previousFile)); err != nil {
		l.log.Warn("the previous snapshot could not be kept", "err", err)
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// restorePrevious puts the previous snapshot in force, and reports whether it could: there must be one, and it must be whole.
func (l *Lists) restorePrevious() bool {
	f, err := setfile.OpenVerified(l.path(previousFile))
	if err != nil {
		return false
	}
	version, err := l.counter.Next(max(f.View.Version(), l.set.View().Version()))
	if err != nil {
		return false
	}
	view, err := f.View.With(blocklist.Info{Version: version, Created: time.Now()}, nil)
	if err != nil || l.set.Replace(view) != nil {
		return false
	}
	l.useFile(f)
	l.content, l.damaged = 0, true
	for _, li := range l.lists {
		li.published = nil
	}
	l.log.Warn("the snapshot before the damaged one is in force", "version", version, "names", view.Stats().Names)
	return true
}

// verifyLater verifies the snapshot of a view in the background. Run handles the result.
func (l *Lists) verifyLater(view *blocklist.View) {
	l.background.Go(func() { l.verified <- setfile.Verify(view) }) // the channel has room for one result, and there is only one
}

// afterVerify handles the result of verifyLater.
func (l *Lists) afterVerify(err error) {
	if err == nil {
		return
	}
	l.log.Error("the snapshot in force is damaged; it is compiled again", "err", err)
	l.damaged, l.content, l.setAgain = true, 0, time.Time{}
	l.abandonMerge() // it reads the damaged one
	l.restorePrevious()
}

// inputs opens all there is to compile. close is to be called in any case, and when nothing
// reads the inputs any more.
func (l *Lists) inputs(now time.Time) (inputs []*blocklist.Input, close func(), err error) {
	var closers []func()
	close = func() {
		for _, c := range closers {
			c()
		}
	}
	builtIn, err := l.builtIn()
	if err != nil {
		return nil, close, err
	}
	inputs = append(inputs, builtIn)
	for _, li := range l.lists {
		rec := li.activeCopy(now)
		if rec == nil {
			continue
		}
		input, closeInput, err := l.input(li, rec)
		if err != nil {
			return nil, close, err
		}
		closers = append(closers, closeInput)
		inputs = append(inputs, input)
	}
	return inputs, close, nil
}

// input opens the copy of li that rec speaks of.
func (l *Lists) input(li *list, rec *store.Record) (*blocklist.Input, func(), error) {
	switch {
	case li.inMemory != nil:
		return li.inMemory.input.As(li.setSource(rec)), func() {}, nil
	case li.postponed != nil && rec == li.copy:
		return li.postponed.unwritten.Inputs[0].As(li.setSource(rec)), func() {}, nil
	}
	input, closeInput, err := l.store.OpenCopy(li.key, rec)
	if errors.Is(err, blocklist.ErrSnapshot) || errors.Is(err, fs.ErrNotExist) {
		err = &badCopy{li, err}
	}
	if err != nil {
		return nil, nil, err
	}
	return input.As(li.setSource(rec)), closeInput, nil
}

func (l *Lists) builtIn() (*blocklist.Input, error) {
	b := blocklist.NewBuilder()
	for _, x := range l.cfg.BuiltIn {
		if err := b.Add(x); err != nil {
			return nil, err
		}
	}
	return b.Input(blocklist.Source{Name: builtInName}), nil
}
