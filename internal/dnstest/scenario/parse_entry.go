package scenario

import (
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// matchKeywords lists the keywords of a MATCH line that have no value.
var matchKeywords = []string{
	"opcode", "qname", "qtype", "question", "subdomain", "flags", "UDP", "TCP", "DO", "noDO", "CD", "noCD", "edns", "noedns",
	"rcode", "answer", "authority", "additional", "all", "ttl",
}

// entry parses the lines of an entry that follow ENTRY_BEGIN, up to ENTRY_END.
func (p *parser) entry() (*entry, error) {
	current := &packet{}
	e := &entry{position: p.position(), match: map[string]bool{}, packets: []*packet{current}}
	section := ""
	for {
		line, err := p.next()
		if err != nil {
			return nil, fmt.Errorf("waiting for ENTRY_END: %w", err)
		}
		keywords, _, _ := strings.Cut(line, ";")
		words := strings.Fields(keywords)
		switch words[0] {
		case "MATCH":
			err = e.parseMatch(words[1:])
		case "ADJUST":
			err = current.parseAdjust(words[1:])
		case "REPLY":
			err = current.parseReply(words[1:])
		case "SECTION":
			if section, err = sectionOf(words); err != nil {
				return nil, err
			}
		case "EXTRA_PACKET":
			current, section = &packet{}, ""
			e.packets = append(e.packets, current)
		case "HEX_ANSWER_BEGIN":
			current.raw, err = p.hex("HEX_ANSWER_END")
		case "HEX_EDNSDATA_BEGIN":
			current.options, err = p.hex("HEX_EDNSDATA_END")
		case "ENTRY_END":
			return e, e.check()
		default:
			err = current.parseRecord(section, line, words)
		}
		if err != nil {
			return nil, err
		}
	}
}

// check returns an error if MATCH compares the question, but the first message of the entry does not have exactly one question.
func (e *entry) check() error {
	needs := e.match["qname"] || e.match["qtype"] || e.match["subdomain"] || e.match["question"] || e.match["all"]
	if needs && len(e.packets[0].question) != 1 {
		return fmt.Errorf("MATCH compares the question: the first message needs SECTION QUESTION with one question")
	}
	return nil
}

func (e *entry) parseMatch(words []string) error {
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch {
		case slices.Contains(matchKeywords, word):
		case key == "within":
			d, err := time.ParseDuration(value)
			if err != nil {
				return err
			}
			e.within = d
		case key == "ede" && (value == "none" || value == "any"):
			key = word
		case key == "ede":
			for code := range strings.SplitSeq(value, ",") {
				n, err := strconv.ParseUint(code, 10, 16)
				if err != nil {
					return fmt.Errorf("%.40q is not the code of an extended error", code)
				}
				e.ede = append(e.ede, uint16(n))
			}
		default:
			return fmt.Errorf("unknown keyword %.40q of MATCH", word)
		}
		e.match[key] = true
	}
	return nil
}

func (k *packet) parseAdjust(words []string) (err error) {
	for _, word := range words {
		switch key, value, _ := strings.Cut(word, "="); {
		case word == "copy_id":
			k.copyID = true
		case word == "copy_query":
			k.copyQuery = true
		case word == "flip_case":
			k.flipCase = true
		case word == "drop":
			k.drop = true
		case word == "close":
			k.shut = true
		case word == "loop":
			k.loop = true
		case key == "sleep":
			if k.sleep, err = seconds(value); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown keyword %.40q of ADJUST", word)
		}
	}
	return nil
}

func (k *packet) parseReply(words []string) error {
	flags := map[string]*bool{
		"QR": &k.header.Response, "AA": &k.header.Authoritative, "TC": &k.header.Truncated, "RD": &k.header.RecursionDesired,
		"RA": &k.header.RecursionAvailable, "AD": &k.header.AuthenticatedData, "CD": &k.header.CheckingDisabled, "DO": &k.do,
	}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		rcode, isRcode := rcodeOf(word)
		opcode, isOpcode := dns.StringToOpcode[word]
		switch {
		case flags[word] != nil:
			*flags[word] = true
		case word == "EDNS":
			k.edns = present
		case word == "NOEDNS":
			k.edns = absent
		case isRcode:
			k.header.Rcode = rcode
		case isOpcode:
			k.header.Opcode = opcode
		case key == "size":
			n, err := number(value)
			if err != nil || n > math.MaxUint16 {
				return fmt.Errorf("%.40q is not the size of a message", value)
			}
			k.size = uint16(n)
		case key == "ede":
			code, text, _ := strings.Cut(value, ":")
			n, err := strconv.ParseUint(code, 10, 16)
			if err != nil {
				return fmt.Errorf("%.40q is not the code of an extended error", code)
			}
			k.errors = append(k.errors, &dns.EDNS0_EDE{InfoCode: uint16(n), ExtraText: text})
		default:
			return fmt.Errorf("unknown keyword %.40q of REPLY", word)
		}
	}
	return nil
}

// rcodeOf returns the rcode with this name. For two rcodes it also accepts a name that miekg/dns does not use.
func rcodeOf(word string) (rcode int, ok bool) {
	switch word {
	case "NOTIMPL":
		return dns.RcodeNotImplemented, true
	case "BADVERS":
		return dns.RcodeBadVers, true
	}
	rcode, ok = dns.StringToRcode[word]
	return rcode, ok
}

func sectionOf(words []string) (string, error) {
	if len(words) == 2 {
		switch words[1] {
		case "QUESTION", "ANSWER", "AUTHORITY", "ADDITIONAL":
			return words[1], nil
		}
	}
	return "", fmt.Errorf("SECTION is QUESTION, ANSWER, AUTHORITY or ADDITIONAL, not %.40q", strings.Join(words[1:], " "))
}

// parseRecord parses a line of a section.
func (k *packet) parseRecord(section, line string, words []string) error {
	switch section {
	case "":
		return fmt.Errorf("unknown keyword %.40q in an entry", words[0])
	case "QUESTION":
		q, err := question(words)
		k.question = append(k.question, q)
		return err
	}
	if line[0] == '$' {
		return fmt.Errorf("%.40q is not supported in a section", words[0])
	}
	rr, err := dns.NewRR(line)
	if err != nil {
		return fmt.Errorf("unknown keyword or record %.60q: %w", line, err)
	}
	packed := make([]byte, dns.MaxMsgSize)
	n, err := dns.PackRR(rr, packed, 0, nil, false)
	if err == nil { // unpack the record again: data in the generic format "\# 4 c0000201" becomes data of the record's type
		rr, _, err = dns.UnpackRR(packed[:n], 0)
	}
	if err != nil {
		return fmt.Errorf("record %.60q: %w", line, err)
	}
	i := slices.Index([]string{"ANSWER", "AUTHORITY", "ADDITIONAL"}, section)
	k.sections[i] = append(k.sections[i], rr)
	return nil
}

// question parses a name, an optional class, and a type.
func question(words []string) (q dns.Question, err error) {
	if len(words) == 3 {
		class, ok := dns.StringToClass[words[1]]
		if !ok {
			return q, fmt.Errorf("unknown class %.40q", words[1])
		}
		q.Qclass = class
	} else if q.Qclass = dns.ClassINET; len(words) != 2 {
		return q, fmt.Errorf("a question is a name, an optional class and a type")
	}
	if _, ok := dns.IsDomainName(words[0]); !ok {
		return q, fmt.Errorf("%.40q is not a name", words[0])
	}
	q.Name = dns.Fqdn(words[0])
	word := words[len(words)-1]
	typ, ok := dns.StringToType[word]
	if rest, generic := strings.CutPrefix(word, "TYPE"); !ok && generic {
		n, err := strconv.ParseUint(rest, 10, 16)
		typ, ok = uint16(n), err == nil
	}
	if q.Qtype = typ; !ok {
		return q, fmt.Errorf("unknown type %.40q", word)
	}
	return q, nil
}

// hex reads bytes in hexadecimal until a line that is equal to end.
func (p *parser) hex(end string) ([]byte, error) {
	out := []byte{}
	for {
		words, err := p.keywords()
		if err != nil {
			return nil, fmt.Errorf("waiting for %s: %w", end, err)
		}
		if words[0] == end {
			return out, nil
		}
		b, err := hex.DecodeString(strings.Join(words, ""))
		if err != nil {
			return nil, fmt.Errorf("hexadecimal bytes: %w", err)
		}
		if out = append(out, b...); len(out) > dns.MaxMsgSize {
			return nil, fmt.Errorf("more than %d bytes", dns.MaxMsgSize)
		}
	}
}
