package rpz

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"rempart/blocklist"
)

// WriteZone writes a zone as it is served now, as a master file (RFC 1035 section 5), for resolvers that read a zone from a file. It fails until Run has
// surveyed the set once.
func (s *Server) WriteZone(w io.Writer, zone string) error {
	name, err := blocklist.AppendName(nil, zone)
	z := s.zoneOf(name)
	if err != nil || z == nil {
		return fmt.Errorf("write zone %q: there is no such zone", zone)
	}
	st := s.state.Load()
	if st == nil {
		return fmt.Errorf("write zone %s: %w", z.text, errNotReady)
	}
	return st.write(w, z, s.numberOf(z))
}

var errNotReady = errors.New("the set was not looked through yet")

func (st *state) write(w io.Writer, z *zone, i int) error {
	out := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprintf(out, "$ORIGIN %s.\n$TTL %d\n@ SOA localhost. root.localhost. %d %d %d %d %d\n@ NS localhost.\n",
		z.text, recordTTL, st.serial(), soaRefresh, soaRetry, soaExpire, recordTTL)
	err := st.each(z, i, func(r record) error {
		_, err := fmt.Fprintf(out, "%s CNAME %s\n", ownerText(r.owner), absolute(z.targetOf(r.rule)))
		return err
	})
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("write zone %s: %w", z.text, err)
	}
	return nil
}

// ownerText returns a record's owner, relative to the zone.
func ownerText(owner string) string { return blocklist.NameText([]byte(owner + "\x00")) }

// absolute returns a wire name's text with its trailing dot.
func absolute(name []byte) string {
	if len(name) == 1 {
		return "."
	}
	return blocklist.NameText(name) + "."
}
