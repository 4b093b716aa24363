package feed

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/blocklist"
	"rempart/blocklist/feed/store"
)

// fingerprint returns a number that identifies the content of the whole set.
func (p *publisher) fingerprint(now time.Time) uint64 {
	var b bytes.Buffer
	fmt.Fprintf(&b, "parser %d\n", parserRevision)
	for _, x := range p.cfg.BuiltIn {
		fmt.Fprintf(&b, "%q %d %d %d %d %d %d\n", x.Name, x.Scope, x.Category, x.Decision, x.Mark, x.Start, x.Expiry)
	}
	for _, li := range p.lists {
		if rec := li.activeCopy(now); rec != nil {
			fmt.Fprintf(&b, "%s %s %q %d %d %x\n", li.kind, li.key, li.name, li.feed.Weight, li.feed.Quorum, rec.Identity())
		}
	}
	return xxhash.Sum64(b.Bytes())
}

// inputs opens the built-in listings and the active copies of all lists. The caller calls close even after an error, as soon as nothing reads the
// inputs any more.
func (p *publisher) inputs(now time.Time) (inputs []*blocklist.Input, close func(), err error) {
	var closers []func()
	close = func() {
		for _, c := range closers {
			c()
		}
	}
	builtIn, err := p.builtIn()
	if err != nil {
		return nil, close, err
	}
	inputs = append(inputs, builtIn)
	for _, li := range p.lists {
		rec := li.activeCopy(now)
		if rec == nil {
			continue
		}
		input, closeInput, err := p.input(li, rec)
		if err != nil {
			return nil, close, err
		}
		closers = append(closers, closeInput)
		inputs = append(inputs, input)
	}
	return inputs, close, nil
}

// input opens the copy of li with the record rec, or the listings in memory that are not written as a copy.
func (p *publisher) input(li *list, rec *store.Record) (*blocklist.Input, func(), error) {
	switch {
	case li.inMemory != nil:
		return li.inMemory.input.As(li.setSource(rec)), func() {}, nil
	case li.postponed != nil && rec == li.copy:
		return li.postponed.unwritten.Inputs[0].As(li.setSource(rec)), func() {}, nil
	}
	input, closeInput, err := p.store.OpenCopy(li.key, rec)
	if errors.Is(err, blocklist.ErrSnapshot) || errors.Is(err, fs.ErrNotExist) {
		err = &badCopy{li, err}
	}
	if err != nil {
		return nil, nil, err
	}
	return input.As(li.setSource(rec)), closeInput, nil
}

// inputOrNone opens a copy, or an empty input if rec is nil.
func (p *publisher) inputOrNone(li *list, rec *store.Record) (*blocklist.Input, func(), error) {
	if rec == nil {
		return blocklist.NewBuilder().Input(blocklist.Source{Name: li.name}), func() {}, nil
	}
	return p.input(li, rec)
}

func (p *publisher) builtIn() (*blocklist.Input, error) {
	b := blocklist.NewBuilder()
	for _, x := range p.cfg.BuiltIn {
		if err := b.Add(x); err != nil {
			return nil, err
		}
	}
	return b.Input(blocklist.Source{Name: builtInName}), nil
}

// compileInMemory puts a set in force without writing it: the stored one if it is made of the present copies, else one compiled in memory.
func (p *publisher) compileInMemory() error {
	now := time.Now()
	version := uint64(1)
	view, err := p.openSet()
	if err == nil {
		if view.Info().Content == p.fingerprint(now) && view.Version() > 0 {
			return p.set.Replace(view)
		}
		version = view.Version() + 1 // the version that a server would publish next
	}
	inputs, closeInputs, err := p.inputs(now)
	defer closeInputs()
	if err != nil {
		return err
	}
	if view, err = viewInMemory(blocklist.Info{Version: version, Created: now}, inputs...); err != nil {
		return p.whichCopy(err, now)
	}
	return p.set.Replace(view)
}

// viewInMemory compiles inputs without a file.
func viewInMemory(info blocklist.Info, inputs ...*blocklist.Input) (*blocklist.View, error) {
	var b bytes.Buffer
	if err := blocklist.Compile(&b, info, inputs...); err != nil {
		return nil, err
	}
	return blocklist.OpenView(b.Bytes(), nil)
}

// emptySet returns a set of version 0, which lists nothing.
func emptySet() (*blocklist.Set, error) {
	view, err := viewInMemory(blocklist.Info{})
	if err != nil {
		return nil, err
	}
	return blocklist.NewSet(view), nil
}

// withGoodCopies calls compile. If compile meets a damaged copy, withGoodCopies makes that copy again from the content of the list, or gives it
// up, and calls compile again.
func (p *publisher) withGoodCopies(compile func() error) error {
	err := compile()
	for range p.lists {
		bad := (*badCopy)(nil)
		if !errors.As(err, &bad) {
			break
		}
		p.copies.rebuildCopy(bad.list, bad.err)
		err = compile()
	}
	return err
}

// badCopy is the error of a copy that is missing or damaged.
type badCopy struct {
	list *list
	err  error
}

func (e *badCopy) Error() string { return fmt.Sprintf("copy of %s: %v", e.list.name, e.err) }
func (e *badCopy) Unwrap() error { return e.err }

// whichCopy returns the error of a compilation. If that failed because a copy is damaged, it is a *badCopy with the list.
func (p *publisher) whichCopy(err error, now time.Time) error {
	if !errors.Is(err, blocklist.ErrSnapshot) {
		return err
	}
	for _, li := range p.lists {
		rec := li.activeCopy(now)
		if rec == nil || li.inMemory != nil || li.postponed != nil {
			continue
		}
		input, closeInput, openErr := p.store.OpenCopy(li.key, rec)
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
