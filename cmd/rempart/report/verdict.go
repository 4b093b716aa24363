package report

import (
	"errors"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/internal/local"
)

// VerdictError is the action of a verdict on a text that is not a name.
const VerdictError = "error"

// ParseName parses a name in the notations of people, including single labels.
func ParseName(text string) ([]byte, error) {
	name, err := format.Host(text)
	if errors.Is(err, format.SingleLabel) || errors.Is(err, format.LocalName) {
		name, err = blocklist.AppendName(nil, text) // lists cannot hold single labels, but people ask about them
	}
	return name, err
}

// VerdictOf describes a view's verdict on a name.
func VerdictOf(view *blocklist.View, name []byte, verdict blocklist.Verdict) local.Verdict {
	v := local.Verdict{Name: blocklist.NameText(name), Action: verdict.Action.String()}
	entry, ok := view.Explain(name, verdict)
	if !ok {
		return v
	}
	v.Entry, v.Scope, v.Sources = entry.Name, entry.Scope.String(), entry.Sources
	if verdict.Action == blocklist.BlockedBy {
		v.Category = entry.Category.String()
	}
	return v
}

// LeastMatches is the smallest number of hits of an entry that is shown: fewer hits may all be from one client.
const LeastMatches = 10
