package resolver_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/dnstest/scenario"
)

// strange is a scenario in which an upstream answers with a given message. Clients with different flags ask, and ask again while the answer ages. The player
// checks every answer that they receive.
const strange = `block: evil.example
block: 203.0.113.0/24
refuse-rebinding: yes
CONFIG_END
SCENARIO_BEGIN An upstream that sends strange answers
RANGE_BEGIN 0 99
	ENTRY_BEGIN
	ADJUST copy_id copy_query
	HEX_ANSWER_BEGIN
	%[1]s
	HEX_ANSWER_END
	ENTRY_END
RANGE_END
STEP 1 QUERY
ENTRY_BEGIN
REPLY RD EDNS
%[2]s
STEP 2 CHECK_ANSWER
%[3]s
STEP 3 QUERY
ENTRY_BEGIN
REPLY RD CD DO
%[2]s
STEP 4 CHECK_ANSWER
%[3]s
STEP 10 TIME_PASSES ELAPSE 7
STEP 11 QUERY
ENTRY_BEGIN
REPLY RD AD
%[2]s
STEP 12 CHECK_ANSWER
%[3]s
STEP 20 TIME_PASSES ELAPSE 100000
STEP 21 QUERY
ENTRY_BEGIN
MATCH TCP
REPLY RD
%[2]s
STEP 22 CHECK_ANSWER
%[3]s
SCENARIO_END
`

// askedName is the name in the question of the scenario, in wire format.
const askedName = "\x03www\x07example\x03com\x00"

// program determines an answer: each choice takes one byte, or 0 when no byte is left.
type program []byte

// choose returns a number below n.
func (p *program) choose(n int) int {
	if len(*p) == 0 {
		return 0
	}
	b := (*p)[0]
	*p = (*p)[1:]
	return int(b) % n
}

// oneIn returns true for one in n bytes.
func (p *program) oneIn(n int) bool { return p.choose(n) == n-1 }

func pick[T any](p *program, of ...T) T { return of[p.choose(len(of))] }

// name returns a name, usually a valid one, that begins at the offset at of the message.
func (p *program) name(at int) string {
	if p.oneIn(24) {
		return pick(p, "\xc0\x02", "\xc0\xff", "\x40a", "\xc0\x0d", pointer(at), pointer(at-2), pointer(max(12, at-20)))
	}
	return pick(p, "\xc0\x0c", "\xc0\x0c", "\xc0\x0c", askedName, "\x01b\xc0\x10", "\x01B\x07example\x03com\x00", "\x03wWw\xc0\x10", "\xc0\x10",
		"\x01x\x04Evil\x07example\x00", "\x01c\x07example\x00", "\x00", "\x3f"+strings.Repeat("x", 63)+"\xc0\x10")
}

func pointer(to int) string { return string([]byte{0xc0 | byte(to>>8)&0x3f, byte(to)}) }

// data returns the data of a record of type typ, usually valid data. For DS, NSEC and unknown types the data is always valid, except for names in it, because
// Rempart passes such data on unchanged.
func (p *program) data(typ uint16, at int) string {
	if p.oneIn(48) && typ != 43 && typ != 47 {
		return pick(p, "", "\x00", "\xff\xff\xff", strings.Repeat("\xc0\x0c", 40))
	}
	switch typ {
	case 1:
		return pick(p, "\xc6\x33\x64\x01", "\xcb\x00\x71\x07", "\x0a\x00\x00\x01")
	case 28:
		return pick(p, "\x20\x01\x0d\xb8"+strings.Repeat("\x00", 11)+"\x01", "\x00\x64\xff\x9b"+strings.Repeat("\x00", 8)+"\xcb\x00\x71\x07")
	case 2, 5, 12, 39:
		return p.name(at)
	case 6:
		first := p.name(at)
		return first + p.name(at+len(first)) + strings.Repeat("\x00\x00\x00\x3c", 5)
	case 15:
		return "\x00\x0a" + p.name(at+2)
	case 16:
		return pick(p, "\x01x", "\x00", "\x05short")
	case 41:
		return pick(p, "", "\x00\x0f\x00\x02\x00\x06", "\x00\x0f\x00\x04\x00\x06\xff\xfe", "\x00\x0f\x00\x09")
	case 46:
		return "\x00\x01\x0d\x03\x00\x00\x01\x2c\x70\xdb\xd8\x80\x5e\x0b\xe1\x00\x00\x01" + p.name(at+18) + "sig"
	case 43:
		return "\x00\x01\x0d\x02\xaa\xbb"
	case 47:
		return p.name(at) + "\x00\x01\x40"
	case 64, 65:
		return pick(p, "\x00\x00", "\x00\x01") + p.name(at+2) + pick(p, "", "\x00\x04\x00\x04\xcb\x00\x71\x07", "\x00\x06\x00\x10"+strings.Repeat("\x00", 16), "\x00\x04\x00\x09\xcb")
	}
	return "\x01\x02\x03"
}

// record appends a record, usually one of the asked type or an alias.
func (p *program) record(msg []byte, asked uint16) []byte {
	msg = append(msg, p.name(len(msg))...)
	typ := pick[uint16](p, asked, asked, asked, 5, 5, 5, 46, 28, 65, 1, 39, 6, 2, 15, 16, 41, 64, 47, 43, 12, 65280)
	class := uint16(1)
	if p.oneIn(12) {
		class = pick[uint16](p, 3, 255, 1232)
	}
	msg = binary.BigEndian.AppendUint16(msg, typ)
	msg = binary.BigEndian.AppendUint16(msg, class)
	msg = binary.BigEndian.AppendUint32(msg, pick[uint32](p, 300, 60, 0, 1<<31, 5, 1<<32-1))
	data := p.data(typ, len(msg)+2)
	size := len(data)
	if p.oneIn(48) {
		size++
	}
	return append(binary.BigEndian.AppendUint16(msg, uint16(size)), data...)
}

// message returns the type of a question, and an answer to that question.
func (p *program) message() (typ uint16, msg []byte) {
	typ = pick[uint16](p, 1, 1, 65, 65, 28, 64, 5, 6, 15, 43, 16, 39, 2, 255, 65280)
	msg = []byte{0, 0, pick[byte](p, 0x81, 0x81, 0x83, 0x85), 0x80 | pick[byte](p, 0, 0, 0, 0, 0, 3, 3, 2, 5, 6, 0x20, 0x30), 0, 1, 0, 0, 0, 0, 0, 0}
	msg = append(msg, askedName...)
	msg = binary.BigEndian.AppendUint16(msg, typ)
	msg = append(msg, 0, 1)
	for section, most := range []int{5, 3, 2} {
		n := p.choose(most + 1)
		for range n {
			msg = p.record(msg, typ)
		}
		msg[7+2*section] = byte(n)
	}
	if p.oneIn(48) {
		msg = msg[:len(msg)-1]
	}
	return typ, msg
}

func playStrange(t *testing.T, p program) {
	t.Helper()
	typ, msg := p.message()
	question := fmt.Sprintf("SECTION QUESTION\nwww.example.com. IN TYPE%d\nENTRY_END", typ)
	text := fmt.Sprintf(strange, hex.EncodeToString(msg), question, "ENTRY_BEGIN\nMATCH opcode\nENTRY_END")
	s, err := scenario.Parse("strange", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	scenario.Play(t, s, func(settings []scenario.Setting, dial scenario.Dial) (scenario.Server, error) {
		server, err := startServer(settings, dial)
		return &blockChecker{server, t}, err
	})
	if t.Failed() {
		t.Fatalf("program %x, type %d, message %x", []byte(p), typ, msg)
	}
}

// blockChecker is a server that fails the test if an answer holds a name or an address that the settings of the scenario block.
type blockChecker struct {
	scenario.Server
	t *testing.T
}

func (w *blockChecker) Answer(q scenario.Query) []byte {
	answer := w.Server.Answer(q)
	m := new(dns.Msg)
	if m.Unpack(answer) != nil {
		return answer // the player reports it
	}
	for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
		if slices.ContainsFunc(targetsOf(rr), isBlocked) {
			w.t.Errorf("a blocked name or address reaches a client: %s", rr)
		}
	}
	return answer
}

// targetsOf returns the names and addresses to which a record directs a client that asked for its type.
func targetsOf(rr dns.RR) (all []string) {
	switch rr := rr.(type) {
	case *dns.A:
		return []string{rr.A.String()}
	case *dns.AAAA:
		return []string{rr.AAAA.String()}
	case *dns.CNAME:
		return []string{rr.Target}
	case *dns.HTTPS:
		return targetsOf(&rr.SVCB)
	case *dns.SVCB:
		all = append(all, rr.Target)
		for _, v := range rr.Value {
			if v.Key() == dns.SVCB_IPV4HINT || v.Key() == dns.SVCB_IPV6HINT {
				all = append(all, strings.Split(v.String(), ",")...)
			}
		}
	}
	return all
}

// isBlocked reports whether the settings of the scenario block a name or an address, or the address is private.
func isBlocked(to string) bool {
	if dns.IsSubDomain("evil.example.", strings.ToLower(to)) {
		return true
	}
	addr, err := netip.ParseAddr(to)
	if err != nil {
		return false
	}
	if last := addr.As16(); addr.Is6() {
		addr = netip.AddrFrom4([4]byte(last[12:]))
	}
	return netip.MustParsePrefix("203.0.113.0/24").Contains(addr) || addr.IsPrivate()
}

// TestRandomUpstreamAnswers plays random answers, the same ones in each run.
func TestRandomUpstreamAnswers(t *testing.T) {
	random := rand.NewChaCha8([32]byte{})
	n := 1000
	if testing.Short() {
		n = 50
	}
	for range n {
		p := make(program, 100)
		random.Read(p)
		playStrange(t, p)
	}
}

// FuzzStrangeAnswer looks for an answer of an upstream that stops the server, or makes the server send an incorrect answer.
func FuzzStrangeAnswer(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{0, 0, 0, 2, 0, 0, 15, 11, 2}) // an OPT in the answer section, whose class is a size, and an address
	f.Fuzz(func(t *testing.T, p []byte) { playStrange(t, p) })
}
