package cache

import (
	"encoding/binary"

	"rempart/internal/wire"
)

// Saved is an answer in a form that another process can restore.
type Saved struct {
	Message []byte // as an upstream sent it, with the original TTLs, without an OPT record
	DO, CD  bool   // of the query
	Age     int64  // seconds since it arrived
}

// Save passes the answers that can still be served at now to take, until take returns false. Failures are not saved. It may be called at any time and delays
// nobody.
func (c *Cache) Save(now int64, take func(Saved) bool) {
	for at := range c.buckets {
		b := &c.buckets[at]
		if b.tags.Load() == 0 {
			continue
		}
		for i := range b.slots {
			if e := b.slots[i].Load(); e != nil && e.Servable(now) && !take(e.saved(now)) {
				return
			}
		}
	}
}

// Restore stores an answer that another cache saved, unless this one has a newer answer to the same question. later is how many seconds after Save it is called. It
// returns ErrAnswer for what no cache can have saved.
func (c *Cache) Restore(s Saved, later, now int64) error {
	nameEnd := wire.SkipName(s.Message, wire.HeaderLen)
	if nameEnd <= wire.HeaderLen || len(s.Message) < nameEnd+questionTail || s.Age < 0 || later < 0 {
		return ErrAnswer
	}
	key := Key{
		Name: s.Message[wire.HeaderLen:nameEnd], Type: binary.BigEndian.Uint16(s.Message[nameEnd:]), Class: binary.BigEndian.Uint16(s.Message[nameEnd+2:]),
		DO: s.DO, CD: s.CD,
	}
	if c.Get(&key) != nil {
		return nil
	}
	e, err := NewAnswer(key, s.Message, true, now-later-s.Age)
	if err != nil {
		return err
	}
	if e.Servable(now) {
		c.Put(e, now)
	}
	return nil
}

// saved returns the answer as Saved.
func (e *Answer) saved(now int64) Saved {
	key := e.key()
	return Saved{Message: e.message(key), DO: key.DO, CD: key.CD, Age: now - e.stored}
}
