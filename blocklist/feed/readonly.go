package feed

import (
	"bytes"
	"time"

	"rempart/blocklist"
)

// startReadOnly is Start without a trace: what no current copy holds is parsed into memory.
func (l *Lists) startReadOnly() error {
	for _, li := range l.lists {
		l.loadCopy(li)
		if li.kind == KindURL {
			if current, err := l.isCurrent(li); li.copy != nil && (err != nil || !current) {
				l.reparseBody(li)
			}
			continue
		}
		l.finishAttempt(li, time.Now(), l.recoverOnError(li, l.readFileInMemory(li)))
	}
	l.guards.Release()
	err := l.withGoodCopies(l.compileInMemory)
	l.setErr = err
	l.updateStatus()
	return err
}

func (l *Lists) readFileInMemory(li *list) error {
	now := time.Now()
	if _, same, err := l.checkFile(li, now); err != nil || same {
		return err
	}
	t, err := l.readList(li, li.source, now)
	if err != nil {
		return err
	}
	li.inMemory, li.copy = &t, &t.record
	return nil
}

func (l *Lists) compileInMemory() error {
	now := time.Now()
	version := uint64(1)
	view, err := l.openSet()
	if err == nil {
		if view.Info().Content == l.fingerprint(now) && view.Version() > 0 {
			return l.set.Replace(view)
		}
		version = view.Version() + 1 // what a server would make of it next
	}
	inputs, closeInputs, err := l.inputs(now)
	defer closeInputs()
	if err != nil {
		return err
	}
	if view, err = viewInMemory(blocklist.Info{Version: version, Created: now}, inputs...); err != nil {
		return l.whichCopy(err, now)
	}
	return l.set.Replace(view)
}

// viewInMemory compiles inputs without a file.
func viewInMemory(info blocklist.Info, inputs ...*blocklist.Input) (*blocklist.View, error) {
	var b bytes.Buffer
	if err := blocklist.Compile(&b, info, inputs...); err != nil {
		return nil, err
	}
	return blocklist.OpenView(b.Bytes(), nil)
}
