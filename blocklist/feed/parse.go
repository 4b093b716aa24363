package feed

import (
	"bufio"
	"bytes"
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

// Sink takes what Parse reads. Lines are counted from 1, in the decompressed content; of a JSON form
// the entries are counted instead: the objects and strings that may list something. Names are canonical
// wire names of two labels at least, borrowed for the call only. The calls come from the goroutine
// of Parse.
type Sink interface {
	// Add takes a listing: a name, its scope, and Block or Except; or, of a policy zone, a prefix
	// of globally routed addresses to block, of 24 bits (IPv4) or 48 bits (IPv6) at least.
	Add(line int, l blocklist.Listing)
	// Cancel takes a $badfilter rule: the list's own block of exactly that name and scope is void.
	Cancel(line int, name []byte, scope blocklist.Scope)
	// Refuse takes what was not understood; a line of several names may bring several.
	Refuse(line int, why Reason)
}

// Stats counts what Parse read.
type Stats struct {
	Format   Format // as found out; of an archive, of its last file
	Lines    int    // comments and empty ones included; of a JSON form, entries
	Listings int
	Cancels  int
	Refused  Refusals
}

// Options say how a list is to be read. The zero value reads any format.
type Options struct {
	Format Format // FormatAuto if empty
	// SharedHost reports whether a host, a canonical wire name borrowed for the call, carries many
	// sites of different people, so that a URL on it does not speak for it. Nil: no host is known to.
	SharedHost func(name []byte) bool
	// DeepURLs lists the host of a URL that names a page, too, unless it is shared.
	DeepURLs bool
	// RedirectsBlock lists a name for which the list gives another name or address, such as its publisher's landing page. Without
	// it such a record says that the name is to be answered: it is counted as a Redirect, and listed as an exception.
	RedirectsBlock bool
}

// Parse reads a list into sink, compressed (gzip, zstd, bzip2, twice at most) or not. With FormatAuto, JSON
// and CSV are known by how they begin, and all else is read line by line, so that forms may be mixed
// in one list: names, hosts, adblock rules, RPZ records, URLs, dnsmasq and unbound settings. Of a
// zip archive, which needs r to be an io.ReaderAt and io.Seeker too, each file is read in turn as a
// list of its own. Memory is bounded whatever r gives. On an error, what sink already took is a part
// of a list and must not be used. The error wraps ErrNotAList, ErrTooLarge, or is r's.
func Parse(r io.Reader, opt Options, sink Sink) (Stats, error) { return parse(r, opt, sink, maxPlain) }

func parse(r io.Reader, opt Options, sink Sink, limit int64) (Stats, error) {
	format, err := ParseFormat(string(opt.Format))
	if err != nil {
		return Stats{}, err
	}
	p := &parser{opt: opt, sink: sink, name: make([]byte, 0, maxWire+1)}
	p.stats.Format = format
	if err := p.contents(r, limit); err != nil {
		return p.stats, fmt.Errorf("read list: %w", err)
	}
	if n := p.stats.Refused.Total(); n > 0 && p.stats.Listings-p.answers+p.stats.Cancels == 0 {
		why := p.stats.Refused.most()
		return p.stats, fmt.Errorf("%w: of %d %s none lists a name, most are refused as %s%s",
			ErrNotAList, p.stats.Lines, p.stats.Format.unit(), why, why.remedy())
	}
	return p.stats, nil
}

// parser is one Parse under way.
type parser struct {
	opt   Options
	sink  Sink
	stats Stats
	line  int    // of what is being read, for the sink
	claim claim  // what the row or object being read says beside its names
	name  []byte // scratch
	// answers is how many exceptions were listed because of redirects.
	answers int
	// Of the content being read, which an archive has several of:
	begun bool // a line that is not blank was seen
	usual usual
	zone  zone
	table table
}

// contents reads all that r holds.
func (p *parser) contents(r io.Reader, limit int64) error {
	u, err := unpack(r, limit)
	defer u.close()
	if err != nil {
		return err
	}
	asked := p.stats.Format
	for {
		content, err := u.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		p.begun, p.usual, p.zone, p.table = false, usual{}, zone{}, table{}
		p.stats.Format = asked
		if asked == FormatAuto {
			p.stats.Format = sniff(content)
		}
		if err := p.content(content); err != nil {
			return err
		}
	}
}

func (p *parser) content(r *bufio.Reader) error {
	switch f := p.stats.Format; f {
	case FormatJSON, FormatMISP, FormatSTIX, FormatTAXII:
		return p.documents(r)
	case FormatCSV:
		err := p.lines(r, p.row)
		p.endTable()
		return err
	case FormatAuto:
		p.usual = usual{names: blocklist.Subtree, hosts: true, adblock: true}
		return p.lines(r, p.entry)
	case FormatHosts:
		p.usual = usual{names: blocklist.Exact, hosts: true}
	case FormatDomains, FormatWildcards:
		p.usual = usual{names: blocklist.Subtree}
	case FormatAdblock:
		p.usual = usual{adblock: true}
	}
	return p.lines(r, p.only)
}

// lines gives each line to read, unless it is a usual one.
func (p *parser) lines(r *bufio.Reader, read func(line []byte)) error {
	for {
		line, err := r.ReadSlice('\n')
		if len(line) == 0 && err == io.EOF {
			return nil
		}
		p.stats.Lines++
		p.line = p.stats.Lines
		switch {
		case p.usualLine(line):
		case errors.Is(err, bufio.ErrBufferFull):
			p.refuse(LineTooLong)
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = r.ReadSlice('\n')
			}
		case p.physicalLine(line, read):
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

// usual says which lines of a format are so plain, and so frequent, that they are read at once.
type usual struct {
	names   blocklist.Scope // of a name alone, 0 if it is not usual
	hosts   bool            // "0.0.0.0 name"
	adblock bool            // "||name^"
}

// usualLine lists the name of a usual line. It reports false for any other, having done nothing; what
// it lists, reading the line step by step lists too.
func (p *parser) usualLine(line []byte) bool {
	line = trimEnd(line)
	if len(line) < 4 || p.zone.inSOA > 0 {
		return false
	}
	scope := p.usual.names
	switch line[0] {
	case '0', '1':
		if name, ok := cutSink(line); ok && p.usual.hosts {
			line, scope = name, blocklist.Exact
		}
	case '|':
		if !p.usual.adblock || line[1] != '|' || line[len(line)-1] != '^' {
			return false
		}
		line, scope = line[2:len(line)-1], blocklist.Subtree
	}
	if scope == 0 {
		return false
	}
	name, ok := appendPlain(p.name[:0], line)
	if ok {
		p.begun = true
		p.list(name, scope, blocklist.Block)
	}
	return ok
}

// cutSink takes the address nearly all hosts files give off a line.
func cutSink(line []byte) (rest []byte, ok bool) {
	for _, sink := range []string{"0.0.0.0", "127.0.0.1"} {
		if n := len(sink); len(line) > n && string(line[:n]) == sink && isBlank(line[n]) {
			return line[n+1:], true
		}
	}
	return line, false
}

// physicalLine reads one line as it stands in the file, its end included. A bare CR ends a line
// too, as do Unicode's line separators, without being counted as one. It reports whether the list begins as an HTML page does.
func (p *parser) physicalLine(line []byte, read func(line []byte)) (page bool) {
	line = clean(trimEnd(line))
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
			read(line)
			return false
		}
		read(line[:i])
		line = line[i+1:]
	}
}

// trimEnd takes the end of a line off.
func trimEnd(line []byte) []byte {
	for n := len(line); n > 0 && (line[n-1] == '\n' || line[n-1] == '\r'); n-- {
		line = line[:n-1]
	}
	return line
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
	p.sink.Add(p.line, blocklist.Listing{
		Name: name, Scope: scope, Decision: decision, Category: p.claim.category(),
		Since: p.claim.since, Start: p.claim.start, Expiry: p.claim.expiry,
	})
}

// maxAnswers bounds the exceptions that redirects are listed as: a list with more consists of redirects.
const maxAnswers = 1 << 16

// redirected takes a record that gives a name another address or name as its answer.
func (p *parser) redirected(text []byte, scope blocklist.Scope) {
	if p.opt.RedirectsBlock {
		p.add(text, scope, blocklist.Block)
		return
	}
	p.answered(text, scope)
}

// answered takes a record by which a name is answered, in another way than usual: a wider block of the same list does not reach
// the name, and the record itself is refused.
func (p *parser) answered(text []byte, scope blocklist.Scope) {
	name, why := appendName(p.name[:0], text)
	if why != accepted {
		p.refuseText(text, why)
		return
	}
	if p.answers < maxAnswers {
		p.answers++
		p.list(name, scope, blocklist.Except)
	}
	p.refuse(Redirect)
}

func (p *parser) refuse(why Reason) {
	p.stats.Refused[why]++
	p.sink.Refuse(p.line, why)
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
	if l.Prefix.IsValid() {
		a.Refuse(line, PassedAddress)
		return
	}
	l.Decision = blocklist.Allow
	a.Sink.Add(line, l)
}
