package format

import (
	"bytes"
	"math/bits"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"rempart/blocklist"
)

// claim holds the fields of a row or an object: the name that it lists and its properties. Texts are borrowed.
type claim struct {
	texts      [roleCount][]byte // the first text of each role that is not empty
	categories blocklist.Categories
	fallback   blocklist.Categories // implied by the columns of the list; used if no text names a category
	withheld   bool                 // see NotToBlock
	badTime    bool
	failure    failure
	observed   bool // a MISP attribute: it lists nothing unless to_ids is true
	since      int64
	start      int64
	expiry     int64
}

// role is the meaning of a column or key.
type role uint8

const (
	noRole role = iota
	domainRole
	hostRole
	urlRole
	valueRole   // an indicator; another column holds its kind
	nameRole    // an indicator if there is no other; otherwise it may be a title
	kindRole    // that kind, or a category
	patternRole // of STIX
	patternKindRole
	idRole
	categoryRole  // a category
	threatRole    // a tag, a kind of threat: perhaps a category
	reasonRole    // why it is listed: perhaps a category
	familyRole    // of malware
	phishRole     // only phishing lists have it
	sinceRole     // first seen
	writtenRole   // when the entry was made: a first sight where none is given
	modifiedRole  // when it was last changed
	startRole     // valid from
	expiryRole    // valid until
	toBlockRole   // to_ids, verified: false withholds
	withdrawnRole // revoked: true withholds
	labelRole     // 0 or benign withholds, else a category
	roleCount
)

// holdsThreat reports whether a text of that role may name a category.
func (r role) holdsThreat() bool {
	return r == categoryRole || r == threatRole || r == reasonRole || r == labelRole
}

// isName reports whether a text of that role may be the name that a row lists.
func (r role) isName() bool {
	return r == domainRole || r == hostRole || r == urlRole || r == valueRole || r == nameRole
}

// roles knows columns and keys by their names, folded by foldKey.
var roles = map[string]role{
	"domain": domainRole, "domains": domainRole, "domainname": domainRole, "domainaddress": domainRole, "fqdn": domainRole,
	"host": hostRole, "hosts": hostRole, "hostname": hostRole, "hostnames": hostRole,
	"url": urlRole, "urls": urlRole, "uri": urlRole,
	"indicator": valueRole, "indicators": valueRole, "ioc": valueRole, "iocs": valueRole, "iocvalue": valueRole, "atomvalue": valueRole,
	"value": valueRole, "name": nameRole, "names": nameRole, "observable": valueRole,
	"type": kindRole, "ioctype": kindRole, "atomtype": kindRole, "indicatortype": kindRole,
	"pattern": patternRole, "patterntype": patternKindRole, "id": idRole,
	"threat": threatRole, "threattype": threatRole, "threattypes": threatRole, "category": categoryRole,
	"categories": categoryRole, "tag": threatRole, "tags": threatRole, "classification": threatRole, "indicatorthreattype": threatRole,
	"indicatortypes": threatRole, "labels": threatRole, "label": labelRole,
	"malware": familyRole, "malwarefamily": familyRole, "malwareprintable": familyRole,
	"phishid": phishRole, "phishdetailurl": phishRole,
	"firstseen": sinceRole, "firstseenutc": sinceRole, "firstseenat": sinceRole, "dateadded": sinceRole, "submissiontime": sinceRole,
	"insertdate": sinceRole, "firstreporteddatetime": sinceRole,
	"created": writtenRole, "added": writtenRole, "date": writtenRole, "timestamp": writtenRole, "modified": modifiedRole,
	"validfrom":  startRole,
	"validuntil": expiryRole, "expiry": expiryRole, "expires": expiryRole, "expiration": expiryRole, "expirationdate": expiryRole,
	"deletedate": expiryRole, "indicatorexpirationdatetime": expiryRole,
	"toids": toBlockRole, "verified": toBlockRole, "revoked": withdrawnRole, "deleted": withdrawnRole,

	// In French, German, Italian and Spanish.
	"domaine": domainRole, "domaines": domainRole, "nomdedomaine": domainRole, "nomsdedomaine": domainRole, "nomdomaine": domainRole,
	"domane": domainRole, "domanen": domainRole, "domanenname": domainRole, "domainnamen": domainRole,
	"dominio": domainRole, "domini": domainRole, "dominios": domainRole, "nomedidominio": domainRole, "nomedominio": domainRole, "nombrededominio": domainRole,
	"hote": hostRole, "nomdhote": hostRole, "nomhote": hostRole, "rechnername": hostRole, "nombredehost": hostRole, "nomehost": hostRole,
	"adresseweb": urlRole, "adresseinternet": urlRole, "internetadresse": urlRole, "webadresse": urlRole, "indirizzoweb": urlRole, "direccionweb": urlRole,
	"indicateur": valueRole, "indikator": valueRole, "indicatore": valueRole, "indicador": valueRole,
	"nom": nameRole, "nome": nameRole, "nombre": nameRole,
	"reason": reasonRole, "motif": reasonRole, "raison": reasonRole, "menace": threatRole, "categorie": categoryRole,
	"grund": reasonRole, "bedrohung": threatRole, "kategorie": categoryRole, "motivo": reasonRole, "minaccia": threatRole, "amenaza": threatRole, "categoria": categoryRole,
	"dateajout": writtenRole, "datedajout": writtenRole, "datum": writtenRole, "hinzugefugt": writtenRole, "fecha": writtenRole,
	"dateexpiration": expiryRole, "datedexpiration": expiryRole, "ablaufdatum": expiryRole, "gultigbis": expiryRole, "scadenza": expiryRole, "caducidad": expiryRole,
}

const maxKey = 64

// foldKey returns a column's or key's name in lower case, without accents and without the separators of its words.
func foldKey(name []byte) string {
	var folded [maxKey]byte
	n := 0
	name = trim(name)
	if !isASCII(name) {
		name = unaccented(name)
	}
	for _, c := range name {
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == ' ', c == '_', c == '-', c == '\'':
			continue
		}
		if n == len(folded) {
			return ""
		}
		folded[n] = c
		n++
	}
	return string(folded[:n])
}

// unaccented returns text without the accents of its letters.
func unaccented(text []byte) []byte {
	return bytes.Map(func(c rune) rune {
		switch {
		case unicode.Is(unicode.Mn, c):
			return -1
		case c == '’':
			return '\''
		}
		return c
	}, norm.NFD.Bytes(text[:min(len(text), 4*maxKey)]))
}

// set adds the text of a column or key of that role.
func (c *claim) set(r role, text []byte) {
	if text = trim(text); len(text) == 0 {
		return
	}
	switch r {
	case noRole:
	case categoryRole, threatRole, reasonRole, labelRole:
		c.threat(text, r == labelRole)
	case familyRole:
		c.fallback |= 1 << blocklist.Malware
	case phishRole:
		c.fallback |= 1 << blocklist.Phishing
	case toBlockRole:
		c.withheld = c.withheld || !isTrue(text)
		c.texts[r] = text
	case withdrawnRole:
		c.withheld = c.withheld || isTrue(text)
	default:
		if c.texts[r] == nil {
			c.texts[r] = text
		}
	}
}

// computeTimes computes the times after all texts were set.
func (c *claim) computeTimes() {
	written, _ := timeOf(c.texts[writtenRole])
	modified, _ := timeOf(c.texts[modifiedRole])
	c.since, _ = timeOf(c.texts[sinceRole])
	var ok bool
	if c.start, ok = timeOf(c.texts[startRole]); !ok {
		c.badTime = true
	}
	if c.expiry, ok = timeOf(c.texts[expiryRole]); !ok {
		c.badTime = true
	}
	switch {
	case c.since != 0:
	case written != 0:
		c.since = written
	default:
		c.since = c.start
	}
	const day = 24 * 60 * 60
	c.since -= c.since % day
	if c.start <= max(written, modified) {
		c.start = 0 // it was in force when this was written
	}
}

func (c *claim) category() blocklist.Category {
	set := c.categories
	if set == 0 {
		set = c.fallback
	}
	if bits.OnesCount32(uint32(set)) != 1 {
		return blocklist.Malicious
	}
	return blocklist.Category(bits.TrailingZeros32(uint32(set)))
}

// threatWords are the words that name a category.
var threatWords = []struct {
	word     string
	category blocklist.Category
}{
	{"phish", blocklist.Phishing},
	{"stalkerware", blocklist.Stalkerware}, {"spouseware", blocklist.Stalkerware},
	{"botnet", blocklist.Botnet}, {"command and control", blocklist.Botnet}, {"command-and-control", blocklist.Botnet}, {"c&c", blocklist.Botnet},
	{"scam", blocklist.Scam}, {"fraud", blocklist.Scam},
	{"malware", blocklist.Malware}, {"ransomware", blocklist.Malware}, {"trojan", blocklist.Malware}, {"payload", blocklist.Malware},

	{"hameconnage", blocklist.Phishing},
	{"arnaque", blocklist.Scam}, {"escroquerie", blocklist.Scam}, {"betrug", blocklist.Scam}, {"truffa", blocklist.Scam}, {"estafa", blocklist.Scam},
	{"logiciel malveillant", blocklist.Malware}, {"rancongiciel", blocklist.Malware}, {"cheval de troie", blocklist.Malware}, {"schadsoftware", blocklist.Malware},
}

// threat reads a category in the publisher's words. If the words name several categories, category returns none of them.
func (c *claim) threat(text []byte, label bool) {
	text = text[:min(len(text), 1024)]
	if !isASCII(text) {
		text = unaccented(text)
	}
	lower := bytes.ToLower(text)
	switch string(lower) {
	case "benign", "legitimate", "clean", "allowlisted", "whitelisted":
		c.withheld = true
	case "0", "false", "no":
		c.withheld = c.withheld || label
	}
	for _, t := range threatWords {
		if bytes.Contains(lower, []byte(t.word)) {
			c.categories |= 1 << t.category
		}
	}
}

func isTrue(text []byte) bool {
	return equalFold(text, "true") || equalFold(text, "yes") || equalFold(text, "y") || string(text) == "1"
}

// kind is the type of an indicator.
type kind uint8

const (
	anyKind kind = iota // unknown: it is read by its syntax
	domainKind
	hostKind
	urlKind
	addressKind
	otherKind
)

var kinds = map[string]kind{
	"": anyKind, "domain": domainKind, "domains": domainKind, "domainname": domainKind, "fqdn": domainKind, "domain|ip": domainKind,
	"host": hostKind, "hostname": hostKind, "hostname|port": hostKind,
	"url": urlKind, "urls": urlKind, "uri": urlKind,
	"ip": addressKind, "ipv4": addressKind, "ipv6": addressKind, "ipaddress": addressKind, "ip:port": addressKind, "ipsrc": addressKind,
	"ipdst": addressKind, "ipsrc|port": addressKind, "ipdst|port": addressKind, "ipv4addr": addressKind, "ipv6addr": addressKind,
	"cidr": addressKind, "ipv4cidr": addressKind,
}

// kind reads the kind column, which some use for the category.
func (c *claim) kind() kind {
	if k, ok := kinds[foldKey(c.texts[kindRole])]; ok {
		return k
	}
	before := c.categories
	if !c.observed {
		c.threat(c.texts[kindRole], false)
	}
	if c.categories != before {
		return anyKind
	}
	return otherKind
}

// isNamed reports whether the claim has a name or URL that cannot be a title.
func (c *claim) isNamed() bool {
	return c.texts[domainRole] != nil || c.texts[hostRole] != nil || c.texts[urlRole] != nil || c.texts[valueRole] != nil
}

// indicators lists or refuses the name of p.claim. A URL takes precedence over the name of its host: the name alone would block more
// than the URL.
func (p *parser) indicators() {
	c := &p.claim
	k := c.kind()
	value := c.texts[valueRole]
	if value == nil {
		value = c.texts[nameRole]
	}
	if c.texts[urlRole] != nil || c.texts[domainRole] != nil || c.texts[hostRole] != nil {
		k = anyKind
	}
	if c.observed && c.texts[toBlockRole] == nil {
		c.withheld = true
	}
	c.computeTimes()
	switch {
	case !c.isNamed() && value == nil:
		p.refuse(UnknownForm)
	case k == otherKind:
		p.refuse(OtherIndicator)
	case k == addressKind:
		p.refuse(Address)
	case c.withheld:
		p.refuse(NotToBlock)
	case c.badTime:
		p.refuse(BadTime)
	case c.texts[urlRole] != nil:
		p.url(c.texts[urlRole])
	case c.texts[domainRole] != nil:
		p.indicator(c.texts[domainRole], blocklist.Subtree)
	case c.texts[hostRole] != nil:
		p.indicator(c.texts[hostRole], blocklist.Exact)
	case k == urlKind:
		p.url(value)
	case k == hostKind:
		p.indicator(firstHalf(value), blocklist.Exact)
	case k == domainKind:
		p.indicator(firstHalf(value), blocklist.Subtree)
	default:
		p.indicator(value, blocklist.Subtree)
	}
}

// firstHalf returns the name of MISP's "name|address" and "name|port".
func firstHalf(value []byte) []byte {
	name, _, _ := bytes.Cut(value, []byte("|"))
	return trim(name)
}
