package rpz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

const (
	maxTransfers    = 8 // whole zones at a time: each transfer reads all of the set
	slotPatience    = 10 * time.Second
	writeTimeout    = 30 * time.Second // of a message
	transferTimeout = 30 * time.Minute // of all of them
)

// transfer answers AXFR and, over a stream, IXFR.
func (s *Server) transfer(ctx context.Context, r *request, st *state, send send) error {
	i := s.numberOf(r.zone)
	kind := transferWhole
	var deltas []*delta
	if r.msg.Question[0].Qtype == dns.TypeIXFR {
		held, ok := heldSerial(&r.msg)
		if !ok {
			return s.refuse(r, dns.RcodeFormatError, refusedMalformed, send)
		}
		if !newer(st.serial(), held) {
			kind = transferCurrent
		} else if deltas, ok = st.zones[i].history.since(held); ok {
			kind = transferDifference
		} else {
			kind = transferInstead
		}
	}
	if kind == transferWhole || kind == transferInstead {
		if !s.slot(ctx) {
			return s.refuse(r, dns.RcodeServerFailure, refusedBusy, send)
		}
		defer func() { <-s.slots }()
	}
	t := &transferWriter{message: newMessage(r.packed, r.zone, dns.RcodeSuccess), signer: r.signer(), send: send, end: time.Now().Add(s.limits.transfer)}
	var err error
	switch t.soa(st.serial()); kind {
	case transferDifference:
		err = t.differences(deltas, st.serial())
	case transferWhole, transferInstead:
		err = t.whole(ctx, st, i)
	}
	if err == nil {
		err = t.flush()
	}
	s.metrics.transfer(i, kind, err == nil, t.octets)
	return err
}

// slot takes a place among the transfers of whole zones.
func (s *Server) slot(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, slotPatience)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) numberOf(z *zone) int {
	for i := range s.zones {
		if s.zones[i] == z {
			return i
		}
	}
	return -1
}

// heldSerial returns the serial of the zone that an IXFR's client has (RFC 1995 section 3).
func heldSerial(m *dns.Msg) (uint32, bool) {
	if len(m.Ns) != 1 {
		return 0, false
	}
	soa, ok := m.Ns[0].(*dns.SOA)
	if !ok {
		return 0, false
	}
	return soa.Serial, true
}

// transferWriter is the state of a transfer.
type transferWriter struct {
	*message
	signer *signer
	send   send
	end    time.Time
	octets int
}

var errTooSlow = errors.New("the transfer takes too long")

// flush sends the message and starts the next.
func (t *transferWriter) flush() error {
	if time.Now().After(t.end) {
		return errTooSlow
	}
	out := t.signer.sign(t.buf)
	t.octets += len(out)
	if err := t.send(out); err != nil {
		return err
	}
	t.buf = out // its buffer can be used again
	t.reset()
	return nil
}

// room makes room for one more record.
func (t *transferWriter) room() error {
	if !t.full() {
		return nil
	}
	return t.flush()
}

func (t *transferWriter) put(r record) error {
	err := t.room()
	t.record(r)
	return err
}

func (t *transferWriter) putSOA(serial uint32) error {
	err := t.room()
	t.soa(serial)
	return err
}

// differences writes the deltas after the first SOA (RFC 1995 section 4).
func (t *transferWriter) differences(deltas []*delta, serial uint32) error {
	for _, d := range deltas {
		err := t.putSOA(d.from)
		for i := 0; i < len(d.removed) && err == nil; i++ {
			err = t.put(d.removed[i])
		}
		if err == nil {
			err = t.putSOA(d.to)
		}
		for i := 0; i < len(d.added) && err == nil; i++ {
			err = t.put(d.added[i])
		}
		if err != nil {
			return err
		}
	}
	return t.putSOA(serial)
}

// whole writes the zone after the first SOA (RFC 5936 section 2.2).
func (t *transferWriter) whole(ctx context.Context, st *state, i int) error {
	t.ns()
	err := st.each(t.zone, i, func(r record) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return t.put(r)
	})
	if err != nil {
		return err
	}
	return t.putSOA(st.serial())
}

// each calls put for all records of a zone except those at its name, until put returns an error, which it returns.
func (st *state) each(z *zone, i int, put func(record) error) error {
	of := &st.zones[i]
	l := look{view: st.view, at: st.at}
	var failed error
	putAll := func(name []byte, r records) error {
		r, _ = z.writable(name, r)
		r.each(name, func(rec record) {
			if failed == nil {
				failed = put(rec)
			}
		})
		return failed
	}
	if _, _, err := walk(st.view, func(name []byte) error { return putAll(name, z.records(l, name)) }); err != nil {
		return fmt.Errorf("zone %s: %w", z.text, err)
	}
	for name, r := range of.standIns {
		if err := putAll([]byte(name), r); err != nil {
			return err
		}
	}
	for _, r := range of.addresses {
		if err := put(r); err != nil {
			return err
		}
	}
	return nil
}
