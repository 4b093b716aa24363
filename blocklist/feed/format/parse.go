package format

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"rempart/blocklist"
)

const (
	MaxLine  = 64 << 10 // bytes of a line; longer ones are skipped and counted
	maxPlain = 1 << 30  // bytes of a list after decompression
)

// ErrNotAList is wrapped by the error of Parse for a content of which no line lists a name, such as a web page or a binary file.
var ErrNotAList = errors.New("not a list of names")

// Sink receives the listings that Parse reads. Lines are numbered from 1, in the decompressed content; of JSON formats the entries are
// numbered instead: the objects and strings that may list something. Names are canonical wire names of two labels at least, borrowed
// for the call. Parse calls the methods from its own goroutine.
type Sink interface {
	// Add receives a listing: a name, its scope, and Block or Except; or, of a policy zone, a prefix
	// of globally routed addresses to block, of 24 bits (IPv4) or 48 bits (IPv6) at least.
	Add(line int, l blocklist.Listing)
	// Cancel receives a $badfilter rule: the list's own block of exactly that name and scope is void.
	Cancel(line int, name []byte, scope blocklist.Scope)
	// Refuse receives a line, or one name of a line, that was not understood.
	Refuse(line int, why Reason)
}

// Stats describes a list that Parse read.
type Stats struct {
	Format   Format // detected or configured; of an archive, the format of its last file
	Lines    int    // lines, including comments and empty lines; of JSON formats, entries
	Listings int
	Cancels  int
	Refused  Refusals
}

// Options says how to read a list. The zero value reads any format.
type Options struct {
	Format Format // FormatAuto if empty
	// SharedHost reports whether a host, a canonical wire name borrowed for the call, carries many
	// sites of different owners, so that a URL on it does not list the host. Nil: no host does.
	SharedHost func(name []byte) bool
	// DeepURLs lists the host of a URL that names a page, too, unless it is shared.
	DeepURLs bool
	// RedirectsBlock lists a name for which the list gives another name or address, such as its publisher's landing page. Without
	// it such a record says that the name is to be answered: it is counted as a Redirect, and listed as an exception.
	RedirectsBlock bool
}

// Parse reads a list into sink, compressed (gzip, zstd, bzip2, twice at most) or not. With Auto, JSON
// and CSV are detected by their beginning; any other content is read line by line, so that formats may be mixed
// in one list: names, hosts, adblock rules, RPZ records, URLs, dnsmasq and unbound settings. Of a
// zip archive, which needs r to be an io.ReaderAt and io.Seeker too, each file is read in turn as a
// list of its own. Memory is bounded for any r. On an error, the listings that sink
// already received are a part of a list and must not be used. The error wraps ErrNotAList, [bounded.ErrTooLarge], or is r's.
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
	if n := p.stats.Refused.Total(); n > 0 && p.stats.Listings-p.redirectExceptions+p.stats.Cancels == 0 {
		why := p.stats.Refused.most()
		return p.stats, fmt.Errorf("%w: of %d %s none lists a name, most are refused as %s%s",
			ErrNotAList, p.stats.Lines, p.stats.Format.unit(), why, why.remedy())
	}
	return p.stats, nil
}

// parser is the state of one Parse.
type parser struct {
	opt   Options
	sink  Sink
	stats Stats
	line  int    // the number of the current line or entry, for the sink
	claim claim  // the fields of the current row or object
	name  []byte // scratch
	// redirectExceptions is the number of exceptions that were listed because of redirects.
	redirectExceptions int
	// Of the content being read, which an archive has several of:
	sawText bool // a line that is not blank was seen
	common  commonLines
	zone    zone
	table   table
}

// contents reads each content of r: one, or each file of an archive.
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
		p.sawText, p.common, p.zone, p.table = false, commonLines{}, zone{}, table{}
		p.stats.Format = asked
		if asked == Auto {
			p.stats.Format = sniff(content)
		}
		if err := p.content(content); err != nil {
			return err
		}
	}
}

func (p *parser) content(r *bufio.Reader) error {
	switch f := p.stats.Format; f {
	case JSON, MISP, STIX, TAXII:
		return p.documents(r)
	case CSV:
		err := p.lines(r, p.row)
		p.endTable()
		return err
	case Auto:
		p.common = commonLines{names: blocklist.Subtree, hosts: true, adblock: true}
		return p.lines(r, p.mixedLine)
	case Hosts:
		p.common = commonLines{names: blocklist.Exact, hosts: true}
	case Domains, Wildcards:
		p.common = commonLines{names: blocklist.Subtree}
	case Adblock:
		p.common = commonLines{adblock: true}
	}
	return p.lines(r, p.strictLine)
}

// lines calls read with each line that readCommon does not handle.
func (p *parser) lines(r *bufio.Reader, read func(line []byte)) error {
	for {
		line, err := r.ReadSlice('\n')
		if len(line) == 0 && err == io.EOF {
			return nil
		}
		p.stats.Lines++
		p.line = p.stats.Lines
		switch {
		case p.readCommon(line):
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

// commonLines describes the simple and most frequent lines of a format, which are read by a fast path.
type commonLines struct {
	names   blocklist.Scope // of a name alone, 0 if it is not usual
	hosts   bool            // "0.0.0.0 name"
	adblock bool            // "||name^"
}

// readCommon lists the name of a simple line. For any other line it does nothing and returns false. It lists the same name that the
// complete reader of the format would list.
func (p *parser) readCommon(line []byte) bool {
	line = trimEnd(line)
	if len(line) < 4 || p.zone.inSOA > 0 {
		return false
	}
	scope := p.common.names
	switch line[0] {
	case '0', '1':
		if name, ok := cutSink(line); ok && p.common.hosts {
			line, scope = name, blocklist.Exact
		}
	case '|':
		if !p.common.adblock || line[1] != '|' || line[len(line)-1] != '^' {
			return false
		}
		line, scope = line[2:len(line)-1], blocklist.Subtree
	}
	if scope == 0 {
		return false
	}
	name, ok := appendPlain(p.name[:0], line)
	if ok {
		p.sawText = true
		p.list(name, scope, blocklist.Block)
	}
	return ok
}

// cutSink removes the sink address that nearly all hosts files use from the beginning of a line.
func cutSink(line []byte) (rest []byte, ok bool) {
	for _, sink := range []string{"0.0.0.0", "127.0.0.1"} {
		if n := len(sink); len(line) > n && string(line[:n]) == sink && isBlank(line[n]) {
			return line[n+1:], true
		}
	}
	return line, false
}

// physicalLine reads one line of the file, including its end. A bare CR and Unicode's line separators end a line too, but do not
// increase the line number. It reports whether the list begins like an HTML page.
func (p *parser) physicalLine(line []byte, read func(line []byte)) (page bool) {
	line = clean(trimEnd(line))
	if !p.sawText {
		if start := trim(line); len(start) > 0 {
			p.sawText = true
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

// trimEnd returns a line without its end.
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

// MaxRedirectExceptions is the number of exceptions that redirects are listed as at most: a list with more consists of redirects.
const MaxRedirectExceptions = 1 << 16

// redirect handles a record that gives a name another address or name as its answer.
func (p *parser) redirect(text []byte, scope blocklist.Scope) {
	if p.opt.RedirectsBlock {
		p.add(text, scope, blocklist.Block)
		return
	}
	p.exceptAnswered(text, scope)
}

// exceptAnswered handles a record that gives a name an answer of its own: a wider block of the same list does not reach the name, and the
// record itself is refused.
func (p *parser) exceptAnswered(text []byte, scope blocklist.Scope) {
	name, why := appendName(p.name[:0], text)
	if why != accepted {
		p.refuseText(text, why)
		return
	}
	if p.redirectExceptions < MaxRedirectExceptions {
		p.redirectExceptions++
		p.list(name, scope, blocklist.Except)
	}
	p.refuse(Redirect)
}

func (p *parser) refuse(why Reason) {
	p.stats.Refused[why]++
	p.sink.Refuse(p.line, why)
}

// refuseText refuses text that appendName refused, with the more specific reason that its bytes show.
func (p *parser) refuseText(text []byte, why Reason) {
	if why == NotAName {
		why = nameReason(text)
	}
	p.refuse(why)
}

// Allowing returns the sink for an operator's allow list. It passes every listing to sink as an allow, exceptions included, and refuses
// prefixes of addresses: an allow is for a name.
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
