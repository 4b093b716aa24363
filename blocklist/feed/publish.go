package feed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"rempart/blocklist"
	"rempart/internal/durable"
)

// publish puts the set made of all copies in force, unless it is already. On an error the set
// that was in force stays.
func (l *Lists) publish() error {
	err := l.withGoodCopies(l.publishOnce)
	l.setErr = err
	if err != nil {
		l.setAgain = time.Now().Add(jitter(l.timing.writeAgain))
	}
	return err
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
		l.makeCopyAgain(bad.list, bad.err)
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

func (l *Lists) publishOnce() error {
	content := l.fingerprint()
	have := l.set.View()
	if have.Version() > 0 && have.Snapshot().Info().Content == content {
		return nil
	}
	above := have.Version()
	if above == 0 { // just started: what the last run left may be what is wanted
		view, err := l.openSnapshot()
		switch {
		case err == nil && view.Snapshot().Info().Content == content && view.Version() > 0:
			return l.set.Replace(view)
		case err == nil:
			above = view.Version()
		case !errors.Is(err, fs.ErrNotExist):
			l.log.Error("the snapshot is refused; it is compiled again", "err", err)
		}
	}
	inputs, closeInputs, err := l.inputs()
	defer closeInputs()
	if err != nil {
		return err
	}
	version, err := l.counter.Next(above)
	if err != nil {
		return err
	}
	info := blocklist.Info{Version: version, Created: time.Now(), Content: content}
	err = durable.WriteFile(l.snapshotPath(), func(w io.Writer) error {
		return blocklist.Compile(w, info, inputs...)
	})
	if err != nil {
		return err
	}
	view, err := l.openSnapshot()
	if err != nil {
		return err
	}
	if err := l.set.Replace(view); err != nil {
		return err
	}
	l.log.Info("set in force", "version", version, "names", view.Snapshot().Names())
	return nil
}

func (l *Lists) snapshotPath() string { return filepath.Join(l.cfg.Dir, snapshotFile) }

// openSnapshot maps the snapshot in the data folder; the mapping goes with the view.
func (l *Lists) openSnapshot() (*blocklist.View, error) {
	snapshot, m, err := openMapped(l.snapshotPath())
	if err != nil {
		return nil, err
	}
	return blocklist.NewView(snapshot, m.Close), nil
}

// inputs opens all there is to compile. close is to be called in any case, and when nothing
// reads the inputs any more.
func (l *Lists) inputs() (inputs []*blocklist.Input, close func(), err error) {
	var mappings []*durable.Mapping
	close = func() {
		for _, m := range mappings {
			m.Close()
		}
	}
	if len(l.cfg.BuiltIn) > 0 {
		b := blocklist.NewBuilder()
		for _, x := range l.cfg.BuiltIn {
			if err := b.Add(x); err != nil {
				return nil, close, err
			}
		}
		inputs = append(inputs, b.Input(blocklist.Source{Name: builtInName}))
	}
	for _, li := range l.lists {
		switch {
		case li.memory != nil:
			inputs = append(inputs, li.memory)
		case li.copy != nil:
			snapshot, m, err := l.store.open(li.key, li.copy)
			if errors.Is(err, blocklist.ErrSnapshot) || errors.Is(err, fs.ErrNotExist) {
				err = &badCopy{li, err}
			}
			if err != nil {
				return nil, close, err
			}
			mappings = append(mappings, m)
			inputs = append(inputs, snapshot.Input())
		}
	}
	return inputs, close, nil
}

// startReadOnly is Start without a trace: what no current copy holds is parsed into memory.
func (l *Lists) startReadOnly() error {
	for _, li := range l.lists {
		l.loadCopy(li)
		if li.kind == KindURL {
			if li.copy != nil && !li.current() {
				l.parseBodyAgain(li)
			}
			continue
		}
		l.settle(li, time.Now(), l.readFileInMemory(li))
	}
	err := l.withGoodCopies(l.compileInMemory)
	l.setErr = err
	l.report()
	return err
}

func (l *Lists) readFileInMemory(li *list) error {
	now := time.Now()
	state, err := fileStateOf(li.source, now)
	if err != nil {
		return err
	}
	if li.current() {
		if state.known() && li.copy.File == state {
			return nil
		}
		if body, err := hashFile(li.source); err != nil || body == li.copy.Body {
			return err
		}
	}
	input, rec, err := parseFile(li, li.source, now)
	if err != nil {
		return err
	}
	li.memory, li.copy = input, &rec
	return nil
}

func (l *Lists) compileInMemory() error {
	version := uint64(1)
	view, err := l.openSnapshot()
	if err == nil {
		if view.Snapshot().Info().Content == l.fingerprint() && view.Version() > 0 {
			return l.set.Replace(view)
		}
		version = view.Version() + 1 // what a server would make of it next
	}
	inputs, closeInputs, err := l.inputs()
	defer closeInputs()
	if err != nil {
		return err
	}
	if view, err = viewInMemory(blocklist.Info{Version: version, Created: time.Now()}, inputs...); err != nil {
		return err
	}
	return l.set.Replace(view)
}

// viewInMemory compiles inputs without a file.
func viewInMemory(info blocklist.Info, inputs ...*blocklist.Input) (*blocklist.View, error) {
	var b bytes.Buffer
	if err := blocklist.Compile(&b, info, inputs...); err != nil {
		return nil, err
	}
	snapshot, err := blocklist.Open(b.Bytes())
	if err != nil {
		return nil, err
	}
	return blocklist.NewView(snapshot, nil), nil
}
