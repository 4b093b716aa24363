package feed

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"rempart/blocklist"
)

const (
	maxLine  = 64 << 10 // octets of a line; longer ones are skipped and counted
	maxPlain = 1 << 30  // octets of a list once decompressed
)

// ErrNotAList is what Parse wraps when no line of a list means anything: a page, a binary file.
var ErrNotAList = errors.New("not a list of names")

// ErrTooLarge is what wraps the refusal of a list that is longer than its bound.
var ErrTooLarge = errors.New("too large")

// Sink takes what Parse reads. Lines are counted from 1. Names are canonical wire names of two
// labels at least, borrowed for the call only. The calls come from the goroutine of Parse.
type Sink interface {
	// Add takes a listing: a name, its scope, and Block or Except.
	Add(line int, l blocklist.Listing)
	// Cancel takes a $badfilter rule: the list's own block of exactly that name and scope is void.
	Cancel(line int, name []byte, scope blocklist.Scope)
	// Refuse takes what was not understood; a line of several names may bring several.
	Refuse(line int, why Reason)
}

// Stats counts what Parse read.
type Stats struct {
	Lines    int // comments and empty ones included
	Listings int
	Cancels  int
	Refused  Refusals
}

// Parse reads a list, gzip-compressed or not, into sink. Each line is read by itself, so that forms
// may be mixed in one list: names, hosts, adblock rules, RPZ records, URLs, dnsmasq and
// unbound settings. Memory is bounded whatever r gives. On an error, what sink already took is
// a part of a list and must not be used. The error wraps ErrNotAList, ErrTooLarge, or is r's.
func Parse(r io.Reader, sink Sink) (Stats, error) { return parse(r, sink, maxPlain) }

func parse(r io.Reader, sink Sink, limit int64) (Stats, error) {
	br, err := plainText(r, limit)
	if err != nil {
		return Stats{}, fmt.Errorf("decompress list: %w", err)
	}
	p := &parser{sink: sink, name: make([]byte, 0, maxWire+1)}
	if err := p.lines(br); err != nil {
		return p.stats, fmt.Errorf("read list: %w", err)
	}
	if n := p.stats.Refused.Total(); n > 0 && p.stats.Listings+p.stats.Cancels == 0 {
		return p.stats, fmt.Errorf("%w: of %d lines none lists a name, most are refused as %s",
			ErrNotAList, p.stats.Lines, p.stats.Refused.most())
	}
	return p.stats, nil
}

// plainText reads r decompressed if it is compressed, up to limit octets.
func plainText(r io.Reader, limit int64) (*bufio.Reader, error) {
	br := bufio.NewReader(r)
	r = br
	if magic, _ := br.Peek(2); string(magic) == "\x1f\x8b" {
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, err
		}
		r = zr
	}
	return bufio.NewReaderSize(&bounded{r: r, left: limit}, maxLine), nil
}

// bounded fails with ErrTooLarge where a reader goes past its bound.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if int64(n) > b.left {
		return int(b.left), ErrTooLarge
	}
	b.left -= int64(n)
	return n, err
}

// parser is one Parse under way.
type parser struct {
	sink  Sink
	stats Stats
	begun bool   // a line that is not blank was seen
	name  []byte // scratch
	zone  zone
}

func (p *parser) lines(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if len(line) == 0 && err == io.EOF {
			return nil
		}
		p.stats.Lines++
		if errors.Is(err, bufio.ErrBufferFull) {
			p.refuse(LineTooLong)
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = r.ReadSlice('\n')
			}
		} else if page := p.physicalLine(line); page {
			return fmt.Errorf("%w: it begins like a page", ErrNotAList)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// physicalLine reads one line as it stands in the file, its end included. A bare CR ends a line
// too, without being counted as one. It reports whether the list begins as an HTML page does.
func (p *parser) physicalLine(line []byte) (page bool) {
	line = bytes.TrimRight(line, "\r\n")
	if p.stats.Lines == 1 {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if !p.begun {
		if start := trim(line); len(start) > 0 {
			p.begun = true
			if start[0] == '<' {
				return true
			}
		}
	}
	for {
		i := bytes.IndexByte(line, '\r')
		if i < 0 {
			p.entry(line)
			return false
		}
		p.entry(line[:i])
		line = line[i+1:]
	}
}

// add reads text as a name and lists it.
func (p *parser) add(text []byte, scope blocklist.Scope, decision blocklist.Decision) {
	name, why := appendName(p.name[:0], text)
	if why != accepted {
		p.refuseText(text, why)
		return
	}
	p.list(name, scope, decision)
}

func (p *parser) list(name []byte, scope blocklist.Scope, decision blocklist.Decision) {
	p.stats.Listings++
	p.sink.Add(p.stats.Lines, blocklist.Listing{Name: name, Scope: scope, Decision: decision})
}

func (p *parser) refuse(why Reason) {
	p.stats.Refused[why]++
	p.sink.Refuse(p.stats.Lines, why)
}

// refuseText refuses text that appendName refused, with the closer reason its octets tell.
func (p *parser) refuseText(text []byte, why Reason) {
	if why == NotAName {
		why = notAName(text)
	}
	p.refuse(why)
}

// Allowing is a sink for an operator's allow list: every listing that reaches it, exceptions
// included, reaches sink as an allow.
func Allowing(sink Sink) Sink { return allowing{sink} }

type allowing struct{ Sink }

func (a allowing) Add(line int, l blocklist.Listing) {
	l.Decision = blocklist.Allow
	a.Sink.Add(line, l)
}
