package fetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"rempart/blocklist/feed/bounded"
)

// Incremental zone transfers (RFC 1995). The answer is a chain of differences: the old SOA, the deleted records, the new SOA, the added
// records, with the newest SOA at the beginning and the end. They are combined in memory into one difference, which is applied to the body
// before as a stream.

const (
	maxDifference = 64 << 20 // bytes of the records of a difference; for a larger one the whole zone is requested
	recordCost    = 64       // bytes of memory for a record in addition to its text
	maxRecordLine = 512 << 10
)

// The errors after which the whole zone is requested.
var (
	errNoDifference = errors.New("the primary has no difference to give")
	errMismatch     = errors.New("the difference is not one to the zone that is held")
)

// incremental fetches the difference to the body at before, whose serial is held.
func (f Client) incremental(ctx context.Context, p primary, held uint32, before, path string) (Result, error) {
	old, err := os.Open(before)
	if err != nil {
		return Result{}, err
	}
	defer old.Close()
	d := newDifference(held)
	q := new(dns.Msg).SetIxfr(p.zone, held, ".", ".")
	if err := f.exchange(ctx, p, q, d.add); err != nil {
		return Result{}, fmt.Errorf("IXFR: %w", err)
	}
	sum, err := f.writeBody(path, func(w io.Writer) error { return d.apply(w, old, p.zone) })
	if err != nil {
		return Result{}, fmt.Errorf("IXFR: %w", err)
	}
	return zoneFetched(sum, d.newest.Serial), nil
}

// difference is what leads from the zone held to the newest. Records are lines of a body; no line is
// both deleted and added.
type difference struct {
	held    uint32
	newest  *dns.SOA // nil before the first record
	at      uint32   // the serial that the differences so far lead to
	chained bool     // one has begun
	adding  bool     // in its second half
	deleted map[string]struct{}
	added   map[string]struct{}
	cost    int // bytes
	most    int
}

func newDifference(held uint32) *difference {
	return &difference{held: held, at: held, deleted: map[string]struct{}{}, added: map[string]struct{}{}, most: maxDifference}
}

// add adds the next record of an answer and reports whether it is the last.
func (d *difference) add(rr dns.RR) (last bool, err error) {
	soa, ok := rr.(*dns.SOA)
	switch {
	case d.newest == nil:
		if !ok || !newer(soa.Serial, d.held) {
			return false, errNoDifference
		}
		d.newest = soa
	case !d.chained && (!ok || soa.Serial != d.held): // the whole zone, in the form of an AXFR (RFC 1995 section 4)
		return false, errNoDifference
	case !d.chained:
		d.chained = true
	case ok && !d.adding:
		if !newer(soa.Serial, d.at) {
			return false, errors.New("the serials of the answer do not rise")
		}
		d.at, d.adding = soa.Serial, true
	case ok && d.at == d.newest.Serial && soa.Serial == d.at:
		return true, nil
	case ok:
		if soa.Serial != d.at {
			return false, errors.New("the answer's differences are not a chain")
		}
		d.adding = false
	case d.adding:
		return false, d.toggle(rr, d.deleted, d.added)
	default:
		return false, d.toggle(rr, d.added, d.deleted)
	}
	return false, nil
}

// toggle removes rr from the set out if it is there, otherwise it adds rr to the set in.
func (d *difference) toggle(rr dns.RR, out, in map[string]struct{}) error {
	line, err := recordLine(rr)
	if err != nil {
		return err
	}
	line = strings.TrimSuffix(line, "\n")
	if _, ok := out[line]; ok {
		delete(out, line)
		d.cost -= len(line) + recordCost
		return nil
	}
	if _, ok := in[line]; ok {
		return nil
	}
	if d.cost += len(line) + recordCost; d.cost > d.most {
		return fmt.Errorf("the difference: %w", bounded.ErrTooLarge)
	}
	in[line] = struct{}{}
	return nil
}

// apply writes the body old with the difference made to it. d is used up.
func (d *difference) apply(w io.Writer, old io.Reader, zone string) error {
	lines := bufio.NewScanner(old)
	lines.Buffer(make([]byte, 64<<10), maxRecordLine)
	if !lines.Scan() || lines.Text() != "$ORIGIN "+zone || !lines.Scan() || !isSOA(lines.Text(), zone, d.held) {
		return errMismatch
	}
	if err := writeHead(w, d.newest); err != nil {
		return err
	}
	for lines.Scan() {
		line := lines.Bytes()
		if _, ok := d.deleted[string(line)]; ok {
			delete(d.deleted, string(line))
			continue
		}
		delete(d.added, string(line)) // a zone holds a record once
		if _, err := w.Write(line); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if len(d.deleted) > 0 {
		return errMismatch
	}
	added := make([]string, 0, len(d.added))
	for line := range d.added {
		added = append(added, line)
	}
	slices.Sort(added)
	for _, line := range added {
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// isSOA reports whether a line is the zone's SOA of that serial.
func isSOA(line, zone string, serial uint32) bool {
	rr, err := dns.NewRR(line)
	soa, ok := rr.(*dns.SOA)
	return err == nil && ok && soa.Hdr.Name == zone && soa.Serial == serial
}
