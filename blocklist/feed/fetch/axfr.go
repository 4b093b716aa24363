package fetch

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist/feed/bounded"
)

// Zone transfers (RFC 5936): the zone's SOA is requested first. If its serial has changed, the difference (ixfr.go) or the whole zone is
// requested. The body is the zone in presentation format, one record per line, with absolute owners, the SOA first.

const maxRecords = 20 << 20 // of an answer, independent of their size

// primary is the server of one zone.
type primary struct {
	zone string // canonical, absolute
	addr string // host:port
	key  *tsigKey
}

// newPrimary reads "axfr://host[:port]/zone". Errors hold no secret.
func newPrimary(u *url.URL, tsig string) (primary, error) {
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return primary{}, errors.New(`a zone transfer is "axfr://host[:port]/zone" and no more; a key goes in its own setting`)
	}
	zone := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), ".")
	if !isHostText(zone) {
		return primary{}, errors.New(`the path of axfr://host[:port]/zone is not the name of a zone`)
	}
	port := u.Port()
	if port == "" {
		port = "53"
	}
	p := primary{zone: dns.CanonicalName(zone), addr: net.JoinHostPort(u.Hostname(), port)}
	if tsig == "" {
		return p, nil
	}
	key, err := parseTSIG(tsig)
	p.key = key
	return p, err
}

// fetchZone transfers the zone at u, as a difference to the body at before if possible.
func (f Client) fetchZone(ctx context.Context, u *url.URL, tsig string, known Validators, before, path string) (Result, error) {
	p, err := newPrimary(u, tsig)
	if err != nil {
		return Result{}, err
	}
	got, err := f.transferFrom(ctx, p, known, before, path)
	if ctx.Err() != nil && err != nil {
		err = ctx.Err() // rather than the error of the closed connection
	}
	if err != nil {
		return Result{}, fmt.Errorf("transfer zone %s: %w", p.zone, err)
	}
	return got, nil
}

func (f Client) transferFrom(ctx context.Context, p primary, known Validators, before, path string) (Result, error) {
	serial, err := f.serial(ctx, p)
	if err != nil {
		return Result{}, fmt.Errorf("SOA: %w", err)
	}
	if held, err := strconv.ParseUint(known.Serial, 10, 32); err == nil && before != "" {
		if uint32(held) == serial {
			return Result{Unchanged: true, At: time.Now(), Validators: known}, nil
		}
		if newer(serial, uint32(held)) {
			got, err := f.incremental(ctx, p, uint32(held), before, path)
			if err == nil || ctx.Err() != nil {
				return got, err
			} // on any other error the whole zone is requested
		}
	}
	return f.whole(ctx, p, path)
}

// newer compares serials (RFC 1982 section 3.2).
func newer(a, b uint32) bool { return a != b && a-b < 1<<31 }

func (f Client) serial(ctx context.Context, p primary) (serial uint32, err error) {
	q := new(dns.Msg).SetQuestion(p.zone, dns.TypeSOA)
	q.RecursionDesired = false
	err = f.exchange(ctx, p, q, func(rr dns.RR) (bool, error) {
		soa, ok := rr.(*dns.SOA)
		if !ok {
			return false, errors.New("the answer holds no SOA")
		}
		serial = soa.Serial
		return true, nil
	})
	return serial, err
}

// whole fetches the whole zone (RFC 5936 section 2.2).
func (f Client) whole(ctx context.Context, p primary, path string) (Result, error) {
	var first *dns.SOA
	sum, err := f.writeBody(path, func(w io.Writer) error {
		q := new(dns.Msg).SetAxfr(p.zone)
		return f.exchange(ctx, p, q, func(rr dns.RR) (bool, error) {
			soa, ok := rr.(*dns.SOA)
			switch {
			case first == nil && !ok:
				return false, errors.New("the answer does not begin with the SOA")
			case first == nil:
				first = soa
				return false, writeHead(w, soa)
			case ok && soa.Serial != first.Serial:
				return false, errors.New("the zone changed during the transfer: it is transferred again at the next fetch")
			case ok:
				return true, nil
			}
			line, err := recordLine(rr)
			if err != nil {
				return false, err
			}
			_, err = io.WriteString(w, line)
			return false, err
		})
	})
	if err != nil {
		return Result{}, fmt.Errorf("AXFR: %w", err)
	}
	return zoneFetched(sum, first.Serial), nil
}

func zoneFetched(sum uint64, serial uint32) Result {
	return Result{Sum: sum, At: time.Now(), Validators: Validators{Serial: strconv.FormatUint(uint64(serial), 10)}}
}

// writeHead begins a body.
func writeHead(w io.Writer, soa *dns.SOA) error {
	line, err := recordLine(soa)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, "$ORIGIN "+soa.Hdr.Name+"\n"+line)
	return err
}

// recordLine returns a record in presentation format with a canonical owner. It changes rr.
func recordLine(rr dns.RR) (string, error) {
	h := rr.Header()
	h.Name = dns.CanonicalName(h.Name)
	line := rr.String()
	if strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("a record of type %s has no presentation form", dns.TypeToString[h.Rrtype])
	}
	return line + "\n", nil
}

// exchange sends q and calls take with each record of the answer, which may consist of many messages, until take reports the last one. If
// exchange fails, the records must not be used: signatures are verified in the course of it.
func (f Client) exchange(ctx context.Context, p primary, q *dns.Msg, take func(dns.RR) (last bool, err error)) error {
	conn, err := f.dial(ctx, "tcp", p.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	a := answer{primary: p, q: q, take: take}
	packed, err := a.pack()
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(f.partTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)); err != nil {
		return err
	}
	r := bufio.NewReaderSize(conn, 64<<10)
	for buf := make([]byte, dns.MaxMsgSize); !a.done; {
		if err := conn.SetDeadline(time.Now().Add(f.partTimeout)); err != nil {
			return err
		}
		packed, err := readMessage(r, buf)
		if err != nil {
			return fmt.Errorf("read the answer, after %d records: %w", a.records, err)
		}
		if err := a.message(packed); err != nil {
			return err
		}
	}
	return nil
}

// readMessage reads a message with its length before it (RFC 1035 section 4.2.2) into buf.
func readMessage(r io.Reader, buf []byte) ([]byte, error) {
	if _, err := io.ReadFull(r, buf[:2]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(buf)
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}

// answer is the answer of a primary to q.
type answer struct {
	primary
	q       *dns.Msg
	take    func(dns.RR) (bool, error)
	signed  *signatures // nil without a key
	records int
	begun   bool // a message was read
	done    bool // the last record was received
}

func (a *answer) pack() (packed []byte, err error) {
	if a.key == nil {
		return a.q.Pack()
	}
	packed, a.signed, err = a.key.sign(a.q)
	return packed, err
}

// message handles the next message of the answer.
func (a *answer) message(packed []byte) error {
	var m dns.Msg
	if err := m.Unpack(packed); err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	if err := a.matches(&m); err != nil {
		return err
	}
	if a.signed != nil {
		if err := a.signed.verify(packed, m.IsTsig()); err != nil {
			return err
		}
	}
	a.begun = true
	for i, rr := range m.Answer {
		if err := a.belongs(rr); err != nil {
			return err
		}
		last, err := a.take(rr)
		if err != nil {
			return err
		}
		if a.done = last; last && i < len(m.Answer)-1 {
			return errors.New("the answer continues after its end")
		}
	}
	if a.done && a.signed != nil && !a.signed.complete() {
		return errors.New("the end of the answer is not signed")
	}
	return nil
}

// matches checks that m is a part of the answer (RFC 5936 section 2.2.1).
func (a *answer) matches(m *dns.Msg) error {
	asked := a.q.Question[0]
	switch {
	case m.Id != a.q.Id || !m.Response || m.Opcode != dns.OpcodeQuery:
		return errors.New("the answer is to another query")
	case m.Rcode != dns.RcodeSuccess:
		return refusal(m)
	case m.Truncated:
		return errors.New("the answer is truncated")
	case len(m.Question) > 1, len(m.Question) == 0 && !a.begun:
		return errors.New("the answer does not say to what")
	case len(m.Question) == 1 && (dns.CanonicalName(m.Question[0].Name) != a.zone || m.Question[0].Qtype != asked.Qtype || m.Question[0].Qclass != asked.Qclass):
		return errors.New("the answer is to another question")
	case len(m.Answer) == 0:
		return errors.New("the answer is without records: the server does not hold that zone")
	}
	return nil
}

// belongs checks that rr is of the zone and that there are not too many records.
func (a *answer) belongs(rr dns.RR) error {
	a.records++
	h := rr.Header()
	switch {
	case a.records > maxRecords:
		return fmt.Errorf("more than %d records: %w", maxRecords, bounded.ErrTooLarge)
	case h.Class != dns.ClassINET, !dns.IsSubDomain(a.zone, dns.CanonicalName(h.Name)),
		h.Rrtype == dns.TypeSOA && dns.CanonicalName(h.Name) != a.zone:
		return errors.New("the answer holds records of another zone")
	}
	return nil
}

// refusal returns the error for the rcode of an answer. Answers with an error are not verified.
func refusal(m *dns.Msg) error {
	name := dns.RcodeToString[m.Rcode]
	if name == "" {
		name = strconv.Itoa(m.Rcode)
	}
	var hint string
	switch {
	case m.IsTsig() != nil && m.IsTsig().Error == dns.RcodeBadKey:
		hint = ": it does not know the TSIG key (BADKEY)"
	case m.IsTsig() != nil && m.IsTsig().Error == dns.RcodeBadSig:
		hint = ": it holds another secret for the TSIG key (BADSIG)"
	case m.IsTsig() != nil && m.IsTsig().Error == dns.RcodeBadTime:
		hint = ": its clock is another one (BADTIME)"
	case m.Rcode == dns.RcodeRefused:
		hint = ": it does not let this client transfer the zone, or does not hold it"
	case m.Rcode == dns.RcodeNotAuth:
		hint = ": it does not hold that zone, or requires a TSIG key"
	}
	return fmt.Errorf("the primary answered %s%s", name, hint)
}
