package changeset

import (
	"fmt"
	"slices"
	"strings"

	"rempart/internal/journal"
)

// Audience is the set of nodes to which the changes of a change set apply.
type Audience struct {
	All    bool    `json:"all,omitempty"`    // at least one change applies to all nodes
	Groups []Group `json:"groups,omitempty"` // the groups of the other changes, without duplicates
	Share  float64 `json:"share,omitempty"`  // the share of these nodes on which the changes are in force; 0 means all of them
}

// Group is the set of nodes in one of its countries that belong to one of its operators; an empty list means any.
type Group struct {
	Countries []string `json:"countries,omitempty"`
	Operators []string `json:"operators,omitempty"`
}

// maxGroups is the largest number of groups in an audience. A change set with more groups is treated like one for all nodes.
const maxGroups = 100

func (a *Audience) add(c *journal.Change) {
	switch {
	case a.All:
		return
	case c.AppliesEverywhere(), len(a.Groups) == maxGroups:
		*a = Audience{All: true, Share: a.Share}
		return
	}
	same := func(g Group) bool {
		return slices.Equal(g.Countries, c.Countries) && slices.Equal(g.Operators, c.Operators)
	}
	if !slices.ContainsFunc(a.Groups, same) {
		a.Groups = append(a.Groups, Group{c.Countries, c.Operators})
	}
}

// Reaches reports whether at least one change of a change set is for a node at present. set is the change set's ID, node the name
// under which the node reports.
func (a *Audience) Reaches(set, node string, st *journal.Status) bool {
	own := node[strings.LastIndexByte(node, '/')+1:]
	if a.Share > 0 && !journal.InStage(set, own, a.Share) {
		return false
	}
	return a.IsFor(st)
}

// IsFor reports whether at least one change of a change set is for a node once the change set is on all nodes.
func (a *Audience) IsFor(st *journal.Status) bool {
	return a.All || slices.ContainsFunc(a.Groups, func(g Group) bool {
		c := journal.Change{Countries: g.Countries, Operators: g.Operators}
		return c.AppliesTo(st.Country, st.Operator)
	})
}

// Reach is how many of the reporting nodes a change set is for, and the countries and operators of all reporting nodes. A node
// without one adds "".
type Reach struct {
	Wanted, Reached      int // number of nodes to which it applies after its stage, and at present
	Countries, Operators map[string]bool
}

// updateReach notes how many of the reporting nodes the change set is for. It warns if the change set is staged to none of them,
// and of each country and operator that no node reports.
func (r *Stored) updateReach(fleet Fleet) {
	if r.Reaches, r.Warnings = nil, nil; r.Audience.All && r.Audience.Share == 0 {
		return
	}
	found := fleet.Reach(r.ID, &r.Audience)
	r.Reaches = &found.Reached
	if len(found.Operators) == 0 {
		r.Warnings = []string{"no server has reported yet: it is not known whether the change set reaches a server"}
		return
	}
	if found.Wanted > 0 && found.Reached == 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the stage reaches 0 of %d servers before the change set is extended to all of them: choose a larger share", found.Wanted))
	}
	for _, g := range r.Audience.Groups {
		r.warn("country", "REMPART_COUNTRY", g.Countries, found.Countries)
		r.warn("operator", "REMPART_OPERATOR", g.Operators, found.Operators)
	}
}

// warn adds a warning for each wanted value that no node reports.
func (r *Stored) warn(what, variable string, wanted []string, reported map[string]bool) {
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
			text += "; servers report " + strings.Join(others[:min(len(others), 20)], ", ")
		}
		if !slices.Contains(r.Warnings, text) {
			r.Warnings = append(r.Warnings, text)
		}
	}
}
