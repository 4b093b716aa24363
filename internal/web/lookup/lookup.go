// Package lookup describes the answer that a client gets for a name, and the reason for it, for the public pages.
package lookup

import (
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"rempart/blocklist"
)

// Outcome is the kind of answer that a client gets for a name.
type Outcome uint8

const (
	Passes   Outcome = iota // the answer of the upstream resolvers
	Allowed                 // the same, because the operator allows the name
	Blocked                 // the answer of a block
	Reserved                // an answer of this server's own: the name is a special-use name
	Withheld                // no data: the answer of the upstream resolvers contains an address of the local network
)

// Result describes the answer that a client gets for a name, and the entry that decides it.
type Result struct {
	Name     string // ASCII
	Outcome  Outcome
	Target   string // the blocked name or address in the answer; "" if the name itself is blocked, or nothing is
	Entry    string // name of the deciding entry; "" if no entry decides
	Category blocklist.Category
	Mark     blocklist.Mark
	Lists    []string  // the lists behind the entry, as ListName returns them; without the operators
	Operator bool      // an operator decided, possibly in addition to lists
	Decision string    // ID of the decision; "" for none
	Since    time.Time // zero: unknown
	Until    time.Time // zero: no end
	Observed bool      // blocks are not enforced: the name passes for now
	Unsure   bool      // the upstream resolvers did not answer, so it is unknown whether the name redirects to a blocked one
	Version  uint64    // of the set
}

// IsBlocked reports whether a client that asks for the name now reaches the warning page instead.
func (r *Result) IsBlocked() bool { return r.Outcome == Blocked && !r.Observed }

// IsHostName reports whether the name consists of letters, digits, hyphens, underscores and dots only.
func (r *Result) IsHostName() bool { return IsHostName(r.Name) }

// IsHostName reports whether a name consists of letters, digits, hyphens, underscores and dots only, so that it has no meaning for a shell.
func IsHostName(name string) bool {
	return name != "" && name[0] != '-' && !strings.ContainsFunc(name, func(c rune) bool {
		return !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.')
	})
}

// Of describes a view's verdict on judged, which is a name or the target in its answer. name is canonical. operator is the name of the source of the operators'
// decisions.
func Of(view *blocklist.View, name, judged []byte, verdict blocklist.Verdict, operator string) Result {
	r := Result{Name: blocklist.NameText(name), Version: view.Version(), Observed: view.Suspended()}
	switch verdict.Action {
	case blocklist.Allowed:
		r.Outcome = Allowed
	case blocklist.BlockedBy:
		r.Outcome = Blocked
	}
	entry, ok := view.Explain(judged, verdict)
	if !ok {
		return r
	}
	r.Entry, r.Category, r.Mark, r.Decision = entry.Name, entry.Category, entry.Mark, entry.ID
	for _, source := range entry.Sources {
		if source == operator {
			r.Operator = true
			continue
		}
		if list := ListName(source); !slices.Contains(r.Lists, list) {
			r.Lists = append(r.Lists, list)
		}
	}
	if since := max(entry.Since, entry.Start); since > 0 {
		r.Since = time.Unix(since, 0).UTC()
	}
	if entry.Expiry > 0 {
		r.Until = time.Unix(entry.Expiry, 0).UTC()
	}
	return r
}

// maxFileName is the longest name of a file in a URL that is shown, in bytes.
const maxFileName = 40

// ListName returns the name of a list as readers know it: the host and file of a URL, the file of a path, any other name as it is. Folders of this machine and
// parts of a URL that may be a key are not shown.
func ListName(source string) string {
	if source == "" {
		return ""
	}
	if u, err := url.Parse(source); err == nil && u.Host != "" {
		base := path.Base(u.Path)
		if ext := path.Ext(base); ext == "" || ext == base || len(base) > maxFileName { // it may be a key
			return u.Hostname()
		}
		return u.Hostname() + " " + base
	}
	return path.Base(strings.ReplaceAll(source, `\`, "/"))
}

// Client returns the address that sent a request; not valid if it is unknown.
func Client(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}
