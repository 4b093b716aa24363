package pushapi

import (
	"fmt"
	"slices"
	"strings"

	"rempart/internal/journal"
)

// audience is the nodes that the changes of an upload are for.
type audience struct {
	All    bool    `json:"all,omitempty"`    // at least one change is for all nodes
	Groups []group `json:"groups,omitempty"` // the others, each pair of countries and operators once
	Share  float64 `json:"share,omitempty"`  // the share of those nodes that gets the changes; 0: all of them
}

// group is the nodes in one of its countries that belong to one of its operators; an empty list means any.
type group struct {
	Countries []string `json:"countries,omitempty"`
	Operators []string `json:"operators,omitempty"`
}

// maxGroups bounds the groups of an audience; a set for more of them is treated as one for all.
const maxGroups = 100

func (a *audience) add(c *journal.Change) {
	switch {
	case a.All:
		return
	case c.Everywhere(), len(a.Groups) == maxGroups:
		*a = audience{All: true, Share: a.Share}
		return
	}
	same := func(g group) bool {
		return slices.Equal(g.Countries, c.Countries) && slices.Equal(g.Operators, c.Operators)
	}
	if !slices.ContainsFunc(a.Groups, same) {
		a.Groups = append(a.Groups, group{c.Countries, c.Operators})
	}
}

// reaches reports whether at least one change of a change set is for a node. set is the change set's ID, name the name under which the node reports.
func (a *audience) reaches(set, name string, st *journal.Status) bool {
	own := name[strings.LastIndexByte(name, '/')+1:]
	if a.Share > 0 && !journal.Staged(set, own, a.Share) {
		return false
	}
	return a.isFor(st)
}

// isFor reports whether at least one change of a change set is for a node once the set is on all nodes.
func (a *audience) isFor(st *journal.Status) bool {
	return a.All || slices.ContainsFunc(a.Groups, func(g group) bool {
		c := journal.Change{Countries: g.Countries, Operators: g.Operators}
		return c.For(st.Country, st.Operator)
	})
}

// reach notes in k how many of the reporting nodes the change set is for, with a warning if it is staged to none of them, and one for each country and
// operator that no node reports.
func (a *API) reach(k *kept) {
	if k.Reaches, k.Warnings = nil, nil; k.Audience.All && k.Audience.Share == 0 {
		return
	}
	found := a.fleet.reach(k.ID, &k.Audience)
	k.Reaches = &found.reached
	if len(found.operators) == 0 {
		k.Warnings = []string{"no server has reported yet: whether it reaches one is not known"}
		return
	}
	if found.wanted > 0 && found.reached == 0 {
		k.Warnings = append(k.Warnings, fmt.Sprintf("it is tried on 0 of %d servers before it goes on to all of them: choose a larger share", found.wanted))
	}
	for _, g := range k.Audience.Groups {
		k.warn("country", "REMPART_COUNTRY", g.Countries, found.countries)
		k.warn("operator", "REMPART_OPERATOR", g.Operators, found.operators)
	}
}

// warn adds a warning for each wanted value that no node reports.
func (k *kept) warn(what, variable string, wanted []string, reported map[string]bool) {
	var others []string
	for value := range reported {
		if value != "" {
			others = append(others, value)
		}
	}
	slices.Sort(others)
	for _, value := range wanted {
		if reported[value] {
			continue
		}
		text := fmt.Sprintf("no server reports the %s %q (%s)", what, value, variable)
		if len(others) > 0 {
			text += "; reported are " + strings.Join(others[:min(len(others), 20)], ", ")
		}
		if !slices.Contains(k.Warnings, text) {
			k.Warnings = append(k.Warnings, text)
		}
	}
}

// audienceCount is how many of the reporting nodes a change set is for, and the countries and operators of all reporting nodes. A node without one adds "".
type audienceCount struct {
	wanted, reached      int // nodes that it is for in the end, and now while it is staged
	countries, operators map[string]bool
}

// reach counts the nodes that a change set is for.
func (f *fleet) reach(set string, to *audience) audienceCount {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := audienceCount{countries: map[string]bool{}, operators: map[string]bool{}}
	for name, node := range f.nodes {
		if f.gone(node) {
			continue
		}
		found.countries[node.Country], found.operators[node.Operator] = true, true
		if to.isFor(&node.Status) {
			found.wanted++
		}
		if to.reaches(set, name, &node.Status) {
			found.reached++
		}
	}
	return found
}

// holders returns the names of the nodes that a change set is for and on which its version is in force, in order.
func (f *fleet) holders(epoch uint64, k *kept) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := []string{}
	for name, n := range f.nodes {
		if !f.gone(n) && n.holds(epoch, k.Version) && k.Audience.reaches(k.ID, name, &n.Status) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
