package cache

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/wire"
)

// saved returns what c saves at now.
func saved(c *Cache, now int64) (all []Saved) {
	c.Save(now, func(s Saved) bool {
		all = append(all, s)
		return true
	})
	return all
}

// TestRestoredAnswersAreTheSame checks that another cache serves restored answers as the first cache would have served them at the same time.
func TestRestoredAnswersAreTheSame(t *testing.T) {
	const now, later = 1000, 7
	first, second := newCache(t, MinBytes), newCache(t, MinBytes)
	for _, name := range []string{"a.example", "alias.example", "none.example", "stale.example", "failed.example"} {
		var e *Answer
		switch name {
		case "alias.example":
			e = entry(t, name, now, "alias.example. 60 IN CNAME target.example.", "target.example. 300 IN A 192.0.2.1")
		case "none.example":
			e = entry(t, name, now, "?example. 900 IN SOA ns.example. mail.example. 1 2 3 4 900")
		case "stale.example":
			e = entry(t, name, now-1000)
		case "failed.example":
			e = Failure(key(t, name), now)
		default:
			e = entry(t, name, now)
		}
		first.Put(e, now)
	}
	for _, s := range saved(first, now) {
		if err := second.Restore(s, later, 50); err != nil { // the clock of the second process is another one
			t.Errorf("restoring %x: %v", s.Message, err)
		}
	}
	for _, name := range []string{"a.example", "alias.example", "none.example", "stale.example"} {
		k := key(t, name)
		want, got := first.Get(&k), second.Get(&k)
		if got == nil {
			t.Errorf("%s: it is missing", name)
			continue
		}
		if a, b := written(t, want, k, now+later), written(t, got, k, 50); !bytes.Equal(a, b) {
			t.Errorf("%s:\n%x\nwant\n%x", name, b, a)
		}
		if !bytes.Equal(want.TargetBytes(), got.TargetBytes()) || got.Judged(1) {
			t.Errorf("%s: targets %q, want %q, which are not judged", name, got.TargetBytes(), want.TargetBytes())
		}
	}
	if k := key(t, "failed.example"); second.Get(&k) != nil {
		t.Error("a failure was restored")
	}
}

// TestRestoreKeepsNewerAnswers checks that a restored answer does not replace one of the present process.
func TestRestoreKeepsNewerAnswers(t *testing.T) {
	first, second := newCache(t, MinBytes), newCache(t, MinBytes)
	first.Put(entry(t, "a.example", 0, "a.example. 300 IN A 192.0.2.1"), 0)
	newer := entry(t, "a.example", 0, "a.example. 300 IN A 192.0.2.2")
	second.Put(newer, 0)
	for _, s := range saved(first, 0) {
		if err := second.Restore(s, 1, 1); err != nil {
			t.Error(err)
		}
	}
	if k := key(t, "a.example"); second.Get(&k) != newer {
		t.Error("the newer answer was replaced")
	}
}

// FuzzRestore checks that no bytes make Restore panic.
func FuzzRestore(f *testing.F) {
	f.Add(message(f, "a.example", "a.example. 300 IN A 192.0.2.1"), true, int64(5))
	f.Add([]byte{}, false, int64(-1))
	f.Fuzz(func(t *testing.T, message []byte, do bool, age int64) {
		c := newCache(t, MinBytes)
		_ = c.Restore(Saved{Message: message, DO: do, Age: age}, 1, 100)
		for _, s := range saved(c, 100) {
			if err := c.Restore(s, 0, 100); err != nil {
				t.Errorf("what was saved cannot be restored: %v", err)
			}
		}
	})
}

// written returns the answer to a query for k at now.
func written(t *testing.T, e *Answer, k Key, now int64) []byte {
	t.Helper()
	name, _, err := dns.UnpackDomainName(k.Name, 0)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := new(dns.Msg).SetQuestion(name, k.Type).Pack()
	if err != nil {
		t.Fatal(err)
	}
	copy(packed, []byte{0, 0})
	q := wire.Query{Packet: packed, Transport: wire.UDP}
	q.Parse(0)
	e.WriteAnswer(&q, now, !e.Fresh(now))
	return q.Out
}
