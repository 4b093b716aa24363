package format

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"rempart/blocklist"
	"rempart/blocklist/feed/bounded"
)

// JSON is read as a stream of tokens, one document after the other. The formats are distinguished by their keys. Three kinds of values may list a name: an object in an array (a row of PhishTank or
// CERT.PL, a MISP attribute, a STIX indicator), an object that is a whole document, and a string in an
// array that is a whole document or the value of a known key of names. Values within an object that may list are properties of it, and list
// only under the keys of holders.

// holders are the keys under which an object in an array holds further ones.
var holders = map[string]bool{
	"event": true, "response": true, "object": true, "objects": true, "attribute": true, "attributes": true,
	"indicators": true, "iocs": true, "data": true, "results": true, "items": true, "entries": true,
}

// asides are the keys of MISP and STIX whose values never list a name.
var asides = map[string]bool{
	"galaxy": true, "galaxycluster": true, "relatedevent": true, "shadowattribute": true, "eventreport": true, "org": true, "orgc": true,
	"sharinggroup": true, "objectreference": true, "externalreferences": true, "references": true,
}

// blockKeys and allowKeys are the keys of arrays of names.
var (
	blockKeys = map[string]bool{
		"domains": true, "domain": true, "hosts": true, "hostnames": true, "fqdn": true, "names": true, "urls": true, "url": true,
		"deny": true, "denysub": true, "denied": true, "denylist": true, "deniedremotedomains": true, "block": true, "blocked": true,
		"blocklist": true, "blacklist": true, "malicious": true, "phishing": true, "malware": true, "scam": true,
		"indicators": true, "iocs": true, "data": true, "results": true, "items": true, "entries": true,
	}
	allowKeys = map[string]bool{
		"allow": true, "allowed": true, "allowlist": true, "whitelist": true, "exceptions": true,
	}
)

// failure is whether an object reports an error: then its other members are about that error, and no indicators.
type failure uint8

const (
	noFailure      failure = iota
	mayReportError         // if it is the whole document: in a list, a message or a status may be an indicator's
	reportsError
)

// failures are the keys by which objects report errors.
var failures = map[string]failure{
	"error": reportsError, "errors": reportsError, "errormessage": reportsError, "errorcode": reportsError, "message": mayReportError,
	"documentationurl": mayReportError, "status": mayReportError, "statuscode": mayReportError, "success": mayReportError, "ok": mayReportError,
	"detail": mayReportError, "details": mayReportError, "msg": mayReportError, "code": mayReportError, "querystatus": mayReportError,
	"statustext": mayReportError, "statusmessage": mayReportError, "fault": mayReportError, "faultcode": mayReportError, "faultstring": mayReportError,
	"exception": mayReportError, "errmsg": reportsError, "errormsg": reportsError, "errordescription": reportsError, "errcode": reportsError,
}

// isFailure reports whether the value of a key of failures reports an error.
func isFailure(key string, value []byte) bool {
	switch key {
	case "success", "ok":
		return string(value) == "false"
	case "querystatus": // abuse.ch
		return len(value) > 0 && !equalFold(value, "ok")
	case "code":
		code, isNumber := number(value)
		return isNumber && code >= 400 || !isNumber && len(value) > 0 && !equalFold(value, "ok") && !equalFold(value, "success")
	case "errcode":
		return len(value) > 0 && string(value) != "0"
	case "status", "statuscode":
		code, isNumber := number(value)
		return isNumber && code >= 400 || equalFold(value, "error") || equalFold(value, "fail") || equalFold(value, "failed") || equalFold(value, "failure")
	}
	return len(value) > 0 && string(value) != "false" && string(value) != "0"
}

// position is the place of a value in a document.
type position struct {
	key    string // folded, of the object that holds the value or the array it is in; empty for a document
	entry  bool   // within an object that may list
	inList bool   // an element of an array
}

// unnamed replaces a key that folds to nothing. No folded key has a hyphen.
const unnamed = "-"

// isDocument reports whether the value is a document, or in an array that is one.
func (at position) isDocument() bool { return at.key == "" }

// documents reads JSON documents up to the end.
func (p *parser) documents(r *bufio.Reader) error {
	if head, _ := r.Peek(len(byteOrderMark)); string(head) == string(byteOrderMark) {
		r.Discard(len(byteOrderMark))
	}
	d := json.NewDecoder(bounded.ClipJSON(r))
	d.UseNumber()
	w := &jsonWalker{p: p, d: d}
	for {
		before := p.stats.Lines
		err := w.value(position{})
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("JSON is truncated: %w", err)
		}
		if err != nil {
			return err
		}
		if p.stats.Lines == before && !w.known {
			w.count()
			p.refuse(UnknownForm)
		}
		w.known = false
	}
}

// jsonWalker reads one stream of documents.
type jsonWalker struct {
	p     *parser
	d     *json.Decoder
	known bool // the document has the keys of a list, be it an empty one
}

// count counts an entry.
func (w *jsonWalker) count() {
	w.p.stats.Lines++
	w.p.line = w.p.stats.Lines
}

// value reads the next value.
func (w *jsonWalker) value(at position) error {
	token, err := w.d.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '[' {
			return inDocument(w.array(at))
		}
		return inDocument(w.object(at))
	case string:
		if at.inList {
			w.text(t, at)
		}
	}
	return nil
}

// inDocument returns err as the error of a truncated document if it is io.EOF.
func inDocument(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (w *jsonWalker) array(at position) error {
	if at.inList { // rows of cells: which is the name is not said
		w.count()
		w.p.refuse(UnknownForm)
		return w.threats(nil, noRole, 1)
	}
	w.known = w.known || at.isDocument() || blockKeys[at.key] || allowKeys[at.key] || holders[at.key]
	at.inList = true
	for w.d.More() {
		if err := w.value(at); err != nil {
			return err
		}
	}
	_, err := w.d.Token()
	return err
}

// text reads a string of an array.
func (w *jsonWalker) text(s string, at position) {
	w.count()
	p := w.p
	name := trim(clean([]byte(s)))
	switch {
	case p.stats.Format == MISP || p.stats.Format == STIX || p.stats.Format == TAXII:
		p.refuse(UnknownForm)
	case at.isDocument(), blockKeys[at.key]:
		p.claim.threat([]byte(at.key), false)
		switch roles[at.key] {
		case urlRole:
			p.url(name)
		case hostRole:
			p.indicator(name, blocklist.Exact)
		default:
			p.indicator(name, blocklist.Subtree)
		}
		p.claim = claim{}
	case allowKeys[at.key]: // of the name alone: such lists name the hosts of others' sites, and block some of those
		excepted, why := appendName(p.name[:0], name)
		if why != accepted { // "*.hoster.example" among them
			p.refuse(InexactException)
			return
		}
		p.list(excepted, blocklist.Exact, blocklist.Except)
	default:
		p.refuse(UnknownForm)
	}
}

// object reads an object, and what it claims.
func (w *jsonWalker) object(at position) error {
	c := claim{observed: at.inList && (at.key == "attribute" || at.key == "attributes" || at.key == "object" || at.key == "event")}
	before, keys := w.p.stats.Lines, 0
	for ; w.d.More(); keys++ {
		token, err := w.d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if err := w.member(&c, foldKey([]byte(name)), at.entry || at.inList); err != nil {
			return err
		}
	}
	if _, err := w.d.Token(); err != nil {
		return err
	}
	holds := w.p.stats.Lines > before
	switch {
	case c.failure == reportsError, at.isDocument() && !at.inList && c.failure == mayReportError && w.p.stats.Listings == 0:
		w.count()
		w.p.refuse(UnknownForm)
	case at.isDocument() && keys == 0: // a TAXII envelope of nothing
		w.known = true
	case !at.isDocument() && !at.inList:
	case c.isNamed(), c.texts[patternRole] != nil, !holds && (at.inList || c.texts[nameRole] != nil):
		w.claim(c)
	}
	return nil
}

// member reads the value of a key of an object. entry says whether the object is, or is within, an entry.
func (w *jsonWalker) member(c *claim, key string, entry bool) error {
	token, err := w.d.Token()
	if err != nil {
		return err
	}
	r := roles[key]
	delim, ok := token.(json.Delim)
	if key == "" {
		key = unnamed
	}
	at := position{key: key, entry: entry}
	switch {
	case !ok:
		w.known = w.known || key == "more"
		value := scalar(token)
		if isFailure(key, value) {
			c.failure = max(c.failure, failures[key])
		}
		c.set(r, value)
		return nil
	case key == "error", key == "errors":
		if w.d.More() { // an empty array reports none
			c.failure = reportsError
		}
		return w.threats(nil, noRole, 1)
	case delim == '{' && !entry && failures[key] == mayReportError:
		if w.d.More() {
			c.failure = max(c.failure, mayReportError)
		}
		return w.threats(nil, noRole, 1)
	case r.holdsThreat():
		return w.threats(c, r, 1)
	case asides[key], entry && !holders[key] && (delim != '[' || r != domainRole && r != hostRole && r != urlRole):
		return w.threats(nil, noRole, 1)
	case delim == '[':
		return w.array(at)
	}
	return w.object(at)
}

// threats reads the strings up to the end of an open array or object as categories, including those that MISP writes as objects. If c is
// nil, it skips them.
func (w *jsonWalker) threats(c *claim, r role, depth int) error {
	for depth > 0 {
		token, err := w.d.Token()
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '[' || t == '{' {
				depth++
			} else {
				depth--
			}
		case string:
			if c != nil {
				c.set(r, []byte(t))
			}
		}
	}
	return nil
}

func scalar(token json.Token) []byte {
	switch t := token.(type) {
	case string:
		return clean([]byte(t))
	case json.Number:
		return []byte(t)
	case bool:
		if t {
			return []byte("true")
		}
		return []byte("false")
	}
	return nil
}

// claim reads what an object claims, if the list's format has such objects.
func (w *jsonWalker) claim(c claim) {
	w.count()
	p := w.p
	p.claim = c
	stix := c.isSTIX()
	switch p.stats.Format {
	case MISP:
		if !c.observed {
			p.refuse(UnknownForm)
			break
		}
		p.indicators()
	case STIX, TAXII:
		if !stix {
			p.refuse(UnknownForm)
			break
		}
		p.stix()
	default:
		if stix {
			p.stix()
		} else {
			p.indicators()
		}
	}
	p.claim = claim{}
}
