package blocklist

import (
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// maxExceptions bounds the exceptions of one source: they are held in memory while it is read.
const maxExceptions = 1 << 20

// Exceptions are one source's own exceptions, and its rules that it cancels. They affect that source's blocks only.
type Exceptions struct {
	scopes   map[string]Scope // by name: the excepted part of it and the names below
	canceled map[string]uint8 // by name: bit s is set for a scope s whose blocks are cancelled
}

// Len returns the number of exceptions and cancellations.
func (e *Exceptions) Len() int { return len(e.scopes) + len(e.canceled) }

func (e *Exceptions) except(key []byte, scope Scope) error {
	if e.scopes == nil {
		e.scopes = map[string]Scope{}
	}
	e.scopes[string(key)] |= scope
	return e.check()
}

func (e *Exceptions) cancel(key []byte, scope Scope) error {
	if e.canceled == nil {
		e.canceled = map[string]uint8{}
	}
	e.canceled[string(key)] |= 1 << scope
	return e.check()
}

func (e *Exceptions) check() error {
	if e.Len() > maxExceptions {
		return fmt.Errorf("more than %d exceptions in one list", maxExceptions)
	}
	return nil
}

// left returns the remaining scope of a block of key.
func (e *Exceptions) left(key []byte, scope Scope) Scope {
	if e == nil || e.Len() == 0 || !isName(key) {
		return scope
	}
	if e.canceled[string(key)]&(1<<scope) != 0 {
		return 0
	}
	scope &^= e.scopes[string(key)]
	for s := parent(key); len(s) > 0 && scope != 0; s = parent(s) {
		if e.scopes[string(s)]&Below != 0 {
			return 0
		}
	}
	return scope
}

// input returns the exceptions as listings: where a block of a shorter name still reaches, they let its names pass.
func (e *Exceptions) input(src Source) (*Input, error) {
	b := NewBuilder()
	for key, scope := range e.scopes {
		id, err := b.claim(builtClaim{claim: claim{Decision: Except, Scope: scope}})
		if err != nil {
			return nil, err
		}
		b.put(xxhash.Sum64String(key), id, []byte(key))
	}
	return b.Input(src), nil
}

// parent returns the name without its first label; both are without the root.
func parent(name []byte) []byte {
	if len(name) == 0 {
		return nil
	}
	return name[1+int(name[0]):]
}
