package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// maxResolvConf bounds a resolv.conf: real ones have a few hundred bytes.
const maxResolvConf = 64 << 10

// ResolvConf reads the nameserver lines of a resolv.conf as UDP endpoints, each once, in their order; other lines are ignored. A line with an unusable address
// is ignored, and the error names the line. The valid endpoints are returned with the error.
func ResolvConf(r io.Reader) ([]Endpoint, error) {
	var out []Endpoint
	var errs []error
	seen := map[Endpoint]bool{}
	lines := bufio.NewScanner(io.LimitReader(r, maxResolvConf+1))
	read := 0
	for lines.Scan() {
		read += len(lines.Bytes()) + 1
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		addr, err := netip.ParseAddr(fields[1])
		if err != nil {
			errs = append(errs, fmt.Errorf("resolv.conf: nameserver %.80q is not an address", fields[1]))
			continue
		}
		at, err := parseAddr(addr.String(), UDP.port())
		if err != nil {
			errs = append(errs, fmt.Errorf("resolv.conf: nameserver: %w", err))
			continue
		}
		if e := (Endpoint{Addr: at}); !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
	}
	if err := lines.Err(); err != nil {
		errs = append(errs, fmt.Errorf("resolv.conf: %w", err))
	}
	if read > maxResolvConf {
		errs = append(errs, fmt.Errorf("resolv.conf: longer than %d bytes", maxResolvConf))
	}
	return out, errors.Join(errs...)
}
